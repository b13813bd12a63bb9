"""The filter stage: reasons, counters, and its section in a profile."""

import pytest
from pydantic import ValidationError

from sdg.filters import FILTERS
from sdg.schema import Pair, Seed
from sdg.stages.filter import FilterStage
from tests.rows import (
    bundled_seeds,
    kept_rows,
    made_up,
    make_pair,
    make_provenance,
    make_seed,
    reasons,
    run_stage,
    sharded,
)


def asking(**settings):
    """A stage that asks these filters alone."""
    return FilterStage.model_validate({"filters": {n: settings.get(n, False) for n in FILTERS}})


GOOD = make_pair("mji mkuu wa nchi ya Kenya ni upi")
SHORT = make_pair("a")
ENGLISH = make_pair("what is the capital city of the country of Kenya")
LOOPED = make_pair("mji mkuu mji mkuu mji mkuu mji mkuu mji mkuu")
NAME = make_pair("Nairobi")  # too short to verify
UNKNOWN = make_pair("mji mkuu wa nchi ya Kenya ni upi", query_lang="nus")


def test_rows_are_parted_by_their_first_reason():
    rows = [GOOD, SHORT, ENGLISH, NAME, LOOPED]
    results = run_stage(FilterStage(), sharded(rows, Pair, 2))
    assert kept_rows(results, Pair) == [GOOD, NAME.model_copy(update={"unverified": ["query"]})]
    assert reasons(results) == ["query_too_short", "query_wrong_language", "repetition"]


def test_unverified_rows_are_kept_and_counted():
    results = run_stage(FilterStage(), sharded([GOOD, NAME, UNKNOWN, SHORT], Pair))
    (result,) = [r for r in results.values() if r.num_kept]
    assert result.num_kept == 3
    sides = {"verified_query:sw": 1, "unverified_query:sw": 1, "unverified_query:nus": 1}
    positives = {"verified_positive:sw": 3}
    assert result.counters == {**sides, **positives, "masked": 0}
    assert [row.unverified for row in kept_rows(results, Pair)] == [[], ["query"], ["query"]]


def test_keywords_are_counted_apart():
    """For nobody verifies their language."""
    row = make_pair("mji mkuu Kenya", provenance=make_provenance(strategy="keyphrase"))
    (result,) = run_stage(FilterStage(), sharded([row, GOOD], Pair)).values()
    assert result.counters["keywords_query:sw"] == result.counters["unverified_query:sw"] == 1


def test_the_verifier_is_fitted_on_the_runs_passages():
    """So that a language that no detector knows is verified by its corpus."""
    seeds = [make_seed(made_up(seed.text), lang="nus") for seed in bundled_seeds("ha")]
    nus = {"query_lang": "nus", "positive_lang": "nus", "positive": seeds[1].text}
    own, other = made_up(bundled_seeds("ha")[0].title), bundled_seeds("sw")[0].title
    rows = [make_pair(own, **nus), make_pair(other, **nus)]
    stage = asking(language={})
    shards = sharded(rows, Pair)
    fitted = run_stage(stage, shards, earlier={"seed": sharded(seeds, Seed, 20)})
    assert kept_rows(fitted, Pair) == [rows[0]]
    assert reasons(fitted) == ["query_wrong_language"]
    plain = run_stage(stage, shards)
    assert [row.unverified for row in kept_rows(plain, Pair)] == [["query", "positive"]] * 2


def test_personal_data_is_masked_where_the_profile_says_so():
    row = make_pair("barua pepe ya Asha ni asha@example.org au +254 712 345678")
    drop = asking(personal={})
    assert reasons(run_stage(drop, sharded([row, GOOD], Pair))) == ["personal_data"]
    mask = asking(personal={"action": "mask"})
    results = run_stage(mask, sharded([row, GOOD], Pair))
    query = "barua pepe ya Asha ni [EMAIL] au [PHONE]"
    assert kept_rows(results, Pair) == [row.model_copy(update={"query": query}), GOOD]
    assert [result.counters["masked"] for result in results.values()] == [1]


def test_without_the_language_filter_nobody_looks():
    stage = FilterStage.model_validate({"filters": {"language": False}})
    (row,) = kept_rows(run_stage(stage, sharded([NAME], Pair)), Pair)
    assert row.unverified == []


def test_no_rows_pass_through():
    (result,) = run_stage(FilterStage(), sharded([], Pair)).values()
    assert result.num_kept == result.dropped.num_rows == 0
    assert result.counters == {"masked": 0}


def test_all_filters_are_on_by_default():
    assert [name for name, config in FilterStage().filters if config is not None] == list(FILTERS)


def test_filters_that_nothing_is_said_of_are_asked():
    """A change of one filter's setting is no word about the others."""
    stage = FilterStage.model_validate({"filters": {"length": {"min_query": 2}}})
    found = reasons(run_stage(stage, sharded([SHORT, ENGLISH, LOOPED], Pair)))
    assert found == ["query_too_short", "query_wrong_language", "repetition"]


def test_a_filter_that_is_switched_off_is_not_asked():
    stage = FilterStage.model_validate({"filters": {"length": False, "repetition": False}})
    rows = [SHORT, ENGLISH, LOOPED]
    results = run_stage(stage, sharded(rows, Pair))
    assert reasons(results) == ["query_wrong_language"]
    assert [row.query for row in kept_rows(results, Pair)] == [SHORT.query, LOOPED.query]
    assert FilterStage.model_validate(stage.model_dump(mode="json")) == stage
    assert kept_rows(run_stage(asking(), sharded([SHORT], Pair)), Pair) == [SHORT]


def test_settings_reach_their_filter():
    stage = FilterStage.model_validate({"filters": {"length": {"min_query": 30}}})
    assert reasons(run_stage(stage, sharded([GOOD], Pair))) == ["query_too_short"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"filters": {"lenght": {}}}, "lenght\n.*not permitted"),
        ({"filters": {"length": None}}, "give false to switch the filter off"),
        ({"filters": {"length": {"min": 3}}}, "Extra inputs"),
        ({"filters": {"length": {"min_query": 0}}}, "greater than or equal to 1"),
        ({"filters": ["length"]}, "valid dictionary"),
        ({"filter": {}}, "Extra inputs"),
    ],
)
def test_a_wrong_section_is_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        FilterStage.model_validate(section)


def test_fingerprint_is_of_filters_and_their_settings():
    def of(filters):
        return FilterStage.model_validate({"filters": filters}).fingerprint()

    assert of({}) == of({"length": {}}) == of({"length": {"min_query": 3}})
    assert of({}) != of({"length": {"min_query": 4}})
    assert of({}) != of({"length": False})
    assert of({})["filters"]["length"]["max_query"] == 800


def test_the_section_comes_back_as_it_was():
    stage = FilterStage.model_validate({"filters": {"copied": {"min_weight": 30}, "same": False}})
    assert FilterStage.model_validate(stage.model_dump()) == stage
    assert dict(stage.filters)["copied"].min_weight == 30

"""parse: whatever an engine answers becomes a pair or a reason."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.errors import UserError
from sdg.schema import Call, Pair, Provenance
from sdg.stages import ParseStage
from sdg.tasks import TASKS
from sdg.text import digest
from tests.rows import kept_rows, make_call, make_seed, reasons, run_stage, sharded

GOOD = '{"query": "mji mkuu wa Kenya"}'
EXTRACTED = json.dumps({"query": "mji mkuu", "document": "Nairobi ni mji.", "strategy": "title"})


def outcome(reply: str | None, **changes: Any) -> Pair | str:
    """What becomes of one reply: its pair, or the reason why there is none."""
    results = run_stage(ParseStage(), sharded([make_call(reply=reply, **changes)], Call))
    found = [*kept_rows(results, Pair), *reasons(results)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"\n {GOOD} \n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```",
        '{"query": " mji  mkuu wa\\nKenya "}',
    ],
)
def test_a_good_reply_gives_its_query(reply: str) -> None:
    pair = outcome(reply)
    assert isinstance(pair, Pair)
    assert pair.query == "mji mkuu wa Kenya"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "empty_reply"),
        ("", "empty_reply"),
        (" \n\t", "empty_reply"),
        ('{"query": " \\u200b\\u0000 "}', "empty_reply"),  # nothing that can be seen
        ("Here is your query: mji mkuu", "not_json"),
        (GOOD + GOOD, "not_json"),
        ("{'query': 'x'}", "not_json"),
        (GOOD[:-4], "not_json"),
        ("```json\n{}", "not_json"),
        ("[" * 100_000, "not_json"),
        ('{"query": ' * 50_000, "not_json"),
        ("1" * 5_000, "not_json"),
        ('{"query": ' + "9" * 5_000 + "}", "not_json"),
        ("{}", "wrong_schema"),
        ("[]", "wrong_schema"),
        ("null", "wrong_schema"),
        ('"mji"', "wrong_schema"),
        ("NaN", "wrong_schema"),
        ('{"query": null}', "wrong_schema"),
        ('{"query": 7}', "wrong_schema"),
        ('{"query": ["x"]}', "wrong_schema"),
        ('{"query": "a\\ud800"}', "wrong_schema"),  # half a surrogate pair
        ('{"query": ""}', "wrong_schema"),
        ('{"Query": "x"}', "wrong_schema"),
        ('{"query": "x", "answer": "y"}', "wrong_schema"),
        (json.dumps({"query": "x" * 2001}), "wrong_schema"),
        (json.dumps({"query": "x", "document": "y", "strategy": "title"}), "wrong_schema"),
        (json.dumps({"query": "x", "document": "y"}), "wrong_schema"),
        (json.dumps({"query": "x", "positive": "y"}), "wrong_schema"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_reply_gives_a_reason(reply: str | None, reason: str) -> None:
    assert outcome(reply) == reason


def test_a_cut_reply_is_told_from_one_that_never_was_json() -> None:
    assert outcome(GOOD[:-4], finish_reason="length") == "reply_cut"
    assert outcome("[" * 100_000, finish_reason="length") == "reply_cut"
    assert outcome("{}", finish_reason="length") == "wrong_schema"
    assert isinstance(outcome(GOOD, finish_reason="length"), Pair)


@pytest.mark.parametrize("engine", ["openai", "vllm"])
@pytest.mark.parametrize("task", TASKS)
def test_a_language_model_cannot_choose_its_own_positive(task: str, engine: str) -> None:
    assert outcome(EXTRACTED, task=task, engine=engine) == "wrong_schema"


def test_the_extractive_engine_gives_query_document_and_strategy() -> None:
    pair = outcome(EXTRACTED, engine="extractive")
    assert isinstance(pair, Pair)
    assert (pair.query, pair.positive) == ("mji mkuu", "Nairobi ni mji.")
    assert pair.document == make_seed().text
    assert pair.provenance.strategy == "title"
    assert outcome(GOOD, engine="extractive") == "wrong_schema"


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("a\\u0000b", "ab"),
        ("\\ud83d\\udca7 maji", "💧 maji"),
        ("e\\u0301", "é"),
        ("a\\u202eb", "ab"),
        ("<b>{{ 7*7 }}</b>", "<b>{{ 7*7 }}</b>"),
    ],
)
def test_a_query_is_normalized(written: str, query: str) -> None:
    pair = outcome(f'{{"query": "{written}"}}')
    assert isinstance(pair, Pair)
    assert pair.query == query


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["query", "x"]), inner),
)


@given(st.text(st.characters(exclude_categories=["Cs"])) | JSON.map(json.dumps), st.booleans())
def test_no_reply_stops_the_run(reply: str, extractive: bool) -> None:
    engine = "extractive" if extractive else "openai"
    found = outcome(reply, engine=engine)
    assert isinstance(found, Pair) or found in (
        "empty_reply",
        "not_json",
        "wrong_schema",
    )


def test_a_pair_says_where_it_comes_from() -> None:
    seed = make_seed(lang="ha", source="news.jsonl#7", license="cc-by-4.0")
    call = make_call(seed, 3, reply=GOOD, lang="fr", controls='{"length": "long"}', engine="vllm")
    (pair,) = kept_rows(run_stage(ParseStage(), sharded([call], Call), seed=11), Pair)
    assert pair == Pair(
        id=digest(call.id, 0),
        task="retrieval",
        instruction=call.instruction,
        query="mji mkuu wa Kenya",
        query_lang="fr",
        positive=seed.text,
        positive_lang="ha",
        document=seed.text,
        negatives=[],
        provenance=Provenance(
            seed_id=seed.id,
            source="news.jsonl#7",
            license="cc-by-4.0",
            engine="vllm",
            model=call.model,
            revision=call.revision,
            prompt=call.prompt,
            prompt_sha=call.prompt_sha,
            strategy="written",
            controls='{"length": "long"}',
            seed=11,
        ),
    )


def test_dropped_calls_keep_their_replies() -> None:
    replies = [GOOD, "no", None, GOOD]
    calls = [make_call(ordinal=i, reply=reply) for i, reply in enumerate(replies)]
    results = run_stage(ParseStage(), sharded(calls, Call, 1, 0, 2))
    assert [pair.id for pair in kept_rows(results, Pair)] == [
        digest(calls[0].id, 0),
        digest(calls[3].id, 0),
    ]
    assert reasons(results) == ["not_json", "empty_reply"]
    assert results["00002"].dropped["reply"].to_pylist() == ["no", None]


def test_an_unknown_task_names_the_prompt() -> None:
    with pytest.raises(UserError, match="retrieval/short_query: unknown task 'x'; there are: retr"):
        outcome(GOOD, task="x")

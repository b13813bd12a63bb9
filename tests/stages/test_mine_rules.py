"""mine: rules on scores, known translations in many languages, ranges, round trips, the account."""

from collections import Counter

import pytest

from sdg.corpora import bundled_languages
from sdg.schema import Example, Pair, Seed
from sdg.stage import Result
from sdg.stages import MineStage
from tests.rows import (
    bundled_seeds,
    kept_rows,
    make_pair,
    make_provenance,
    make_seed,
    peer_scores,
    reasons,
    run_stage,
    sharded,
)

LANGS = bundled_languages()


def run(pairs: list[Pair], seeds: list[Seed], **stage: object) -> dict[str, Result]:
    settings = MineStage.model_validate(stage)
    return run_stage(
        settings, sharded(pairs, Pair, len(pairs) // 2), earlier={"seed": sharded(seeds, Seed, 7)}
    )


def counted(results: dict[str, Result]) -> Counter[str]:
    total: Counter[str] = Counter()
    for result in results.values():
        total.update(result.counters)
    return total


def parallel_seeds(lang: str, num: int = 12) -> list[Seed]:
    """Passages of a language that have others' ids, and share a word with them by which a lexical
    teacher finds them across scripts."""
    return [
        make_seed(
            f"{seed.text} zz{i}zz qq{i}qq",
            lang=lang,
            source=f"{lang}.parquet#doc {i}",
        )
        for i, seed in enumerate(bundled_seeds(lang)[:num])
    ]


def pair_of(seed: Seed, query: str) -> Pair:
    return make_pair(
        query,
        seed.text,
        query_lang=seed.lang,
        positive_lang=seed.lang,
        provenance=make_provenance(seed_id=seed.id, source=seed.source),
    )


def test_row_parallel_passages_are_no_negatives() -> None:
    assert len(LANGS) >= 5
    seeds = {lang: parallel_seeds(lang) for lang in LANGS}
    every = [seed for found in seeds.values() for seed in found]
    # Queries that the translations answer as well as the positive does, as far as a teacher sees.
    pairs = [
        pair_of(seed, f"zz{i}zz qq{i}qq {seed.text[:20]}")
        for found in seeds.values()
        for i, seed in enumerate(found)
    ]
    same_row = {s.text: s.source.partition("#")[2] for s in every}
    language_of = {s.text: s.lang for s in every}
    results = run(pairs, every)
    examples = kept_rows(results, Example)
    assert len(examples) == len(pairs)
    for example in examples:
        row = same_row[example.positives[0]]
        assert not [n for n in example.negatives if same_row[n] == row]
        assert len(example.negatives) == 8
    # It is their ids that keep them out.
    loose = [seed.model_copy(update={"source": "corpus"}) for seed in every]
    loose_pairs = [
        pair.model_copy(update={"provenance": make_provenance(source="corpus")}) for pair in pairs
    ]
    found = kept_rows(run(loose_pairs, loose), Example)
    translated = [
        n
        for example in found
        for n in example.negatives
        if same_row[n] == same_row[example.positives[0]]
    ]
    assert len(translated) > len(pairs)
    assert len({language_of[n] for n in translated}) >= 5
    # Of one document in one language, another part may be a negative.
    parts = [
        make_seed(f"{s.text} zz{i}zz", lang="sw", source="sw.parquet#doc 1")
        for i, s in enumerate(bundled_seeds("sw")[:9])
    ]
    (example,) = kept_rows(run([pair_of(parts[0], parts[0].text[:30])], parts), Example)
    assert len(example.negatives) == 8


def test_what_bitext_pairs_and_translated_pairs_say_is_no_negative() -> None:
    texts = {
        lang: [f"{s.text} zz{i}zz qq{i}qq" for i, s in enumerate(bundled_seeds(lang)[:6])]
        for lang in LANGS
    }
    seeds = [make_seed(text, lang=lang, source="corpus") for lang in LANGS for text in texts[lang]]
    plain = make_provenance(source="corpus")
    # Each language's text is paired with English alone: two others are translations by way of it.
    bitext = [
        make_pair(
            texts["en"][i],
            texts[lang][i],
            task="bitext",
            query_lang="en",
            positive_lang=lang,
            negatives=["a", "b", "c", "d"],
            provenance=plain,
        )
        for lang in LANGS
        if lang != "en"
        for i in range(3)
    ]
    made = [
        make_pair(
            f"zz{i}zz {texts[lang][i][:30]}",
            texts[lang][i],
            task="translate",
            query_lang=lang,
            positive_lang=lang,
            provenance=make_provenance(source="corpus", seed_id=f"pair {i}"),
        )
        for lang in LANGS
        for i in range(3, 6)
    ]
    asked = [
        make_pair(
            f"zz{i}zz {texts[lang][i][:30]}",
            texts[lang][i],
            query_lang=lang,
            positive_lang=lang,
            provenance=plain,
        )
        for lang in LANGS
        for i in range(3)
    ]
    number = {text: i for found in texts.values() for i, text in enumerate(found)}
    with_bitext = kept_rows(run([*bitext, *made, *asked], seeds), Example)
    mined = [e for e in with_bitext if e.task != "bitext"]
    assert len(mined) == 6 * len(LANGS)
    assert {e.query_lang for e in mined} == set(LANGS)
    for example in mined:
        assert number[example.positives[0]] not in [number[n] for n in example.negatives]
    without = kept_rows(run(asked, seeds), Example)
    assert any(number[e.positives[0]] in [number[n] for n in e.negatives] for e in without)


POOL = [f"Ziwa la {name} lina maji mengi na samaki wa aina {i} za kila rangi." for i, name in enumerate(
    ["Turkana", "Tanganyika", "Nyasa", "Rukwa", "Eyasi", "Natron", "Manyara", "Kivu", "Albert", "Edward", "Naivasha", "Nakuru", "Bogoria", "Baringo"]
)]  # fmt: skip
QUERY = "Ziwa Victoria lina samaki"
POSITIVE = "Ziwa Victoria ni kubwa, na lina samaki wa aina nyingi."


def scores_of(query: str = QUERY, positive: str = POSITIVE) -> tuple[float, dict[str, float]]:
    """The positive's score and the passages', by the formula, in float64."""
    pool = [*POOL, positive]
    scores = peer_scores(pool, [query], pool, (2, 4))[0]
    return scores[-1], dict(zip(POOL, scores[:-1], strict=True))


def negatives(**stage: object) -> list[str]:
    results = run([make_pair(QUERY, POSITIVE)], [make_seed(text) for text in POOL], **stage)
    found = kept_rows(results, Example)
    return found[0].negatives if found else []


@pytest.mark.parametrize("place", [3, 6])
@pytest.mark.parametrize("rule", ["max_share", "min_margin", "max_score"])
def test_each_rule_bounds_the_scores(rule: str, place: int) -> None:
    positive, scores = scores_of()
    ranked = sorted(POOL, key=lambda text: -scores[text])
    bound = (scores[ranked[place]] + scores[ranked[place - 1]]) / 2  # between two of them
    value = {
        "max_share": bound / positive,
        "min_margin": positive - bound,
        "max_score": bound,
    }[rule]
    others = {"max_share": None} if rule != "max_share" else {}
    expected = ranked[place : place + 8]
    assert negatives(**{rule: value, **others}, max_similarity=1.0) == expected
    assert negatives(max_share=None, max_similarity=1.0) == ranked[:8]


def test_rules_hold_together() -> None:
    positive, scores = scores_of()
    ranked = sorted(POOL, key=lambda text: -scores[text])
    bounds = [(scores[ranked[n]] + scores[ranked[n - 1]]) / 2 for n in (1, 4, 2)]
    found = negatives(
        max_share=bounds[0] / positive,
        min_margin=positive - bounds[1],
        max_score=bounds[2],
        max_similarity=1.0,
    )
    assert found == ranked[4:12]


def test_the_first_ranks_may_be_skipped_and_the_next_sampled() -> None:
    positive, scores = scores_of()
    ranked = [
        t for t in sorted(POOL, key=lambda text: -scores[text]) if scores[t] < 0.95 * positive
    ]
    plain = {"max_similarity": 1.0, "min_negatives": 1}
    assert negatives(skip=3, num_negatives=4, **plain) == ranked[3:7]
    seeds = [make_seed(text) for text in POOL]
    pairs = [make_pair(QUERY, POSITIVE, id=f"{i:032x}") for i in range(60)]
    found = kept_rows(run(pairs, seeds, skip=2, sample_from=6, num_negatives=3, **plain), Example)
    used = Counter(text for example in found for text in example.negatives)
    assert set(used) == set(ranked[2:8])
    assert min(used.values()) > 15  # of 30 on average
    for example in found:
        assert example.negatives == sorted(example.negatives, key=lambda text: -scores[text])
        assert len(set(example.negatives)) == 3
    other = run_stage(
        MineStage(skip=2, sample_from=6, num_negatives=3, max_similarity=1.0, min_negatives=1),
        sharded(pairs, Pair),
        seed=1,
        earlier={"seed": sharded(seeds, Seed)},
    )
    assert [e.negatives for e in kept_rows(other, Example)] != [e.negatives for e in found]


def test_more_than_there_is_to_sample_from_is_refused() -> None:
    with pytest.raises(ValueError, match="sample_from: 8 negatives cannot be sampled from 4"):
        MineStage(sample_from=4)


def test_fewer_negatives_than_every_pair_must_have_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_negatives: 2 are fewer than min_negatives \(4\)"):
        MineStage(num_negatives=2)


def test_a_document_that_does_not_come_back_drops_its_pair() -> None:
    seeds = [make_seed(text) for text in POOL]
    # The second asks for what others say, too.
    pairs = [
        make_pair("Ziwa Victoria ni kubwa", POSITIVE),
        make_pair("samaki wa kila rangi", "Samaki wa Victoria ni wengi."),
    ]
    pool = [*POOL, POSITIVE, "Samaki wa Victoria ni wengi."]
    scores = peer_scores(pool, [p.query for p in pairs], pool, (2, 4))
    ranks = [1 + int((scores[i] > scores[i][len(POOL) + i]).sum()) for i in range(2)]
    assert ranks[0] == 1 < ranks[1]
    settings = {"max_similarity": 1.0, "min_negatives": 1}
    for rank, why in [
        (ranks[1], []),
        (ranks[1] - 1, ["not_found_again"]),
        (1, ["not_found_again"]),
    ]:
        results = run(pairs, seeds, round_trip=rank, **settings)
        assert reasons(results) == why
        total = counted(results)
        assert (total["asked:sw"], total["served:sw"]) == (2, 2 - len(why))
        assert total["not_found_again:sw"] == len(why)


def test_a_query_in_another_language_gets_negatives_near_its_positive() -> None:
    seeds = [make_seed(text) for text in POOL]
    pair = make_pair("تُعرف بحيرة فيكتوريا بأسماكها", POSITIVE, query_lang="ar")
    (example,) = kept_rows(run([pair], seeds, round_trip=1), Example)
    # A lexical teacher sees nothing in common, so that the positive stands for the query.
    near = sorted(POOL, key=lambda text: -scores_of(POSITIVE)[1][text])
    assert example.negatives == near[:8]
    assert reasons(run([pair.model_copy(update={"query_lang": "sw"})], seeds)) == [
        "positive_unrelated"
    ]


def test_the_account_is_by_language() -> None:
    seeds = {lang: bundled_seeds(lang)[:20] for lang in LANGS[:6]}
    pairs = [pair_of(seed, seed.title) for found in seeds.values() for seed in found]
    results = run(pairs, [seed for found in seeds.values() for seed in found])
    total = counted(results)
    kept = Counter(example.query_lang for example in kept_rows(results, Example))
    for lang in seeds:
        assert total[f"asked:{lang}"] == 20
        assert total[f"served:{lang}"] == kept[lang] >= 19  # 95 % of each language, at least


def test_negatives_that_came_with_the_pair_are_scored_and_not_mined_again() -> None:
    given = [POOL[3].upper(), "Mlima Kenya."]
    pair = make_pair(QUERY, POSITIVE, negatives=given)
    (example,) = kept_rows(run([pair], [make_seed(t) for t in POOL], max_similarity=1.0), Example)
    assert example.negatives[:2] == given
    assert POOL[3] not in example.negatives
    expected = peer_scores([*POOL, POSITIVE], [QUERY], given, (2, 4))[0]
    assert example.negative_scores[:2] == pytest.approx(expected, abs=1e-5)

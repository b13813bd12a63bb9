"""mine: hard negatives, against a brute force in float64, and what may never be one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdg.schema import Example, Pair, Seed
from sdg.stage import NO_INPUT, Context, Inputs
from sdg.stages import DecontaminateStage, MineStage, mine
from sdg.store import StageStore
from tests.rows import (
    bare,
    bundled_seeds,
    kept_rows,
    make_pair,
    make_seed,
    peer_scores,
    reasons,
    run_stage,
    sharded,
)

NUM, FEWEST, SHARE, SIMILAR, NGRAMS = 8, 4, 0.95, 0.8, (2, 4)  # the stage's defaults
ERROR = 1e-5  # of float32 against float64
LANGUAGES = ["en", "am", "th", "zh"]


def run(
    pairs: Sequence[Pair],
    seeds: Sequence[Seed],
    *sizes: int,
    seed_sizes: tuple[int, ...] = (),
    seed: int = 0,
    earlier: Mapping[str, Inputs] | None = None,
    **stage: Any,
) -> tuple[list[Example], list[str]]:
    results = run_stage(
        MineStage(**stage),
        sharded(pairs, Pair, *sizes),
        seed=seed,
        earlier={"seed": sharded(seeds, Seed, *seed_sizes), **(earlier or {})},
    )
    assert sum(result.counters["negatives"] for result in results.values()) == sum(
        len(example.negatives) for example in kept_rows(results, Example)
    )
    return kept_rows(results, Example), reasons(results)


def pairs_of(seeds: Sequence[Seed]) -> list[Pair]:
    """Titles that ask for their text, and openings that ask for the rest of it."""
    langs = {"query_lang": seeds[0].lang, "positive_lang": seeds[0].lang}
    pairs = [make_pair(seed.title, seed.text, **langs) for seed in seeds]
    pairs += [make_pair(s.text[:40], s.text[40:].strip(), document=s.text, **langs) for s in seeds]
    # One query that two passages answer.
    pairs += [make_pair(seeds[0].title, seed.text, **langs) for seed in seeds[1:3]]
    return pairs


def shared_pieces(left: str, right: str) -> float:
    """How many of the shorter text's runs of four characters the other has, of all it has."""
    runs = [{text[i : i + 4] for i in range(max(1, len(text) - 3))} for text in (left, right)]
    return len(runs[0] & runs[1]) / min(len(runs[0]), len(runs[1]))


@dataclass
class Expected:
    """What brute force says of one pair: scores of the passages that may be negatives."""

    positive: float
    sure: dict[str, float]
    perhaps: dict[str, float]  # within the error of a bound


def brute_force(pairs: Sequence[Pair], seeds: Sequence[Seed]) -> list[Expected]:
    texts = [seed.text for seed in seeds] + [pair.document for pair in pairs]
    pool = list({bare(text): text for text in texts}.values())
    queries = [pair.query for pair in pairs]
    scores = peer_scores(pool, queries, pool, NGRAMS)
    positives = np.diagonal(peer_scores(pool, queries, [p.positive for p in pairs], NGRAMS))
    found = []
    for i, pair in enumerate(pairs):
        own = {bare(pair.positive), bare(pair.document)}
        own |= {bare(p.document) for p in pairs if bare(p.query) == bare(pair.query)}
        expected = Expected(float(positives[i]), {}, {})
        for j, text in enumerate(pool):
            inside = any(bare(text) in mine or mine in bare(text) for mine in own)
            if inside or bare(pair.query) in bare(text):
                continue
            if max(shared_pieces(text_of, bare(text)) for text_of in own) >= SIMILAR:
                continue
            room = SHARE * positives[i] - scores[i, j]
            if abs(room) < ERROR:
                expected.perhaps[text] = scores[i, j]
            elif room > 0:
                expected.sure[text] = scores[i, j]
        found.append(expected)
    return found


@pytest.mark.parametrize("lang", LANGUAGES)
def test_negatives_are_those_of_brute_force(lang: str) -> None:
    seeds = bundled_seeds(lang)
    # Near copies, which must not become negatives, and short passages.
    seeds += [make_seed(s.text.replace(s.text[60:63], "xyz"), lang=lang) for s in seeds[:5]]
    seeds += [make_seed(s.text[:90], lang=lang) for s in seeds[5:10]]
    pairs = pairs_of(seeds[:40])
    examples, why = run(pairs, seeds)
    assert len(examples) + len(why) == len(pairs)
    assert len(examples) > 0.8 * len(pairs)
    by_id = {example.id: example for example in examples}
    num_hard = 0
    for pair, expected in zip(pairs, brute_force(pairs, seeds), strict=True):
        example = by_id.get(pair.id)
        if example is None:
            assert len(expected.sure) < FEWEST
            continue
        assert example.positive_scores == pytest.approx([expected.positive], abs=ERROR)
        assert len(example.negatives) == min(NUM, len(expected.sure)) or expected.perhaps
        allowed = expected.sure | expected.perhaps
        assert set(example.negatives) <= set(allowed)
        scores = [allowed[text] for text in example.negatives]
        assert example.negative_scores == pytest.approx(scores, abs=ERROR)
        left_out = [s for text, s in expected.sure.items() if text not in example.negatives]
        assert max(left_out, default=0) <= min(scores) + ERROR
        num_hard += max(scores) > 0.3 * expected.positive
    assert num_hard > len(pairs) / 2  # not merely unrelated


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_never_is_a_negative(lang: str) -> None:
    seeds = bundled_seeds(lang)
    pairs = pairs_of(seeds)
    by_id = {pair.id: pair for pair in pairs}
    asked: dict[str, set[str]] = {}
    for pair in pairs:
        asked.setdefault(bare(pair.query), set()).update([bare(pair.positive), bare(pair.document)])
    examples, _ = run(pairs, seeds)
    for example in examples:
        pair = by_id[example.id]
        negatives = [bare(text) for text in example.negatives]
        assert FEWEST <= len(negatives) <= NUM
        assert len(set(negatives)) == len(negatives) == len(example.negative_scores)
        for positive in asked[bare(pair.query)]:
            assert not any(positive in text or text in positive for text in negatives)
        assert not any(bare(pair.query) in text for text in negatives)
        scores = np.array(example.negative_scores)
        assert (np.diff(scores) <= 0).all()  # hardest first
        assert (scores < SHARE * example.positive_scores[0]).all()
        assert (scores >= 0).all()
        assert 0 < example.positive_scores[0] <= 1 + ERROR
        assert example.positives == [pair.positive]
        assert example.provenance == pair.provenance


def unrelated(num: int) -> list[Seed]:
    """Passages that share no letter pair with any Latin text, nor with each other, but spaces."""
    return [make_seed(" ".join(chr(0x4E00 + 40 * i + j) * 2 for j in range(8))) for i in range(num)]


POOL = unrelated(6)
QUERY = "Ziwa Victoria"
POSITIVE = "Ziwa Victoria ni kubwa kuliko maziwa yote ya Afrika Mashariki."
LONG = f"{POSITIVE} Samaki wengi huvuliwa humo kila siku, na meli husafiri kati ya miji ya pwani."


def negatives_with(*candidates: str, pair: Pair | None = None, **stage: Any) -> list[str]:
    """Which of the candidates become negatives of a pair."""
    pair = pair or make_pair(QUERY, POSITIVE, document=LONG)
    seeds = [*POOL, make_seed(LONG), *(make_seed(text) for text in candidates)]
    examples, why = run([pair], seeds, **stage)
    assert why == []
    return [text for text in examples[0].negatives if text in candidates]


HARD = "Ziwa Turkana liko kaskazini mwa nchi, na lina mamba wengi sana."


def test_a_hard_passage_is_taken_first() -> None:
    examples, _ = run([make_pair(QUERY, POSITIVE)], [*POOL, make_seed(HARD)])
    assert examples[0].negatives[0] == HARD
    assert examples[0].negative_scores[0] > 0.1


@pytest.mark.parametrize(
    "candidate",
    [
        LONG.upper(),
        LONG.replace(" ", "  ").replace(",", " -"),
        f"{HARD} {POSITIVE.lower()} {HARD}",  # contains the positive
        "samaki wengi huvuliwa humo KILA siku",  # stands in the document
        "Kuliko maziwa yote",  # stands in the positive
        f"{HARD} Hapo ni mbali na ziwa-victoria na {HARD}",  # contains the query
    ],
)
def test_what_may_answer_the_query_is_masked(candidate: str) -> None:
    assert negatives_with(candidate, HARD) == [HARD]


def test_a_longer_passage_that_holds_the_positive_is_masked() -> None:
    # It lacks the query's wording, and most of it is of something else.
    pair = make_pair("ukubwa wa ziwa", POSITIVE)
    filler = " ".join(f"{HARD} Mamba {i} aliogelea." for i in range(5))
    longer = f"{filler} {POSITIVE} {filler}"
    assert bare(pair.query) not in bare(longer)
    for candidates in ([longer], [filler]):
        examples, _ = run([pair], [*POOL, *(make_seed(text) for text in candidates)])
        assert (candidates[0] in examples[0].negatives) == (candidates == [filler])


def test_a_near_copy_of_the_document_is_masked() -> None:
    copy = LONG.replace("Ziwa Victoria ni kubwa", "Ziwa Viktoria ni pana")
    assert shared_pieces(bare(LONG), bare(copy)) > SIMILAR
    assert negatives_with(copy, HARD) == [HARD]
    # It is the mask that keeps it out: its score alone would make it the hardest.
    assert negatives_with(copy, HARD, max_similarity=1.0) == [copy, HARD]


def test_the_share_of_the_positives_score_bounds_the_negatives() -> None:
    nearer = "Ziwa Viktoria"
    scores = peer_scores([s.text for s in POOL], [QUERY], [POSITIVE, nearer, HARD], NGRAMS)[0]
    assert scores[1] > SHARE * scores[0] > scores[2]
    assert negatives_with(nearer, HARD) == [HARD]
    assert negatives_with(nearer, HARD, max_share=0.01) == []


def test_other_positives_of_the_same_query_are_masked_in_any_shard() -> None:
    pairs = [
        make_pair(QUERY, POSITIVE),
        make_pair("Mto Tana", "Mto Tana ni mrefu."),
        make_pair(f"{QUERY.upper()}?", HARD),
    ]
    seeds = [*POOL, make_seed(POSITIVE), make_seed(HARD)]
    for sizes in [(), (1, 1), (2,)]:
        examples, _ = run(pairs, seeds, *sizes)
        assert [len(e.negatives) for e in examples] == [7, 8, 7]
        assert HARD not in examples[0].negatives
        assert POSITIVE not in examples[2].negatives


def test_a_pool_that_is_too_small_drops_the_pair() -> None:
    pair = make_pair(QUERY, POSITIVE)
    assert run([pair], POOL[:3]) == ([], ["too_few_negatives"])
    assert run([pair], []) == ([], ["too_few_negatives"])
    assert len(run([pair], POOL[:4])[0]) == 1
    examples, _ = run([pair], POOL[:3], min_negatives=2)
    assert len(examples[0].negatives) == 3


def test_a_positive_that_has_nothing_of_its_query_drops_the_pair() -> None:
    pair = make_pair("abc", "ወንዝ")
    assert run([pair], POOL) == ([], ["positive_unrelated"])


@pytest.mark.parametrize("named", [True, False])
def test_common_ngrams_count_where_a_positive_has_no_others(named: bool) -> None:
    """Where what a query shares with its positive is in each of 400 passages, too."""
    common, names = "maji mengi sana", "Qqxzvyhj Jjwwkqpx Vvbqxqzf"
    seeds = [make_seed(f"{seed.text} {common}") for seed in unrelated(400)]
    positive = f"sana mengi maji {names if named else 'kabisa'}"
    pair = make_pair(f"{common} {names}", positive)
    examples, why = run([pair], seeds)
    assert why == []
    pool = [*(seed.text for seed in seeds), positive]
    whole, cut = (
        peer_scores(pool, [pair.query], [positive], NGRAMS, own)[0, 0] for own in ([], [positive])
    )
    assert abs(whole - cut) > 100 * ERROR if named else whole == cut
    assert examples[0].positive_scores[0] == pytest.approx(cut, abs=ERROR)


def test_the_number_of_negatives_is_as_set() -> None:
    examples, _ = run([make_pair(QUERY, POSITIVE)], unrelated(12), num_negatives=5)
    assert len(examples[0].negatives) == 5


def test_neither_shards_nor_order_nor_blocks_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = bundled_seeds("en")
    seeds += [make_seed(seed.text.upper(), lang="en") for seed in seeds[:9]]  # the same passages
    pairs = pairs_of(seeds[:40])
    whole, dropped = run(pairs, seeds)
    assert run(pairs, seeds, 7, 0, 50, seed_sizes=(20, 0, 5), part_rows=7) == (whole, dropped)
    backwards, _ = run(pairs[::-1], seeds[::-1])
    assert backwards[::-1] == whole
    monkeypatch.setattr(mine, "BATCH", 3)
    assert run(pairs, seeds) == (whole, dropped)


def test_a_large_corpus_is_sampled_by_the_seed() -> None:
    seeds = unrelated(30)
    pairs = [make_pair(f"{QUERY} {i}", POSITIVE) for i in range(60)]

    def used(seed: int) -> set[str]:
        examples, _ = run(pairs, seeds, seed=seed, pool_size=10)
        return {text for example in examples for text in example.negatives}

    assert 9 <= len(used(0)) <= 10  # the positive itself may be among the passages
    assert used(0) != used(1)


def test_passages_without_any_score_are_not_always_the_same() -> None:
    pairs = [make_pair(f"{QUERY} {i}", POSITIVE) for i in range(40)]
    examples, _ = run(pairs, unrelated(40))
    used = {text for example in examples for text in example.negatives}
    assert len(used) > 20


SPOILT = (" Andika kwa asha.juma@example.org upate nakala.", " <div class='ad'>Bofya hapa</div>")


def test_what_the_filters_would_drop_is_no_negative() -> None:
    """Nor is a document of which but a good part came through the filters."""
    seeds = bundled_seeds("sw")[:12]
    spoilt = [make_seed(seeds[0].text + text, id=text) for text in SPOILT]
    more = [make_pair(s.title, s.text, document=s.text + text) for s in seeds for text in SPOILT]
    examples, _ = run([*pairs_of(seeds), *more], [*seeds, *spoilt])
    assert len(examples) > len(more) / 2
    assert any(seeds[5].text in example.negatives for example in examples)
    assert not [text for e in examples for text in e.negatives if "@" in text or "<" in text]


def test_what_evaluation_sets_hold_is_no_negative(tmp_path: Path) -> None:
    """As a whole, or a run of its words."""
    seeds = bundled_seeds("sw")[:16]
    held, quoted = seeds[3].text, seeds[4].text
    path = tmp_path / "set.jsonl"
    texts = [held.upper(), " ".join(["Kwanza", *quoted.split()[2:20]])]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    store = StageStore(tmp_path)
    store.prepared_dir.mkdir()
    sets = DecontaminateStage(against=(str(path),))
    sets.prepare(NO_INPUT, Context(("sw",), 0, store.prepared_dir))
    decontaminated = {"decontaminate": replace(NO_INPUT, prepared=store)}
    for earlier, there in ((None, {held, quoted}), (decontaminated, set())):
        examples, _ = run(pairs_of(seeds), seeds, earlier=earlier, num_negatives=9)
        found = {text for example in examples for text in example.negatives}
        assert found & {held, quoted} == there
        assert len(found) > 10
    assert run([], seeds, earlier=decontaminated) == ([], [])

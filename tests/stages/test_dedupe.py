"""dedupe: the first of each pair stays, over all shards, and of nearly the same ones."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.errors import UserError
from sdg.runner import Placed, Runner, check_fingerprints
from sdg.schema import Example, Pair, to_table
from sdg.stage import ACCEPTED, Context, Inputs
from sdg.stages import DedupeStage
from sdg.stages.dedupe import _are_near
from sdg.store import write_table
from tests.rows import (
    bare,
    kept_rows,
    make_example,
    make_pair,
    peer_scores,
    reasons,
    run_stage,
    sharded,
)
from tests.shingle_sets import jaccard, shingle_set
from tests.test_runner import Silent


def dedupe(pairs: list[Pair], *sizes: int) -> list[int]:
    """Numbers of the pairs that stay after exact deduplication."""
    results = run_stage(DedupeStage(near=()), sharded(pairs, Pair, *sizes))
    stay = [int(pair.id) for pair in kept_rows(results, Pair)]
    assert reasons(results) == ["exact_pair"] * (len(pairs) - len(stay))
    return stay


def numbered(texts: list[tuple[str, str]]) -> list[Pair]:
    return [make_pair(query, positive, id=str(i)) for i, (query, positive) in enumerate(texts)]


QUERIES = st.sampled_from(
    ["mto", "Mto", "MTO?", "\uff4d\uff54\uff4f", "m-t-o", "mlima", "mlima!", "ወንዝ", "河"]
)
POSITIVES = st.sampled_from(["Mto ni mrefu.", "mto ni mrefu", "Mto  ni (mrefu)", "Mwingine."])


@given(
    st.lists(st.tuples(QUERIES, POSITIVES), max_size=40),
    st.lists(st.integers(0, 10), max_size=4),
)
def test_it_is_what_a_dictionary_gives(texts: list[tuple[str, str]], sizes: list[int]) -> None:
    first: dict[tuple[str, str], int] = {}
    for i, (query, positive) in enumerate(texts):
        first.setdefault((bare(query), bare(positive)), i)
    fitting = [size for i, size in enumerate(sizes) if sum(sizes[: i + 1]) <= len(texts)]
    fitting = fitting if sum(fitting) <= len(texts) else []
    assert dedupe(numbered(texts), *fitting) == sorted(first.values())


@pytest.mark.parametrize(
    "other",
    [
        "MTO WA TANA",
        "mto, wa Tana!",
        "mto wa  tana",
        "\uff4d\uff54\uff4f wa tana",
        "«mto» wa—tana",
        "mtowatana",
    ],
)
def test_case_punctuation_width_and_spaces_make_no_difference(other: str) -> None:
    assert dedupe(numbered([("mto wa Tana", "x"), (other, "x"), (other, "y")])) == [0, 2]
    assert dedupe(numbered([("q", "mto wa Tana"), ("q", other)]), 1) == [0]


@pytest.mark.parametrize(
    ("one", "other"), [("mto", "mtu"), ("résumé", "resume"), ("कि", "की"), ("mto 1", "mto 2")]
)
def test_letters_marks_and_digits_do(one: str, other: str) -> None:
    assert dedupe(numbered([(one, "x"), (other, "x")])) == [0, 1]


def test_query_and_positive_do_not_run_together() -> None:
    assert dedupe(numbered([("ab", "c"), ("a", "bc"), ("abc", "")])) == [0, 1, 2]


def test_the_first_of_all_shards_stays() -> None:
    texts = [("a", "x"), ("b", "x"), ("a", "x"), ("c", "x"), ("b", "x"), ("a", "x")]
    for sizes in [(), (1,), (2, 2), (0, 3, 0), (6,), (1, 1, 1, 1, 1)]:
        assert dedupe(numbered(texts), *sizes) == [0, 1, 3]


def test_no_pairs_at_all() -> None:
    assert dedupe([], 0, 0) == []


def test_what_an_earlier_round_accepted_goes() -> None:
    before = numbered([("mto wa Tana", "x"), ("mlima", "y")])
    now = [("Mto wa Tana!", "X"), ("mlima", "z"), ("ziwa", "y"), ("ziwa", "Y"), ("mto", "x")]
    earlier = {ACCEPTED: sharded(before, Pair, 1)}
    results = run_stage(DedupeStage(), sharded(numbered(now), Pair, 2), earlier=earlier)
    assert [int(pair.id) for pair in kept_rows(results, Pair)] == [2, 4]
    assert reasons(results) == [
        "exact_pair_of_earlier_round",
        "exact_query_of_earlier_round",
        "exact_pair",
    ]


# Near duplicates


def outcome(
    stage: DedupeStage, pairs: list[Pair], *sizes: int, earlier: list[Pair] | None = None
) -> dict[str, tuple[str, str]]:
    """Why a pair goes, and for which other it does, by its id."""
    before = None if earlier is None else {ACCEPTED: sharded(earlier, Pair, 2)}
    results = run_stage(stage, sharded(pairs, Pair, *sizes), earlier=before)
    rows = [row for name in sorted(results) for row in results[name].dropped.to_pylist()]
    return {row["id"]: (row["reason"], row["detail"]) for row in rows}


@pytest.mark.parametrize("near", [(), ("query",), ("pair",), ("document",), ("pair", "document")])
def test_sketches_made_before_say_the_same(near: tuple[str, ...]) -> None:
    rng = random.Random(11)
    texts = [text for _ in range(12) for text in variants(rng, 30, 4)]
    rows = [
        make_pair(rng.choice(texts), rng.choice(texts), document=rng.choice(texts), id=str(i))
        for i in range(300)
    ]
    shards = sharded(rows, Pair, 70, 0, 110)
    stage = DedupeStage.model_validate({"near": near})
    sketches = {"sketch": {name: stage.survey().of(table) for name, table in shards.items()}}
    before = run_stage(stage, shards, earlier=sketches)
    alone = run_stage(stage, shards)
    assert all(before[name].dropped.equals(alone[name].dropped) for name in shards)
    assert len(reasons(alone)) > 40 * bool(near)


LONG = " ".join(f"neno{i} la maandishi" for i in range(20))
QUERY = "ni lini mto wa Tana ulifurika na kuharibu mashamba mengi ya watu"


def test_both_sides_of_a_pair_have_to_be_near() -> None:
    pairs = [
        make_pair(QUERY, LONG, id="0"),
        make_pair(f"{QUERY} huko", f"{LONG} mwisho", id="1"),
        make_pair(f"{QUERY} huko", "jambo jingine kabisa kuhusu milima na mabonde", id="2"),
        make_pair("swali jingine kabisa kuhusu milima na mabonde ya nchi", LONG, id="3"),
        make_pair(f"{QUERY.upper()}?", LONG.title(), id="4"),
        make_pair(f"huko {QUERY}", LONG, id="5"),
    ]
    both = {"1": ("near_pair", "0"), "4": ("exact_pair", "0"), "5": ("near_pair", "0")}
    for sizes in [(), (1, 0, 2), (5,)]:
        assert outcome(DedupeStage(near=("pair",)), pairs, *sizes) == both
    assert outcome(DedupeStage(near=("query",)), pairs) == {
        **{"1": ("near_query", "0"), "2": ("near_query", "0"), "4": ("exact_pair", "0")},
        "5": ("near_query", "0"),
    }
    assert outcome(DedupeStage(exact=("query",), near=()), pairs) == {
        "2": ("exact_query", "1"),
        "4": ("exact_query", "0"),
    }


def test_pairs_of_one_document_stay_and_those_of_its_near_copy_go() -> None:
    copy, other = LONG.replace("neno7 la", "neno7 ya"), LONG.replace("neno", "tamko")
    pairs = [
        make_pair("swali la kwanza", "neno0 la maandishi", id="0", document=LONG),
        make_pair("swali la pili", "neno1 la maandishi", id="1", document=other),
        make_pair("swali la tatu", "neno2 la maandishi", id="2", document=copy),
        make_pair("swali la nne", "neno3 la maandishi", id="3", document=LONG),
        make_pair("swali la tano", "neno4 la maandishi", id="4", document=copy),
    ]
    gone = {"2": ("near_document", "0"), "4": ("near_document", "0")}
    assert outcome(DedupeStage(), pairs, 1, 3) == gone
    assert outcome(DedupeStage(near=("pair",)), pairs) == {}
    assert outcome(DedupeStage(similarity=0.99), pairs) == {}


def test_what_is_near_to_an_earlier_rounds_pair_goes() -> None:
    before = [make_pair(QUERY, LONG, id="a"), make_pair("mlima", "Mlima ni mrefu.", id="b")]
    now = [
        make_pair(f"{QUERY} huko", f"{LONG} mwisho", id="0"),
        make_pair("mto", "Mto ni mrefu.", id="1"),
        make_pair("Mlima!", "Mwingine.", id="2"),
    ]
    assert outcome(DedupeStage(), now, earlier=before) == {
        "0": ("near_pair_of_earlier_round", "a"),
        "2": ("exact_query_of_earlier_round", "b"),
    }


@pytest.mark.parametrize("near", [("pair",), ("query",), ("document",), ("pair", "document")])
def test_it_is_what_comparing_every_two_gives(near: tuple[str, ...]) -> None:
    rng = random.Random(5)
    queries = [variants(rng, 9, 7) for _ in range(8)]
    documents = [variants(rng, 40, 12) for _ in range(5)]
    pairs = [
        make_pair(rng.choice(rng.choice(queries)), rng.choice(rng.choice(documents)), id=str(i))
        for i in range(120)
    ]
    given, pairs = pairs[:20], pairs[20:]
    stage = DedupeStage(near=near, exact=(), similarity=0.7)
    found = outcome(stage, pairs, 30, 40, earlier=given)
    near_to = one_by_one(near, given, pairs)
    assert {row: twin for row, (_, twin) in found.items()} == near_to
    assert len(near_to) > 10


def test_earlier_runs_and_anybodys_pairs_stay_and_what_is_like_them_goes(tmp_path: Path) -> None:
    examples = [
        make_example(0, id="e0", query="swali", positives=["Mto ni mrefu.", LONG]),
        make_example(1, id="e1", query=QUERY, positives=[LONG]),
    ]
    run = tmp_path / "runs" / "sw" / "examples"
    write_table(run / "00000.parquet", to_table(examples[:1], Example))
    write_table(run / "00001.parquet", to_table(examples[1:], Example))
    lines = [{"id": 7, "question": "Mlima upi?", "answer": "Mlima Kenya."}, {"question": "x"}]
    pairs_file = tmp_path / "old.jsonl"
    pairs_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pairs = [
        make_pair("SWALI", "mto ni mrefu", id="0"),
        make_pair(f"{QUERY} huko", f"{LONG} mwisho", id="1"),
        make_pair("Mlima upi", "Mlima Kenya", id="2"),
        make_pair("jambo jingine", LONG.replace("neno3 la", "neno3 ya"), id="3"),
        make_pair("swali", "Jibu jingine.", id="4"),
    ]
    stage = DedupeStage(against=(str(tmp_path / "runs" / "sw"), str(pairs_file)))
    found = outcome(stage, pairs, 2)
    assert found == {
        "0": ("exact_pair_of_earlier_run", f"{tmp_path}/runs/sw#e0"),
        "1": ("near_pair_of_earlier_run", f"{tmp_path}/runs/sw#e1"),
        "2": ("exact_pair_of_earlier_run", f"{pairs_file}#7"),
        "3": ("near_document_of_earlier_run", f"{tmp_path}/runs/sw#e0"),
    }
    alone = DedupeStage(against=(str(run / "00000.parquet"),))
    assert outcome(alone, pairs)["1"][0] == "near_document_of_earlier_run"


def test_what_against_names_has_to_be_there_and_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    empty_run, wrong = tmp_path / "run", tmp_path / "wrong.jsonl"
    (empty_run / "examples").mkdir(parents=True)
    wrong.write_text('{"a": 1}\n')
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(b"PAR1....")
    for path, said in [
        (tmp_path / "none", "no such file"),
        (empty_run, "a run without examples"),
        (cut, "not a readable Parquet file"),
    ]:
        with pytest.raises(UserError, match=said):
            DedupeStage(against=(str(path),)).fingerprint()
    with pytest.raises(UserError, match="it takes columns query and positive"):
        outcome(DedupeStage(against=(str(wrong),)), [])
    good = tmp_path / "good.jsonl"
    prints = []
    for text in ("mto", "mlima"):
        good.write_text(json.dumps({"query": text, "positive": text}) + "\n")
        prints.append(DedupeStage(against=(str(good),)).fingerprint())
    assert prints[0] != prints[1]


def test_a_prepare_that_was_killed_is_done_again_from_nothing(tmp_path: Path) -> None:
    rng = random.Random(9)
    documents = [variants(rng, 40, 12) for _ in range(30)]
    pairs = [
        make_pair(f"swali {i}", rng.choice(rng.choice(documents)), id=str(i)) for i in range(1700)
    ]
    shards = sharded(pairs, Pair, 600, 600)
    reads = 0

    def read(name: str, columns: list[str] | None) -> pa.Table:
        nonlocal reads
        reads += 1
        if reads == kill_at:
            raise KeyboardInterrupt
        return shards[name].select(columns or shards[name].column_names)

    stage, inputs = Placed(DedupeStage(), "6-dedupe"), Inputs(tuple(shards), read)
    verdicts = []
    for kill_at, worker_only in itertools.product((0, 2, 3, 5, 6), (False, True)):
        # In each of two passes over the rows; a worker's heir finds what it left, a run's does not.
        folder = tmp_path / f"{kill_at}{worker_only}"
        runner, reads = Runner(folder, ["sw"], 0, Silent()), 0
        ctx = Context(("sw",), 0, stage.store(folder).prepared_dir)
        check_fingerprints([stage], runner.run_dir, ["sw"], 0)
        if kill_at:
            with pytest.raises(KeyboardInterrupt):
                runner.prepare(stage, inputs, None)
        if kill_at and worker_only:
            stage.stage.prepare(inputs, ctx)
        else:
            assert runner.prepare(stage, inputs, None) == ctx.dir
        verdicts.append([pq.read_table(ctx.dir / f"{name}.parquet") for name in shards])
        assert not (ctx.dir / "compared").exists()
    assert all(one == verdicts[0] for one in verdicts)
    assert sum(table["reason"].drop_null().length() for table in verdicts[0]) > 100


def variants(rng: random.Random, length: int, num: int) -> list[str]:
    """A text, and versions of it with one more word changed each."""
    words = [f"neno{rng.randrange(500)}" for _ in range(length)]
    found = []
    for _ in range(num):
        found.append(" ".join(words))
        words[rng.randrange(length)] = f"tofauti{rng.randrange(500)}"
    return found


def one_by_one(near: tuple[str, ...], given: list[Pair], pairs: list[Pair]) -> dict[str, str]:
    """Which pair goes for which: every one is compared with those before that stayed."""
    gone: dict[str, str] = {}

    def alike(one: str, other: str) -> bool:
        return jaccard(shingle_set(one), shingle_set(other)) >= 0.7

    def sweep(is_twin: Callable[[Pair, Pair], bool]) -> None:
        stay = list(given)
        for pair in pairs:
            if pair.id not in gone:
                twin = next((other for other in stay if is_twin(pair, other)), None)
                if twin:
                    gone[pair.id] = twin.id
                else:
                    stay.append(pair)

    # What earlier rounds asked goes without being asked for.
    asked = {bare(pair.query): pair.id for pair in reversed(given)}
    same = {(bare(pair.query), bare(pair.positive)): pair.id for pair in reversed(given)}
    for pair in pairs:
        key = (bare(pair.query), bare(pair.positive))
        if key in same or key[0] in asked:
            gone[pair.id] = same.get(key) or asked[key[0]]
    if "pair" in near:
        sweep(lambda a, b: alike(a.query, b.query) and alike(a.positive, b.positive))
    if "query" in near:
        sweep(lambda a, b: alike(a.query, b.query))
    if "document" in near:
        stay = list(dict.fromkeys(pair.document for pair in given))
        firsts = {
            pair.document: pair.id for pair in reversed([*given, *pairs]) if pair.id not in gone
        }
        for document in dict.fromkeys(pair.document for pair in pairs if pair.id not in gone):
            twin = next(
                (other for other in stay if other != document and alike(document, other)), None
            )
            if document in stay or not twin:
                stay.append(document)
                continue
            gone.update(
                (p.id, firsts[twin]) for p in pairs if p.document == document and p.id not in gone
            )
    return gone


# By a teacher's vectors


@pytest.mark.parametrize("side", ["query", "document"])
def test_what_means_the_same_by_the_teacher_goes(side: str) -> None:
    rng = random.Random(7)
    texts = [text for _ in range(6) for text in variants(rng, 12, 5)]
    rng.shuffle(texts)
    pairs = [
        make_pair(texts[i] if side == "query" else f"swali {i}", id=str(i), document=texts[i])
        for i in range(len(texts))
    ]
    stage = DedupeStage(near=(), semantic=(side,), cosine=0.9)
    found = outcome(stage, pairs[10:], 7, earlier=pairs[:10])
    scores = peer_scores(texts, texts, texts, (2, 4))
    stay, expected = list(range(10)), {}
    for i in range(10, len(texts)):
        twin = next((j for j in stay if scores[i, j] >= 0.9), None)
        if twin is None:
            stay.append(i)
        else:
            expected[str(i)] = str(twin)
    assert len(expected) > 5 and len(stay) > 12
    assert {row: twin for row, (_, twin) in found.items()} == expected
    whys = {f"semantic_{side}", f"semantic_{side}_of_earlier_round"}
    assert {why for why, _ in found.values()} == whys


def test_numbers_of_many_texts_are_told_apart() -> None:
    # A pair's number as one is beyond 32 bits.
    near = np.array([[1, 2], [65_536, 131_072]])
    asked = np.array([[131_072, 65_536], [2, 1], [0, 131_072], [7, 7]], np.int32)
    assert _are_near(asked, near).tolist() == [True, True, False, True]

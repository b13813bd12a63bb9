"""decontaminate: what evaluation sets hold goes, and nothing else."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdg.errors import UserError
from sdg.hash_index import HashIndexWriter
from sdg.schema import Pair, rows_of
from sdg.stage import Context, Inputs, Shard
from sdg.stages.decontaminate import DecontaminateStage, contamination
from sdg.store import write_table
from tests.evaluation_sets import beir, write_lines
from tests.rows import kept_rows, make_pair, make_provenance, run_stage, sharded
from tests.shingle_sets import shingle_set

WORDS = [f"neno{n}" for n in range(4000)]


def outcome(
    stage: DecontaminateStage, pairs: list[Pair], *sizes: int
) -> dict[str, tuple[str, str]]:
    """Why a pair goes, and what has it, by its id."""
    results = run_stage(stage, sharded(pairs, Pair, *sizes), "sw,en")
    rows = [row for name in sorted(results) for row in results[name].dropped.to_pylist()]
    gone = {row["id"]: (row["reason"], row["detail"]) for row in rows}
    assert {pair.id for pair in kept_rows(results, Pair)} == {p.id for p in pairs} - gone.keys()
    return gone


def text(rng: random.Random, num: int) -> str:
    return " ".join(rng.choices(WORDS, k=num))


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    return beir(tmp_path / "evaluation" / "news-sw", "sw")


def test_texts_of_a_set_in_beirs_layout(evaluation: Path) -> None:
    lines = (evaluation / "corpus.jsonl").read_text().splitlines()
    document = json.loads(lines[3])["text"]
    question = json.loads((evaluation / "queries.jsonl").read_text().splitlines()[5])["text"]
    assert len(document.split()) > 20
    run = " ".join(document.split()[2:15])
    pairs = [
        make_pair(question.upper() + "?", "Jibu.", id="0"),
        make_pair("swali", document, id="1"),
        make_pair("swali", f"Kwanza: {run} mwisho", id="2"),
        make_pair("swali", " ".join(document.split()[2:14]), id="3"),
        make_pair(f"je {run}", "Jibu.", id="4"),
        make_pair("swali jingine kabisa", "Jibu jingine kabisa.", id="5"),
    ]
    stage = DecontaminateStage(against=(str(evaluation),))
    for sizes in [(), (2, 0, 3)]:
        assert outcome(stage, pairs, *sizes) == {
            "0": ("exact_query_in_evaluation", f"{evaluation}#q5"),
            "1": ("exact_positive_in_evaluation", f"{evaluation}#d3"),
            "2": ("ngram_positive_in_evaluation", f"{evaluation}#d3"),
            "4": ("ngram_query_in_evaluation", f"{evaluation}#d3"),
        }


def test_it_is_what_comparing_with_every_text_gives(tmp_path: Path) -> None:
    rng = random.Random(3)
    sets = [text(rng, rng.randrange(5, 60)) for _ in range(60)]
    pq.write_table(pa.table({"body": sets, "n": range(60)}), tmp_path / "set.parquet")
    pairs = []
    for number in range(80):
        words = text(rng, rng.randrange(20, 50)).split()
        source = rng.choice(sets).split()
        size = min(len(source), rng.randrange(4, 14))
        start = rng.randrange(len(source) - size + 1)
        words[5:5] = source[start : start + size]
        pairs.append(make_pair(text(rng, 6), " ".join(words), id=str(number)))
    stage = DecontaminateStage(against=(str(tmp_path / "set.parquet"),), words=8)
    held = set().union(*(shingle_set(one, words=8) for one in sets))
    expected = {p.id for p in pairs if shingle_set(p.positive, words=8) & held}
    assert 10 < len(expected) < 70
    assert set(outcome(stage, pairs, 30)) == expected


@pytest.mark.parametrize(
    ("held", "query"),
    [
        (
            "我们在北京大学学习中文已经三年了，今年夏天就要毕业回国工作",
            "请问我们在北京大学学习中文已经三年了，今年夏天就要毕业了吗",
        ),
        (
            "ฉันรักภาษาไทยมากและอยากเรียนต่อไปที่มหาวิทยาลัยในกรุงเทพ",
            "เขาบอกว่าฉันรักภาษาไทยมากและอยากเรียนต่อไปที่บ้าน",
        ),
    ],
)
def test_scripts_without_spaces(held: str, query: str, tmp_path: Path) -> None:
    write_lines(tmp_path / "set" / "test.jsonl", [{"text": held, "label": "a"}])
    stage = DecontaminateStage(against=(str(tmp_path / "set"),), characters=20)
    pairs = [make_pair(query, "Jibu.", id="0"), make_pair(query[:12], "Jibu.", id="1")]
    assert outcome(stage, pairs) == {"0": ("ngram_query_in_evaluation", f"{tmp_path}/set#0")}


def test_short_texts_titles_and_labels_are_chance(tmp_path: Path) -> None:
    rows = [
        {"_id": "1", "text": "Ndiyo.", "title": "Mji mkuu wa Kenya", "label_text": "habari njema"}
    ]
    rows.append({"_id": "2", "text": "", "title": "", "label_text": ""})
    rows.append(
        {"_id": "3", "text": "Mji mkuu wa Tanzania ni Dodoma", "title": "", "label_text": ""}
    )
    write_lines(tmp_path / "set.jsonl", rows)
    stage = DecontaminateStage(against=(str(tmp_path / "set.jsonl"),))
    pairs = [
        make_pair("Mji mkuu wa Kenya", "ndiyo", id="0"),
        make_pair("!", "habari njema", id="1"),
    ]
    assert outcome(stage, pairs) == {}


def sourced(number: int, file: str, name: str, query: str = "") -> Pair:
    provenance = make_provenance(source=f"{file}#{name}")
    return make_pair(query or f"swali la {number}", "Jibu.", id=str(number), provenance=provenance)


def test_translations_of_what_a_set_holds_go_by_their_ids(tmp_path: Path) -> None:
    held = "where is the capital of the republic of Kenya"
    write_lines(tmp_path / "en.jsonl", [{"id": "news/7", "text": held}])
    pairs = [
        sourced(0, "sw.parquet", "news/7"),  # a translation of the test row
        sourced(1, "sw.parquet", "news/8"),
        sourced(2, "en.parquet", "news/9", held),  # the test row under another id ...
        sourced(3, "ha.parquet", "news/9"),  # ... and its translation
        sourced(4, "", ""),
    ]
    alone = DecontaminateStage(against=(str(tmp_path / "en.jsonl"),))
    exact = ("exact_query_in_evaluation", f"{tmp_path}/en.jsonl#news/7")
    assert outcome(alone, pairs) == {"2": exact}
    translation = ("translation_in_evaluation", f"{tmp_path}/en.jsonl#news/7")
    parallel = alone.model_copy(update={"parallel": True})
    for sizes in [(), (1, 2)]:
        assert outcome(parallel, pairs, *sizes) == {"0": translation, "2": exact, "3": translation}


def test_the_report_counts_by_set_and_language(evaluation: Path, tmp_path: Path) -> None:
    question = json.loads((evaluation / "queries.jsonl").read_text().splitlines()[5])["text"]
    pairs = [
        make_pair(question, "Jibu.", id=str(n), query_lang="sw" if n % 3 else "ha")
        for n in range(9)
    ]
    run = tmp_path / "runs" / "r"
    assert contamination(run) is None
    stage = DecontaminateStage(against=(str(evaluation),))
    results = run_stage(stage, sharded(pairs, Pair, 4))
    for name, result in results.items():
        folder = run / "stages" / ("8-decontaminate" if name == "00000" else "8-decontaminate.2")
        write_table(folder / "dropped" / f"{name}.parquet", result.dropped)
    report = contamination(run)
    assert report is not None and report["hits"] == 9
    found = report["sets"][str(evaluation)]
    reason = "exact_query_in_evaluation"
    assert found["by_language"] == {"ha": {reason: 3}, "sw": {reason: 6}}
    assert len(found["samples"]) == 5
    assert found["samples"][0]["query"] == question
    assert rows_of(pq.read_table(folder / "dropped" / f"{name}.parquet"), Pair)


def test_a_worker_finds_what_a_dead_one_left(evaluation: Path, tmp_path: Path) -> None:
    question = json.loads((evaluation / "queries.jsonl").read_text().splitlines()[5])["text"]
    shards = sharded([make_pair(question, "Jibu.")], Pair)
    stage, ctx = DecontaminateStage(against=(str(evaluation),)), Context(("sw",), 0, tmp_path / "p")
    ctx.dir.mkdir()
    inputs = Inputs(tuple(shards), lambda name, columns: shards[name].select(columns))
    HashIndexWriter(ctx.dir / "exact").add(np.array([7], np.uint64), np.array([10**6]))
    stage.prepare(inputs, ctx)
    sizes = {path.name: path.stat().st_size for path in (ctx.dir / "exact").iterdir()}
    stage.prepare(inputs, ctx)
    assert {path.name: path.stat().st_size for path in (ctx.dir / "exact").iterdir()} == sizes
    assert stage.run(Shard("00000", shards["00000"]), ctx, stage.open(ctx)).num_kept == 0


def test_what_is_named_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text('{"text": ')
    (tmp_path / "none.jsonl").write_text('{"id": 1, "score": 2}\n')
    (tmp_path / "cut.parquet").write_bytes(b"PAR1...")
    for name, said in [("no", "no such evaluation set"), ("empty", "no evaluation set")]:
        with pytest.raises(UserError, match=said):
            DecontaminateStage(against=(str(tmp_path / name),)).fingerprint()
    for name, said in [
        ("bad.jsonl", ":1: not JSON"),
        ("none.jsonl", "holds no text"),
        ("cut.parquet", "not a readable Parquet file"),
    ]:
        with pytest.raises(UserError, match=said):
            outcome(DecontaminateStage(against=(str(tmp_path / name),)), [])
    with pytest.raises(UserError, match="cannot be loaded .*name a folder with a copy"):
        outcome(DecontaminateStage(against=("nobody-there/nothing",)), [])

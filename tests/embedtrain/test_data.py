"""Batches: proportions, order, what never meets in a batch, and going on from any step."""

import itertools
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from embedtrain.adapters import SourceConfig
from embedtrain.data import Batch, Batches, DataConfig, common_instructions, open_sources, permuted
from embedtrain.prepared import Source
from sdg.errors import UserError
from sdg.schema import SCHEMA_VERSION, Example, to_table
from tests.rows import make_example, pieces


def shards(folder: Path, examples: Sequence[Example], size: int = 7) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(pieces(examples, size)):
        pq.write_table(to_table(rows, Example), folder / f"{number:05d}.parquet")
    return folder


def numbered(start: int, count: int, **changes: Any) -> list[Example]:
    return [
        make_example(
            number,
            **{
                "positives": [f"positive {number}"],
                "negatives": [f"negative {number}.{i}" for i in range(3)],
                "negative_scores": [0.3, 0.2, 0.1],
                **changes,
            },
        )
        for number in range(start, start + count)
    ]


def opened(
    folder: Path, *examples: Sequence[Example], **settings: Any
) -> tuple[DataConfig, list[Source]]:
    sources = [
        SourceConfig(path=shards(folder / f"shards{i}", rows)) for i, rows in enumerate(examples)
    ]
    config = DataConfig(sources=tuple(sources), **settings)
    return config, open_sources(config, folder / "prepared")


def taken(batches: Batches, steps: int) -> list[Batch]:
    return list(itertools.islice(batches, steps))


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 1000])
def test_a_permutation_visits_every_place_once(size: int) -> None:
    orders = [[permuted(i, size, 0, "key", epoch) for i in range(size)] for epoch in range(2)]
    assert all(sorted(order) == list(range(size)) for order in orders)
    if size >= 17:
        assert orders[0] != orders[1] != list(range(size))
        assert sum(a == b for a, b in zip(*orders, strict=True)) < size / 3


def test_an_epoch_sees_every_row_once_in_another_order_each_time(tmp_path: Path) -> None:
    rows = numbered(0, 30) + numbered(30, 20, query_lang="ha") + numbered(50, 10, task="bitext")
    config, sources = opened(tmp_path, rows)
    batches = Batches(config, sources, 10, 0, in_batch=False)
    assert batches.num_rows == 60
    first, second = taken(batches, 6), taken(batches, 6)
    for epoch in (first, second):
        assert sorted(i.id for b in epoch for i in b.items) == sorted(row.id for row in rows)
        assert Counter(b.task for b in epoch) == {"retrieval": 5, "bitext": 1}
    assert [i.id for b in first for i in b.items] != [i.id for b in second for i in b.items]
    assert all({i.task for i in b.items} == {b.task} for b in first)


def test_the_mixture_is_the_formula(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "temperature": 2.0,
        "tasks": {"bitext": 3.0, "sts": 0.0},
        "languages": {"ha": 2.0},
    }
    first = numbered(0, 400) + numbered(400, 100, query_lang="ha") + numbered(500, 9, task="sts")
    config, sources = opened(tmp_path, first, numbered(600, 25, task="bitext"), **settings)
    config = config.model_copy(
        update={
            "sources": (config.sources[0], config.sources[1].model_copy(update={"weight": 0.5}))
        }
    )
    seen = Counter(
        (i.task, i.lang) for b in taken(Batches(config, sources, 8, 0, False), 250) for i in b.items
    )
    raw = {
        ("retrieval", "sw"): math.sqrt(400),
        ("retrieval", "ha"): 2 * math.sqrt(100),
        ("bitext", "sw"): 0.5 * 3 * math.sqrt(25),
    }
    for key, weight in raw.items():
        assert seen[key] == pytest.approx(2000 * weight / sum(raw.values()), abs=9)
    assert set(seen) == set(raw)


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_state_goes_on_exactly(tmp_path: Path, in_batch: bool) -> None:
    rows = numbered(0, 23) + numbered(23, 9, positives=["the same"], query_lang="ha")
    config, sources = opened(tmp_path, rows)
    whole = taken(Batches(config, sources, 4, 5, in_batch), 20)
    batches = Batches(config, sources, 4, 5, in_batch)
    for step in range(20):
        state = json.dumps(batches.state())
        assert len(state) < 2000
        other = Batches(config, sources, 4, 5, in_batch)
        other.restore(json.loads(state))
        assert taken(other, 20 - step) == whole[step:]
        assert next(batches) == whole[step]
    assert taken(Batches(config, sources, 4, 6, in_batch), 20) != whole


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_ranks_share_a_batch_out(tmp_path: Path, num_ranks: int) -> None:
    config, sources = opened(tmp_path, numbered(0, 12))
    (batch,) = taken(Batches(config, sources, 12, 0, False), 1)
    shares = [batch.share(rank, num_ranks) for rank in range(num_ranks)]
    assert sorted(i.id for share in shares for i in share) == sorted(i.id for i in batch.items)
    assert {len(share) for share in shares} == {12 // num_ranks}


def test_no_text_is_twice_in_an_in_batch_step_and_no_row_is_lost(tmp_path: Path) -> None:
    rows = [
        row
        for i in range(40)
        for row in numbered(
            i, 1, positives=[f"shared {i % 10}"], negatives=[f"n {i % 7}", f"n {i}", f"n {i}.1"]
        )
    ]
    config, sources = opened(tmp_path, rows, negatives=1)
    found = taken(Batches(config, sources, 8, 0, in_batch=True), 5)
    for batch in found:
        texts = [text.casefold() for i in batch.items for text in (i.query, *i.documents)]
        assert len(texts) == len(set(texts)) == 24
    more = taken(Batches(config, sources, 8, 0, in_batch=True), 10)
    assert {i.id for batch in more for i in batch.items} == {row.id for row in rows}


def test_an_in_batch_step_that_cannot_be_filled_is_refused(tmp_path: Path) -> None:
    config, sources = opened(tmp_path, numbered(0, 9, positives=["the same"]))
    with pytest.raises(UserError, match="only 1 rows for a batch of 4 .* lower batch_size"):
        next(Batches(config, sources, 4, 0, in_batch=True))


def test_tasks_without_in_batch_negatives_keep_their_labels(tmp_path: Path) -> None:
    rows = numbered(
        0, 8, task="classification", positives=["sport"], negatives=["news"], negative_scores=[0.0]
    )
    config, sources = opened(tmp_path, rows)
    batch = next(Batches(config, sources, 8, 0, in_batch=True))
    assert not batch.in_batch
    assert {i.documents for i in batch.items} == {("sport", "news")}


def test_queries_carry_the_instruction_and_documents_of_sts_too(tmp_path: Path) -> None:
    sts = numbered(
        0,
        1,
        task="sts",
        instruction="Same?",
        positive_grades=[1.0],
        negatives=[],
        negative_scores=[],
    )
    config, sources = opened(tmp_path, numbered(1, 1) + sts, negatives=2)
    found = {b.task: b.items[0] for b in taken(Batches(config, sources, 1, 0, False), 2)}
    plain = found["retrieval"]
    assert plain.query == "Instruct: Given a query, retrieve passages\nQuery: swali 1"
    assert plain.documents == ("positive 1", "negative 1.0", "negative 1.1")
    assert plain.scores == pytest.approx((0.5, 0.3, 0.2))
    assert found["sts"].documents == ("Instruct: Same?\nQuery: positive 0",)
    assert found["sts"].grades == (1.0,)
    assert common_instructions(config, sources) == {
        "retrieval": "Given a query, retrieve passages",
        "sts": "Same?",
    }
    one = config.model_copy(update={"instructions": {"retrieval": "Find it"}})
    assert common_instructions(one, sources)["retrieval"] == "Find it"
    bare = config.model_copy(update={"instruct": False, "tasks": {"sts": 0.0}})
    assert next(Batches(bare, sources, 1, 0, False)).items[0].query == "swali 1"


def test_every_positive_has_its_turn(tmp_path: Path) -> None:
    config, sources = opened(
        tmp_path, numbered(0, 1, positives=["a", "b", "c"], positive_scores=[0.1, 0.2, 0.3])
    )
    found = [b.items[0] for b in taken(Batches(config, sources, 1, 0, False), 3)]
    assert sorted((i.documents[0], round(i.scores[0], 3)) for i in found) == [
        ("a", 0.1),
        ("b", 0.2),
        ("c", 0.3),
    ]


def test_bad_rows_are_kept_aside_with_their_reason(tmp_path: Path) -> None:
    nan = float("nan")
    bad = {
        "no_query": {"query": "  "},
        "no_positive": {"positives": [], "positive_scores": []},
        "empty_positive": {"positives": [""]},
        "empty_negative": {"negatives": ["a", " "], "negative_scores": []},
        "nan_score": {"negative_scores": [0.1, nan, 0.2]},
        "scores_mismatch": {"negative_scores": [0.1]},
        "grades_mismatch": {"positive_grades": [0.1, 0.2]},
    }
    rows = [numbered(i, 1, **changes)[0] for i, changes in enumerate(bad.values())]
    _, (source,) = opened(tmp_path, [*rows, *numbered(20, 2)])
    assert source.about["dropped"] == dict.fromkeys(bad, 1)
    assert source.about["num_rows"] == 2
    (folder,) = (tmp_path / "prepared").iterdir()
    lines = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert {line["id"]: line["reason"] for line in lines} == {
        row.id: reason for row, reason in zip(rows, bad, strict=True)
    }
    with pytest.raises(UserError, match=r"shards0: .*no row that can be trained on \(7 no_query\)"):
        opened(tmp_path / "none", numbered(0, 7, query=""))


def test_rows_without_negatives_are_counted_where_the_loss_needs_them(tmp_path: Path) -> None:
    config, sources = opened(
        tmp_path, numbered(0, 3) + numbered(3, 3, negatives=[], negative_scores=[])
    )
    batches = Batches(config, sources, 3, 0, in_batch=False)
    taken(batches, 2)
    assert batches.skipped == {"no_negatives": 3}
    assert len(next(Batches(config, sources, 6, 0, in_batch=True)).items) == 6


def test_lineage_counts_licences_and_makers(tmp_path: Path) -> None:
    _, (source,) = opened(tmp_path, numbered(0, 5))
    assert source.about["lineage"]["license"] == {"CC0-1.0": 5}
    assert source.about["lineage"]["corpus"] == {"corpus.jsonl": 5}


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    code = f"""
import itertools
from pathlib import Path
from embedtrain.adapters import SourceConfig
from embedtrain.data import Batches, DataConfig, open_sources

def private():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024

def run(folder, steps):
    config = DataConfig(sources=(SourceConfig(path=Path(folder)),))
    batches = Batches(config, open_sources(config, Path(folder) / "prepared"), 16, 0, False)
    for batch in itertools.islice(batches, steps):
        pass

run("{tmp_path}/small", 10)
before = private()
run("{tmp_path}/large", 60)
print(private() - before)
"""
    rows = numbered(0, 500, negatives=["neno refu " * 250] * 4, negative_scores=[0.1] * 4)
    table = to_table(rows, Example)  # 5 MB of texts
    for name, files in {"small": 3, "large": 30}.items():
        (tmp_path / name).mkdir()
        for number in range(files):
            pq.write_table(table, tmp_path / name / f"{number}.parquet")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # A shard or two and what the allocator keeps is some 40 MB; all of them would be 150.
    assert float(done.stdout) < 90, "MB more, for 150 MB of texts"


def test_broken_shards_are_named(tmp_path: Path) -> None:
    good = shards(tmp_path / "good", numbered(0, 30), 30)

    def refused(message: str) -> None:
        config = DataConfig(sources=(SourceConfig(path=good),))
        with pytest.raises(UserError, match=message):
            open_sources(config, tmp_path / "prepared")
        assert not list((tmp_path / "prepared").glob("[0-9]*"))

    (file,) = good.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    refused(r"00000.parquet: not a whole Parquet file")
    file.write_bytes(whole[:400] + bytes(400) + whole[800:])
    refused(r"00000.parquet: not a whole Parquet file")
    file.write_bytes(b"")
    refused(r"00000.parquet: an empty file")
    table = to_table(numbered(0, 2), Example)
    pq.write_table(table.replace_schema_metadata({b"mbegu.schema_version": b"1"}), file)
    refused(rf"schema version 1, but this Mbegu reads version {SCHEMA_VERSION}")
    file.unlink()
    refused(r"no \*.parquet there")


def test_other_data_is_not_gone_on_with(tmp_path: Path) -> None:
    config, sources = opened(tmp_path, numbered(0, 4))
    other, others = opened(tmp_path / "other", numbered(0, 4, query_lang="ha"))
    with pytest.raises(UserError, match=r"not what the checkpoint was trained on \(0/retrieval/ha"):
        Batches(other, others, 2, 0, False).restore(Batches(config, sources, 2, 0, False).state())
    with pytest.raises(UserError, match="leave no row"):
        Batches(config.model_copy(update={"tasks": {"retrieval": 0.0}}), sources, 2, 0, False)

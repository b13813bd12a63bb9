"""A stage's folder: atomic files, the manifest, and rows through every stage there is."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.profile import load_profile
from sdg.languages import language
from sdg.schema import Example, Seed, arrow_schema, read_rows, to_table
from sdg.stage import DETAIL, REASON, Context, Inputs, Result, Shard, Stage, dropped_rows, split
from sdg.storage import write_atomically
from sdg.store import StageStore, write_json, write_table
from tests.rows import make_seed

SEEDS = [make_seed(f"Maneno ya hati namba {i}.") for i in range(5)]
TABLE = to_table(SEEDS, Seed)
REASONS = [None, "short", None, "long", "short"]


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    store = StageStore(tmp_path / "1-test")
    store.folder.mkdir()
    return store


def finish(store: StageStore, *shards: str) -> None:
    for shard in shards:
        store.append(store.write(shard, 5, split(TABLE, REASONS, {"calls": 2}), 0.12345))


# Atomic files


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_writer_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    def write_nothing(temporary: Path) -> None:
        assert not temporary.exists()

    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "file", write_nothing)
    assert files_in(tmp_path) == []


def test_json_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        write_json(tmp_path / "a.json", {"a": "\ud800"})
    assert files_in(tmp_path) == []
    write_json(tmp_path / "a.json", {"a": "ኢትዮጵያ"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"a": "ኢትዮጵያ"}
    assert "ኢትዮጵያ" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_table_replaces_another_as_a_whole(tmp_path: Path) -> None:
    for table in (TABLE, TABLE.slice(0, 1)):
        write_table(tmp_path / "t.parquet", table)
        assert pq.read_table(tmp_path / "t.parquet").equals(table, check_metadata=True)
    assert files_in(tmp_path) == ["t.parquet"]


# Shards


def test_a_written_shard_is_counted(store: StageStore) -> None:
    done = store.write("00000", 5, split(TABLE, REASONS, {"calls": 2}), 0.12345)
    assert (done.num_in, done.num_kept, done.num_out) == (5, 2, 2)
    assert done.dropped == {"short": 2, "long": 1}
    assert (done.counters, done.seconds) == ({"calls": 2}, 0.123)
    assert read_rows(store.kept_path("00000"), Seed)["id"].to_pylist() == [SEEDS[0].id, SEEDS[2].id]
    dropped = pq.read_table(store.dropped_path("00000"))
    assert dropped.schema.equals(arrow_schema(Seed, REASON, DETAIL))
    assert dropped["reason"].to_pylist() == ["short", "long", "short"]


def test_nothing_dropped_leaves_no_file_of_an_earlier_attempt(store: StageStore) -> None:
    store.write("00000", 5, split(TABLE, REASONS), 0)
    assert store.dropped_path("00000").exists()
    store.write("00000", 5, split(TABLE, [None] * 5), 0)
    assert not store.dropped_path("00000").exists()


@pytest.mark.parametrize("num_in", [4, 6])
def test_rows_lost_or_multiplied_stop_the_run(num_in: int, store: StageStore) -> None:
    with pytest.raises(AssertionError, match=rf"00000: {num_in} rows in, 2 kept \+ 3 dropped"):
        store.write("00000", num_in, split(TABLE, REASONS), 0)
    assert files_in(store.folder) == []


def test_rows_out_may_be_more_than_rows_kept(store: StageStore) -> None:
    result = replace(split(TABLE, REASONS), kept=pa.concat_tables([TABLE, TABLE]))
    done = store.write("00000", 5, result, 0)
    assert (done.num_kept, done.num_out) == (2, 10)


def test_read_can_take_columns(store: StageStore) -> None:
    finish(store, "00000")
    assert store.read("00000", ["text"]).column_names == ["text"]
    assert store.read("00000").column_names == TABLE.column_names


# The manifest


def test_without_a_manifest_nothing_is_finished(store: StageStore) -> None:
    store.write("00000", 5, split(TABLE, REASONS), 0)
    assert store.finished() == {}


def test_finished_shards_are_those_appended(store: StageStore) -> None:
    finish(store, "00001", "00000")
    before = (store.folder / "manifest.jsonl").read_bytes()
    finished = store.finished()
    assert list(finished) == ["00001", "00000"]
    assert finished["00000"].dropped == {"short": 2, "long": 1}
    assert (store.folder / "manifest.jsonl").read_bytes() == before


@pytest.mark.parametrize("left", [1, 10, -2, -1])
def test_a_line_cut_by_a_kill_is_dropped_and_the_file_mended(left: int, store: StageStore) -> None:
    finish(store, "00000", "00001")
    manifest = store.folder / "manifest.jsonl"
    first, second = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(first + second[:left])
    assert list(store.finished()) == ["00000"]
    assert manifest.read_bytes() == first
    finish(store, "00001")
    assert list(store.finished()) == ["00000", "00001"]
    assert manifest.read_bytes() == first + second
    assert not list(store.folder.glob(".*"))


def test_a_cut_may_go_through_a_character(store: StageStore) -> None:
    reason = "ufupi ኢ\u2028"  # three bytes each; the second is a line's end to Python
    for shard in ("00000", "00001"):
        store.append(store.write(shard, 1, split(TABLE.slice(0, 1), [reason]), 0))
    manifest = store.folder / "manifest.jsonl"
    assert list(store.finished()) == ["00000", "00001"]
    content = manifest.read_bytes()
    manifest.write_bytes(content[: content.rindex("ኢ".encode()) + 1])
    finished = store.finished()
    assert list(finished) == ["00000"]
    assert finished["00000"].dropped == {reason: 1}


@pytest.mark.parametrize("line", ["{}\n", "null\n", "\n", "\0\0\0\n", '{"shard": "00001"}\n'])
def test_a_line_that_says_nothing_counts_for_nothing(line: str, store: StageStore) -> None:
    finish(store, "00000")
    with (store.folder / "manifest.jsonl").open("a") as file:
        file.write(line)
    finish(store, "00002")
    assert list(store.finished()) == ["00000", "00002"]


def test_a_shard_whose_file_is_gone_is_done_again(store: StageStore) -> None:
    finish(store, "00000", "00001")
    store.kept_path("00000").unlink()
    assert list(store.finished()) == ["00001"]
    finish(store, "00000")
    assert set(store.finished()) == {"00000", "00001"}


# Rows through every stage of the default profile


def no_input(shard: str, columns: list[str] | None) -> pa.Table:
    raise AssertionError(f"the first stage has no input: {shard}, {columns}")


def through(
    stages: Sequence[Stage], run_dir: Path, lang: str, *, backwards: bool
) -> dict[str, dict[str, tuple[pa.Table, pa.Table]]]:
    """Kept and dropped tables by stage and shard; every shard goes through Parquet."""
    found: dict[str, dict[str, tuple[pa.Table, pa.Table]]] = {}
    earlier: dict[str, Inputs] = {}
    inputs = Inputs((), no_input, earlier)
    for stage in stages:
        store = StageStore(run_dir / stage.name)
        store.prepared_dir.mkdir(parents=True)
        ctx = Context((lang,), seed=3, dir=store.prepared_dir)
        stage.prepare(inputs, ctx)
        state, names = stage.open(ctx), stage.shards(inputs, ctx)
        found[stage.name] = {}
        for name in reversed(names) if backwards else names:
            table = stage.load(name, inputs, ctx)
            result = stage.run(Shard(name, table), ctx, state)
            done = store.write(name, table.num_rows, result, 0)  # checks that no row is lost
            assert sum(done.dropped.values()) == result.dropped.num_rows
            found[stage.name][name] = (
                read_rows(store.kept_path(name), stage.gives),
                result.dropped,
            )
            assert result.dropped.schema.equals(arrow_schema(stage.takes, REASON, DETAIL))
            store.append(done)
        nothing = arrow_schema(stage.takes).empty_table()
        empty = stage.run(Shard(names[0], nothing), ctx, state)
        assert (empty.num_kept, empty.kept.num_rows, empty.dropped.num_rows) == (0, 0, 0)
        assert empty.kept.schema.equals(arrow_schema(stage.gives), check_metadata=True)
        stage.close(state)
        assert set(store.finished()) == set(names)
        inputs = Inputs(tuple(names), store.read, earlier)
        earlier[stage.name] = inputs
    return found


@pytest.mark.parametrize("pairs", [None, 20])
def test_every_stage_keeps_count_of_its_rows_and_gives_the_same_twice(
    pairs: int | None, tmp_path: Path
) -> None:
    lang = language("en")
    sets = ["stages.seed.shard_rows=16", *([f"pairs={pairs}"] if pairs else [])]
    stages = load_profile("", {}, sets).build([lang]).stages
    first = through(stages, tmp_path / "1", lang.code, backwards=False)
    second = through(stages, tmp_path / "2", lang.code, backwards=True)
    assert all(list(shards) == ["00000", "00001", "00002"] for shards in first.values())
    for stage in stages:
        for shard, tables in first[stage.name].items():
            again = second[stage.name][shard]
            assert all(a.equals(b) for a, b in zip(tables, again, strict=True)), stage.name
    examples = pa.concat_tables(kept for kept, _ in first["mix"].values())
    assert examples.schema.names == list(Example.model_fields)
    if pairs:
        assert examples.num_rows == pairs
    else:
        assert examples.num_rows > 60


def test_dropped_rows_are_the_rows_with_a_reason() -> None:
    dropped = dropped_rows(TABLE, REASONS)
    assert dropped["id"].to_pylist() == [SEEDS[i].id for i in (1, 3, 4)]
    result: Result = split(TABLE.slice(0, 0), [])
    assert (result.num_kept, result.dropped.num_rows) == (0, 0)

"""The runner on a real Ray cluster: resume, lost workers, fingerprints, row conservation."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from sdg.cluster import MAX_ATTEMPTS, Cluster, Need, StageError
from sdg.errors import UserError
from sdg.lock import run_lock
from sdg.runner import Runner, StageReport, check_fingerprints, placed, publish
from sdg.schema import Row, to_table
from sdg.stage import NO_INPUT, Context, Group, Inputs, Resources, Result, Shard, Stage, split
from sdg.storage import path_of
from sdg.store import Done, StageStore, write_table
from tests.object_store import bucket


class Number(Row):
    id: str
    value: int


class CountStage(Stage):
    """A first stage: `num_shards` shards of ten numbers."""

    name: ClassVar[str] = "count"
    takes = Number
    gives = Number

    num_shards: int = 4

    def shards(self, inputs: Inputs, ctx: Context) -> list[str]:
        return [f"{i:05d}" for i in range(self.num_shards)]

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        first = int(name) * 10
        return to_table([Number(id=str(i), value=i) for i in range(first, first + 10)], Number)

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        return split(shard.table, [None] * shard.table.num_rows)


class EvenStage(Stage):
    """Drops odd numbers; `marks` is a folder where each run of a shard leaves a file."""

    name: ClassVar[str] = "even"
    takes = Number
    gives = Number

    marks: str = ""
    die_on: str = ""  # the worker dies on this shard …
    deaths: int = 0  # … so many times
    fail_on: str = ""
    lose_a_row: bool = False
    prepare_deaths: int = 0

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        runs = len(list(Path(self.marks).glob("prepare.*")))
        Path(self.marks, f"prepare.{time.time_ns()}").touch()
        if runs < self.prepare_deaths:
            os._exit(1)

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        runs = len(list(Path(self.marks).glob(f"{shard.name}.*")))
        Path(self.marks, f"{shard.name}.{time.time_ns()}").touch()
        if shard.name == self.die_on and runs < self.deaths:
            os._exit(1)
        if shard.name == self.fail_on:
            raise UserError("mend this shard")
        values = shard.table["value"].to_pylist()
        result = split(shard.table, ["odd" if v % 2 else None for v in values])
        if self.lose_a_row:
            return Result(result.kept.slice(1), result.dropped, result.num_kept - 1)
        return result


class WaitingStage(EvenStage):
    """Its `prepare` waits until a worker that waits for it has made ready."""

    def warm(self) -> None:
        Path(self.marks, f"warm.{os.getpid()}").touch()

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        Path(self.marks, f"prepare.{os.getpid()}").touch()
        deadline = time.monotonic() + 60
        while not [*Path(self.marks).glob("warm.*")] and time.monotonic() < deadline:
            time.sleep(0.01)


class Silent:
    """A display that shows nothing."""

    def stage_started(self, stage: str, num_shards: int | None, before: Sequence[Done]) -> None: ...
    def shard_done(self, stage: str, done: Done) -> None: ...
    def stage_finished(self, stage: str) -> None: ...


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with bucket() as url:
        yield url


@pytest.fixture(scope="module")
def cluster(s3: str) -> Iterator[Cluster]:
    """Two workers, which have the keys of the object store."""
    cluster = Cluster(2)
    yield cluster
    cluster.close()


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def reports_of(folder: Path, cluster: Cluster, *stages: Stage) -> list[StageReport]:
    """Run the stages; returns their reports."""
    check_fingerprints(placed(stages), folder, ["sw"], 0)
    runner = Runner(folder, ["sw"], 0, Silent())
    return [done.report for done in runner.run(placed(stages), NO_INPUT, cluster).values()]


def run(folder: Path, cluster: Cluster, *stages: Stage) -> list[int]:
    """Run the stages; returns the values that came out."""
    reports_of(folder, cluster, *stages)
    return values_of(folder, stages)


def store_of(folder: Path, stages: tuple[Stage, ...]) -> StageStore:
    """Of the last stage."""
    return placed(stages)[-1].store(folder)


def values_of(folder: Path, stages: tuple[Stage, ...]) -> list[int]:
    store = store_of(folder, stages)
    return [v for name in sorted(store.finished()) for v in store.read(name)["value"].to_pylist()]


EVEN = list(range(0, 40, 2))


def test_rows_go_through_and_dropped_ones_are_kept_aside(
    tmp_path: Path, marks: Path, cluster: Cluster
) -> None:
    stages = CountStage(), EvenStage(marks=str(marks))
    reports = reports_of(tmp_path / "r", cluster, *stages)
    assert values_of(tmp_path / "r", stages) == EVEN
    assert (reports[1].num_in, reports[1].num_kept, reports[1].dropped) == (40, 20, {"odd": 20})
    dropped = store_of(tmp_path / "r", stages).dropped_path("00002")
    assert pa.parquet.read_table(dropped)["value"].to_pylist() == [21, 23, 25, 27, 29]


def test_settings_may_change_until_a_shard_is_done(tmp_path: Path) -> None:
    stages = placed([CountStage()])
    check_fingerprints(stages, tmp_path, ["sw"], 0)
    leftover = stages[0].store(tmp_path).folder / "prepared" / "of-the-old-settings"
    leftover.parent.mkdir()
    leftover.touch()
    check_fingerprints(stages, tmp_path, ["sw"], 1)
    assert not leftover.exists()
    shard = stages[0].store(tmp_path).folder / "kept" / "0.parquet"
    shard.parent.mkdir(parents=True)
    shard.touch()
    check_fingerprints(stages, tmp_path, ["sw"], 1)
    with pytest.raises(UserError, match="made with other settings .*seed was 1, now 0"):
        check_fingerprints(stages, tmp_path, ["sw"], 0)


def test_a_finished_shard_is_not_run_again(tmp_path: Path, marks: Path, cluster: Cluster) -> None:
    stages = CountStage(), EvenStage(marks=str(marks))
    assert run(tmp_path / "r", cluster, *stages) == EVEN
    manifest = store_of(tmp_path / "r", stages).folder / "manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:2]) + lines[2][:30])  # killed while writing the third line
    left = {line.split('"')[3] for line in lines[2:]}
    for mark in marks.iterdir():
        mark.unlink()
    assert run(tmp_path / "r", cluster, *stages) == EVEN
    assert {mark.name.split(".")[0] for mark in marks.iterdir()} == left


def test_a_shard_whose_worker_dies_is_run_by_a_new_one(
    tmp_path: Path, marks: Path, cluster: Cluster
) -> None:
    stage = EvenStage(marks=str(marks), die_on="00001", deaths=MAX_ATTEMPTS - 1)
    assert run(tmp_path / "r", cluster, CountStage(), stage) == EVEN
    assert len(list(marks.glob("00001.*"))) == MAX_ATTEMPTS


def test_a_run_in_an_object_store_goes_on_where_it_was(
    s3: str, marks: Path, cluster: Cluster
) -> None:
    folder = path_of(f"{s3}/r")
    stages = CountStage(), EvenStage(marks=str(marks), die_on="00001", deaths=MAX_ATTEMPTS)
    with pytest.raises(StageError, match="00001"):
        run(folder, cluster, *stages)
    finished = set(store_of(folder, stages).finished())
    assert "00001" not in finished
    assert run(folder, cluster, *stages) == EVEN
    runs = Counter(mark.name.split(".")[0] for mark in marks.iterdir())
    assert {shard: runs[shard] for shard in (*finished, "prepare")} == dict.fromkeys(
        (*finished, "prepare"), 1
    )
    examples = publish(folder, store_of(folder, stages))
    assert [p.name for p in sorted(examples.iterdir())] == [f"{i:05d}.parquet" for i in range(4)]


def test_a_prepare_whose_worker_dies_is_done_by_a_new_one(
    tmp_path: Path, marks: Path, cluster: Cluster
) -> None:
    stage = EvenStage(marks=str(marks), prepare_deaths=MAX_ATTEMPTS - 1)
    assert run(tmp_path / "r", cluster, CountStage(), stage) == EVEN
    assert len(list(marks.glob("prepare.*"))) == MAX_ATTEMPTS


class SurveyedStage(EvenStage):
    """Gives numbers that are as great as their whole input's greatest, by a survey of it."""

    name: ClassVar[str] = "surveyed"

    fail: bool = False

    def survey(self) -> EvenStage:
        return EvenStage(marks=self.marks)

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        if self.fail and not list(Path(self.marks).glob("failed")):
            (Path(self.marks) / "failed").touch()
            raise UserError("not yet")
        surveyed = inputs.earlier["even"]
        assert surveyed.shards == inputs.shards
        values = [value for table in surveyed.tables() for value in table["value"].to_pylist()]
        (ctx.dir / "greatest").write_text(str(max(values)))

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        greatest = int((ctx.dir / "greatest").read_text())
        values = shard.table["value"].to_pylist()
        return split(shard.table, [None if value >= greatest else "small" for value in values])


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("in_store", [False, True])
def test_a_survey_is_run_before_prepare_and_removed_after(
    in_store: bool, fail: bool, tmp_path: Path, marks: Path, s3: str, cluster: Cluster
) -> None:
    folder = path_of(f"{s3}/surveyed-{fail}") if in_store else tmp_path / "r"
    stages = [CountStage(), SurveyedStage(marks=str(marks), fail=fail)]
    if fail:
        with pytest.raises(UserError, match="not yet"):
            run(folder, cluster, *stages)
        assert len(list(folder.glob("stages/2-surveyed/even/kept/*"))) == 4
    assert run(folder, cluster, *stages) == [38, 39]
    left = folder / "stages/2-surveyed/even/kept/00000.parquet"
    write_table(left, pa.table({}))  # as a kill leaves it, at the end
    assert run(folder, cluster, *stages) == [38, 39]
    assert len(list(marks.glob("0*"))) == 4  # once a shard, over both attempts
    assert not list(folder.glob("stages/2-surveyed/even/**/*.parquet"))


def test_workers_make_ready_while_another_prepares(
    tmp_path: Path, marks: Path, cluster: Cluster
) -> None:
    assert run(tmp_path / "r", cluster, CountStage(), WaitingStage(marks=str(marks))) == EVEN
    warm, prepared = ({p.suffix for p in marks.glob(w)} for w in ("warm.*", "prepare.*"))
    assert warm and len(prepared) == 1 and not warm & prepared


def test_a_shard_that_kills_every_worker_stops_the_run(
    tmp_path: Path, marks: Path, cluster: Cluster
) -> None:
    stage = EvenStage(marks=str(marks), die_on="00001", deaths=99)
    with pytest.raises(StageError, match="00001"):
        run(tmp_path / "r", cluster, CountStage(), stage)
    assert len(list(marks.glob("00001.*"))) == MAX_ATTEMPTS


def test_a_user_error_in_a_worker_comes_through_in_its_own_words(
    tmp_path: Path, marks: Path, cluster: Cluster
) -> None:
    stages = CountStage(), EvenStage(marks=str(marks), fail_on="00003")
    with pytest.raises(UserError, match=r"^mend this shard$"):
        run(tmp_path / "r", cluster, *stages)


def test_a_lost_row_stops_the_run(tmp_path: Path, marks: Path, cluster: Cluster) -> None:
    with pytest.raises(StageError, match="10 rows in, 4 kept \\+ 5 dropped"):
        run(tmp_path / "r", cluster, CountStage(), EvenStage(marks=str(marks), lose_a_row=True))


def test_other_settings_are_refused_with_what_changed(tmp_path: Path, marks: Path) -> None:
    stages = placed([CountStage(), EvenStage(marks=str(marks))])
    made = check_fingerprints(stages, tmp_path, ["sw"], 0)
    assert check_fingerprints(stages, tmp_path, ["sw"], 0) == made
    shard = stages[0].store(tmp_path).folder / "kept" / "0.parquet"
    shard.parent.mkdir(parents=True)
    shard.touch()
    for changed, lang, seed, said in (
        ([CountStage(num_shards=5)], "sw", 0, "num_shards was 4, now 5"),
        ([CountStage()], "ha", 0, 'lang was "sw", now "ha"'),
        ([CountStage()], "sw", 1, "seed was 0, now 1"),
        ([CountStage(), EvenStage(marks="elsewhere")], "sw", 0, "stage even: marks was"),
    ):
        with pytest.raises(UserError, match=said):
            check_fingerprints(placed(changed), tmp_path, [lang], seed)


def test_two_processes_cannot_work_on_one_run(tmp_path: Path) -> None:
    with (
        run_lock(tmp_path / "r"),
        pytest.raises(UserError, match="another process"),
        run_lock(tmp_path / "r"),
    ):
        pass
    with run_lock(tmp_path / "r"):
        pass


def test_examples_are_published_without_empty_shards(
    tmp_path: Path, marks: Path, cluster: Cluster
) -> None:
    stages = CountStage(num_shards=3), EvenStage(marks=str(marks))
    run(tmp_path / "r", cluster, *stages)
    store = store_of(tmp_path / "r", stages)
    empty = Result(
        store.read("00001").slice(0, 0), pa.table({"reason": pa.array([], pa.string())}), 0
    )
    store.append(store.write("00001", 0, empty, 0.0))
    for _ in range(2):  # publishing again gives the same
        folder = publish(tmp_path / "r", store)
        assert sorted(p.name for p in folder.iterdir()) == ["00000.parquet", "00002.parquet"]
    assert not list((tmp_path / "r").glob(".*"))


def test_a_worker_that_is_too_big_is_refused_at_once(cluster: Cluster) -> None:
    from sdg.stage import Resources

    with pytest.raises(UserError, match="stage a needs 800 GPU"):  # more than any machine has
        cluster.check([Need("stage a", Resources(num_gpus=800))])
    with pytest.raises(UserError, match="needs 1 CPU, 4000.0 GB of memory for one worker"):
        cluster.check([Need("stage a", Resources(memory_gb=4000))])
    with pytest.raises(UserError, match="memory_gb: 4000 GB wanted"):
        cluster.check_memory(4000)


class PartStage(Stage):
    """Parts every shard by parity; `odd` shards want a worker with a GPU's worth of CPUs."""

    name: ClassVar[str] = "part"
    takes = Number
    gives = Number

    lose: bool = False

    def shards(self, inputs: Inputs, ctx: Context) -> list[str]:
        parts = ("even",) if self.lose else ("even", "odd")
        return [f"{name}.{part}" for name in inputs.shards for part in parts]

    def groups(self, shards: Sequence[str]) -> list[Group]:
        return [
            Group(part, tuple(s for s in shards if s.endswith(part)), wanted)
            for part, wanted in (("even", None), ("odd", Resources(num_cpus=2)))
        ]

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        shard, _, part = name.rpartition(".")
        table = inputs.read(shard, None)
        odd = pa.array([bool(v % 2) for v in table["value"].to_pylist()])
        return table.filter(odd if part == "odd" else pa.compute.invert(odd))

    def open(self, ctx: Context) -> str:
        return ctx.group

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        assert shard.name.endswith(state), "a worker of another group"
        return split(shard.table, [None] * shard.table.num_rows, {state: shard.table.num_rows})


def test_groups_of_shards_have_workers_of_their_own(tmp_path: Path, cluster: Cluster) -> None:
    stages = CountStage(), PartStage()
    reports = reports_of(tmp_path / "r", cluster, *stages)
    assert sorted(values_of(tmp_path / "r", stages)) == list(range(40))
    assert reports[1].counters == {"even": 20, "odd": 20}
    manifest = store_of(tmp_path / "r", stages).folder / "manifest.jsonl"
    order = [line.split('"')[3].split(".")[1] for line in manifest.read_text().splitlines()]
    assert order == ["even"] * 4 + ["odd"] * 4  # one group after another


def test_rows_lost_between_shards_stop_the_run(tmp_path: Path, cluster: Cluster) -> None:
    with pytest.raises(StageError, match="held 20 rows, but 40 came in"):
        run(tmp_path / "r", cluster, CountStage(), PartStage(lose=True))

"""mine on Ray: passages in parts, each held by one worker; one that dies."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sdg.cluster import Cluster
from sdg.miner import Miner
from sdg.runner import Runner, check_fingerprints, placed
from sdg.schema import Example, Pair, Seed, rows_of
from sdg.stage import Context, Inputs
from sdg.stages import MineStage
from sdg.store import Done
from tests.rows import bundled_seeds, make_pair, sharded


class Silent:
    """A display that shows nothing."""

    def stage_started(self, stage: str, num_shards: int | None, before: Sequence[Done]) -> None: ...
    def shard_done(self, stage: str, done: Done) -> None: ...
    def stage_finished(self, stage: str) -> None: ...


class MortalMiner(Miner):
    """The first worker that answers for another dies of it."""

    mark: Path

    def answer(self, part: int, question: Any) -> Any:
        if part == 2 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().answer(part, question)


class MortalStage(MineStage):
    mark: str

    def open(self, ctx: Context) -> Miner:
        whole = super().open(ctx)
        miner = MortalMiner(self, ctx.seed, whole.passages, whole.encoders)
        miner.mark = Path(self.mark)
        return miner


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(2)
    yield cluster
    cluster.close()


def inputs_of(tables: Mapping[str, pa.Table], **earlier: Inputs) -> Inputs:
    def read(name: str, columns: list[str] | None) -> pa.Table:
        return tables[name] if columns is None else tables[name].select(columns)

    return Inputs(tuple(tables), read, earlier)


def mined(folder: Path, cluster: Cluster, stage: MineStage) -> list[Example]:
    seeds = bundled_seeds("sw")
    pairs = [make_pair(seed.title, seed.text) for seed in seeds]
    given = inputs_of(sharded(pairs, Pair, 10, 10, 10), seed=inputs_of(sharded(seeds, Seed)))
    check_fingerprints(placed([stage]), folder, ["sw"], 0)
    done = Runner(folder, ["sw"], 0, Silent()).run(placed([stage]), given, cluster)["mine"]
    return [row for table in done.output.tables() for row in rows_of(table, Example)]


def test_parts_on_several_workers_give_the_same_and_survive_one(
    tmp_path: Path, cluster: Cluster
) -> None:
    whole = mined(tmp_path / "whole", cluster, MineStage())
    assert len(whole) > 30
    assert mined(tmp_path / "parts", cluster, MineStage(part_rows=9)) == whole
    mark = tmp_path / "mark"
    stage = MortalStage(part_rows=9, mark=str(mark))
    assert mined(tmp_path / "mortal", cluster, stage) == whole
    assert mark.exists()

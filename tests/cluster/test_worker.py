"""What a worker holds, and lets go of."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sdg.cluster.worker import Job, Worker
from sdg.schema import Pair
from sdg.stage import Context, Inputs, Result, Shard, Stage
from sdg.store import StageStore


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """The tests after these look through all that is there, as before, and find no counts of ours."""
    yield
    gc.unfreeze()
    for counts in (Holding.opened, Holding.living, Holding.prepared):
        counts.clear()


class Held:
    """A state in a cycle, as models and caches are."""

    def __init__(self) -> None:
        self.itself = self


class Holding(Stage):
    name: ClassVar[str] = "holding"
    takes = Pair
    gives = Pair
    opened: ClassVar[list[Any]] = []
    living: ClassVar[list[int]] = []
    prepared: ClassVar[list[Any]] = []

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        self.prepared.append(weakref.ref(Held()))

    def open(self, ctx: Context) -> Held:
        self.living.append(sum(held() is not None for held in self.opened))
        state = Held()
        self.opened.append(weakref.ref(state))
        return state

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        raise AssertionError("never asked")


def test_one_stages_state_is_gone_before_the_next_is_opened(tmp_path: Path) -> None:
    worker = Worker([])
    for group in ("a", "b", "c"):
        ctx = Context(langs=("sw",), seed=0, dir=tmp_path, group=group)
        worker._open(Job(Holding(), ctx, StageStore(tmp_path), Inputs((), lambda *_: None)))
    assert Holding.living == [0, 0, 0]
    worker.close()
    assert all(held() is None for held in Holding.opened)


def test_what_prepare_leaves_in_a_cycle_is_gone_before_what_is_there_is_kept(
    tmp_path: Path,
) -> None:
    worker = Worker([])
    ctx = Context(langs=("sw",), seed=0, dir=tmp_path)
    job = Job(Holding(), ctx, StageStore(tmp_path), Inputs((), lambda *_: None))
    worker._open(job)
    state = Holding.opened[-1]
    worker.prepare(job)
    assert state() is None  # the stage before is let go of
    worker._open(job)
    worker.close()
    assert all(held() is None for held in (*Holding.opened, *Holding.prepared))

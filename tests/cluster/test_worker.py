"""What a worker holds, and lets go of."""

import gc
import weakref
from pathlib import Path
from typing import Any, ClassVar

from sdg.cluster.worker import Job, Worker
from sdg.schema import Pair
from sdg.stage import Context, Inputs, Result, Shard, Stage
from sdg.store import StageStore


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
    assert gc.get_freeze_count() == 0

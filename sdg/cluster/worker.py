"""What runs in a worker: one stage after another, shard by shard."""

import ctypes
import gc
import platform
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import ray

from sdg.account import count_slices, slices_of
from sdg.errors import UserError
from sdg.stage import Context, InParts, Inputs, Shard, Stage
from sdg.storage import is_object, remove_folder, upload
from sdg.store import Done, StageStore

ANSWERS = "answers"  # concurrency group of a worker


@dataclass(frozen=True)
class Job:
    """A stage with all that a worker needs to run it."""

    stage: Stage
    ctx: Context
    store: StageStore
    inputs: Inputs
    prepared: StageStore | None = None  # another store, whose `prepare` serves this one too

    def prepare(self) -> str:
        """The stage's work over its whole input. Returns the attempt's name, where its files went
        to an object store."""
        if not is_object(self.store.folder):
            self.stage.prepare(self.inputs, self.ctx)
            return ""
        attempt = uuid.uuid4().hex
        source = self.prepared or self.store
        here = source.scratch_dir(attempt)
        here.mkdir(parents=True)
        self.stage.prepare(self.inputs, replace(self.ctx, dir=here))
        upload(here, source.folder / "prepared" / attempt)
        return attempt

    def here(self) -> "Job":
        """The job, with what `prepare` left as files of this machine."""
        if not is_object(self.store.folder) or self.ctx.dir.is_dir():
            return self
        source = self.prepared or self.store
        return replace(self, ctx=replace(self.ctx, dir=source.prepared_dir))


class Identity(NamedTuple):
    """Who a worker is, in hexadecimal digits."""

    actor: str
    node: str


class Worker:
    """Runs one stage after another; holds what the present one opened."""

    def __init__(self, path: list[str]) -> None:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._state: Any = None
        self._fetched: set[Path] = set()  # copies of what is in an object store

    def prepare(self, job: Job) -> str:
        _see(job)
        with self._lock:
            self._put_away()
        try:
            return job.prepare()
        finally:
            gc.collect()  # what is left in cycles would be kept for good, by `_open`
            _give_back()

    def warm(self, stage: Stage) -> None:
        """While another prepares: the stage's modules are here by now, and what else it names."""
        stage.warm()

    def run(self, job: Job, shard: str, workers: Sequence[Any]) -> Done:
        """The stage's work on a shard. `workers` are all of the pool, this one too: each answers
        for its own parts of what the stage holds in parts."""
        _see(job)
        job = job.here()
        if is_object(job.store.folder):
            self._fetched.add(job.ctx.dir)
        state = self._open(job)
        if isinstance(state, InParts):
            state.gather = partial(_ask_all, workers, job, state)
        started = time.monotonic()
        table = job.stage.load(shard, job.inputs, job.ctx)
        result = job.stage.run(Shard(shard, table), job.ctx, state)
        seconds = time.monotonic() - started
        slices = count_slices(
            job.stage.slices(table, job.ctx),
            slices_of(result.kept),
            job.stage.slices(result.dropped, job.ctx),
            result.dropped["reason"],
            result.num_kept,
        )
        return job.store.write(shard, table.num_rows, result, seconds, slices)

    @ray.method(concurrency_group=ANSWERS)
    def answer(self, job: Job, part: int, question: Any) -> Any:
        """What a part that this worker holds says to another's question."""
        return self._open(job.here()).answer(part, question)

    @ray.method(concurrency_group=ANSWERS)
    def identity(self) -> Identity:
        here = ray.get_runtime_context()
        return Identity(here.get_actor_id() or "", here.get_node_id())

    def close(self) -> None:
        with self._lock:
            self._put_away()
        for folder in self._fetched:
            remove_folder(folder)
        self._fetched.clear()

    def _put_away(self) -> None:
        """Close what is open, and let go of it, cycles too."""
        if self._job:
            self._job.stage.close(self._state)
            self._job = self._state = None
            gc.collect()
            _give_back()

    def _open(self, job: Job) -> Any:
        with self._lock:
            if self._job is None or self._job.ctx != job.ctx:
                self._put_away()  # should open() fail, nothing is left half-open
                # What is there now, modules and tables, stays to the end. Looked through again and
                # again, as a shard's rows are made, it would take five times as long as making
                # them. What is opened is let go of, cycles too, so it is not frozen.
                gc.freeze()
                self._state = job.stage.open(job.ctx)
                self._job = job
            return self._state


def _give_back() -> None:
    """Let the system have the memory that was freed. C's allocator keeps what lies between things
    that stay, and a stage's own may be hundreds of megabytes that the next one has no use for."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim:
        trim(0)


def _ask_all(workers: Sequence[Any], job: Job, state: InParts, question: Any) -> list[Any]:
    """Every part's answer, each of the worker that holds it."""
    if state.num_parts == 1:  # small enough for each worker to hold it
        return [state.answer(0, question)]
    job_ref, question_ref = ray.put(job), ray.put(question)
    return ray.get(
        [
            workers[part % len(workers)].answer.remote(job_ref, part, question_ref)
            for part in range(state.num_parts)
        ]
    )


def _see(job: Job) -> None:
    """Refuse a machine that lacks the run's folder, which the driver has made: what it wrote there
    nobody else would find.

    Raises:
        UserError: the folder is not there.
    """
    if not is_object(job.store.folder) and not job.store.folder.is_dir():
        raise UserError(
            f"{job.store.folder}: the machine {platform.node()} of the cluster does not see this "
            f"folder; give one that all of them share: --set runs=/<shared folder>/runs"
        )

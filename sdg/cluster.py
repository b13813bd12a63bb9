"""The only module that drives Ray: a pool of workers that run a stage on shards.

Workers are plain Ray actors that live through all stages. Ray Data's actor pool does the same work,
but starting one costs 3.6 s a stage on two cores, and it restarts a crashing actor for ever without
saying on which rows; here a shard's attempts are counted and a new stage costs a message.
"""

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError, WorkerCrashedError

from sdg.account import count_slices, slices_of
from sdg.errors import UserError
from sdg.stage import Context, InParts, Inputs, Resources, Shard, Stage
from sdg.store import Done, StageStore

log = logging.getLogger(__name__)

ANSWERS = "answers"  # concurrency group of a worker
LOST = (RayActorError, WorkerCrashedError)
MAX_ATTEMPTS = 3  # of a shard whose worker dies
OBJECT_STORE_BYTES = 100 * 2**20  # shards travel as files, so Ray's store holds messages only


@dataclass(frozen=True)
class Job:
    """A stage with all that a worker needs to run it."""

    stage: Stage
    ctx: Context
    store: StageStore
    inputs: Inputs

    def prepare(self) -> None:
        """The stage's work over its whole input."""
        self.stage.prepare(self.inputs, self.ctx)


class StageError(RuntimeError):
    """A bug or a lost machine: the run stops, and what is finished stays."""


class _Worker:
    """Runs one stage after another; holds what the present one opened."""

    def __init__(self, path: list[str]) -> None:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._state: Any = None

    def prepare(self, job: Job) -> None:
        job.prepare()

    def run(self, job: Job, shard: str, workers: Sequence[Any]) -> Done:
        """The stage's work on a shard. `workers` are all of the pool, this one too: each answers
        for its own parts of what the stage holds in parts."""
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
        return self._open(job).answer(part, question)

    @ray.method(concurrency_group=ANSWERS)
    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        with self._lock:
            if self._job:
                self._job.stage.close(self._state)
            self._job = self._state = None

    def _open(self, job: Job) -> Any:
        with self._lock:
            if self._job is None or self._job.ctx != job.ctx:
                if self._job:
                    self._job.stage.close(self._state)
                self._job, self._state = None, None  # should open() fail, nothing is left half-open
                self._state = job.stage.open(job.ctx)
                self._job = job
            return self._state


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


class Pool:
    """Workers on a Ray cluster, for stages one after another."""

    def __init__(self, num_workers: int, resources: Resources) -> None:
        self._resources = resources
        self._workers = [self._start() for _ in range(num_workers)]
        self._heirs: dict[Any, Any] = {}  # a lost worker -> the one in its place

    def _start(self) -> Any:
        wanted = self._resources
        remote: Any = ray.remote  # its types know nothing of concurrency groups
        return (
            # While it runs a shard it answers others' questions, one at a time.
            remote(concurrency_groups={ANSWERS: 1})(_Worker)
            .options(
                num_cpus=wanted.num_cpus,
                num_gpus=wanted.num_gpus,
                max_concurrency=wanted.shards_in_flight,
            )
            .remote(sys.path)
        )

    def prepare(self, job: Job) -> None:
        """Run a stage's `prepare` in one worker, so that the driver stays small."""
        worker = self._workers[0]
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                ray.get(worker.prepare.remote(job))
                return
            except RayTaskError as error:
                raise _cause(error, job, "prepare") from error
            except (RayActorError, WorkerCrashedError) as error:
                log.warning("stage %s, prepare: worker lost: %s", job.stage.name, error)
                worker = self._replace(worker, deque())
                if attempt == MAX_ATTEMPTS:
                    raise StageError(
                        f"stage {job.stage.name}: the worker died {MAX_ATTEMPTS} times in prepare "
                        f"(out of memory, or a crash in native code)"
                    ) from error

    def run(self, job: Job, shards: Sequence[str]) -> Iterator[Done]:
        """Run a stage on shards, yielding each as it is finished, in any order.

        A shard whose worker dies is given to a new one, `MAX_ATTEMPTS` times in all.
        """
        if not shards:
            return
        handle = ray.put(job)
        pending = deque(shards)
        attempts = dict.fromkeys(shards, 0)
        running: dict[Any, tuple[Any, str]] = {}
        idle = deque(self._workers * self._resources.shards_in_flight)
        while pending or running:
            while pending and idle:
                worker, shard = idle.popleft(), pending.popleft()
                attempts[shard] += 1
                run = worker.run.remote(handle, shard, self._workers)
                running[run] = (worker, shard)
            for ref in ray.wait(list(running), num_returns=1)[0]:
                worker, shard = running.pop(ref)
                try:
                    done: Done = ray.get(ref)
                except (RayTaskError, *LOST) as error:
                    # The shard's own worker died, or one that it asked.
                    if isinstance(error, RayTaskError) and not isinstance(error.cause, LOST):
                        raise _cause(error, job, shard) from error
                    log.warning("stage %s, shard %s: worker lost: %s", job.stage.name, shard, error)
                    self._replace_lost(idle)
                    worker = self._heirs.get(worker, worker)
                    if attempts[shard] >= MAX_ATTEMPTS:
                        raise StageError(
                            f"stage {job.stage.name}: the worker died {MAX_ATTEMPTS} times on "
                            f"shard {shard} (out of memory, or a crash in native code)"
                        ) from error
                    pending.append(shard)
                    idle.append(worker)
                    continue
                idle.append(worker)
                yield done

    def _replace_lost(self, idle: deque[Any]) -> None:
        """New workers for all that died."""
        for worker in list(self._workers):
            try:
                ray.get(worker.is_alive.remote())
            except LOST:
                self._replace(worker, idle)

    def _replace(self, dead: Any, idle: deque[Any]) -> Any:
        """A living worker for a dead one's place; its other places get the same new worker."""
        if dead in self._workers:
            fresh = self._start()
            self._workers[self._workers.index(dead)] = fresh
            for _ in range(idle.count(dead)):
                idle.remove(dead)
                idle.append(fresh)
            self._heirs[dead] = fresh
        return self._heirs[dead]

    def close(self) -> None:
        """Let the workers free what they hold, then end them."""
        closing = [worker.close.remote() for worker in self._workers]
        ray.wait(closing, num_returns=len(closing), timeout=30)
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []


class Cluster:
    """A Ray cluster: an own one on this machine, or the one that RAY_ADDRESS names."""

    def __init__(self, num_cpus: int) -> None:
        """Start or join it.

        Args:
            num_cpus: processors to use of this machine; a cluster that is joined has its own.
        """
        address = os.environ.get("RAY_ADDRESS")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address:
            ray.init(address=address, log_to_driver=True)
        else:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=True,
            )
        self._pool: Pool | None = None

    def check(self, wanted: Resources) -> None:
        """Refuse, at once, what this cluster can never give one worker."""
        total = ray.cluster_resources()
        has = {
            "CPU": (wanted.num_cpus, total.get("CPU", 0.0), ""),
            "GPU": (wanted.num_gpus, total.get("GPU", 0.0), ""),
            "memory": (wanted.memory_gb, total.get("memory", 0.0) / 2**30, " GB"),
        }
        for what, (need, there, unit) in has.items():
            if need > there:
                raise UserError(
                    f"the run needs {need:g}{unit} of {what} for one worker, but there is "
                    f"{there:.1f}{unit}; take a bigger machine or a smaller model"
                )

    @contextmanager
    def pool(self, wanted: Resources | None) -> Iterator[Pool]:
        """Workers with what is wanted. Ordinary ones (None) are shared by stages; an engine with
        demands of its own gets the whole cluster for as long as it works."""
        if wanted is None:
            self._pool = self._pool or Pool(self._fitting(Resources()), Resources())
            yield self._pool
            return
        if self._pool:
            self._pool.close()
            self._pool = None
        if wanted.gpu_if_any and ray.cluster_resources().get("GPU", 0) >= 1:
            wanted = replace(wanted, num_gpus=max(1, wanted.num_gpus))
        self.check(wanted)
        pool = Pool(self._fitting(wanted), wanted)
        try:
            yield pool
        finally:
            pool.close()

    def _fitting(self, wanted: Resources) -> int:
        """How many such workers the cluster has room for, at least one, at most as asked."""
        total = ray.cluster_resources()
        room = [int(total.get("CPU", 1) // wanted.num_cpus)] if wanted.num_cpus else []
        room += [int(total.get("GPU", 0) // wanted.num_gpus)] if wanted.num_gpus else []
        most = max(1, min(room, default=1))
        return min(most, wanted.replicas or most)

    def close(self) -> None:
        """End the workers and leave the cluster."""
        if self._pool:
            self._pool.close()
            self._pool = None
        ray.shutdown()


def _cause(error: RayTaskError, job: Job, shard: str) -> Exception:
    """What the user is to see of an exception in a worker: its own words if they are for the user,
    else that the stage failed; the traceback is in the log."""
    cause = error.cause
    if isinstance(cause, UserError | OSError):
        return cause
    log.error("stage %s, shard %s failed", job.stage.name, shard, exc_info=error)
    return StageError(f"stage {job.stage.name}, shard {shard}: {type(cause).__name__}: {cause}")

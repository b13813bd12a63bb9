"""A pool of workers that run a stage on shards, whatever becomes of some of them.

A worker takes shards once it has started, so a pool may ask for more than the cluster has room for
at the moment: where machines come and go, those that are there do the work. A shard whose worker
dies is given to another one; its attempts are counted where the machine is still there, and so the
shard itself may be to blame.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayActorError, RayTaskError, WorkerCrashedError

from sdg.cluster.room import describe, machines
from sdg.cluster.worker import ANSWERS, Identity, Job, Worker
from sdg.errors import UserError
from sdg.stage import Resources
from sdg.store import Done

log = logging.getLogger(__name__)

LOST = (RayActorError, WorkerCrashedError)
MAX_ATTEMPTS = 3  # of a shard whose worker dies, and of a worker to start
START_S = 1200.0  # that the first worker may take: a machine may have to be started for it


class StageError(RuntimeError):
    """A bug or a lost machine: the run stops, and what is finished stays."""


class Start(NamedTuple):
    """A worker that was asked for, and the machines that there were then."""

    worker: Any
    nodes: set[str]


class Pool:
    """Workers on a Ray cluster, for stages one after another."""

    def __init__(self, num_workers: int, resources: Resources) -> None:
        self._resources = resources
        self._workers: dict[Any, Identity] = {}  # those that have started
        self._starting: dict[Any, Start] = {}  # by what the worker says when it has
        self._num_failed = 0  # starts in a row, on machines that are still there
        for _ in range(num_workers):
            self._start()

    def prepare(self, job: Job) -> str:
        """Run a stage's `prepare` in one worker, so that the driver stays small; the others make
        ready meanwhile."""
        attempts = 0
        while True:
            self._wait_for_one(job)
            worker = next(iter(self._workers))
            attempts += 1
            for other in self._all():
                if other is not worker:
                    other.warm.remote(job.stage)
            try:
                attempt: str = ray.get(worker.prepare.remote(job))
                return attempt
            except (RayTaskError, *LOST) as error:
                if isinstance(error, RayTaskError):
                    raise _cause(error, job, "prepare") from error
                log.warning("stage %s, prepare: worker lost: %s", job.stage.name, error)
                attempts -= self._is_gone(self._workers[worker].node)
                self._replace([worker])
                self._give_up(job, "in prepare", attempts, error)

    def run(self, job: Job, shards: Sequence[str]) -> Iterator[Done]:
        """Run a stage on shards, yielding each as it is finished, in any order.

        A shard whose worker dies is given to another, `MAX_ATTEMPTS` times in all.
        """
        if not shards:
            return
        handle = ray.put(job)
        pending = deque(shards)
        attempts = dict.fromkeys(shards, 0)
        running: dict[Any, tuple[Any, str]] = {}
        finished: list[Done] = []
        self._wait_for_one(job)
        idle = deque([*self._workers] * self._resources.shards_in_flight)
        while True:
            while pending and idle:
                worker = idle.popleft()
                if worker not in self._workers:
                    continue  # it has died since
                shard = pending.popleft()
                attempts[shard] += 1
                running[worker.run.remote(handle, shard, [*self._workers])] = (worker, shard)
            # What is done with them takes a while, in which the workers have the next ones.
            yield from finished
            finished.clear()
            if not running and not pending:
                return
            if not running:
                self._wait_for_one(job)
                idle += [*self._workers] * self._resources.shards_in_flight
                continue
            for ref in ray.wait([*running, *self._starting], num_returns=1)[0]:
                if ref in self._starting:
                    idle += [*self._greet(ref, job)] * self._resources.shards_in_flight
                    continue
                worker, shard = running.pop(ref)
                try:
                    done: Done = ray.get(ref)
                except (RayTaskError, *LOST) as error:
                    attempts[shard] -= self._bury(error, worker, job, shard)
                    self._give_up(job, f"on shard {shard}", attempts[shard], error)
                    pending.append(shard)
                    idle.append(worker)
                    continue
                idle.append(worker)
                finished.append(done)

    def close(self) -> None:
        """Let the workers free what they hold, then end them."""
        closing = [worker.close.remote() for worker in self._workers]
        ray.wait(closing, num_returns=len(closing), timeout=30)
        for worker in self._all():
            ray.kill(worker)
        self._workers, self._starting = {}, {}

    def _all(self) -> list[Any]:
        """The workers, those that are starting too."""
        return [*self._workers, *(start.worker for start in self._starting.values())]

    def _start(self) -> None:
        wanted = self._resources
        remote: Any = ray.remote  # its types know nothing of concurrency groups
        # While it runs a shard it answers others' questions, one at a time.
        worker = (
            remote(concurrency_groups={ANSWERS: 1})(Worker)
            .options(
                num_cpus=wanted.num_cpus,
                num_gpus=wanted.num_gpus,
                max_concurrency=wanted.shards_in_flight,
            )
            .remote(sys.path)
        )
        self._starting[worker.identity.remote()] = Start(worker, _nodes())

    def _greet(self, ref: Any, job: Job) -> list[Any]:
        """The worker that has just started; another is started for one that could not."""
        worker, nodes = self._starting.pop(ref)
        try:
            self._workers[worker] = ray.get(ref)
        except LOST as error:
            log.warning("a worker could not start: %s", error)
            # Ray places workers on a machine that is lost until it has noticed.
            self._num_failed += nodes <= _nodes()
            if self._num_failed >= MAX_ATTEMPTS and not self._workers:
                raise StageError(
                    f"stage {job.stage.name}: no worker could start; the log says why"
                ) from error
            self._start()
            return []
        self._num_failed = 0
        return [worker]

    def _wait_for_one(self, job: Job) -> None:
        """Wait until there is a worker, and greet all that have started.

        Raises:
            StageError: in `START_S` seconds there was none.
        """
        deadline = time.monotonic() + START_S
        while self._starting:
            wait = 0.0 if self._workers else max(0.0, deadline - time.monotonic())
            started = ray.wait([*self._starting], num_returns=1, timeout=wait)[0]
            for ref in started:
                self._greet(ref, job)
            if not started and self._workers:
                return
            if not started:
                raise StageError(
                    f"stage {job.stage.name}: for {START_S / 60:.0f} minutes no machine had room "
                    f"for a worker ({describe(self._resources)}); the cluster has "
                    f"{len(machines())} machines"
                )

    def _bury(self, error: Exception, worker: Any, job: Job, shard: str) -> bool:
        """Replace the worker that died: the shard's own, or one that it asked. Returns whether its
        machine is gone, too.

        Raises:
            UserError, OSError, StageError: none died, the stage failed.
        """
        cause = error.cause if isinstance(error, RayTaskError) else error
        if not isinstance(cause, LOST):
            assert isinstance(error, RayTaskError)
            raise _cause(error, job, shard) from error
        log.warning("stage %s, shard %s: worker lost: %s", job.stage.name, shard, error)
        actor = getattr(cause, "actor_id", None)
        dead = [one for one, who in self._workers.items() if who.actor == actor]
        if not dead and not isinstance(error, RayTaskError) and worker in self._workers:
            dead = [worker]  # Ray does not say which
        gone = any(self._is_gone(self._workers[one].node) for one in dead)
        self._replace(dead)
        return gone

    def _replace(self, dead: Sequence[Any]) -> None:
        for worker in dead:
            del self._workers[worker]
            ray.kill(worker)  # should it only have been out of reach
            self._start()

    def _is_gone(self, node: str) -> bool:
        return node not in _nodes()

    def _give_up(self, job: Job, where: str, attempts: int, error: Exception) -> None:
        if attempts >= MAX_ATTEMPTS:
            raise StageError(
                f"stage {job.stage.name}: the worker died {MAX_ATTEMPTS} times {where} "
                f"(out of memory, or a crash in native code)"
            ) from error


def _nodes() -> set[str]:
    return {machine.node for machine in machines()}


def _cause(error: RayTaskError, job: Job, shard: str) -> Exception:
    """What the user is to see of an exception in a worker: its own words if they are for the user,
    else that the stage failed; the traceback is in the log."""
    cause = error.cause
    if isinstance(cause, UserError | OSError):
        return cause
    log.error("stage %s, shard %s failed", job.stage.name, shard, exc_info=error)
    return StageError(f"stage {job.stage.name}, shard {shard}: {type(cause).__name__}: {cause}")

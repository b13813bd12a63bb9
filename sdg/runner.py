"""Runs stages over shards: fingerprint, prepare, the pending shards, manifest; then the next stage.

Resuming is nothing special: a stage whose fingerprint is unchanged goes on with the shards that its
manifest lacks. Another fingerprint is an error that names what changed, because mixing rows of two
configurations in one run is never what the user wants.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sdg.cluster import Cluster, Job, Pool
from sdg.errors import UserError
from sdg.schema import SCHEMA_VERSION
from sdg.stage import Context, Inputs, Stage
from sdg.store import Done, StageStore, write_json
from sdg.text import digest


class Progress(Protocol):
    """What the runner tells a display."""

    def stage_started(self, stage: str, num_shards: int | None, num_done: int) -> None: ...
    def shard_done(self, stage: str, done: Done) -> None: ...
    def stage_finished(self, stage: str) -> None: ...


@dataclass(frozen=True)
class StageReport:
    """What a stage did with its rows, over all its shards and all attempts at the run."""

    name: str
    num_in: int
    num_kept: int
    num_out: int
    dropped: dict[str, int]
    counters: dict[str, int]
    seconds: float  # of work, summed over shards

    @classmethod
    def of(cls, name: str, shards: Sequence[Done]) -> "StageReport":
        dropped: dict[str, int] = {}
        counters: dict[str, int] = {}
        for done in shards:
            for totals, counts in ((dropped, done.dropped), (counters, done.counters)):
                for key, count in counts.items():
                    totals[key] = totals.get(key, 0) + count
        return cls(
            name=name,
            num_in=sum(done.num_in for done in shards),
            num_kept=sum(done.num_kept for done in shards),
            num_out=sum(done.num_out for done in shards),
            dropped=dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0]))),
            counters=dict(sorted(counters.items())),
            seconds=round(sum(done.seconds for done in shards), 2),
        )


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Keep a second process out of a run's folder; the kernel frees the lock when this one dies."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{run_dir}: another process is working on this run; wait for it, or give another "
                f"RUN=<name>"
            ) from None
        yield


def stage_store(run_dir: Path, index: int, stage: Stage) -> StageStore:
    """The folder of the run's stage at `index`, from 0."""
    return StageStore(run_dir / "stages" / f"{index + 1}-{stage.name}")


def check_fingerprints(stages: Sequence[Stage], run_dir: Path, lang: str, seed: int) -> None:
    """Refuse to go on with a run made under another configuration; record it for a new one.

    Raises:
        UserError: names the stage, the settings that changed, and the ways on.
    """
    parent = digest("mbegu", SCHEMA_VERSION)
    for index, stage in enumerate(stages):
        parts = {"lang": lang, "seed": seed, **stage.fingerprint()}
        parent = digest(parent, json.dumps(parts, sort_keys=True, ensure_ascii=False))
        path = stage_store(run_dir, index, stage).folder / "stage.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["fingerprint"] != parent:
                _refuse(run_dir, stage, found["made_of"], parts)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"fingerprint": parent, "made_of": parts})


def _refuse(run_dir: Path, stage: Stage, before: dict[str, Any], now: dict[str, Any]) -> None:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    changed = "; ".join(_difference(key, before.get(key), now.get(key)) for key in keys[:3])
    raise UserError(
        f"{run_dir} was made with other settings (stage {stage.name}: {changed}). Give the run "
        f"another name (RUN=<name>), go back to those settings, or remove the folder to start over"
    )


def _difference(key: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        inner = [k for k in {**before, **now} if before.get(k) != now.get(k)]
        return "; ".join(_difference(f"{key}.{k}", before.get(k), now.get(k)) for k in inner[:3])
    return f"{key} was {_short(before)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


class Runner:
    """Carries rows through the stages of one run."""

    def __init__(
        self, run_dir: Path, stages: Sequence[Stage], lang: str, seed: int, progress: Progress
    ) -> None:
        self.run_dir = run_dir
        self.stages = stages
        self.lang = lang
        self.seed = seed
        self.progress = progress

    def read_corpus(self) -> None:
        """The first stage's `prepare`, in this process and before Ray starts: a corpus that cannot
        be used is refused within seconds. Call `check_fingerprints` before."""
        self._prepare(self._job(0, Inputs((), _no_input)), lambda job: job.prepare())

    def run(self, cluster: Cluster) -> list[StageReport]:
        """All stages, in order; returns their reports."""
        reports, inputs = [], Inputs((), _no_input)
        earlier: dict[str, Inputs] = {}
        for index, stage in enumerate(self.stages):
            job = self._job(index, inputs)
            finished = self._run_stage(job, cluster)
            reports.append(StageReport.of(stage.name, finished))
            shards = tuple(done.shard for done in finished)
            inputs = Inputs(shards, job.store.read, dict(earlier))
            earlier[stage.name] = inputs
        return reports

    def _job(self, index: int, inputs: Inputs) -> Job:
        stage = self.stages[index]
        store = stage_store(self.run_dir, index, stage)
        ctx = Context(lang=self.lang, seed=self.seed, dir=store.prepared_dir)
        return Job(stage=stage, ctx=ctx, store=store, inputs=inputs)

    def _prepare(self, job: Job, prepare: Callable[[Job], None]) -> None:
        """Have a stage prepared once; what a killed attempt left is removed."""
        marker = job.store.folder / "prepared.json"
        if marker.exists():
            return
        self.progress.stage_started(job.stage.name, None, 0)
        shutil.rmtree(job.store.prepared_dir, ignore_errors=True)
        job.store.prepared_dir.mkdir(parents=True)
        started = time.monotonic()
        prepare(job)
        write_json(marker, {"seconds": round(time.monotonic() - started, 3)})

    def _run_stage(self, job: Job, cluster: Cluster) -> list[Done]:
        stage, store = job.stage, job.store

        def prepare(job: Job) -> None:
            with cluster.pool(stage) as pool:
                pool.prepare(job)

        self._prepare(job, prepare)
        shards = stage.shards(job.inputs, job.ctx)
        finished = store.finished()
        pending = [name for name in shards if name not in finished]
        self.progress.stage_started(stage.name, len(shards), len(shards) - len(pending))
        if pending:
            with cluster.pool(stage) as pool:
                self._run_shards(job, pending, finished, pool)
        self.progress.stage_finished(stage.name)
        return [finished[name] for name in shards]

    def _run_shards(
        self, job: Job, pending: Sequence[str], finished: dict[str, Done], pool: Pool
    ) -> None:
        for done in pool.run(job, pending):
            job.store.append(done)
            finished[done.shard] = done
            self.progress.shard_done(job.stage.name, done)


def _no_input(shard: str, columns: list[str] | None) -> Any:
    raise AssertionError("the first stage has no input shards")


def publish(run_dir: Path, store: StageStore) -> Path:
    """Make `examples/` from the last stage's shards, all at once; shards without rows are left out.

    Files are hard links where the file system has them: no byte is written twice.
    """
    target, fresh = run_dir / "examples", run_dir / ".examples.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for shard, done in sorted(store.finished().items()):
        if done.num_out:
            source, copy = store.kept_path(shard), fresh / f"{shard}.parquet"
            try:
                os.link(source, copy)
            except OSError:
                shutil.copyfile(source, copy)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return target

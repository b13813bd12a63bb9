"""Runs stages over shards: fingerprint, prepare, the pending shards, manifest; then the next stage.

Resuming is nothing special: a stage whose fingerprint is unchanged goes on with the shards that its
manifest lacks. Another fingerprint is an error that names what changed, because mixing rows of two
configurations in one run is never what the user wants.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from sdg.account import SliceCount, add_up, by_number
from sdg.cluster import Cluster, Job, Pool, StageError
from sdg.errors import UserError
from sdg.schema import SCHEMA_VERSION
from sdg.stage import Context, Group, Inputs, Resources, Stage
from sdg.storage import copy, is_object, remove_folder
from sdg.store import Done, StageStore, write_json
from sdg.text import digest


class Progress(Protocol):
    """What the runner tells a display."""

    def stage_started(self, stage: str, num_shards: int | None, before: Sequence[Done]) -> None:
        """`before` are the shards that an earlier attempt at the run has finished."""
        ...

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
    slices: tuple[SliceCount, ...] = ()

    @classmethod
    def of(
        cls, name: str, shards: Sequence[Done], slices: Sequence[SliceCount] = ()
    ) -> "StageReport":
        whole = cls.sum(
            [
                cls(name, d.num_in, d.num_kept, d.num_out, d.dropped, d.counters, d.seconds)
                for d in shards
            ],
            name,
        )
        return replace(whole, slices=tuple(slices))

    @classmethod
    def sum(cls, reports: Sequence["StageReport"], name: str) -> "StageReport":
        """Several (of shards, of rounds) as one."""
        dropped: Counter[str] = Counter()
        counters: Counter[str] = Counter()
        for report in reports:
            dropped.update(report.dropped)
            counters.update(report.counters)
        return cls(
            name=name,
            num_in=sum(report.num_in for report in reports),
            num_kept=sum(report.num_kept for report in reports),
            num_out=sum(report.num_out for report in reports),
            dropped=by_number(dropped),
            counters=dict(sorted(counters.items())),
            seconds=round(sum(report.seconds for report in reports), 2),
            slices=tuple(add_up(count for report in reports for count in report.slices)),
        )


@dataclass(frozen=True)
class Placed:
    """A stage, and its folder's name in the run's `stages/`."""

    stage: Stage
    folder: str
    prepared_in: str = ""  # another folder, whose `prepare` serves it too

    def survey(self) -> "Placed | None":
        """The stage that is run before this one's `prepare`, in a folder within this one's."""
        found = self.stage.survey()
        return Placed(found, f"{self.folder}/{found.name}") if found else None

    def store(self, run_dir: Path) -> StageStore:
        # A worker may have another working directory than the driver.
        return StageStore(run_dir.absolute() / "stages" / self.folder)

    def prepared(self, run_dir: Path) -> StageStore:
        """Where what `prepare` makes is."""
        return StageStore(run_dir.absolute() / "stages" / (self.prepared_in or self.folder))


def placed(stages: Sequence[Stage], first: int = 1) -> list[Placed]:
    """Stages that come one after another: 1-seed, 2-render ..."""
    return [Placed(stage, f"{first + i}-{stage.name}") for i, stage in enumerate(stages)]


@dataclass(frozen=True)
class Finished:
    """A stage that is through: its report, and its output as the next one's input."""

    report: StageReport
    output: Inputs


def check_fingerprints(
    stages: Sequence[Placed], run_dir: Path, langs: Sequence[str], seed: int, parent: str = ""
) -> str:
    """Refuse to go on with a run made under another configuration; record it for a new one, or for
    one of which not a single shard is done.

    Args:
        parent: fingerprint of what the first of the stages takes its rows from.

    Returns:
        The last stage's fingerprint.

    Raises:
        UserError: names the stage, the settings that changed, and the ways on.
    """
    first = parent
    parent = parent or digest("mbegu", SCHEMA_VERSION)
    for place in stages:
        parts = {"lang": ",".join(langs), "seed": seed, **place.stage.fingerprint()}
        parent = digest(parent, json.dumps(parts, sort_keys=True, ensure_ascii=False))
        path = place.store(run_dir).folder / "stage.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["fingerprint"] != parent and not _is_begun(run_dir):
                remove_folder(run_dir / "stages")
                return check_fingerprints(stages, run_dir, langs, seed, first)
            if found["fingerprint"] != parent:
                _refuse(run_dir, place.stage, found["made_of"], parts)
        else:
            write_json(path, {"fingerprint": parent, "made_of": parts})
    return parent


def _is_begun(run_dir: Path) -> bool:
    """Whether a stage has written a shard."""
    return any(True for _ in run_dir.glob("stages/*/kept/*.parquet"))


def _refuse(run_dir: Path, stage: Stage, before: dict[str, Any], now: dict[str, Any]) -> None:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    changed = "; ".join(_difference(key, before.get(key), now.get(key)) for key in keys[:3])
    raise UserError(
        f"{run_dir} was made with other settings (stage {stage.name}: {changed}). Give the run "
        f"another name (RUN=<name>): it takes over every reply whose call did not change, at no "
        f"cost. Or go back to those settings, or remove the folder to start over"
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
    """Carries rows through stages of one run."""

    def __init__(self, run_dir: Path, langs: Sequence[str], seed: int, progress: Progress) -> None:
        self.run_dir = run_dir
        self.langs = tuple(langs)
        self.seed = seed
        self.progress = progress

    def run(
        self, stages: Sequence[Placed], inputs: Inputs, cluster: Cluster
    ) -> dict[str, Finished]:
        """The stages, one after another, each on what the one before gave; by their names."""
        done: dict[str, Finished] = {}
        for place in stages:
            finished = self._run_stage(place, inputs, cluster)
            done[place.stage.name] = finished
            earlier = {**inputs.earlier, place.stage.name: finished.output}
            inputs = replace(finished.output, earlier=earlier, rounds=inputs.rounds)
        return done

    def prepare(self, place: Placed, inputs: Inputs, cluster: Cluster | None) -> Path:
        """A stage's `prepare`, once: in a worker, or without a cluster in this process, before Ray
        starts (a corpus that cannot be used is refused within seconds). What a killed attempt left
        is removed. Returns the folder that it is in. Call `check_fingerprints` before."""
        prepared = place.prepared(self.run_dir)
        marker = prepared.folder / "prepared.json"
        survey = place.survey()
        if marker.exists():
            if survey:  # a kill may have left it
                remove_folder(survey.store(self.run_dir).folder)
            return self._job(place, inputs).ctx.dir
        started = time.monotonic()
        if survey and cluster:
            found = self._run_stage(survey, inputs, cluster).output
            inputs = replace(inputs, earlier={**inputs.earlier, survey.stage.name: found})
        self.progress.stage_started(place.stage.name, None, [])
        prepared.clear_prepared()
        job = self._job(place, inputs)
        if cluster:
            with cluster.pool(job.stage.resources()) as pool:
                attempt = pool.prepare(job)
        else:
            attempt = job.prepare()
        seconds = round(time.monotonic() - started, 3)
        write_json(marker, {"seconds": seconds, "attempt": attempt})
        if survey:
            remove_folder(survey.store(self.run_dir).folder)
        return prepared.prepared_dir

    def _job(self, place: Placed, inputs: Inputs) -> Job:
        store = place.store(self.run_dir)
        prepared = place.prepared(self.run_dir)
        ctx = Context(langs=self.langs, seed=self.seed, dir=prepared.prepared_dir)
        return Job(stage=place.stage, ctx=ctx, store=store, inputs=inputs, prepared=prepared)

    def _run_stage(self, place: Placed, inputs: Inputs, cluster: Cluster) -> Finished:
        self.prepare(place, inputs, cluster)
        job, stage = self._job(place, inputs), place.stage
        shards, finished = stage.shards(inputs, job.ctx), job.store.finished()
        before = [finished[name] for name in shards if name in finished]
        self.progress.stage_started(stage.name, len(shards), before)
        counters = {}
        for group in stage.groups(shards):
            pending = [name for name in group.shards if name not in finished]
            if pending:
                ctx = replace(job.ctx, group=group.name)
                with cluster.pool(group.resources) as pool:
                    self._run_shards(replace(job, ctx=ctx), pending, finished, pool)
            counters[group.name] = _counters(group, finished)
        self.progress.stage_finished(stage.name)
        shards_done = [finished[name] for name in shards]
        report = StageReport.of(stage.name, shards_done, job.store.slices())
        _check_conserved(report, inputs)
        filled = tuple(name for name in shards if finished[name].num_out)  # others are no work
        output = Inputs(
            filled,
            job.store.read,
            counters=counters,
            num_rows=report.num_out,
            prepared=job.prepared,
        )
        return Finished(report, output)

    def _run_shards(
        self, job: Job, pending: Sequence[str], finished: dict[str, Done], pool: Pool
    ) -> None:
        with job.store.manifest() as add:
            for done in pool.run(job, pending):
                add(done)
                finished[done.shard] = done.without_slices()
                self.progress.shard_done(job.stage.name, done)


def _counters(group: Group, finished: dict[str, Done]) -> dict[str, float]:
    """Counters over a group's shards, and how long they kept GPUs busy."""
    counters: Counter[str] = Counter()
    seconds = 0.0
    for name in group.shards:
        counters.update(finished[name].counters)
        seconds += finished[name].seconds
    wanted = group.resources or Resources()
    # Shards of one worker run side by side.
    gpu_seconds = seconds * wanted.num_gpus / wanted.shards_in_flight
    return {**counters, **({"gpu_seconds": round(gpu_seconds, 3)} if gpu_seconds else {})}


def _check_conserved(report: StageReport, inputs: Inputs) -> None:
    """Over all its shards, a stage was given the rows that the one before it gave: none is lost or
    doubled where a stage parts its input into shards of its own.

    Raises:
        StageError: the numbers differ.
    """
    if inputs.num_rows is not None and report.num_in != inputs.num_rows:
        raise StageError(
            f"stage {report.name}: its shards held {report.num_in} rows, but {inputs.num_rows} "
            f"came in"
        )


def publish(run_dir: Path, store: StageStore) -> Path:
    """Make `examples/` from the last stage's shards, all at once; shards without rows are left out.
    In an object store the run is finished once summary.json stands, which is written after.

    Files are hard links where the file system has them: no byte is written twice.
    """
    target = run_dir / "examples"
    fresh = target if is_object(target) else run_dir / ".examples.tmp"
    remove_folder(fresh)
    if not is_object(fresh):
        fresh.mkdir()
    for shard, done in sorted(store.finished().items()):
        if done.num_out:
            copy(store.kept_path(shard), fresh / f"{shard}.parquet")
    if fresh != target:
        remove_folder(target)
        fresh.rename(target)
    return target

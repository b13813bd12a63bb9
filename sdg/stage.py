"""The one interface of the pipeline: a stage takes a shard and gives what it kept and dropped."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from sdg.account import slices_of
from sdg.schema import Row


@dataclass(frozen=True)
class Resources:
    """What one worker takes from the cluster."""

    num_cpus: float = 1
    num_gpus: float = 0
    memory_gb: float = 0.5
    replicas: int | None = None  # None: as many as fit
    shards_in_flight: int = 1  # shards that one worker runs at once, in threads
    gpu_if_any: bool = False  # a GPU, where the cluster has one


@dataclass(frozen=True)
class Group:
    """Shards of a stage that want the same workers, which no other group's do."""

    name: str  # "" where the stage has but one
    shards: tuple[str, ...]
    resources: Resources | None  # as of `Stage.resources`


REASON = pa.field("reason", pa.string(), nullable=False)
DETAIL = pa.field("detail", pa.string())  # what the reason is about: the row it duplicates, say


@dataclass(frozen=True)
class Shard:
    """A part of the data; shard k in, shard k out."""

    name: str
    table: pa.Table


@dataclass(frozen=True)
class Result:
    """What a stage made of a shard. `dropped` holds input rows with `reason` and `detail` columns.

    `num_kept` counts input rows that gave output; it differs from `kept.num_rows` where one row
    gives several (a document its chunks). `num_kept + dropped.num_rows` must be the rows given.
    """

    kept: pa.Table
    dropped: pa.Table
    num_kept: int
    counters: dict[str, int] = field(default_factory=dict)  # summed over shards in the summary


@dataclass(frozen=True)
class Context:
    """Where a stage runs: the run's languages and seed, and the stage's own folder for `prepare`.

    A row's language is what the row says: the run may have others.
    """

    langs: tuple[str, ...]
    seed: int
    dir: Path
    group: str = ""  # whose shards the worker was opened for


ACCEPTED = "accepted"  # what `Inputs.earlier` calls the pairs that earlier rounds accepted


class Prepared(Protocol):
    """Where what a stage's `prepare` left is; fetched to this machine, if need be."""

    @property
    def prepared_dir(self) -> Path: ...


@dataclass(frozen=True)
class Inputs:
    """The whole input of a stage, for `prepare`: shard names, and a way to read one at a time."""

    shards: tuple[str, ...]
    read: Callable[[str, list[str] | None], pa.Table]  # shard name, columns
    earlier: Mapping[str, "Inputs"] = field(default_factory=dict)  # outputs of stages by name
    rounds: tuple[Mapping[str, "Inputs"], ...] = ()  # the same, of each round before this one
    # Counters of the stage that gave it, by group of shards; see `Result.counters`.
    counters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    num_rows: int | None = None  # over all shards, where it is known
    prepared: Prepared | None = None  # of the stage that gave it

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Every shard's table, in order; the next is read while one is worked on."""
        with ThreadPoolExecutor(1) as reader:
            coming: Future[pa.Table] | None = None
            for name in self.shards:
                following = reader.submit(self.read, name, columns)
                if coming:
                    yield coming.result()
                coming = following
            if coming:
                yield coming.result()

    def total(self, counter: str) -> float:
        """A counter over all groups of shards."""
        return sum(counts.get(counter, 0) for counts in self.counters.values())


@dataclass(frozen=True)
class _Joined:
    """Reads the shards of several inputs by their new names."""

    parts: Mapping[str, Inputs]

    def __call__(self, shard: str, columns: list[str] | None) -> pa.Table:
        prefix = max((p for p in self.parts if shard.startswith(p)), key=len)
        return self.parts[prefix].read(shard.removeprefix(prefix), columns)


def join_inputs(parts: Mapping[str, Inputs]) -> Inputs:
    """Several outputs of one kind of rows as one input; each shard's name gets its part's prefix.

    Of two prefixes where one begins the other ("" and "r2-"), shard names tell the parts apart as
    long as none of the shorter one's begins with the rest of the longer.
    """
    shards = tuple(prefix + name for prefix, part in parts.items() for name in part.shards)
    known = [part.num_rows for part in parts.values() if part.num_rows is not None]
    num_rows = sum(known) if len(known) == len(parts) else None
    return Inputs(shards, _Joined(dict(parts)), num_rows=num_rows)


def no_rows(shard: str, columns: list[str] | None) -> pa.Table:
    """What the first stage's input reads with."""
    raise AssertionError(f"no shard {shard}: the first stage has no input")


NO_INPUT = Inputs((), no_rows)  # of a first stage; it loads its own shards


class InParts(ABC):
    """What a stage's `open` gives where it may be too large for one worker: in parts, each of them
    held by one worker, which answers for it. `gather` asks for all parts."""

    num_parts: int

    def __init__(self) -> None:
        # Where there are several workers, the cluster has each answer for its own parts.
        self.gather: Callable[[Any], list[Any]] = self._answer_all

    @abstractmethod
    def answer(self, part: int, question: Any) -> Any:
        """What one part has to say to a question."""

    def _answer_all(self, question: Any) -> list[Any]:
        return [self.answer(part, question) for part in range(self.num_parts)]


class Stage(BaseModel, ABC):
    """One step over the data; its fields are its section in a profile's YAML.

    `version` is raised when the code changes what a stage gives for the same configuration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    version: ClassVar[int] = 1
    takes: ClassVar[type[Row]]
    gives: ClassVar[type[Row]]
    # Fields that change how fast, not what: left out of the fingerprint.
    speed_only: ClassVar[frozenset[str]] = frozenset()

    def survey(self) -> "Stage | None":
        """Optional: a stage that is run on each of the input's shards, on all workers, before
        `prepare`. What it gives is in `Inputs.earlier` then, by its name, and removed after.
        Without a cluster there is none, and `prepare` does without."""
        return None

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Optional work over the whole set, once, that leaves files in `ctx.dir`."""

    def warm(self) -> None:
        """Optional: load what any input wants, where a worker waits while another prepares."""

    @property
    def prepares_once(self) -> bool:
        """Whether `prepare` makes the same in every round: then the first round's serves all."""
        return False

    def shards(self, inputs: Inputs, ctx: Context) -> list[str]:
        """Names of the shards to run: those of the input, unless the stage parts it otherwise (a
        first stage, which has no input; several engines, each with its share of every shard)."""
        return list(inputs.shards)

    def groups(self, shards: Sequence[str]) -> list[Group]:
        """The shards by the workers that they want; the groups are run one after another."""
        return [Group("", tuple(shards), self.resources())]

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        """The rows of one of `shards`."""
        return inputs.read(name, None)

    def resources(self) -> Resources | None:
        """What a worker needs that an ordinary one has not; None for an ordinary stage."""
        return None

    def open(self, ctx: Context) -> Any:
        """Optional: what a worker holds for all its shards of `ctx.group` (an engine, an index)."""
        return None

    @abstractmethod
    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        """The stage's work on one shard; `state` is what `open` gave."""

    def undone(self, shard: Shard, ctx: Context) -> list[int]:
        """Numbers of the rows that `run` still has to work on, where it keeps what it has done."""
        return list(range(shard.table.num_rows))

    def close(self, state: Any) -> None:
        """Free what `open` gave."""

    def slices(self, table: pa.Table, ctx: Context) -> pa.Table:
        """What each of the stage's input rows is counted under; see sdg/account.py."""
        return slices_of(table)

    def fingerprint(self) -> dict[str, Any]:
        """What the stage's output depends on, beside its input, seed and language."""
        settings = self.model_dump(mode="json", exclude=set(self.speed_only))
        survey = self.survey()
        surveyed = {"survey": survey.fingerprint()} if survey else {}
        return {"stage": self.name, "version": self.version, **settings, **surveyed}


def split(
    table: pa.Table,
    reasons: Sequence[str | None],
    counters: dict[str, int] | None = None,
    details: Sequence[str | None] | None = None,
) -> Result:
    """Part a table by a reason per row: rows without one are kept."""
    kept = table.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
    return Result(kept, dropped_rows(table, reasons, details), kept.num_rows, counters or {})


def dropped_rows(
    table: pa.Table, reasons: Sequence[str | None], details: Sequence[str | None] | None = None
) -> pa.Table:
    """The rows that have a reason, with it in a column `reason`, what it is about in `detail`."""
    column = pa.array(reasons, pa.string())
    about = pa.array([None] * len(reasons) if details is None else details, pa.string())
    dropped = table.append_column(DETAIL, about).filter(column.is_valid())
    return dropped.add_column(table.num_columns, REASON, column.drop_null())

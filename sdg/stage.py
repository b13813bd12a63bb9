"""The one interface of the pipeline: a stage takes a shard and gives what it kept and dropped."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from sdg.schema import Row


@dataclass(frozen=True)
class Resources:
    """What one worker takes from the cluster."""

    num_cpus: float = 1
    num_gpus: float = 0
    memory_gb: float = 0.5
    replicas: int | None = None  # None: as many as fit
    shards_in_flight: int = 1  # shards that one worker runs at once, in threads


REASON = pa.field("reason", pa.string(), nullable=False)


@dataclass(frozen=True)
class Shard:
    """A part of the data; shard k in, shard k out."""

    name: str
    table: pa.Table


@dataclass(frozen=True)
class Result:
    """What a stage made of a shard. `dropped` holds input rows with a `reason` column.

    `num_kept` counts input rows that gave output; it differs from `kept.num_rows` where one row
    gives several (a document its chunks). `num_kept + dropped.num_rows` must be the rows given.
    """

    kept: pa.Table
    dropped: pa.Table
    num_kept: int
    counters: dict[str, int] = field(default_factory=dict)  # summed over shards in the summary


@dataclass(frozen=True)
class Context:
    """Where a stage runs: the run's language and seed, and the stage's own folder for `prepare`."""

    lang: str
    seed: int
    dir: Path


@dataclass(frozen=True)
class Inputs:
    """The whole input of a stage, for `prepare`: shard names, and a way to read one at a time."""

    shards: tuple[str, ...]
    read: Callable[[str, list[str] | None], pa.Table]  # shard name, columns
    earlier: Mapping[str, "Inputs"] = field(default_factory=dict)  # outputs of stages by name

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Every shard's table, in order, one in memory at a time."""
        for name in self.shards:
            yield self.read(name, columns)


class Stage(BaseModel):
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

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Optional work over the whole set, once, that leaves files in `ctx.dir`."""

    def shards(self, inputs: Inputs, ctx: Context) -> list[str]:
        """Names of the shards to run; only a first stage, which has no input, makes its own."""
        return list(inputs.shards)

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        """A shard to run; only a first stage loads its own."""
        return inputs.read(name, None)

    def resources(self) -> Resources | None:
        """What a worker needs that an ordinary one has not; None for an ordinary stage."""
        return None

    def open(self, ctx: Context) -> Any:
        """Optional: what one worker holds for all its shards (an engine, an index)."""
        return None

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        """The stage's work on one shard; `state` is what `open` gave."""
        raise NotImplementedError

    def close(self, state: Any) -> None:
        """Free what `open` gave."""

    def fingerprint(self) -> dict[str, Any]:
        """What the stage's output depends on, beside its input, seed and language."""
        settings = self.model_dump(mode="json", exclude=set(self.speed_only))
        return {"stage": self.name, "version": self.version, **settings}


def split(
    table: pa.Table, reasons: list[str | None], counters: dict[str, int] | None = None
) -> Result:
    """Part a table by a reason per row: rows without one are kept."""
    kept = table.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
    return Result(kept, dropped_rows(table, reasons), kept.num_rows, counters or {})


def dropped_rows(table: pa.Table, reasons: list[str | None]) -> pa.Table:
    """The rows that have a reason, with it in a column `reason`."""
    column = pa.array(reasons, pa.string())
    return table.filter(column.is_valid()).append_column(REASON, column.drop_null())

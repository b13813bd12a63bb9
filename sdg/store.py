"""A stage's folder: shards written atomically, a manifest line last, bad rows kept aside.

    <stage>/stage.json            fingerprint, and what it is made of
    <stage>/<survey>/             the same of a stage that is run before `Stage.prepare`
    <stage>/prepared/             files of `Stage.prepare`, valid once prepared.json stands
    <stage>/kept/<shard>.parquet  output rows
    <stage>/dropped/<shard>.parquet  input rows with a `reason` and a `detail`
    <stage>/manifest.jsonl        one line a finished shard

A shard counts as done when its manifest line is there. The driver alone appends lines, after the
worker has put both files into place, so a kill at any moment leaves either a finished shard or
one that is done again.

In an object store the manifest is one object, written anew every few seconds; shards that it does
not name are done again. What `Stage.prepare` left is at prepared/<attempt>/, and each machine
has a copy of its own: stages read it as files, mapped into memory.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from sdg.account import SliceCount, add_up
from sdg.stage import Result
from sdg.storage import (
    download,
    is_object,
    read_table,
    remove_folder,
    scratch,
    write_atomically,
    write_bytes,
    write_text,
)
from sdg.text import digest

PUT_S = 5.0  # between two writes of a manifest in an object store


class Done(BaseModel):
    """The manifest line of a finished shard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: str
    num_in: int
    num_kept: int
    num_out: int
    dropped: dict[str, int]
    counters: dict[str, int]
    seconds: float
    slices: tuple[SliceCount, ...]  # the same by slice; see sdg/account.py

    def without_slices(self) -> "Done":
        """For the driver's memory: the account is read from the manifest, when it is wanted."""
        return self.model_copy(update={"slices": ()})


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, readable by people."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically."""
    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


class StageStore:
    """Files of one stage of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def prepared_dir(self) -> Path:
        """Files of `Stage.prepare`; fetched, where they are in an object store and not here yet."""
        marker = self.folder / "prepared.json"
        if not is_object(self.folder) or not marker.exists():
            return self.folder / "prepared"
        attempt = json.loads(marker.read_text(encoding="utf-8"))["attempt"]
        here = self.scratch_dir(attempt)
        if not here.is_dir():
            download(self.folder / "prepared" / attempt, here)
        return here

    def scratch_dir(self, attempt: str) -> Path:
        """Where this machine has the files that an attempt at `Stage.prepare` left."""
        return scratch() / digest(str(self.folder)) / digest(attempt)

    def clear_prepared(self) -> None:
        """Remove what a killed attempt left."""
        prepared = self.folder / "prepared"
        remove_folder(prepared)
        if not is_object(prepared):
            prepared.mkdir(parents=True)

    def kept_path(self, shard: str) -> Path:
        return self.folder / "kept" / f"{shard}.parquet"

    def dropped_path(self, shard: str) -> Path:
        return self.folder / "dropped" / f"{shard}.parquet"

    def write(
        self,
        shard: str,
        num_in: int,
        result: Result,
        seconds: float,
        slices: Sequence[SliceCount] = (),
    ) -> Done:
        """Write a shard's files (in the worker); the driver then appends the returned line.

        Raises:
            AssertionError: rows got lost or multiplied: kept + dropped is not what came in.
        """
        num_dropped = result.dropped.num_rows
        if result.num_kept + num_dropped != num_in:
            raise AssertionError(
                f"shard {shard}: {num_in} rows in, {result.num_kept} kept + {num_dropped} dropped"
            )
        if num_dropped:
            write_table(self.dropped_path(shard), result.dropped)
        else:
            self.dropped_path(shard).unlink(missing_ok=True)
        write_table(self.kept_path(shard), result.kept)
        reasons = result.dropped["reason"].value_counts().to_pylist() if num_dropped else []
        return Done(
            shard=shard,
            num_in=num_in,
            num_kept=result.num_kept,
            num_out=result.kept.num_rows,
            dropped={row["values"]: row["counts"] for row in reasons},
            counters=result.counters,
            seconds=round(seconds, 3),
            slices=tuple(slices),
        )

    def read(self, shard: str, columns: list[str] | None = None) -> pa.Table:
        """A finished shard's output rows."""
        return read_table(self.kept_path(shard), columns=columns)

    def append(self, done: Done) -> None:
        """Declare a shard finished."""
        with self.manifest() as add:
            add(done)

    @contextmanager
    def manifest(self) -> Iterator[Callable[[Done], None]]:
        """To declare one shard after the other finished."""
        path = self.folder / "manifest.jsonl"
        if is_object(path):
            with _rewriting(path) as add:
                yield add
            return
        with path.open("a", encoding="utf-8") as file:

            def append(done: Done) -> None:
                file.write(done.model_dump_json() + "\n")
                file.flush()
                os.fsync(file.fileno())

            yield append

    def finished(self) -> dict[str, Done]:
        """Manifest lines by shard, without their slices. A last line cut by a kill is removed; its
        shard is done again, and so is one whose file has gone."""
        path = self.folder / "manifest.jsonl"
        if not path.exists():
            return {}
        there = {path.stem for path in (self.folder / "kept").glob("*.parquet")}
        finished, good = {}, []
        content = path.read_bytes()  # a cut may go through a character
        for line in content.splitlines(keepends=True):
            try:
                done = Done.model_validate_json(line) if line.endswith(b"\n") else None
            except ValidationError:
                done = None
            if done and done.shard in there:
                finished[done.shard] = done.without_slices()
                good.append(line)
        if b"".join(good) != content:
            write_bytes(path, b"".join(good))
        return finished

    def slices(self) -> list[SliceCount]:
        """Where the finished shards' rows went, by slice."""
        return add_up(self._slices())

    def _slices(self) -> Iterator[SliceCount]:
        path = self.folder / "manifest.jsonl"
        if path.exists():
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield from Done.model_validate_json(line).slices


@contextmanager
def _rewriting(path: Path) -> Iterator[Callable[[Done], None]]:
    """A manifest that cannot be appended to: all of it is written again, now and then."""
    lines = [path.read_bytes()] if path.exists() else []
    written = time.monotonic()

    def put() -> None:
        write_bytes(path, b"".join(lines))

    def add(done: Done) -> None:
        nonlocal written
        lines.append(done.model_dump_json().encode() + b"\n")
        if time.monotonic() - written > PUT_S:
            put()
            written = time.monotonic()

    try:
        yield add
    finally:
        put()

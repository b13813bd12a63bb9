"""Segments: replies of finished journals as Parquet, each with an index of its content ids.

Rows stay in the order in which they came, so that a shard that is done again finds its replies side
by side. The index is an Arrow file of the ids' first 64 bits, sorted, with the row of each; it is
mapped into memory and made anew should it be missing. A segment never changes; its time of change
says when one of its replies was last wanted.
"""

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdg.errors import UserError
from sdg.kept.record import KeptReply
from sdg.schema import arrow_schema, rows_of
from sdg.storage import write_atomically

SCHEMA = arrow_schema(KeptReply).with_metadata({b"mbegu.replies": b"1"})
MAKING = ".making"
GROUP_ROWS = 512
TOUCH_S = 3600  # how exactly the last use is known


def prefixes(keys: Sequence[str]) -> np.ndarray:
    """The first 64 bits of content ids."""
    return np.array([int(key[:16], 16) for key in keys], np.uint64)


@dataclass
class Segment:
    """One segment, opened as far as is needed."""

    path: Path

    @property
    def index_path(self) -> Path:
        return self.path.with_suffix(".arrow")

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted prefixes, and the rows they are of."""
        try:
            table = pa.ipc.open_file(pa.memory_map(str(self.index_path))).read_all()
        except (FileNotFoundError, pa.ArrowException):
            write_index(self)
            table = pa.ipc.open_file(pa.memory_map(str(self.index_path))).read_all()
        columns = (table[name].combine_chunks() for name in ("prefix", "row"))
        first, second = (column.to_numpy(zero_copy_only=True) for column in columns)
        return first, second

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each row group, and the number of all rows."""
        with _readable(self.path):
            metadata = pq.read_metadata(self.path)
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        return np.cumsum([0, *sizes])

    @property
    def num_rows(self) -> int:
        return len(self._index[0])

    @property
    def size(self) -> int:
        """Bytes on the disk; 0 once it is gone."""
        try:
            return self.path.stat().st_size + self.index_path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def used(self) -> float:
        """When a reply in it was last wanted, in seconds since 1970."""
        return self.path.stat().st_mtime

    def candidates(self, wanted: np.ndarray) -> np.ndarray:
        """Rows whose ids begin as one of the prefixes wanted, which are sorted; in order."""
        known, rows = self._index
        first, behind = (
            np.searchsorted(known, wanted, "left"),
            np.searchsorted(known, wanted, "right"),
        )
        hit = np.flatnonzero(first < behind)
        found = [rows[first[i] : behind[i]] for i in hit]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint32)

    def read(self, rows: np.ndarray) -> Iterator[KeptReply]:
        """The replies in these rows.

        Raises:
            UserError: the file is damaged.
        """
        groups = np.searchsorted(self._starts, rows, "right") - 1
        with _readable(self.path), self._open() as file:
            for group in np.unique(groups):
                inner = rows[groups == group] - self._starts[group]
                yield from rows_of(file.read_row_group(group).take(inner), KeptReply)

    def batches(self) -> Iterator[pa.Table]:
        """All rows, a few at a time."""
        with _readable(self.path), self._open() as file:
            for batch in file.iter_batches(GROUP_ROWS):
                yield pa.Table.from_batches([batch]).cast(SCHEMA)

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.path, page_checksum_verification=True)

    def touch(self) -> None:
        """Note that replies in it were wanted just now."""
        try:
            if time.time() - self.used > TOUCH_S:
                os.utime(self.path)
        except FileNotFoundError:
            pass  # it has been merged or removed since

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.index_path.unlink(missing_ok=True)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say so where a segment cannot be read: to go on without it would be to pay twice.

    Raises:
        UserError: it is damaged.
        FileNotFoundError: it is gone: merged, or not wanted for long.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path}: damaged, so its kept replies cannot be used ({said}); bring the file back, "
            f"or remove it to have its calls made again"
        ) from None


def write_index(segment: Segment) -> None:
    """Write a segment's index."""
    with _readable(segment.path):
        keys = pq.read_table(segment.path, columns=["key"])["key"].to_pylist()
    known = prefixes(keys)
    order = np.argsort(known, kind="stable")
    table = pa.table({"prefix": known[order], "row": order.astype(np.uint32)})

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)

    write_atomically(segment.index_path, write)


def write_segment(folder: Path, tables: Iterator[pa.Table], used: float) -> Segment | None:
    """A new segment of the rows, all at once; None where there are none.

    Args:
        used: when one of them was last wanted, in seconds since 1970.
    """
    num_rows = 0

    def write(temporary: Path) -> None:
        nonlocal num_rows
        options = {"compression": "zstd", "write_page_checksum": True}
        with pq.ParquetWriter(temporary, SCHEMA, **options) as writer:
            for table in tables:
                writer.write_table(table, GROUP_ROWS)
                num_rows += table.num_rows
        os.utime(temporary, (used, used))

    hidden = folder / MAKING / f"{uuid.uuid4().hex}.parquet"
    write_atomically(hidden, write)
    if not num_rows:
        hidden.unlink()
        return None
    made = Segment(hidden)
    write_index(made)
    segment = Segment(folder / hidden.name)
    made.index_path.rename(segment.index_path)
    hidden.rename(segment.path)
    return segment

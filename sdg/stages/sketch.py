"""sketch: what dedupe compares pairs by, found out shard by shard, on all workers.

That is hashes of canonical forms, and sketches that tell near texts. It is no stage of a profile's:
it is dedupe's survey, and what it gives is gone when dedupe has compared it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdg.canonical import canonical_hashes
from sdg.schema import Pair, Row, arrow_schema
from sdg.sketches import Sketcher, Sketches
from sdg.stage import Context, Inputs, Result, Shard, Stage, dropped_rows
from sdg.storage import read_table

Side = Literal["query", "positive", "document"]
SIDES: tuple[Side, ...] = ("query", "positive", "document")
HASHES = [f"{side}_hash" for side in SIDES]
SKETCHES = [*SIDES, "positive_at", "document_at"]  # all columns but the hashes


class Sketch(Row):
    """What a pair is compared by. A sketch is None where none is asked for, and where the shard has
    the text before: `<side>_at` says where, 2 x row for a positive and 2 x row + 1 for a document,
    -1 for nowhere."""

    query_hash: bytes  # 16 of its canonical form
    positive_hash: bytes
    document_hash: bytes
    query: bytes | None  # as `Sketches.to_arrow` has it
    positive: bytes | None
    document: bytes | None
    positive_at: int
    document_at: int


class SketchStage(Stage):
    """Hashes all sides of pairs, and sketches those that are named."""

    name: ClassVar[str] = "sketch"
    version: ClassVar[int] = 2
    takes: ClassVar[type[Pair]] = Pair
    gives: ClassVar[type[Sketch]] = Sketch

    threshold: float
    words: int
    characters: int
    sides: tuple[Side, ...]

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        return inputs.read(name, list(SIDES))

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        num = shard.table.num_rows
        return Result(self.of(shard.table), dropped_rows(shard.table, [None] * num), num)

    def slices(self, table: pa.Table, ctx: Context) -> pa.Table:
        """A sketch is of no language, so pairs are counted here without theirs."""
        return super().slices(pa.table({"row": pa.nulls(table.num_rows)}), ctx)

    def of(self, table: pa.Table) -> pa.Table:
        """The sketches (N rows of `Sketch`) of a table of `query`, `positive`, `document`."""
        queries, positives, documents = (table[side].to_pylist() for side in SIDES)
        num = len(queries)
        texts = [text for both in zip(positives, documents, strict=True) for text in both]
        hashes, at = _of_distinct(texts, [side in self.sides for side in SIDES[1:]])
        sketched = self._sketches(texts, np.unique(at[at >= 0]))
        columns = {
            "query_hash": _binary(canonical_hashes(queries)),
            "positive_hash": _binary(hashes[::2]),
            "document_hash": _binary(hashes[1::2]),
            "query": self._sketches(queries, np.arange(num if "query" in self.sides else 0)),
            "positive": sketched.take(pa.array(np.arange(0, 2 * num, 2))),
            "document": sketched.take(pa.array(np.arange(1, 2 * num, 2))),
            "positive_at": pa.array(at[::2]),
            "document_at": pa.array(at[1::2]),
        }
        return pa.table(columns, schema=arrow_schema(Sketch))

    def over(self, tables: Iterable[pa.Table], folder: Path) -> Inputs:
        """The sketches of tables that no shards are of, as files in a folder."""
        folder.mkdir()
        names: list[str] = []
        for table in tables:
            names.append(f"{len(names):06d}")
            pq.write_table(self.of(table), folder / f"{names[-1]}.parquet")
        return Inputs(tuple(names), lambda n, columns: read_table(folder / f"{n}.parquet", columns))

    def _sketches(self, texts: Sequence[str], places: np.ndarray) -> pa.Array:
        """Sketches of the texts in some places, None in the others."""
        sketcher = Sketcher(self.threshold, self.words, self.characters)
        found = sketcher.sketch([texts[place] for place in places.tolist()])
        number = np.full(len(texts), -1)
        number[places] = np.arange(len(places))
        return found.to_arrow().take(pa.array(number, mask=number < 0)).cast(pa.binary())


def _of_distinct(texts: Sequence[str], asked: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of canonical forms (N, 2) uint64, and where each text stands first among those that
    are asked for, -1 of others.

    Most documents are the positive of the same pair, or of the one before: a text that is there
    again is looked at once.

    Args:
        texts: positives and documents by turns.
        asked: whether positives are, and documents.
    """
    firsts: dict[str, int] = {}
    numbers: dict[str, int] = {}
    at, number_of = np.full(len(texts), -1), np.empty(len(texts), np.int64)
    for place, text in enumerate(texts):
        number_of[place] = numbers.setdefault(text, len(numbers))
        if asked[place % len(asked)]:
            at[place] = firsts.setdefault(text, place)
    return canonical_hashes(list(numbers))[number_of], at


def _binary(hashes_N2: np.ndarray) -> pa.Array:
    data = pa.py_buffer(np.ascontiguousarray(hashes_N2))
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(hashes_N2), [None, data])
    return fixed.cast(pa.binary())


def hashes_of(table: pa.Table, side: str) -> np.ndarray:
    """The hashes of a side of sketched pairs, (N, 2) uint64."""
    data = b"".join(table[f"{side}_hash"].to_pylist())
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


def queries_of(table: pa.Table, rows: np.ndarray, bands: int) -> Sketches:
    """The sketches of some sketched pairs' queries."""
    return Sketches.from_arrow(table["query"].take(pa.array(rows)).combine_chunks(), bands)


def texts_of(table: pa.Table, rows: np.ndarray, sides: Sequence[str], bands: int) -> Sketches:
    """The sketches of T texts of sketched pairs: the first is the side `sides[0]` of the row
    `rows[0]`, and so on."""
    num = table.num_rows
    at = np.stack([table[f"{side}_at"].to_numpy() for side in SIDES[1:]], axis=1)
    places = at[rows, [SIDES.index(side) - 1 for side in sides]]
    both = [chunk for side in SIDES[1:] for chunk in table[side].chunks]
    found = pa.chunked_array(both, pa.binary()).take(pa.array(places % 2 * num + places // 2))
    return Sketches.from_arrow(found.combine_chunks(), bands)

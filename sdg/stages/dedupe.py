"""dedupe: pairs that say the same twice go; the first of each stays.

Exact after normalising: two pairs are equal when query and positive have one canonical form. The
whole set is compared by sorted 128-bit hashes, 16 bytes a pair.
"""

from typing import Any, ClassVar

import numpy as np

from sdg.schema import Pair
from sdg.stage import Context, Inputs, Result, Shard, Stage, split
from sdg.text import canonical, digest


def duplicate_rows(digests: bytes | bytearray) -> np.ndarray:
    """Positions of all but the first of each 16-byte digest, ascending (int64)."""
    keys = np.frombuffer(digests, dtype="V16")
    _, first = np.unique(keys, return_index=True)
    is_duplicate = np.ones(len(keys), dtype=bool)
    is_duplicate[first] = False
    return np.flatnonzero(is_duplicate)


class DedupeStage(Stage):
    """Drops exact duplicates over the whole run."""

    name: ClassVar[str] = "dedupe"
    takes = Pair
    gives = Pair

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        digests = bytearray()
        bounds = []
        for table in inputs.tables(["query", "positive"]):
            for row in table.to_pylist():
                key = digest("pair", canonical(row["query"]), canonical(row["positive"]))
                digests += bytes.fromhex(key)
            bounds.append(len(digests) // 16)
        duplicates = duplicate_rows(digests)
        starts = [0, *bounds]
        for name, start, end in zip(inputs.shards, starts, bounds, strict=False):
            inside = duplicates[(duplicates >= start) & (duplicates < end)] - start
            np.save(ctx.dir / f"{name}.npy", inside)

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        rows = set(np.load(ctx.dir / f"{shard.name}.npy").tolist())
        reasons = ["duplicate" if i in rows else None for i in range(shard.table.num_rows)]
        return split(shard.table, reasons)

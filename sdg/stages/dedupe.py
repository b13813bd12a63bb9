"""dedupe: pairs that say the same twice go; the first of each stays.

Exact after normalising: two pairs are equal when query and positive have one canonical form. The
whole set is compared by sorted 128-bit hashes, 16 bytes a pair. In a later round, a pair goes as
well if an earlier one has the same pair or the same query: another call that asks what was asked
already is not what the round was made for.
"""

from typing import Any, ClassVar

import numpy as np

from sdg.schema import Pair
from sdg.stage import ACCEPTED, Context, Inputs, Result, Shard, Stage, split
from sdg.text import canonical, digest

REASONS = ("", "duplicate", "pair_of_earlier_round", "query_of_earlier_round")


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
    version: ClassVar[int] = 2
    takes = Pair
    gives = Pair

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        pairs, queries, sizes = _digests(inputs)
        codes = np.zeros(sum(sizes), dtype=np.uint8)  # of REASONS
        if ACCEPTED in inputs.earlier:
            seen_pairs, seen_queries, _ = _digests(inputs.earlier[ACCEPTED])
            codes[(codes == 0) & np.isin(queries, seen_queries)] = 3
            codes[np.isin(pairs, seen_pairs)] = 2
        fresh = np.flatnonzero(codes == 0)
        codes[fresh[duplicate_rows(pairs[fresh].tobytes())]] = 1
        parts = np.split(codes, np.cumsum(sizes)[:-1])
        for name, part in zip(inputs.shards, parts, strict=False):
            np.save(ctx.dir / f"{name}.npy", part)

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        codes = np.load(ctx.dir / f"{shard.name}.npy")
        return split(shard.table, [REASONS[code] or None for code in codes[: shard.table.num_rows]])


def _digests(inputs: Inputs) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """16-byte hashes of all pairs and of their queries, canonical, and the shards' sizes."""
    pairs, queries, sizes = bytearray(), bytearray(), []
    for table in inputs.tables(["query", "positive"]):
        for row in table.to_pylist():
            query = canonical(row["query"])
            pairs += bytes.fromhex(digest("pair", query, canonical(row["positive"])))
            queries += bytes.fromhex(digest("query", query))
        sizes.append(table.num_rows)
    return np.frombuffer(pairs, dtype="V16"), np.frombuffer(queries, dtype="V16"), sizes

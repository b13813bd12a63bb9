"""mix: examples -> the training set asked for, chosen evenly among what was accepted."""

from typing import Any, ClassVar

import numpy as np

from sdg.schema import Example
from sdg.stage import Context, Inputs, Result, Shard, Stage, split
from sdg.text import digest


class MixStage(Stage):
    """Keeps `pairs` examples: those whose seeded hash is lowest, so any part of the corpus and
    every prompt keeps its share, and the choice does not depend on order or shards."""

    name: ClassVar[str] = "mix"
    takes = Example
    gives = Example

    pairs: int | None = None  # examples wanted; None: all

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        if self.pairs is None:
            return
        ranks = [
            bytes.fromhex(_rank(example_id, ctx))
            for table in inputs.tables(["id"])
            for example_id in table["id"].to_pylist()
        ]
        ordered = np.sort(np.frombuffer(b"".join(ranks), dtype=">u8").reshape(-1, 2)[:, 0])
        limit = int(ordered[self.pairs - 1]) if len(ordered) > self.pairs else 2**64 - 1
        (ctx.dir / "limit").write_text(str(limit), encoding="utf-8")

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        if self.pairs is None:
            return split(shard.table, [None] * shard.table.num_rows)
        limit = int((ctx.dir / "limit").read_text(encoding="utf-8"))
        return split(
            shard.table,
            [
                None if int(_rank(example_id, ctx)[:16], 16) <= limit else "over_quota"
                for example_id in shard.table["id"].to_pylist()
            ],
        )


def _rank(example_id: str, ctx: Context) -> str:
    return digest("mix", ctx.seed, example_id)

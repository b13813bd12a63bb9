"""mix: examples -> the training set asked for, chosen evenly among what was accepted."""

import json
from array import array
from collections import defaultdict
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from sdg.schema import Example
from sdg.stage import Context, Inputs, Result, Shard, Stage, split
from sdg.stages.render import example_cells
from sdg.store import write_json
from sdg.text import digest

COLUMNS = ["id", "task", "positive_lang", "provenance"]


class MixStage(Stage):
    """Keeps each cell's quota of examples: those whose seeded hash is lowest, so any part of the
    corpus and every prompt keeps its share, and the choice depends on neither order nor shards."""

    name: ClassVar[str] = "mix"
    version: ClassVar[int] = 2
    takes = Example
    gives = Example

    # Examples wanted by cell (language/task), as sdg/planning.py names them; None: all.
    quotas: dict[str, int] | None = Field(None)

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        if self.quotas is None:
            return
        ranks: dict[str, array[int]] = defaultdict(lambda: array("Q"))
        for table in inputs.tables(COLUMNS):
            ids = table["id"].to_pylist()
            for example_id, cell in zip(ids, example_cells(table), strict=True):
                ranks[cell].append(_rank(example_id, ctx))
        limits = {}
        for cell, found in ranks.items():
            quota = self.quotas.get(cell, 0)
            if len(found) > quota:
                limits[cell] = int(np.sort(np.frombuffer(found, np.uint64))[quota]) if quota else 0
        write_json(ctx.dir / "limits.json", limits)

    def open(self, ctx: Context) -> dict[str, int]:
        """Of the cells with more than their quota, the rank of the first example left out."""
        if self.quotas is None:
            return {}
        limits: dict[str, int] = json.loads((ctx.dir / "limits.json").read_text(encoding="utf-8"))
        return limits

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        ids = shard.table["id"].to_pylist()
        fits = [
            _rank(example_id, ctx) < state.get(cell, 2**64)
            for example_id, cell in zip(ids, example_cells(shard.table), strict=True)
        ]
        return split(shard.table, [None if fit else "over_quota" for fit in fits])


def _rank(example_id: str, ctx: Context) -> int:
    return int(digest("mix", ctx.seed, example_id)[:16], 16)

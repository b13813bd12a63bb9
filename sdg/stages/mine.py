"""mine: pairs -> examples with hard negatives, found in the run's own passages.

Positive-aware mining (NV-Retriever, arXiv 2407.15831, section 4.2): the passages nearest to the
query by a teacher, whose score is below `max_share` of the positive's (TopK-PercPos), `min_margin`
below it (TopK-MarginPos), or below `max_score` (TopK-Abs). With several teachers each gives its
nearest, and a passage must pass under every one. What could be a false negative is masked before
the nearest are taken, so that no query is starved: whatever answers the query as far as the run
knows, near copies of it, what contains the query or the positive, and known translations. A judge
may read the nearest that are left, and make positives of those that answer the query after all.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sdg.filters import fit_for_rows
from sdg.miner import Mined, Miner, MiningSettings
from sdg.passages import Fit, Passages, write_passages
from sdg.schema import Example, Pair, rows_of, to_table
from sdg.stage import (
    ACCEPTED,
    NO_INPUT,
    Context,
    Inputs,
    Resources,
    Result,
    Shard,
    Stage,
    dropped_rows,
)
from sdg.stages.decontaminate import DecontaminateStage, Sets

BATCH = 1024  # pairs searched for at once


class MineStage(MiningSettings, Stage):
    """Finds each pair's hard negatives and scores them with the teachers."""

    name: ClassVar[str] = "mine"
    version: ClassVar[int] = 6
    takes = Pair
    gives = Example
    speed_only: ClassVar[frozenset[str]] = frozenset({"part_rows", "memory_mb"})

    def fingerprint(self) -> dict[str, Any]:
        settings = [
            teacher.model_dump(mode="json", exclude=set(teacher.speed_only))
            for teacher in self.teachers
        ]
        found = {**super().fingerprint(), "teachers": settings}
        if self.relabel:
            found["relabel"] = self.relabel.model_dump(mode="json", exclude={"batch_size"})
        return found

    def resources(self) -> Resources | None:
        """What one worker needs that opens all models."""
        models = [*self.teachers, *([self.relabel] if self.relabel else [])]
        found = [wanted for model in models if (wanted := model.resources())]
        if not found:
            return None
        return Resources(
            num_gpus=max(wanted.num_gpus for wanted in found),
            memory_gb=sum(wanted.memory_gb for wanted in found),
            replicas=min((w.replicas for w in found if w.replicas), default=None),
            gpu_if_any=any(wanted.gpu_if_any for wanted in found),
        )

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Draw the passages from all seeds and documents that are fit for it, and let the teachers
        read them."""
        rounds = [inputs.earlier[ACCEPTED]] if ACCEPTED in inputs.earlier else []
        seeds = inputs.earlier["seed"]
        write_passages(
            ctx.dir, seeds, [*rounds, inputs], self.pool_size, ctx.seed, fit=_fit(inputs)
        )
        passages = Passages(ctx.dir)
        for i, teacher in enumerate(self.teachers):
            teacher.fit(passages.batches(), ctx.dir / f"teacher-{i}.npz")

    def open(self, ctx: Context) -> Miner:
        encoders = [t.open(ctx.dir / f"teacher-{i}.npz") for i, t in enumerate(self.teachers)]
        judge = self.relabel.open() if self.relabel else None
        return Miner(self, ctx.seed, Passages(ctx.dir), encoders, judge)

    def close(self, state: Miner) -> None:
        for encoder in state.encoders:
            encoder.close()

    def run(self, shard: Shard, ctx: Context, state: Miner) -> Result:
        pairs = rows_of(shard.table, Pair)
        mined: list[Mined] = []
        for start in range(0, len(pairs), BATCH):
            mined += state.mine(pairs[start : start + BATCH])
        counters: Counter[str] = Counter(negatives=0)
        examples = []
        for pair, found in zip(pairs, mined, strict=True):
            counters.update(found.counters)
            if found.reason is None:
                examples.append(_example(pair, found, state.passages))
        counters["negatives"] += sum(len(example.negatives) for example in examples)
        dropped = dropped_rows(shard.table, [found.reason for found in mined])
        return Result(to_table(examples, Example), dropped, len(examples), dict(counters))


def _fit(inputs: Inputs) -> Fit:
    """Which passages may stand in a training row: none that a filter has something against, and
    none of the evaluation sets', where some are named."""
    clean_of = inputs.earlier.get(DecontaminateStage.name, NO_INPUT).prepared
    if not clean_of:
        return fit_for_rows
    sets = Sets.load(clean_of.prepared_dir)

    def fit(passages: Sequence[str], langs: Sequence[str]) -> Sequence[bool]:
        fine: np.ndarray = np.array(fit_for_rows(passages, langs), bool) & ~sets.hold(passages)
        return fine.tolist()

    return fit


def _example(pair: Pair, mined: Mined, passages: Passages) -> Example:
    return Example(
        id=pair.id,
        task=pair.task,
        instruction=pair.instruction,
        query=pair.query,
        query_lang=pair.query_lang,
        positives=[pair.positive, *(passages.text(row) for row, _ in mined.positives)],
        positive_lang=pair.positive_lang,
        positive_scores=[mined.positive_score, *(score for _, score in mined.positives)],
        negatives=[*pair.negatives, *(passages.text(row) for row, _ in mined.negatives)],
        negative_scores=[*mined.given_scores, *(score for _, score in mined.negatives)],
        provenance=pair.provenance,
        positive_grades=[] if pair.positive_grade is None else [pair.positive_grade],
        negative_grades=pair.negative_grades,
        unverified=pair.unverified,
    )

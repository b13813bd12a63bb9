"""mine: pairs -> examples with hard negatives, found in the run's own passages.

Positive-aware mining (NV-Retriever, arXiv 2407.15831, TopK-PercPos): the nearest passages whose
score is below `max_share` of the positive's. What could be a false negative is masked before the
nearest are taken, so that no query is starved: the pair's own passage, copies of it, other
positives of the same query, and any passage that contains the query or the positive.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy import sparse

from sdg.schema import Example, Pair, rows_of, to_table
from sdg.stage import Context, Inputs, Result, Shard, Stage, dropped_rows
from sdg.store import write_json
from sdg.tasks import TASKS
from sdg.teacher import LexicalTeacher
from sdg.text import canonical, digest

BLOCK = 256  # queries scored at once against the pool


@dataclass(frozen=True)
class Pool:
    """Passages that negatives are taken from, and the teacher that ranks them."""

    teacher: LexicalTeacher
    texts: list[str]
    canonical: list[str]
    vectors_ND: sparse.csr_matrix
    other_positives: dict[str, frozenset[str]]  # digest of a query -> canonical passages


class MineStage(Stage):
    """Finds each pair's hard negatives and scores them with the teacher."""

    name: ClassVar[str] = "mine"
    takes = Pair
    gives = Example

    num_negatives: int = Field(8, ge=1)  # wanted for each pair
    min_negatives: int = Field(4, ge=1)  # a pair with fewer is dropped
    max_share: float = Field(0.95, gt=0, le=1)  # of the positive's score that a negative may have
    max_similarity: float = Field(0.8, gt=0, le=1)  # to the pair's passage: above it is a copy
    ngrams: tuple[int, int] = (2, 4)  # characters, inside words
    pool_size: int = 20_000  # passages searched; more are sampled down by seeded hash

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Draw the pool from all seeds, fit the teacher on it, note queries asked of several."""
        picked = self._draw_pool(inputs.earlier["seed"], ctx)
        batches = (picked[i : i + 1000] for i in range(0, len(picked), 1000))
        teacher = LexicalTeacher.fit(batches, self.ngrams)
        teacher.save(ctx.dir / "teacher.npz")
        write_json(ctx.dir / "pool.json", picked)
        sparse.save_npz(ctx.dir / "vectors.npz", teacher.encode(picked))
        write_json(ctx.dir / "shared_queries.json", _shared_queries(inputs))

    def _draw_pool(self, seeds: Inputs, ctx: Context) -> list[str]:
        """Texts of the `pool_size` passages of lowest seeded hash, each text once."""
        ranked: dict[str, str] = {}
        for table in seeds.tables(["id", "text"]):
            for row in table.to_pylist():
                key, text = digest("pool", ctx.seed, canonical(row["text"])), row["text"]
                ranked[key] = min(text, ranked.get(key, text))
            if len(ranked) > 2 * self.pool_size:
                ranked = {key: ranked[key] for key in sorted(ranked)[: self.pool_size]}
        return [ranked[key] for key in sorted(ranked)[: self.pool_size]]

    def open(self, ctx: Context) -> Pool:
        texts = json.loads((ctx.dir / "pool.json").read_text(encoding="utf-8"))
        shared = json.loads((ctx.dir / "shared_queries.json").read_text(encoding="utf-8"))
        return Pool(
            teacher=LexicalTeacher.load(ctx.dir / "teacher.npz"),
            texts=texts,
            canonical=[canonical(text) for text in texts],
            vectors_ND=sparse.load_npz(ctx.dir / "vectors.npz"),
            other_positives={query: frozenset(docs) for query, docs in shared.items()},
        )

    def run(self, shard: Shard, ctx: Context, state: Pool) -> Result:
        pairs = rows_of(shard.table, Pair)
        examples: list[Example] = []
        reasons: list[str | None] = []
        for start in range(0, len(pairs), BLOCK):
            block = pairs[start : start + BLOCK]
            queries_BD = state.teacher.encode([pair.query for pair in block])
            positives_BD = state.teacher.encode([pair.positive for pair in block])
            documents_BD = state.teacher.encode([pair.document for pair in block])
            positive_B = np.asarray(queries_BD.multiply(positives_BD).sum(axis=1)).ravel()
            scores_BN = (queries_BD @ state.vectors_ND.T).toarray()
            for i, pair in enumerate(block):
                found = self._negatives(
                    pair, float(positive_B[i]), scores_BN[i], documents_BD[i], state
                )
                reasons.append(found if isinstance(found, str) else None)
                if not isinstance(found, str):
                    examples.append(_example(pair, float(positive_B[i]), found, state))
        counters = {"negatives": sum(len(example.negatives) for example in examples)}
        kept = to_table(examples, Example)
        return Result(kept, dropped_rows(shard.table, reasons), len(examples), counters)

    def _negatives(
        self,
        pair: Pair,
        positive: float,
        scores_N: np.ndarray,
        document_1D: sparse.csr_matrix,
        pool: Pool,
    ) -> list[tuple[int, float]] | str:
        """(place in the pool, score) of the negatives, hardest first, or why there are none."""
        if not TASKS[pair.task].mined:
            return []
        if positive <= 0:
            return "positive_unrelated"
        own = {canonical(pair.document), canonical(pair.positive)}
        own |= pool.other_positives.get(digest(canonical(pair.query)), frozenset())
        query = canonical(pair.query)
        allowed = np.flatnonzero(scores_N < self.max_share * positive)
        # Equal scores (zeros, mostly) come in an order of the pair's own, not always the same ones.
        turn = int(digest(pair.id)[:8], 16) % max(1, len(scores_N))
        order = np.lexsort(((allowed - turn) % len(scores_N), -scores_N[allowed]))
        chosen: list[tuple[int, float]] = []
        for place in allowed[order]:
            text = pool.canonical[place]
            if any(text in mine or mine in text for mine in own) or query in text:
                continue
            # Not `@`: it would transpose the vector, a pass over all D features for each passage.
            if document_1D.multiply(pool.vectors_ND[place]).sum() > self.max_similarity:
                continue
            chosen.append((int(place), float(scores_N[place])))
            if len(chosen) == self.num_negatives:
                break
        num_negatives = len(pair.negatives) + len(chosen)
        return chosen if num_negatives >= self.min_negatives else "too_few_negatives"


def _shared_queries(inputs: Inputs) -> dict[str, list[str]]:
    """Queries that several passages answer: digest of the query -> those passages, canonical."""
    times: dict[str, int] = defaultdict(int)
    for table in inputs.tables(["query"]):
        for query in table["query"].to_pylist():
            times[digest(canonical(query))] += 1
    shared: dict[str, set[str]] = {key: set() for key, count in times.items() if count > 1}
    if shared:
        for table in inputs.tables(["query", "document"]):
            for row in table.to_pylist():
                key = digest(canonical(row["query"]))
                if key in shared:
                    shared[key].add(canonical(row["document"]))
    return {key: sorted(documents) for key, documents in sorted(shared.items())}


def _example(
    pair: Pair, positive: float, negatives: list[tuple[int, float]], pool: Pool
) -> Example:
    return Example(
        id=pair.id,
        task=pair.task,
        instruction=pair.instruction,
        query=pair.query,
        query_lang=pair.query_lang,
        positives=[pair.positive],
        positive_lang=pair.positive_lang,
        positive_scores=[positive],
        negatives=[*pair.negatives, *(pool.texts[place] for place, _ in negatives)],
        negative_scores=[*([0.0] * len(pair.negatives)), *(score for _, score in negatives)],
        provenance=pair.provenance,
        positive_grades=[] if pair.positive_grade is None else [pair.positive_grade],
        negative_grades=pair.negative_grades,
        unverified=pair.unverified,
    )

"""Approximate search: of the passages, only those in the cells nearest to a question are scored.

An inverted file (IVF) of faiss: k-means parts the vectors into cells, in the same way whenever it
is given the same vectors. What is found is scored anew, and masked, as in an exact search, so that
nothing wrong can come of it; but a near passage in a cell far off is missed. How many are is
measured against exact search on some of the questions, and told as the recall.

Shapes: T teachers, B questions, N passages, D dimensions, K wanted, M candidates.
"""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sdg.errors import UserError
from sdg.search import Candidates, Questions, nearest, search
from sdg.vectors import DOUBT, DenseVectors, Vectors

TRAINED = 64  # vectors a cell, that k-means looks at
SPARE = 4  # times as many are looked for as are wanted: some are masked


class Approximate(BaseModel):
    """How much of the passages is searched; dense teachers alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cells: int | None = Field(None, ge=1)  # None: four times the square root of the passages
    probes: int = Field(32, ge=1)  # cells searched for a question
    checked: float = Field(0.02, ge=0, le=1)  # share of the questions searched exactly, too

    def check(self) -> None:
        """Raise `UserError` if there is no faiss, before anything starts."""
        if importlib.util.find_spec("faiss") is None:
            raise UserError(
                "stages.mine.approximate: faiss is not installed: pip install -e '.[approximate]' "
                "has it"
            )

    def build(self, vectors: Vectors, path: Path) -> None:
        """Write the index of a part of the passages."""
        import faiss

        assert isinstance(vectors, DenseVectors)
        rows_ND = np.ascontiguousarray(vectors.rows_ND)
        wanted = self.cells or round(4 * math.sqrt(len(rows_ND)))
        cells = max(1, min(wanted, len(rows_ND) // 40))  # k-means wants 39 vectors a cell
        quantizer = faiss.IndexFlatIP(rows_ND.shape[1])
        index = faiss.IndexIVFFlat(quantizer, rows_ND.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = TRAINED
        index.train(rows_ND)
        index.add(rows_ND)
        faiss.write_index(index, str(path))

    def open(self, path: Path) -> Any:
        """The index that `build` wrote, its cells read from the file as they are searched."""
        import faiss

        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        index.nprobe = min(self.probes, index.nlist)
        return index

    def search(
        self,
        part: Sequence[Vectors],
        indexes: Sequence[Any],
        first_row: int,
        questions: Questions,
        num: int,
        memory_mb: int,
    ) -> Candidates:
        """As `sdg.search.search`, but for what the indexes miss."""
        found = _search(part, indexes, first_row, questions, num)
        step = round(1 / self.checked) if self.checked else 0
        # Places of the whole batch, so that a question is checked or not by itself.
        places = np.flatnonzero(questions.turns_B % step == 0) if step else np.empty(0, np.int64)
        if not len(places):
            return found
        exact = search(part, first_row, questions.pick(places), num, memory_mb)
        wanted = places[exact.question_M] * questions.num_rows + exact.row_M
        known = found.question_M * questions.num_rows + found.row_M
        return replace(found, num_found=int(np.isin(wanted, known).sum()), num_there=len(wanted))


def _search(
    part: Sequence[Vectors],
    indexes: Sequence[Any],
    first_row: int,
    questions: Questions,
    num: int,
) -> Candidates:
    size, num_questions = part[0].num_rows, len(questions)
    width = min(size, SPARE * num)
    codes = [np.empty(0, np.int64)]
    for index, queries_BD in zip(indexes, questions.vectors, strict=True):
        _, rows_BK = index.search(np.ascontiguousarray(queries_BD, dtype=np.float32), width)
        there = rows_BK >= 0
        codes.append(np.repeat(np.arange(num_questions), there.sum(axis=1)) * size + rows_BK[there])
    question_M, row_M = np.divmod(np.unique(np.concatenate(codes)), max(1, size))
    free = ~np.isin(question_M * questions.num_rows + row_M + first_row, questions.banned)
    question_M, row_M = question_M[free], row_M[free]
    scores_TM = np.stack(
        [
            vectors.exact(queries, question_M, row_M, np.empty(0))
            for vectors, queries in zip(part, questions.vectors, strict=True)
        ]
    )
    above_TB = np.zeros((len(part), num_questions), dtype=np.int64)
    if questions.own_TB is not None:
        higher = scores_TM > questions.own_TB[:, question_M] + DOUBT
        for t in range(len(part)):
            above_TB[t] = np.bincount(question_M[higher[t]], minlength=num_questions)
    found = nearest(question_M, row_M + first_row, scores_TM, above_TB, questions, num)
    # Whatever was masked, more may be had by looking for more.
    return replace(found, is_full_B=np.full(num_questions, width < size))

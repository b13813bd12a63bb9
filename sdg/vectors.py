"""Teachers' vectors of passages, and how questions are scored against them, a block at a time.

A block is the scores of some questions by some passages, in whatever form they come. Scores of
dense vectors are wrong in their last digits, which change with a block's shape; `exact` computes
them anew. Shapes: B questions, N passages, D dimensions, M candidates.
"""

import threading
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

Matrix: TypeAlias = Any  # np.ndarray or sparse.csr_matrix; rows are unit vectors, float32

DIGITS = 6  # of a score; vectors that are alike score alike
DOUBT = 1e-5  # more than float32 is wrong by in a dot product of unit vectors
STAY = 0.25  # of a GPU's memory, that this process may hold with vectors that stay there
MANY = 0.01  # of a block's scores, that are not looked at one by one
CHUNK = 4096  # candidates whose scores are computed anew at once


class Vectors(ABC):
    """One teacher's vectors of a part of the passages. A block is its scores of some questions by
    passages `start` to `stop`, in whatever form the scores come."""

    num_rows: int

    def place(self, queries_BD: Any) -> Any:
        """The queries in the form in which `block` takes them."""
        return queries_BD

    @abstractmethod
    def block(self, queries: Any, start: int, stop: int) -> Any:
        """Scores of placed queries; valid until the thread's next call."""

    @abstractmethod
    def between(
        self, block: Any, least_B: np.ndarray, most_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(question, column, score) of the scores above `least_B` and below `most_B`."""

    @abstractmethod
    def at(self, block: Any, questions: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Scores of some places in a block."""

    @abstractmethod
    def num_above(self, block: Any, own_B: np.ndarray) -> np.ndarray:
        """How many of a block's scores are above each question's own."""

    @abstractmethod
    def sample(self, block: Any, step: int) -> np.ndarray:
        """A copy of every `step`-th column of a block."""

    def exact(
        self, queries_BD: Matrix, questions: np.ndarray, rows: np.ndarray, found: np.ndarray
    ) -> np.ndarray:
        """The scores of candidates whatever block they were found in; float64."""
        return found.astype(np.float64).round(DIGITS)


class _Arrays(Vectors):
    """Those whose block is an array (B, columns) float32."""

    def between(
        self, block: Any, least_B: np.ndarray, most_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        above = block > least_B[:, None].astype(np.float32)
        # Next to all that are above are below, too, but where a positive scores low.
        if np.count_nonzero(above) > MANY * above.size:
            above &= block < most_B[:, None].astype(np.float32)
        questions, columns = np.divmod(_true_places(above), block.shape[1])
        scores = block[questions, columns]
        hit = scores < most_B[questions]
        return questions[hit], columns[hit], scores[hit]

    def at(self, block: Any, questions: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.asarray(block[questions, columns])

    def num_above(self, block: Any, own_B: np.ndarray) -> np.ndarray:
        return np.count_nonzero(block > own_B[:, None].astype(np.float32), axis=1)

    def sample(self, block: Any, step: int) -> np.ndarray:
        return np.array(block[:, ::step], order="C")


class SparseVectors(_Arrays):
    """Vectors with few features each; scores are never below 0. Holds them feature by feature."""

    def __init__(self, by_feature_DN: sparse.csr_matrix) -> None:
        self.by_feature_DN = by_feature_DN
        self.num_rows = by_feature_DN.shape[1]

    def place(self, queries_BD: Any) -> Any:
        """All scores. Where passages are in one language, most have something in common with any
        query: adding up into an array takes a fifth of the time of a sparse product."""
        scores_BN = np.empty((queries_BD.shape[0], self.num_rows), dtype=np.float32)
        for scores_N, (start, stop) in zip(scores_BN, pairwise(queries_BD.indptr), strict=True):
            mine = slice(start, stop)
            scores_N[:] = self._scores(queries_BD.indices[mine], queries_BD.data[mine])
        return scores_BN

    def _scores(self, features: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """All passages' scores by one query, (N,).

        The features' entries are added up where they lie, as picking them out would take as long
        again: they are columns of a matrix whose index pointer goes from the start of one to its
        end, and on to the start of another that lies before it, so that the columns between have
        nothing in them.
        """
        if not len(features):
            return np.zeros(self.num_rows, dtype=np.float32)
        last_first = np.argsort(-features)
        features = features[last_first]
        bounds = np.stack([self.by_feature_DN.indptr[features + place] for place in (0, 1)], axis=1)
        columns = sparse.csc_matrix((self.num_rows, bounds.size - 1), dtype=np.float32)
        columns.data, columns.indices = self.by_feature_DN.data, self.by_feature_DN.indices
        columns.indptr = bounds.reshape(-1)
        spread = np.zeros(columns.shape[1], dtype=np.float32)
        spread[::2] = weights[last_first]
        return np.asarray(columns @ spread)

    def block(self, queries: Any, start: int, stop: int) -> Any:
        return queries[:, start:stop]

    def between(
        self, block: Any, least_B: np.ndarray, most_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # A passage without any feature of the query is not near.
        return super().between(block, np.maximum(least_B, 0), most_B)

    def related(self, query_1D: Any) -> np.ndarray:
        """Passages with any score above 0, which share a feature with the query."""
        return np.flatnonzero(self.place(query_1D)[0])


class DenseVectors(_Arrays):
    """Vectors as rows of one array, in memory or mapped from a file."""

    def __init__(self, rows_ND: np.ndarray) -> None:
        self.rows_ND = rows_ND
        self.num_rows = len(rows_ND)
        self._of_thread = threading.local()  # a block's scores, for all blocks of one search

    def block(self, queries: Any, start: int, stop: int) -> Any:
        shape = (len(queries), stop - start)
        size = shape[0] * shape[1]
        scores = getattr(self._of_thread, "scores", np.empty(0, dtype=np.float32))
        if len(scores) < size:
            scores = self._of_thread.scores = np.empty(size, dtype=np.float32)
        return np.matmul(queries, self.rows_ND[start:stop].T, out=scores[:size].reshape(shape))

    def exact(
        self, queries_BD: Matrix, questions: np.ndarray, rows: np.ndarray, found: np.ndarray
    ) -> np.ndarray:
        scores = np.empty(len(rows))
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            left = queries_BD[questions[part]].astype(np.float64)
            scores[part] = np.einsum("md,md->m", left, self.rows_ND[rows[part]].astype(np.float64))
        return scores.round(DIGITS)


def _true_places(mask: np.ndarray) -> np.ndarray:
    """`np.flatnonzero`, of a mask with few places, in a third of the time: 64 places at a look."""
    flat = mask.reshape(-1)
    bits = np.packbits(flat)
    words = np.pad(bits, (0, -len(bits) % 8)).view(np.uint64)
    some = np.flatnonzero(words)
    word, bit = np.nonzero(np.unpackbits(words[some].view(np.uint8).reshape(-1, 8), axis=1))
    places: np.ndarray = some[word] * 64 + bit
    return places


def dots(left: Matrix, right: Matrix) -> np.ndarray:
    """Scores of pairs of vectors, row by row, as a search would find them (B,), float64."""
    if sparse.issparse(left):
        return np.asarray(left.multiply(right).sum(axis=1), dtype=np.float64).ravel().round(DIGITS)
    every = np.arange(len(left))
    return DenseVectors(right).exact(left, every, every, every)


class TorchVectors(DenseVectors):
    """Dense vectors that are searched on a device of torch's, where they stay, or go block by
    block."""

    def __init__(self, rows_ND: np.ndarray, device: str, *, stay: bool) -> None:
        super().__init__(rows_ND)
        self.device = device
        self._there_ND = self._move(rows_ND) if stay else None

    def _move(self, rows_ND: np.ndarray) -> Any:
        """All rows on the device, without a second copy of them here."""
        import torch

        there = torch.empty(rows_ND.shape, dtype=torch.float32, device=self.device)
        for start in range(0, len(rows_ND), CHUNK):
            there[start : start + CHUNK] = self._there(rows_ND[start : start + CHUNK])
        return there

    def _there(self, array: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(np.array(array)).to(self.device)

    def place(self, queries_BD: Any) -> Any:
        return self._there(queries_BD)

    def block(self, queries: Any, start: int, stop: int) -> Any:
        if self._there_ND is not None:
            return queries @ self._there_ND[start:stop].T
        return queries @ self._there(self.rows_ND[start:stop]).T

    def between(
        self, block: Any, least_B: np.ndarray, most_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        least_B1, most_B1 = (self._there(x.astype(np.float32)[:, None]) for x in (least_B, most_B))
        questions, columns = ((block > least_B1) & (block < most_B1)).nonzero(as_tuple=True)
        scores = block[questions, columns]
        return questions.cpu().numpy(), columns.cpu().numpy(), scores.cpu().numpy()

    def at(self, block: Any, questions: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found: np.ndarray = block[self._there(questions), self._there(columns)].cpu().numpy()
        return found

    def num_above(self, block: Any, own_B: np.ndarray) -> np.ndarray:
        above = block > self._there(own_B.astype(np.float32)[:, None])
        return np.asarray(above.sum(dim=1).cpu().numpy())

    def sample(self, block: Any, step: int) -> np.ndarray:
        return np.array(block[:, ::step].cpu().numpy())


def dense_vectors(rows_ND: np.ndarray) -> DenseVectors:
    """On a GPU if there is one; most of its memory is left to others, which may be the teachers."""
    import torch

    if not torch.cuda.is_available():
        return DenseVectors(rows_ND)
    free, total = torch.cuda.mem_get_info()
    held = torch.cuda.memory_allocated() + rows_ND.nbytes
    return TorchVectors(rows_ND, "cuda", stay=held < STAY * total and rows_ND.nbytes < free / 2)

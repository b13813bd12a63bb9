"""Exact search for the passages nearest to questions, in blocks of bounded memory, masks first.

A passage may be found if it is not banned and scores below the question's ceiling under every
teacher. What is masked takes no place among the k nearest, so that no question is starved. What a
search gives depends on neither blocks nor parts: scores of dense vectors, whose last digits change
with a block's shape, are only looked through in float32 and then computed anew in float64.

Shapes: T teachers, B questions, N passages, D dimensions, K wanted, M candidates.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_info, threadpool_limits

from sdg.vectors import DOUBT, Matrix, SparseVectors, TorchVectors, Vectors

COLUMNS = 8192  # passages a block
MOST_ROWS = 1024  # questions a block
MOST_PLACED = 2**24  # bytes of sparse vectors' scores: a larger array is new memory every time


@dataclass(frozen=True)
class Questions:
    """Queries as the teachers see them, and what may be found for each."""

    vectors: tuple[Matrix, ...]  # a teacher: (B, D)
    ceilings_TB: np.ndarray  # float64; what scores as much, or more, is masked
    banned: np.ndarray  # `ban` codes, ascending
    turns_B: np.ndarray  # row that goes first among equal scores, and on from there
    num_rows: int  # of all parts
    own_TB: np.ndarray | None = None  # scores to count the passages above, by more than `DOUBT`

    def __len__(self) -> int:
        return len(self.turns_B)

    def pick(self, places: np.ndarray) -> "Questions":
        """Some of them, in the order given."""
        new = np.full(len(self), -1, dtype=np.int64)
        new[places] = np.arange(len(places))
        old, rows = np.divmod(self.banned, max(1, self.num_rows))
        kept = new[old] >= 0
        return Questions(
            vectors=tuple(vectors[places] for vectors in self.vectors),
            ceilings_TB=self.ceilings_TB[:, places],
            banned=np.sort(new[old[kept]] * self.num_rows + rows[kept]),
            turns_B=self.turns_B[places],
            num_rows=self.num_rows,
            own_TB=None if self.own_TB is None else self.own_TB[:, places],
        )


def ban(questions: np.ndarray, rows: np.ndarray, num_rows: int) -> np.ndarray:
    """Codes of (question, row) pairs that are not to be found, as `Questions` wants them."""
    return np.unique(questions.astype(np.int64) * num_rows + rows)


@dataclass(frozen=True)
class Candidates:
    """What was found: every teacher's K nearest, together; best first within a question."""

    question_M: np.ndarray  # ascending
    row_M: np.ndarray
    scores_TM: np.ndarray  # float64, rounded
    above_TB: np.ndarray  # passages above `own_TB`
    is_full_B: np.ndarray  # whether some teacher had K, so that there may be more
    num_there: int = 0  # the nearest of the questions that an approximate search was checked by ...
    num_found: int = 0  # ... and those of them that it found


def search(
    part: Sequence[Vectors], first_row: int, questions: Questions, num: int, memory_mb: int
) -> Candidates:
    """The `num` nearest passages of a part, by each teacher.

    Args:
        part: a teacher each, of the same passages.
        first_row: place of the part's first passage among all.
        memory_mb: taken at most for scores (of a sparse teacher's, if one question's fit).
    """
    # Bytes a question: scores of a block, and masks; sparse vectors' are of all passages.
    placed = sum(4 * vectors.num_rows for vectors in part if isinstance(vectors, SparseVectors))
    threads = _threads(part)
    size = memory_mb * 2**20 // (9 * COLUMNS * len(part) + placed) // threads
    size = min(size, MOST_ROWS, -(-len(questions) // threads))
    if _all_sparse(part):
        size = min(size, MOST_PLACED // max(1, placed))
    size = max(1, size)
    with _LIMITING, threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        found = pool.map(
            lambda places: _search_block(part, first_row, questions.pick(places), num),
            _pieces(len(questions), size),
        )
        return join(list(found), size)


_LIMITING = threading.Lock()  # the limit is the process's: two that overlap would leave it in place


def _threads(part: Sequence[Vectors]) -> int:
    """As many as a matrix product would take, which is one in a worker of one processor: a block
    each is faster, as what is done with the product goes on side by side, too. A GPU takes one."""
    if any(isinstance(vectors, TorchVectors) for vectors in part):
        return 1
    pools = threadpool_info()
    return max((pool["num_threads"] for pool in pools if pool["user_api"] == "blas"), default=1)


def join(found: Sequence[Candidates], size: int) -> Candidates:
    """Candidates of questions that were asked `size` at a time, as of one search."""
    return Candidates(
        question_M=np.concatenate([part.question_M + i * size for i, part in enumerate(found)]),
        row_M=np.concatenate([part.row_M for part in found]),
        scores_TM=np.concatenate([part.scores_TM for part in found], axis=1),
        above_TB=np.concatenate([part.above_TB for part in found], axis=1),
        is_full_B=np.concatenate([part.is_full_B for part in found]),
    )


def merge(parts: Sequence[Candidates], questions: Questions, num: int) -> Candidates:
    """The `num` nearest by each teacher, of what was found in all parts."""
    if len(parts) == 1:
        return parts[0]
    question_M, row_M = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("question_M", "row_M")
    )
    scores_TM = np.concatenate([part.scores_TM for part in parts], axis=1)
    above_TB = np.sum([part.above_TB for part in parts], axis=0)
    return replace(
        nearest(question_M, row_M, scores_TM, above_TB, questions, num),
        num_there=sum(part.num_there for part in parts),
        num_found=sum(part.num_found for part in parts),
    )


def _pieces(total: int, size: int) -> Iterator[np.ndarray]:
    for start in range(0, max(total, 1), size):
        yield np.arange(start, min(total, start + size))


class _Near:
    """One teacher's nearest so far: flat lists, cut down to the best when they have grown."""

    def __init__(self, num_questions: int, teacher: int, num: int) -> None:
        self.num = num
        self.teacher = teacher
        self.least_B = np.full(num_questions, -np.inf)  # what the K-th scores, or less
        self._questions, self._rows = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        self._scores: list[np.ndarray] = []
        self._size = self._size_when_cut = 0

    def add(self, questions: np.ndarray, rows: np.ndarray, scores_TM: np.ndarray) -> None:
        self._questions.append(questions)
        self._rows.append(rows)
        self._scores.append(scores_TM)
        self._size += len(rows)
        if self._size > 1.3 * self._size_when_cut:
            self._cut()

    def _cut(self) -> None:
        """Forget what cannot be among the K nearest any more."""
        questions, rows, scores = self.all()
        order = np.argsort(questions, kind="stable")  # two runs in order: next to no work
        questions, rows, scores = questions[order], rows[order], scores[:, order]
        sizes_B = np.bincount(questions, minlength=len(self.least_B))
        kth_B = _kth(questions, scores[self.teacher], sizes_B, self.num)
        self.least_B = np.maximum(self.least_B, kth_B - 2 * DOUBT)
        near = scores[self.teacher] >= self.least_B[questions]
        self._questions, self._rows = [questions[near]], [rows[near]]
        self._scores = [scores[:, near]]
        self._size = self._size_when_cut = int(near.sum())

    def all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(question, row, every teacher's score) of what is kept."""
        scores = np.concatenate(self._scores, axis=1)
        return np.concatenate(self._questions), np.concatenate(self._rows), scores


def _kth(questions: np.ndarray, scores: np.ndarray, sizes_B: np.ndarray, num: int) -> np.ndarray:
    """The `num`-th best of each question's scores, -inf where there are fewer; in rows of one
    length, unless a few long ones would blow that up."""
    kth_B = np.full(len(sizes_B), -np.inf)
    width = int(sizes_B.max(initial=0))
    if width < num:
        return kth_B
    start_B = np.cumsum(sizes_B) - sizes_B
    if width * len(sizes_B) > 4 * len(scores) + 100_000:
        order = np.lexsort((-scores, questions))
        long = np.flatnonzero(sizes_B >= num)
        kth_B[long] = scores[order[start_B[long] + num - 1]]
        return kth_B
    padded = np.full((len(sizes_B), width), -np.inf, dtype=np.float32)
    padded[questions, np.arange(len(scores)) - start_B[questions]] = scores
    kth_B[:] = np.partition(padded, width - num, axis=1)[:, width - num]
    return kth_B


def _search_block(
    part: Sequence[Vectors], first_row: int, questions: Questions, num: int
) -> Candidates:
    num_questions = len(questions)
    above_TB = np.zeros((len(part), num_questions), dtype=np.int64)
    if not num_questions or not part[0].num_rows:
        empty = np.zeros(0, dtype=np.int64)
        return nearest(empty, empty, np.zeros((len(part), 0)), above_TB, questions, num)
    near = [_Near(num_questions, t, num) for t in range(len(part))]
    placed = [v.place(queries) for v, queries in zip(part, questions.vectors, strict=True)]
    most_TB = questions.ceilings_TB + DOUBT
    for start in range(0, part[0].num_rows, COLUMNS):
        num_columns = min(COLUMNS, part[0].num_rows - start)
        blocks = [v.block(q, start, start + num_columns) for v, q in zip(part, placed, strict=True)]
        banned = _banned(questions, first_row + start, num_columns)
        if start == 0:
            _guess(part, blocks, near, questions.ceilings_TB, banned)
        codes = banned[0] * num_columns + banned[1]
        for t, vectors in enumerate(part):
            q, c, own_M = vectors.between(blocks[t], near[t].least_B, most_TB[t])
            allowed = ~np.isin(q * num_columns + c, codes)
            q, c, own_M = q[allowed], c[allowed], own_M[allowed]
            scores_TM = np.stack(
                [own_M if u == t else v.at(blocks[u], q, c) for u, v in enumerate(part)]
            )
            gap_TM = questions.ceilings_TB[:, q] - scores_TM
            allowed = (gap_TM > -DOUBT).all(axis=0)
            unsure = allowed & (np.abs(gap_TM) <= DOUBT).any(axis=0)
            if unsure.any():
                exact = _exact(part, questions, q[unsure], c[unsure] + start, scores_TM[:, unsure])
                allowed[unsure] = (exact < questions.ceilings_TB[:, q[unsure]]).all(axis=0)
            near[t].add(q[allowed], c[allowed] + start, scores_TM[:, allowed])
            if questions.own_TB is not None:
                own_B = questions.own_TB[t] + DOUBT
                above_TB[t] += vectors.num_above(blocks[t], own_B)
                masked = vectors.at(blocks[t], *banned) > own_B[banned[0]]
                above_TB[t] -= np.bincount(banned[0][masked], minlength=num_questions)
    return _finish(part, first_row, questions, near, above_TB, num)


def _all_sparse(part: Sequence[Vectors]) -> bool:
    return all(isinstance(vectors, SparseVectors) for vectors in part)


def _banned(questions: Questions, first_row: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """(question, column) of what is banned in a block."""
    of, rows = np.divmod(questions.banned, questions.num_rows)
    here = (rows >= first_row) & (rows < first_row + num)
    return of[here], rows[here] - first_row


def _guess(
    part: Sequence[Vectors],
    blocks: Sequence[Any],
    near: Sequence[_Near],
    ceilings_TB: np.ndarray,
    banned: tuple[np.ndarray, np.ndarray],
) -> None:
    """Bounds to begin with, without which all of the first block would be looked at: of the maxima
    of groups of a sample's passages the K-th best, which K passages reach."""
    num = near[0].num
    num_groups = max(256, 8 * num)
    step = max(1, blocks[0].shape[1] // (8 * num_groups))
    scores = [v.sample(block, step) for v, block in zip(part, blocks, strict=True)]
    num_questions, num_columns = scores[0].shape
    if num_columns < num:
        return
    masked = np.zeros_like(scores[0], dtype=bool)
    for score, ceilings_B in zip(scores, ceilings_TB, strict=True):
        masked |= score >= (ceilings_B[:, None] - DOUBT).astype(np.float32)
    inside = banned[1] % step == 0
    masked[banned[0][inside], banned[1][inside] // step] = True
    for score, nearest in zip(scores, near, strict=True):
        np.copyto(score, -np.inf, where=masked)
        if size := num_columns // num_groups:
            score = score[:, : size * num_groups].reshape(num_questions, size, -1).max(axis=1)
        kth = np.partition(score, -num, axis=1)[:, -num]
        nearest.least_B = kth.astype(np.float64) - 2 * DOUBT


def _exact(
    part: Sequence[Vectors], questions: Questions, q: np.ndarray, rows: np.ndarray, found: Any
) -> np.ndarray:
    """Every teacher's scores of candidates (T, M), whatever block they were found in."""
    asked = zip(part, questions.vectors, found, strict=True)
    return np.stack([v.exact(queries, q, rows, scores) for v, queries, scores in asked])


def _finish(
    part: Sequence[Vectors],
    first_row: int,
    questions: Questions,
    near: Sequence[_Near],
    above_TB: np.ndarray,
    num: int,
) -> Candidates:
    """Exact scores of what was kept, and the nearest by them."""
    kept = [nearest.all() for nearest in near]
    question_M, row_M, scores_TM = (
        np.concatenate(lists, axis=-1) for lists in zip(*kept, strict=True)
    )
    _, first = np.unique(question_M * part[0].num_rows + row_M, return_index=True)
    question_M, row_M, scores_TM = question_M[first], row_M[first], scores_TM[:, first]
    if _all_sparse(part):
        more_q, more_r = _unrelated(part, first_row, questions, question_M, num)
        question_M, row_M = np.append(question_M, more_q), np.append(row_M, more_r)
        scores_TM = np.append(scores_TM, np.zeros((len(part), len(more_q))), axis=1)
    scores_TM = _exact(part, questions, question_M, row_M, scores_TM)
    return nearest(question_M, row_M + first_row, scores_TM, above_TB, questions, num)


def _unrelated(
    part: Sequence[Vectors], first_row: int, questions: Questions, question_M: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Passages without any feature of a query, for the queries that too few passages share one
    with: (question, row of the part)."""
    missing_B = num - np.bincount(question_M, minlength=len(questions))
    of, rows = np.divmod(questions.banned, questions.num_rows)
    size = part[0].num_rows
    found_q, found_r = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for place in np.flatnonzero((missing_B > 0) & (questions.ceilings_TB > 0).all(axis=0)):
        taken = np.zeros(size, dtype=bool)
        for vectors, queries in zip(part, questions.vectors, strict=True):
            assert isinstance(vectors, SparseVectors)
            taken[vectors.related(queries[place])] = True
        banned = rows[of == place] - first_row
        taken[banned[(banned >= 0) & (banned < size)]] = True
        free = np.flatnonzero(~taken)
        turn = (free + first_row - questions.turns_B[place]) % questions.num_rows
        first = free[np.argsort(turn)[: missing_B[place]]]
        found_q.append(np.full(len(first), place))
        found_r.append(first)
    return np.concatenate(found_q), np.concatenate(found_r)


def nearest(
    question_M: np.ndarray,
    row_M: np.ndarray,
    scores_TM: np.ndarray,
    above_TB: np.ndarray,
    questions: Questions,
    num: int,
) -> Candidates:
    """Every teacher's `num` nearest below the ceilings, together: by the best rank that a teacher
    gives, then by the mean score. The teachers' order does not matter."""
    allowed = (scores_TM < questions.ceilings_TB[:, question_M]).all(axis=0)
    question_M, row_M, scores_TM = question_M[allowed], row_M[allowed], scores_TM[:, allowed]
    turn_M = (row_M - questions.turns_B[question_M]) % questions.num_rows
    sizes_B = np.bincount(question_M, minlength=len(questions))
    start_B = np.cumsum(sizes_B) - sizes_B
    last = len(row_M)  # no rank at all
    rank_M = np.full(last, last)
    are_sparse = [sparse.issparse(vectors) for vectors in questions.vectors]
    for scores_M, is_sparse in zip(scores_TM, are_sparse, strict=True):
        order = np.lexsort((turn_M, -scores_M, question_M))
        ranks = np.arange(last) - start_B[question_M[order]]
        if is_sparse:
            ranks[scores_M[order] <= 0] = last
        rank_M[order] = np.minimum(rank_M[order], ranks)
    mean_M = np.sort(scores_TM, axis=0).mean(axis=0)
    order = np.lexsort((turn_M, -mean_M, rank_M, question_M))
    is_near = rank_M[order] < num
    if all(are_sparse):  # what shares nothing with the query fills up
        is_near |= np.arange(last) - start_B[question_M[order]] < num
    kept = order[is_near]
    return Candidates(question_M[kept], row_M[kept], scores_TM[:, kept], above_TB, sizes_B >= num)

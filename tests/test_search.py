"""Search, against a brute force in float64 over random vectors and rules."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sdg import search as module
from sdg.search import Candidates, Questions, ban, merge, search
from sdg.vectors import DOUBT, DenseVectors, SparseVectors, TorchVectors, Vectors, dots


@dataclass
class Case:
    """Questions and passages of some teachers; what brute force needs of them."""

    queries: list[np.ndarray]
    passages: list[np.ndarray]
    is_sparse: list[bool]
    ceilings: np.ndarray
    banned: set[tuple[int, int]]
    turns: np.ndarray
    own: np.ndarray
    num: int
    dense: Callable[[np.ndarray], DenseVectors] = DenseVectors

    @property
    def num_rows(self) -> int:
        return len(self.passages[0])

    def questions(self) -> Questions:
        pairs = np.array(sorted(self.banned), dtype=np.int64).reshape(-1, 2)
        return Questions(
            vectors=tuple(
                sparse.csr_matrix(q) if thin else q
                for q, thin in zip(self.queries, self.is_sparse, strict=True)
            ),
            ceilings_TB=self.ceilings,
            banned=ban(pairs[:, 0], pairs[:, 1], self.num_rows),
            turns_B=self.turns,
            num_rows=self.num_rows,
            own_TB=self.own,
        )

    def part(self, start: int, stop: int) -> list[Vectors]:
        rows = [passages[start:stop] for passages in self.passages]
        return [
            SparseVectors(sparse.csr_matrix(r.T)) if thin else self.dense(r)
            for r, thin in zip(rows, self.is_sparse, strict=True)
        ]

    def search(self, *cuts: int, memory_mb: int = 1) -> Candidates:
        """In parts that end at `cuts`."""
        questions, bounds = self.questions(), [0, *cuts, self.num_rows]
        parts = [
            search(self.part(a, b), a, questions, self.num, memory_mb)
            for a, b in itertools.pairwise(bounds)
        ]
        return merge(parts, questions, self.num)

    def reversed(self) -> "Case":
        """The teachers the other way round."""
        return Case(
            self.queries[::-1],
            self.passages[::-1],
            self.is_sparse[::-1],
            self.ceilings[::-1],
            self.banned,
            self.turns,
            self.own[::-1],
            self.num,
        )


def unit_rows(rng: np.random.Generator, num: int, dim: int, density: float = 1.0) -> np.ndarray:
    rows = rng.standard_normal((num, dim)) if density == 1 else rng.random((num, dim))
    rows *= rng.random((num, dim)) < density
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)


def make_case(
    seed: int, num_rows: int, num_questions: int, kinds: str, num: int, dim: int = 12
) -> Case:
    """`kinds`: a letter a teacher, d(ense) or s(parse)."""
    rng = np.random.default_rng(seed)
    density = [0.15 if kind == "s" else 1.0 for kind in kinds]
    queries = [unit_rows(rng, num_questions, dim, part) for part in density]
    passages = [unit_rows(rng, num_rows, dim, part) for part in density]
    for rows in passages:
        rows[: num_rows // 3] = rows[rng.integers(0, num_rows, num_rows // 3)]  # copies: ties
    places = rng.integers(0, [num_questions, num_rows], (num_questions * 3, 2))
    return Case(
        queries,
        passages,
        [kind == "s" for kind in kinds],
        rng.uniform(0.1, 1.1, (len(kinds), num_questions)),
        {(int(a), int(b)) for a, b in places},
        rng.integers(0, num_rows, num_questions),
        rng.uniform(0, 0.9, (len(kinds), num_questions)),
        num,
    )


def brute_force(case: Case) -> tuple[list[list[int]], np.ndarray, list[bool]]:
    """Rows by question, best first; passages above its own; whether there may be more."""
    scores = [
        (q.astype(np.float64) @ p.astype(np.float64).T).round(6)
        for q, p in zip(case.queries, case.passages, strict=True)
    ]
    found, above, full = [], [], []
    for i in range(len(case.turns)):
        free = [j for j in range(case.num_rows) if (i, j) not in case.banned]
        passing = [
            j
            for j in free
            if all(s[i, j] < c[i] for s, c in zip(scores, case.ceilings, strict=True))
        ]
        turn = {j: (j - case.turns[i]) % case.num_rows for j in passing}
        rank: dict[int, int] = {}
        for s, is_sparse in zip(scores, case.is_sparse, strict=True):
            near = [j for j in passing if s[i, j] > 0 or not is_sparse]
            near.sort(key=lambda j: (-s[i, j], turn[j]))
            for place, j in enumerate(near[: case.num]):
                rank[j] = min(place, rank.get(j, place))
        if all(case.is_sparse):
            unrelated = sorted(set(passing) - set(rank), key=lambda j: turn[j])
            rank |= dict.fromkeys(unrelated[: max(0, case.num - len(rank))], case.num_rows)
        mean = {j: np.sort([s[i, j] for s in scores]).mean() for j in rank}
        found.append(sorted(rank, key=lambda j: (rank[j], -mean[j], turn[j])))
        above.append(
            [
                sum(s[i, j] > o[i] + DOUBT for j in free)
                for s, o in zip(scores, case.own, strict=True)
            ]
        )
        full.append(len(passing) >= case.num)
    return found, np.array(above).T, full


def rows_of(found: Candidates, num_questions: int) -> list[list[int]]:
    return [found.row_M[found.question_M == i].tolist() for i in range(num_questions)]


def check(case: Case, found: Candidates) -> None:
    expected, above, full = brute_force(case)
    assert rows_of(found, len(case.turns)) == expected
    np.testing.assert_array_equal(found.above_TB, above)
    assert [
        bool(f) and len(e) >= case.num for f, e in zip(found.is_full_B, expected, strict=True)
    ] == full
    for t, scores in enumerate(found.scores_TM):
        exact = np.einsum(
            "md,md->m",
            case.queries[t][found.question_M].astype(np.float64),
            case.passages[t][found.row_M].astype(np.float64),
        )
        np.testing.assert_allclose(scores, exact, atol=1e-6)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    num_rows=st.integers(1, 90),
    num_questions=st.integers(1, 7),
    kinds=st.sampled_from(["d", "s", "dd", "ds", "sd", "ss", "dsd"]),
    num=st.integers(1, 12),
    data=st.data(),
)
def test_search_is_brute_force(
    seed: int, num_rows: int, num_questions: int, kinds: str, num: int, data: st.DataObject
) -> None:
    case = make_case(seed, num_rows, num_questions, kinds, num)
    cuts = sorted(data.draw(st.lists(st.integers(0, num_rows), max_size=3)))
    check(case, case.search(*cuts))
    check(case.reversed(), case.reversed().search())


@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize("kinds", ["d", "s", "dd", "ds"])
def test_blocks_memory_and_threads_do_not_matter(
    kinds: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(1, 5000, 12, kinds, 8)
    whole = case.search()
    check(case, whole)
    monkeypatch.setattr(module, "_threads", lambda part: threads)
    monkeypatch.setattr(module, "COLUMNS", 1000)
    monkeypatch.setattr(module, "MOST_ROWS", 7)
    pieces = case.search(10, 3000, memory_mb=1)
    for name in ("question_M", "row_M", "scores_TM", "above_TB", "is_full_B"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))


@pytest.mark.parametrize("stay", [True, False])
@pytest.mark.parametrize("kinds", ["d", "ds"])
def test_a_device_of_torch_gives_the_same(kinds: str, stay: bool) -> None:
    pytest.importorskip("torch")
    case = make_case(7, 5000, 9, kinds, 8)
    on_device = replace(case, dense=partial(TorchVectors, device="cpu", stay=stay))
    check(on_device, on_device.search(10, 3000))


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_sparse_scores_are_the_product(index: type) -> None:
    drawn = np.random.default_rng(0)
    for num_features in (1, 2, 30):
        dense = drawn.random((9, num_features)) * (drawn.random((9, num_features)) < 0.5)
        queries = sparse.csr_matrix(dense.astype(np.float32))
        passages = sparse.random(num_features, 40, 0.3, "csr", np.float32, random_state=1)
        passages.indices, passages.indptr = (
            array.astype(index) for array in (passages.indices, passages.indptr)
        )
        expected = dense @ passages.toarray().astype(np.float64)
        np.testing.assert_allclose(SparseVectors(passages).place(queries), expected, atol=1e-6)


def test_ceilings_below_most_passages_change_nothing() -> None:
    case = make_case(3, 6000, 20, "d", 8)
    case.ceilings[:] = np.quantile(case.queries[0] @ case.passages[0].T, 0.03, axis=1)
    found = case.search()
    check(case, found)
    assert [len(rows) for rows in rows_of(found, 20)] == [8] * 20


def test_what_is_masked_starves_nobody() -> None:
    # The passages that are nearest to each question by far are all above its ceiling, or banned.
    case = make_case(2, 6000, 20, "d", 8)
    case.passages[0][3000:5900] = case.queries[0][0]
    case.queries[0][:] = case.queries[0][0]
    case.ceilings[:] = 0.99
    case.banned = {(i, j) for i in range(10, 20) for j in range(3000)}
    case.passages[0][5900:5950] = case.passages[0][:50]
    found = case.search()
    check(case, found)
    assert [len(rows) for rows in rows_of(found, 20)] == [8] * 20


def test_vectors_that_are_alike_are_found_in_the_order_of_their_turn() -> None:
    case = make_case(3, 5000, 3, "d", 5)
    case.passages[0][:] = case.passages[0][0]
    case.ceilings[:] = 2
    case.banned, case.turns = {(0, 4991)}, np.array([4990, 0, 4998])
    found = rows_of(case.search(2000), 3)
    assert found == [[4990, 4992, 4993, 4994, 4995], [0, 1, 2, 3, 4], [4998, 4999, 0, 1, 2]]


def test_some_of_the_questions() -> None:
    case = make_case(4, 200, 9, "ds", 6)
    every = rows_of(case.search(), 9)
    picked = case.questions().pick(np.array([7, 0, 3]))
    found = search(case.part(0, 200), 0, picked, 6, 1)
    assert rows_of(found, 3) == [every[7], every[0], every[3]]


@pytest.mark.parametrize("kind", ["d", "s"])
def test_dots_are_what_a_search_finds(kind: str) -> None:
    case = make_case(5, 30, 30, kind, 30)
    case.ceilings[:], case.banned = 2, set()
    found = case.search()
    left, right = case.questions().vectors[0], case.passages[0]
    scores = dots(left, sparse.csr_matrix(right) if kind == "s" else right)
    for i in range(30):
        (place,) = np.flatnonzero((found.question_M == i) & (found.row_M == i))
        assert found.scores_TM[0, place] == pytest.approx(scores[i], abs=1e-7)


@pytest.mark.parametrize("sizes", [(0, 3), (5, 0)])
def test_nothing_to_search(sizes: tuple[int, int]) -> None:
    case = make_case(6, max(sizes[0], 1), max(sizes[1], 1), "d", 4)
    case.passages[0] = case.passages[0][: sizes[0]]
    questions = case.questions().pick(np.arange(sizes[1]))
    found = search(case.part(0, sizes[0]), 0, questions, 4, 1)
    assert found.row_M.tolist() == []
    assert found.is_full_B.tolist() == [False] * sizes[1]

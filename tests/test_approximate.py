"""Approximate search, against the exact one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdg.approximate import Approximate
from sdg.errors import UserError
from sdg.search import Candidates, Questions, merge, search
from sdg.vectors import DenseVectors
from tests.test_search import Case, make_case, rows_of


def clustered(seed: int, num_rows: int = 4_000, num_questions: int = 60) -> Case:
    """Passages in groups, as those of real texts are, and questions near some of them."""
    rng = np.random.default_rng(seed)
    case = make_case(seed, num_rows, num_questions, "dd", 10, dim=24)
    for queries, passages in zip(case.queries, case.passages, strict=True):
        centers = rng.standard_normal((40, 24))
        rows = centers[rng.integers(0, 40, num_rows)] + 0.5 * rng.standard_normal((num_rows, 24))
        passages[:] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        asked = passages[rng.integers(0, num_rows, num_questions)] + 0.1 * rng.standard_normal(24)
        queries[:] = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    return replace(case, ceilings=np.full((2, num_questions), 0.9))


def both(
    case: Case, settings: Approximate, folder: Path, cut: int
) -> tuple[Candidates, Candidates]:
    """What approximate and exact search find in the parts before and after `cut`."""
    questions: Questions = case.questions()
    found, exact = [], []
    for start, stop in ((0, cut), (cut, case.num_rows)):
        part = [DenseVectors(rows[start:stop]) for rows in case.passages]
        indexes = []
        for number, vectors in enumerate(part):
            path = folder / f"{start}-{number}"
            settings.build(vectors, path)
            indexes.append(settings.open(path))
        found.append(settings.search(part, indexes, start, questions, case.num, 16))
        exact.append(search(part, start, questions, case.num, 16))
    return merge(found, questions, case.num), merge(exact, questions, case.num)


def test_all_cells_searched_are_the_exact_search(tmp_path: Path) -> None:
    case = clustered(1)
    settings = Approximate(cells=8, probes=8, checked=1)
    # Wide enough that what is masked leaves enough, as the miner sees to by asking for more.
    found, exact = both(replace(case, num=40), settings, tmp_path, 1_700)
    assert rows_of(found, 60) == rows_of(exact, 60)
    assert np.array_equal(found.scores_TM, exact.scores_TM)
    assert found.num_found == found.num_there > 0


def test_the_recall_told_is_that_of_all_questions(tmp_path: Path) -> None:
    case = clustered(2)
    found, exact = both(case, Approximate(cells=60, probes=2, checked=1), tmp_path, 2_000)
    there = [set(rows) for rows in rows_of(exact, 60)]
    hits = sum(len(set(rows) & near) for rows, near in zip(rows_of(found, 60), there, strict=True))
    recall = hits / sum(map(len, there))
    assert 0.5 < recall < 1  # some are missed, or this would test nothing
    assert found.num_found / found.num_there == pytest.approx(recall, abs=0.1)
    # What is found is never what may not be.
    questions = case.questions()
    assert not np.isin(found.question_M * case.num_rows + found.row_M, questions.banned).any()
    assert (found.scores_TM < 0.9).all()


def test_an_index_is_made_the_same_again(tmp_path: Path) -> None:
    vectors = DenseVectors(clustered(3).passages[0])
    for name in ("one", "two"):
        Approximate().build(vectors, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_few_passages_are_one_cell(tmp_path: Path) -> None:
    case = make_case(4, 30, 5, "d", 40)
    found, exact = both(case, Approximate(), tmp_path, 3)
    assert rows_of(found, 5) == rows_of(exact, 5)


def test_faiss_is_asked_for_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[approximate\]'"):
        Approximate().check()

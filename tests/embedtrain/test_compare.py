"""Borda count by hand, and the bootstrap against the normal approximation."""

import numpy as np
import pytest

from embedtrain.compare import borda, paired_bootstrap


def test_borda_by_hand() -> None:
    scores = {
        "a": {"t1": 0.9, "t2": 0.5, "t3": 0.1},
        "b": {"t1": 0.8, "t2": 0.5, "t3": 0.3},
        "c": {"t1": 0.1, "t2": 0.2},
    }
    # t1: a 2, b 1; t2: a and b beat c and tie: 1.5 each; t3: b 2, a 1.
    assert borda(scores) == {"a": 4.5, "b": 4.5, "c": 0.0}


def test_votes_add_up_to_the_pairs_of_models() -> None:
    random = np.random.default_rng(0)
    scores = {m: {t: float(random.integers(3)) for t in "xyz"} for m in "abcde"}
    assert sum(borda(scores).values()) == 3 * 5 * 4 / 2


def test_bounds_are_those_of_the_normal_approximation() -> None:
    random = np.random.default_rng(1)
    first_Q = random.uniform(size=400)
    second_Q = first_Q + random.normal(0.02, 0.1, size=400)
    difference, low, high, p_value = paired_bootstrap(first_Q, second_Q)
    differences_Q = second_Q - first_Q
    error = differences_Q.std() / np.sqrt(400)
    assert difference == pytest.approx(differences_Q.mean())
    assert (low, high) == pytest.approx(
        (difference - 1.96 * error, difference + 1.96 * error), abs=0.15 * error
    )
    assert p_value < 0.01


def test_models_that_score_alike_do_not_differ() -> None:
    same_Q = np.linspace(0, 1, 50)
    assert paired_bootstrap(same_Q, same_Q) == (0.0, 0.0, 0.0, 1.0)


def test_the_same_seed_gives_the_same_bounds() -> None:
    first_Q, second_Q = np.random.default_rng(2).uniform(size=(2, 60))
    assert paired_bootstrap(first_Q, second_Q, 5) == paired_bootstrap(first_Q, second_Q, 5)
    assert paired_bootstrap(first_Q, second_Q, 5) != paired_bootstrap(first_Q, second_Q, 6)

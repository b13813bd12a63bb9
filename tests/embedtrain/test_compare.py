"""Borda count by hand; bootstraps against the normal approximation, scipy, and a formula."""

import numpy as np
import pytest
from scipy import stats

from embedtrain.compare import borda, interval, p_value, paired_bootstrap, resampled_means


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


# Over queries and seeds


def some_scores(num_seeds: int, num_queries: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    queries, seeds = random.random(num_queries), 0.2 * random.random((num_seeds, 1))
    return queries + seeds + 0.1 * random.random((num_seeds, num_queries))


def test_of_one_seed_the_interval_is_scipys() -> None:
    scores_SQ = some_scores(1, 80, seed=1)
    low, high = interval(resampled_means([scores_SQ], system=0))
    theirs = stats.bootstrap(
        (scores_SQ[0],), np.mean, n_resamples=10_000, method="percentile", rng=5
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_queries_and_seeds_vary_as_the_formula_says() -> None:
    """The variance of sum_sq a_s b_q x_sq / (S Q), where a and b are multinomial counts, with
    E[a a'] = I + (1 - 1/S) 1 1'; tasks are independent, and share the seeds' counts."""
    tasks = [some_scores(3, 40, seed=1), some_scores(3, 25, seed=2)]

    def moments(n: int) -> np.ndarray:
        return np.eye(n) + (1 - 1 / n) * np.ones((n, n))

    def normed(x: np.ndarray) -> np.ndarray:
        return x / x.size

    same = sum(
        np.einsum("sq,tr,st,qr", normed(x), normed(x), moments(3), moments(x.shape[1]))
        for x in tasks
    )
    other = 2 * np.einsum("s,t,st", *(normed(x).sum(axis=1) for x in tasks), moments(3))
    mean = sum(x.mean() for x in tasks)
    variance = (same + other - mean**2) / 4
    drawn_R = resampled_means(tasks, system=0)
    assert drawn_R.mean() == pytest.approx(mean / 2, abs=0.002)
    assert drawn_R.var() == pytest.approx(variance, rel=0.06)


def test_systems_share_the_draws_of_queries_and_not_those_of_seeds() -> None:
    scores_SQ = some_scores(1, 50, seed=3)
    first_R, second_R = (
        resampled_means([x], i) for i, x in enumerate((scores_SQ, scores_SQ - 0.5))
    )
    assert first_R - second_R == pytest.approx(0.5)
    assert p_value(first_R - second_R) == pytest.approx(2 / 10_001)
    seeds_S1 = np.array([[0.0], [1.0]])
    first_R, second_R = (resampled_means([seeds_S1], i) for i in (0, 1))
    assert abs(np.corrcoef(first_R, second_R)[0, 1]) < 0.05
    assert np.bincount((2 * first_R).astype(int)) / 10_000 == pytest.approx(
        [0.25, 0.5, 0.25], abs=0.02
    )
    assert p_value(first_R - second_R) == 1.0

"""Comparing models: Borda count over tasks, and a bootstrap over queries and training seeds.

Shapes: R resamples, S trainings of one system with other seeds, Q queries of one task.
"""

from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES = 10_000


def borda(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Votes of each model: on every task, one for each model it beats, half for each it ties with.

    Rank fusion as the MTEB leaderboard has it (Colombo et al., arXiv 2202.03799): each task is a
    voter that ranks the models.

    Args:
        scores: model -> task -> main score; a model without a task comes last there.
    """
    tasks = {task for of_model in scores.values() for task in of_model}
    votes = dict.fromkeys(scores, 0.0)
    for task in sorted(tasks):
        own = {model: of_model.get(task, -np.inf) for model, of_model in scores.items()}
        for model, score in own.items():
            others = [other for name, other in own.items() if name != model]
            votes[model] += sum((score > other) + 0.5 * (score == other) for other in others)
    return votes


def paired_bootstrap(
    first_Q: np.ndarray, second_Q: np.ndarray, seed: int = 0
) -> tuple[float, float, float, float]:
    """How much better the second is on the same queries, and how sure that is.

    Queries are drawn with replacement `RESAMPLES` times (Efron and Tibshirani, 1993, chapter 13;
    Sakai, SIGIR 2006); both models are measured on each draw.

    Args:
        first_Q: score of the first model for each query.
        second_Q: score of the second model for the same queries, in the same order.

    Returns:
        Mean difference (second - first), the 2.5 % and 97.5 % bounds of it, and the two-sided
        p-value of no difference.
    """
    differences_Q = np.asarray(second_Q, np.float64) - np.asarray(first_Q, np.float64)
    random = np.random.default_rng(seed)
    num = len(differences_Q)
    means_R = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, 500):  # some at a time: memory stays small
        drawn_RQ = random.integers(0, num, (min(500, RESAMPLES - start), num))
        means_R[start : start + 500] = differences_Q[drawn_RQ].mean(axis=1)
    return float(differences_Q.mean()), *interval(means_R), p_value(means_R)


def interval(means_R: np.ndarray) -> tuple[float, float]:
    """The 2.5 % and 97.5 % bounds of resampled means."""
    low, high = np.quantile(means_R, (0.025, 0.975))
    return float(low), float(high)


def p_value(differences_R: np.ndarray) -> float:
    """Two-sided, of no difference, from resampled mean differences."""
    # One is added to either count, so that no p-value is 0 (Davison and Hinkley, 1997, 4.2).
    below, above = (differences_R <= 0).sum() + 1, (differences_R >= 0).sum() + 1
    return float(min(1.0, 2 * min(below, above) / (len(differences_R) + 1)))


def resampled_means(scores: Sequence[np.ndarray], system: int, seed: int = 0) -> np.ndarray:
    """(R,) means over tasks of one system's scores, with its queries and its seeds drawn anew.

    Queries are drawn with replacement within each task, and trainings among the system's own, once
    for all tasks (both factors of a crossed design: Owen, "The pigeonhole bootstrap", Annals of
    Applied Statistics 2007). Systems share the draws of queries, so differences of two results are
    paired in the queries. Few seeds understate what seeds do: by (S - 1) / S of their variance.

    Args:
        scores: of each task (S, Q), or (S, 1) where a task has a score only as a whole; all systems
            give the same tasks and queries in the same order.
        system: number of the system, by which its seeds are drawn.
        seed: of all draws.
    """
    num_seeds = len(scores[0])
    drawn_RS = np.random.default_rng([seed, 1, system]).multinomial(
        num_seeds, np.full(num_seeds, 1 / num_seeds), RESAMPLES
    )
    total_R = np.zeros(RESAMPLES)
    for task, scores_SQ in enumerate(scores):
        random = np.random.default_rng([seed, 0, task])
        num = scores_SQ.shape[1]
        for start in range(0, RESAMPLES, 500):
            stop = min(start + 500, RESAMPLES)
            drawn_RQ = random.integers(0, num, (stop - start, num))
            means_SR = np.asarray(scores_SQ, np.float64)[:, drawn_RQ].mean(axis=2)
            total_R[start:stop] += (drawn_RS[start:stop].T * means_SR).sum(axis=0) / num_seeds
    return total_R / len(scores)

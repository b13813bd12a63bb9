"""Comparing models: Borda count over tasks, and a paired bootstrap over queries."""

from collections.abc import Mapping

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
    low, high = np.quantile(means_R, (0.025, 0.975))
    # One is added to either count, so that no p-value is 0 (Davison and Hinkley, 1997, 4.2).
    below, above = (means_R <= 0).sum() + 1, (means_R >= 0).sum() + 1
    p_value = min(1.0, 2 * min(below, above) / (RESAMPLES + 1))
    return float(differences_Q.mean()), float(low), float(high), float(p_value)

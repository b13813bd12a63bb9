"""Does a text turn into a pivot? A stretch of it must gain more by the pivot's n-grams than by the
language's, and so much that no name or quotation would."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sdg.langid.features import Features, column, strongest_segment
from sdg.langid.fitted import MAX_TURN_EACH, MIN_TURN_EACH, MOST
from sdg.langid.views import Runs, View

# Natural logarithms of likelihood ratios. A stretch in a pivot must gain so much, in a text of no
# n-grams, and more for each n-gram (see `Fitted.turn_each`): a longer text has more names and
# quotations in it.
TURN, MAX_TURN = 12.0, 200.0
SLACK = 1.0001  # for the rounding of a bound
SENTENCE = 100  # n-grams: about one
IN_NAME = 0.3  # of its gain counts, where an n-gram is in a word that begins with a capital


def turned(found: Features, runs: Runs) -> np.ndarray:
    """Which texts turn into a pivot, (B,) bool."""
    limit_B = np.minimum(
        TURN + runs.each([view.turn_each for view in runs.views]) * found.num_B, MAX_TURN
    )
    # No stretch gains more than all rises do together. Of most texts, that shows that they turn
    # into no pivot: first by the pivot that gains most at each n-gram, then by each pivot.
    rises_N = _of_names(runs.take([view.most_F for view in runs.views], found), found)
    near = np.flatnonzero(_may_gain(rises_N, found, limit_B))
    turned_B = np.zeros(len(limit_B), dtype=bool)
    if len(near):
        turned_B[near] = _turned(found.of(near), runs.of(near), limit_B[near])
    return turned_B


def _turned(found: Features, runs: Runs, limit_B: np.ndarray) -> np.ndarray:
    """Which texts gain more than a limit in a stretch in a pivot, (B,) bool."""
    written_N = runs.take([view.written_F for view in runs.views], found)
    turned_B = np.zeros(len(limit_B), dtype=bool)
    present = [view for view, where in runs.parts() if where.start < where.stop]
    for pivot in sorted({pivot for view in present for pivot in view.pivots}):
        gains_N = _gains(pivot, written_N, found)
        asked_B = runs.each([pivot in view.pivots for view in runs.views]) & ~turned_B
        turned_B |= _turns_into(gains_N, found, np.where(asked_B, limit_B, np.inf))
    return turned_B


def _turns_into(gains_N: np.ndarray, found: Features, limit_B: np.ndarray) -> np.ndarray:
    """In which texts a stretch gains more by these than the limit, (B,) bool."""
    turns_B = _may_gain(np.maximum(gains_N, 0), found, limit_B)
    if turns_B.any():
        gains_N = gains_N[np.repeat(turns_B, found.num_B)]
        near = found.of(np.flatnonzero(turns_B))
        turns_B[turns_B] = strongest_segment(gains_N, near) > limit_B[turns_B]
    return turns_B


def strongest_turns(found: Features, view: View) -> np.ndarray:
    """The gain of the strongest stretch of each text in a pivot of a language's, (B,)."""
    written_N = view.written_F.take(found.ids_N, mode="clip")
    strongest_B = np.zeros(len(found.num_B))
    for pivot in view.pivots:
        gains_N = _gains(pivot, written_N, found)
        np.maximum(strongest_B, strongest_segment(gains_N, found), out=strongest_B)
    return strongest_B


def turn_each(parts: Sequence[Features], view: View) -> float:
    """By how much each n-gram raises the limit on turns into a pivot, so that most sentences of a
    corpus stay below."""
    each = [np.zeros(1)]
    for part in parts:
        num = len(part.ids_N)
        starts = np.arange(0, num, SENTENCE)
        if len(starts) > 1:
            sentences = replace(part, starts_B=np.append(starts, num))
            each.append((strongest_turns(sentences, view) - TURN) / SENTENCE)
    return float(np.clip(np.quantile(np.concatenate(each), MOST), MIN_TURN_EACH, MAX_TURN_EACH))


def _may_gain(rises_N: np.ndarray, found: Features, limit_B: np.ndarray) -> np.ndarray:
    """Which texts' gains, without what they lose, come to more than the limit, (B,) bool."""
    may_B: np.ndarray = SLACK * found.sums(rises_N) > limit_B
    return may_B


def _gains(pivot: int, written_N: np.ndarray, found: Features) -> np.ndarray:
    """Of a pivot over what the languages are taken to write, (N,)."""
    return _of_names(column(pivot).take(found.ids_N, mode="clip") - written_N, found)


def _of_names(gains_N: np.ndarray, found: Features) -> np.ndarray:
    """Gains, of which a name's count less; what it loses counts in full."""
    shares_N = np.where(found.in_name_N, np.float32(IN_NAME), np.float32(1))
    return np.minimum(gains_N, gains_N * shares_N)

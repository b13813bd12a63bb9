"""How much of each of many texts stands in it before: n-grams of letters, and words, at once.

N-grams are compared by their hashes, polynomials of code points modulo 2^64, over all texts of a
batch in one go; each text's are then sorted by themselves.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sdg.characters import batches, laid_out, table
from sdg.shingles import runs
from sdg.text import HALVES

_SHORT, _LONG = 5, 8  # characters of the two sizes of n-grams
_BUCKET_BITS = 6  # a text's words are counted in so many buckets
_SPREAD = np.uint32(0x9E3779B9)  # over the buckets
_space = table({r"[\s\x1c-\x1f]": 1})  # where `str.split` splits


class Repeats(NamedTuple):
    """What of a text is there more than once."""

    num_letters: int  # and marks and digits
    short: float  # share of 5-grams of those that stand there before; 0 if not asked
    long: float  # share of 8-grams
    num_words: int  # as spaces part them
    most_words: int  # so many of them at most are one word


def repeats(texts: Sequence[str], is_short: Sequence[bool]) -> list[Repeats]:
    """The repeats of each text.

    Args:
        texts: casefolded.
        is_short: for each whether its 5-grams count too.
    """
    found: list[Repeats] = []
    for batch in batches(texts):
        found += _of_batch(batch, np.array(is_short[len(found) : len(found) + len(batch)]))
    return found


def _of_batch(texts: Sequence[str], is_short_N: np.ndarray) -> list[Repeats]:
    codes_J, ends_N = laid_out(texts, "\n")
    is_letter_J = HALVES().take(codes_J) > 0
    codes_L = codes_J.compress(is_letter_J)  # more than twice as fast as by brackets
    letters_N = np.diff(np.cumsum(is_letter_J)[ends_N - 1], prepend=0)
    short_N = np.zeros(len(texts))
    of_short_L = codes_L.compress(np.repeat(is_short_N, letters_N))
    short_N[is_short_N] = _shares(of_short_L, letters_N[is_short_N], _SHORT)
    long_N = _shares(codes_L, letters_N, _LONG)
    words_N, most_N = _words(codes_J, ends_N)
    columns = (letters_N, short_N, long_N, words_N, most_N)
    return list(map(Repeats, *(column.tolist() for column in columns)))


def _shares(codes_L: np.ndarray, letters_N: np.ndarray, size: int) -> np.ndarray:
    """Share (N,) of each text's n-grams that stand in it before."""
    hashes_G = runs(codes_L, size)
    grams_N = np.maximum(letters_N - size + 1, 0)  # those that reach into the next text left out
    starts_N = np.cumsum(letters_N) - letters_N
    several = np.flatnonzero(grams_N > 1)
    starts, lasts = starts_N[several], (starts_N + grams_N - 1)[several]
    for start, last in zip(starts.tolist(), lasts.tolist(), strict=True):
        hashes_G[start : last + 1].sort()
    before_G = np.append(0, np.cumsum(hashes_G[1:] == hashes_G[:-1]))
    shares_N = np.zeros(len(letters_N))
    shares_N[several] = (before_G[lasts] - before_G[starts]) / grams_N[several]
    return shares_N


def _words(codes_J: np.ndarray, ends_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many words each text has (N,), and how many of them may be one (N,): so many begin with
    the same two characters, or with such as share their bucket."""
    is_space_J = _space().take(codes_J)
    starts_W = np.flatnonzero(is_space_J[:-1] > is_space_J[1:]) + 1
    if not is_space_J[0]:
        starts_W = np.append(0, starts_W)
    seconds_W = np.where(is_space_J[starts_W + 1], 0, codes_J[starts_W + 1])
    buckets_W = ((codes_J[starts_W] * 31 + seconds_W) * _SPREAD) >> (32 - _BUCKET_BITS)
    text_W = np.searchsorted(ends_N, starts_W, side="right") << _BUCKET_BITS
    words_NB = np.bincount(text_W + buckets_W, minlength=len(ends_N) << _BUCKET_BITS)
    words_NB = words_NB.reshape(len(ends_N), -1)
    return words_NB.sum(axis=1), words_NB.max(axis=1)

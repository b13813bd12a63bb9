"""How many characters of each kind texts have: one look at a shard's, for all filters that ask."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sdg.characters import batches, laid_out, table
from sdg.text import HALVES

_NAMES = (
    *("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Ethiopic", "Devanagari", "Bengali"),
    *("Tamil", "Telugu", "Thai", "Khmer", "Myanmar", "Georgian", "Armenian", "Hangul"),
)
# Patterns of a script's characters; Japanese has three, which Chinese shares.
SCRIPTS = (*(rf"\p{{{name}}}" for name in _NAMES), r"[\p{Han}\p{Hiragana}\p{Katakana}]")
LOOK_ALIKE = 3  # so many of the first are each other's letters
MIN_LETTERS, PER_LETTER = 2, 50  # of a script: fewer, or fewer than one character in 50, are quoted
MARKS = 5  # accents and vowel signs one upon another: a pile
_MARK, _BROKEN, _LEAD = 1, 2, 3
_special = table(
    {
        r"\p{Mn}": _MARK,
        # Controls, halves of surrogate pairs, private use, and what stands for unreadable bytes.
        r"[\p{Cc}\p{Cs}\p{Co}\ufffd--[\n\r\t]]": _BROKEN,
        # With which UTF-8 begins that was read as Latin-1.
        "[ÃâÐÑ]": _LEAD,
    }
)
_script = table({pattern: place for place, pattern in enumerate(SCRIPTS, 1)})


class Tally(NamedTuple):
    """What a text is made of."""

    weight: int  # `sdg.text.weight`
    num_broken: int  # what is no character
    num_leads: int  # letters that mojibake begins with
    num_piles: int  # places where `MARKS` marks follow each other
    num_turns: int  # places where letters of two of the `LOOK_ALIKE` scripts stand side by side
    num_scripts: int  # of `SCRIPTS`, without those that it but quotes a letter or two of


def tallies(texts: Sequence[str]) -> list[Tally]:
    """The tally of each text."""
    return [tally for batch in batches(texts) for tally in _of_batch(batch)]


def _of_batch(texts: Sequence[str]) -> list[Tally]:
    kinds = _kinds()
    codes_J, ends_N = laid_out(texts, "\n")
    kinds_J, sizes_N = kinds.of.take(codes_J), np.diff(ends_N, prepend=0)
    num, num_kinds = len(texts), len(kinds.halves)
    bins_J = np.repeat(np.arange(0, num * num_kinds, num_kinds), sizes_N)
    bins_J += kinds_J
    counts_NK = np.bincount(bins_J, minlength=num * num_kinds).reshape(num, num_kinds)
    least_N = np.maximum(MIN_LETTERS, (sizes_N - 1) // PER_LETTER)
    by_script_NS = np.add.reduceat(counts_NK, kinds.scripts, axis=1)
    alike_J = kinds.alike.take(kinds_J)
    turns_J = (alike_J[1:] != alike_J[:-1]) & (alike_J[1:] > 0) & (alike_J[:-1] > 0)
    columns = (
        counts_NK @ kinds.halves // 2,
        counts_NK @ kinds.is_broken,
        counts_NK @ kinds.is_lead,
        _per_text(_runs(kinds.is_mark.take(kinds_J), MARKS), ends_N),
        _per_text(turns_J, ends_N),
        (by_script_NS >= least_N[:, np.newaxis]).sum(axis=1),
    )
    return list(map(Tally, *(column.tolist() for column in columns)))


def _runs(flags_J: np.ndarray, num: int) -> np.ndarray:
    """Where so many flags begin that follow each other."""
    found_J = flags_J[num - 1 :]
    for step in range(1, num):
        found_J = found_J & flags_J[num - 1 - step : -step]
    return found_J


def _per_text(flags_J: np.ndarray, ends_N: np.ndarray) -> np.ndarray:
    """How many flags each text has (N,), where few have any."""
    places = np.searchsorted(ends_N, np.flatnonzero(flags_J), side="right")
    return np.bincount(places, minlength=len(ends_N))


class _Kinds(NamedTuple):
    """Characters that count alike are of one kind."""

    of: np.ndarray  # by character its kind, uint8
    halves: np.ndarray  # by kind what it weighs (K,) int64
    is_broken: np.ndarray  # (K,) int64
    is_lead: np.ndarray  # (K,) int64
    is_mark: np.ndarray  # (K,) bool
    alike: np.ndarray  # which of the look-alike scripts it is of (K,) uint8, or 0
    scripts: np.ndarray  # where the kinds of each script begin (S,), one after the other


@lru_cache(maxsize=1)
def _kinds() -> _Kinds:
    joined = _script().astype(np.int64) << 16 | _special().astype(np.int64) << 8 | HALVES()
    found, kind_of = np.unique(joined, return_inverse=True)
    script, special, halves = found >> 16, found >> 8 & 255, found & 255
    return _Kinds(
        of=kind_of.astype(np.uint8),
        halves=halves,
        is_broken=(special == _BROKEN).astype(np.int64),
        is_lead=(special == _LEAD).astype(np.int64),
        is_mark=special == _MARK,
        alike=np.where(script <= LOOK_ALIKE, script, 0).astype(np.uint8),
        scripts=np.searchsorted(script, np.arange(1, len(SCRIPTS) + 1)),
    )

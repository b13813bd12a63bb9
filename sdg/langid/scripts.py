"""Is most of a text written in a script that its language is written in?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import regex

from sdg.characters import codes_of, laid_out, table, text_of
from sdg.langid.policy import Policy
from sdg.text import weight

# Share of letters in the language's own scripts. Latin names and abbreviations are at home in any
# script (genuine Chinese and Tigrinya sentences go down to .25), so Latin gets more room.
MIN_SHARE, MIN_SHARE_BESIDE_LATIN = 0.5, 0.25
NAME_LETTERS = 10  # a text of so few Latin letters may be a brand or a person, in any language
WINDOW = 160  # characters looked at from either end of a long text, and between

_OWN, _STRANGE, _STRANGE_LATIN = 1, 2, 3  # letters, by whether the language is written in them
_OF_SCRIPT, _LATIN = 2, 3  # else of any, as a vowel sign may be
_LETTERS = table(
    {
        r"[\p{L}\p{M}]": 1,
        r"[[\p{L}\p{M}]--[\p{Script=Common}\p{Script=Inherited}]]": _OF_SCRIPT,
        r"[\p{Script=Latin}&&[\p{L}\p{M}]]": _LATIN,
    }
)


@dataclass(frozen=True)
class Scripts:
    """What scripts each of B texts is in."""

    strange_B: np.ndarray  # bool: it has letters of scripts that are not the language's
    foreign_B: np.ndarray  # bool: most are, in the text or in a window of it
    _codes_C: np.ndarray
    _kinds_C: np.ndarray
    _ends_B: np.ndarray

    def without_strange(self) -> list[str]:
        """The texts of which that is true, with a space for each run of letters of such scripts."""
        kept_C = np.repeat(self.strange_B, np.diff(self._ends_B, prepend=0))
        strange_C = self._kinds_C[kept_C] >= _STRANGE
        ends_B = np.cumsum(np.diff(self._ends_B, prepend=0)[self.strange_B])
        follows_C = strange_C.copy()
        follows_C[1:] &= strange_C[:-1]
        follows_C[np.append(0, ends_B[:-1])[: len(ends_B)]] = False  # a run ends with its text
        codes_C = np.where(strange_C, np.uint32(ord(" ")), self._codes_C[kept_C])
        whole = text_of(codes_C[~follows_C])
        ends_B -= np.searchsorted(np.flatnonzero(follows_C), ends_B)
        return [whole[start:end] for start, end in pairwise([0, *ends_B.tolist()])]


def scripts_of(texts: Sequence[str], policies: Sequence[Policy], bounds: Sequence[int]) -> Scripts:
    """Which texts are in foreign scripts, or have windows that are. Windows find a text that turns
    into another language, as a cut translation does.

    Args:
        texts: of several languages, one language's after another's.
        policies: each language's.
        bounds: where each language's texts begin, and the end of the last's.
    """
    codes_C, ends_B = laid_out(texts)
    kinds_C = np.empty(len(codes_C), dtype=np.uint8)
    bounds_C = np.append(0, ends_B)[bounds].tolist()
    for policy, (start, end) in zip(policies, pairwise(bounds_C), strict=True):
        kinds = _kinds(policy.scripts)
        kinds.take(codes_C[start:end], out=kinds_C[start:end], mode="clip")
    strange = np.flatnonzero(kinds_C >= _STRANGE)
    strange_B = np.diff(np.searchsorted(strange, ends_B), prepend=0) > 0
    foreign_B = np.zeros(len(texts), dtype=bool)
    latin_B = np.repeat([policy.latin for policy in policies], np.diff(bounds))
    of_text: list[int] = []
    starts: list[int] = []
    for i in np.flatnonzero(strange_B).tolist():
        first = int(ends_B[i]) - len(texts[i])
        more = range(first, first + max(1, len(texts[i]) - WINDOW // 2), WINDOW)
        starts += more
        of_text += [i] * len(more)
    if starts:
        starts_W, of_W = np.array(starts), np.array(of_text)
        ends_W = np.minimum(starts_W + WINDOW, ends_B[of_W])
        foreign_B[of_W[_are_foreign(kinds_C, starts_W, ends_W, latin_B[of_W])]] = True
    return Scripts(strange_B, foreign_B, codes_C, kinds_C, ends_B)


def is_foreign(text: str, policy: Policy) -> bool:
    """True where most letters of a text, or of a window of it, are of scripts that are not the
    language's."""
    return bool(scripts_of([text], [policy], [0, 1]).foreign_B[0])


def _are_foreign(
    kinds_C: np.ndarray, starts_W: np.ndarray, ends_W: np.ndarray, latin_W: np.ndarray
) -> np.ndarray:
    """Which windows are in foreign scripts, (W,) bool; `latin_W`: of languages in Latin letters."""

    def count(kind: int) -> np.ndarray:
        at = np.flatnonzero(kinds_C >= kind)
        return np.searchsorted(at, ends_W) - np.searchsorted(at, starts_W)

    letters_W, strange_W, strange_latin_W = map(count, (_OWN, _STRANGE, _STRANGE_LATIN))
    own_W = letters_W - strange_W
    may_be_name_W = ~latin_W & (2 * strange_latin_W > strange_W)
    beside_W = (own_W < MIN_SHARE_BESIDE_LATIN * letters_W) & (letters_W > NAME_LETTERS)
    foreign_W = np.where(may_be_name_W, beside_W, own_W < MIN_SHARE * letters_W)
    return foreign_W & (strange_W > 0)


@lru_cache(maxsize=64)
def _kinds(scripts: tuple[str, ...]) -> np.ndarray:
    """By code point: a letter of these scripts, of another, of foreign Latin, or none."""
    kinds = _strange_kinds().copy()
    for script in scripts:
        own = regex.findall(rf"\p{{Script={script}}}+", _every_letter())
        kinds[codes_of("".join(own))] = _OWN
    return kinds


@lru_cache(maxsize=1)
def _strange_kinds() -> np.ndarray:
    """The same for a language that is written in no script."""
    kinds: np.ndarray = np.array([0, 0, _STRANGE, _STRANGE_LATIN], dtype=np.uint8).take(_LETTERS())
    return kinds


@lru_cache(maxsize=1)
def _every_letter() -> str:
    """All letters that are of a script."""
    return text_of(np.flatnonzero(_LETTERS() >= _OF_SCRIPT).astype(np.uint32))


def letters_of(text: str) -> str:
    """The letters and marks of a text, in small letters."""
    codes = codes_of(text)
    return text_of(codes[_LETTERS().take(codes) > 0]).lower()


def shares_of_new(texts: Sequence[str], letters: str) -> np.ndarray:
    """Which share of each text's letters are none of these, (B,)."""
    codes_C, ends_B = laid_out(texts)
    is_letter_C = _LETTERS().take(codes_C) > 0
    is_new_C = is_letter_C & ~_known(letters).take(codes_C, mode="clip")
    nums = [np.searchsorted(np.flatnonzero(is_C), ends_B) for is_C in (is_new_C, is_letter_C)]
    new_B, letters_B = (np.diff(num_B, prepend=0) for num_B in nums)
    shares_B: np.ndarray = new_B / np.maximum(letters_B, 1)
    return shares_B


@lru_cache(maxsize=1)
def _capitals() -> dict[str, str]:
    """Letters that are written otherwise when small, and how: İ by two characters."""
    return {one: one.lower() for one in _every_letter() if one.lower() != one}


@lru_cache(maxsize=256)
def _known(letters: str) -> np.ndarray:
    """By code point, up to one beyond all of them: is it one of these small letters, or written
    small with them?"""
    capitals = (one for one, small in _capitals().items() if set(small) <= set(letters))
    codes = codes_of("".join([*letters, *capitals]))
    known = np.zeros(int(codes.max(initial=0)) + 2, dtype=bool)
    known[codes] = True
    return known


def is_unusual(text: str, policy: Policy) -> bool:
    """True where most of a text is in a script of the language that py3langid doesn't know."""
    if policy.unusual is None:
        return False
    unusual = sum(map(len, policy.unusual.findall(text)))
    return unusual > 0 and 2 * unusual > weight(text)

"""Is most of a text written in a script that its language is written in?"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import regex

from sdg.characters import NUM_CODES, codes_of, table, text_of
from sdg.langid.policy import Policy
from sdg.text import weight

# Share of letters in the language's own scripts. Latin names and abbreviations are at home in any
# script (genuine Chinese and Tigrinya sentences go down to .25), so Latin gets more room.
MIN_SHARE, MIN_SHARE_BESIDE_LATIN = 0.5, 0.25
NAME_LETTERS = 10  # a text of so few Latin letters may be a brand or a person, in any language
WINDOW = 160  # characters looked at from either end of a long text, and between

_LATIN = regex.compile(r"\p{Script=Latin}+")
_OWN, _STRANGE, _STRANGE_LATIN = 1, 2, 3  # letters, by whether the language is written in them
_OF_SCRIPT = 2  # else of any, as a vowel sign may be
_LETTERS = table(
    {
        r"[\p{L}\p{M}]": 1,
        r"[[\p{L}\p{M}]--[\p{Script=Common}\p{Script=Inherited}]]": _OF_SCRIPT,
    }
)


class Scripts(NamedTuple):
    """What scripts each of B texts is in."""

    strange_B: np.ndarray  # bool: it has letters of scripts that are not the language's
    foreign_B: np.ndarray  # bool: most are, in the text or in a window of it


def scripts_of(texts: Sequence[str], policy: Policy) -> Scripts:
    """Which texts are in foreign scripts, or have windows that are. Windows find a text that turns
    into another language, as a cut translation does."""
    kinds_C = _kinds(policy.foreign).take(codes_of("".join(texts)))
    ends_B = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
    strange = np.flatnonzero(kinds_C >= _STRANGE)
    strange_B = np.diff(np.searchsorted(strange, ends_B), prepend=0) > 0
    foreign_B = np.zeros(len(texts), dtype=bool)
    of_text: list[int] = []
    starts: list[int] = []
    for i in np.flatnonzero(strange_B).tolist():
        first = int(ends_B[i]) - len(texts[i])
        more = range(first, first + max(1, len(texts[i]) - WINDOW // 2), WINDOW)
        starts += more
        of_text += [i] * len(more)
    if starts:
        starts_W = np.array(starts)
        ends_W = np.minimum(starts_W + WINDOW, ends_B[of_text])
        foreign_B[np.array(of_text)[_are_foreign(kinds_C, starts_W, ends_W, policy)]] = True
    return Scripts(strange_B, foreign_B)


def is_foreign(text: str, policy: Policy) -> bool:
    """True where most letters of a text, or of a window of it, are of scripts that are not the
    language's."""
    return bool(scripts_of([text], policy).foreign_B[0])


def _are_foreign(
    kinds_C: np.ndarray, starts_W: np.ndarray, ends_W: np.ndarray, policy: Policy
) -> np.ndarray:
    """Which windows are in foreign scripts, (W,) bool."""

    def count(kind: int) -> np.ndarray:
        at = np.flatnonzero(kinds_C >= kind)
        return np.searchsorted(at, ends_W) - np.searchsorted(at, starts_W)

    letters_W, strange_W, latin_W = map(count, (_OWN, _STRANGE, _STRANGE_LATIN))
    own_W = letters_W - strange_W
    foreign_W: np.ndarray = own_W < MIN_SHARE * letters_W
    if not policy.latin:
        may_be_name_W = 2 * latin_W > strange_W
        beside_W = (own_W < MIN_SHARE_BESIDE_LATIN * letters_W) & (letters_W > NAME_LETTERS)
        foreign_W = np.where(may_be_name_W, beside_W, foreign_W)
    return foreign_W & (strange_W > 0)


@lru_cache(maxsize=64)
def _kinds(foreign: regex.Pattern[str]) -> np.ndarray:
    """By code point: a letter of the language's scripts, of another, of foreign Latin, or none."""
    letters = text_of(np.flatnonzero(_LETTERS() == _OF_SCRIPT).astype(np.uint32))
    strange = "".join(foreign.findall(letters))
    kinds = np.zeros(NUM_CODES, np.uint8)
    kinds[codes_of(letters)] = _OWN
    kinds[codes_of(strange)] = _STRANGE
    kinds[codes_of("".join(_LATIN.findall(strange)))] = _STRANGE_LATIN
    return kinds


def letters_of(text: str) -> str:
    """The letters and marks of a text, in small letters."""
    codes = codes_of(text)
    return text_of(codes[_LETTERS().take(codes) > 0]).lower()


def share_of_new(text: str, letters: str) -> float:
    """Which share of a text's letters are none of these."""
    found = letters_of(text)
    return len(found.translate(_without(letters))) / max(1, len(found))


@lru_cache(maxsize=256)
def _without(letters: str) -> dict[int, None]:
    return dict.fromkeys(map(ord, letters))


def is_unusual(text: str, policy: Policy) -> bool:
    """True where most of a text is in a script of the language that py3langid doesn't know."""
    if policy.unusual is None:
        return False
    unusual = sum(map(len, policy.unusual.findall(text)))
    return unusual > 0 and 2 * unusual > weight(text)

"""Is most of a text written in a script that its language is written in?"""

from functools import lru_cache

import regex

from sdg.langid.policy import Policy
from sdg.text import weight

# Share of letters in the language's own scripts. Latin names and abbreviations are at home in any
# script (genuine Chinese and Tigrinya sentences go down to .25), so Latin gets more room.
MIN_SHARE, MIN_SHARE_BESIDE_LATIN = 0.5, 0.25
NAME_LETTERS = 10  # a text of so few Latin letters may be a brand or a person, in any language
WINDOW = 160  # characters looked at from either end of a long text, and between

_LETTER = regex.compile(r"[[\p{L}\p{M}]--[\p{Script=Common}\p{Script=Inherited}]]+", regex.V1)
_ANY_LETTER = regex.compile(r"[\p{L}\p{M}]+")
_LATIN = regex.compile(r"\p{Script=Latin}+")


def is_foreign(text: str, policy: Policy) -> bool:
    """True where most letters of a text, or of a window of it, are of scripts that are not the
    language's. Windows find a text that turns into another language, as a cut translation does."""
    if not policy.foreign.search(text):
        return False
    starts = range(0, max(1, len(text) - WINDOW // 2), WINDOW)
    return any(_is_foreign(text[start : start + WINDOW], policy) for start in starts)


def _is_foreign(text: str, policy: Policy) -> bool:
    strange = "".join(policy.foreign.findall(text))
    if not strange:
        return False
    letters = sum(map(len, _LETTER.findall(text)))
    own = letters - len(strange)
    latin = sum(map(len, _LATIN.findall(strange)))
    if not policy.latin and 2 * latin > len(strange):
        return own < MIN_SHARE_BESIDE_LATIN * letters and letters > NAME_LETTERS
    return own < MIN_SHARE * letters


def letters_of(text: str) -> str:
    """The letters and marks of a text, in small letters."""
    return "".join(_ANY_LETTER.findall(text)).lower()


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
    return 2 * sum(map(len, policy.unusual.findall(text))) > weight(text)

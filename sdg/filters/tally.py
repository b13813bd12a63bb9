"""How many characters of each kind a text has: one look at it, for all filters that ask."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sdg.characters import codes_of, table
from sdg.text import HALVES

_NAMES = (
    *("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Ethiopic", "Devanagari", "Bengali"),
    *("Tamil", "Telugu", "Thai", "Khmer", "Myanmar", "Georgian", "Armenian", "Hangul"),
)
# Patterns of a script's characters; Japanese has three, which Chinese shares.
SCRIPTS = (*(rf"\p{{{name}}}" for name in _NAMES), r"[\p{Han}\p{Hiragana}\p{Katakana}]")
# Controls, halves of surrogate pairs, private use.
NO_CHARACTER = r"[\p{Cc}\p{Cs}\p{Co}--[\n\r\t]]"
_script = table({pattern: place for place, pattern in enumerate(SCRIPTS, 1)})
_no_letter = table({r"\p{Mn}": 1, NO_CHARACTER: 2})


class Tally(NamedTuple):
    """What a text is made of."""

    weight: int  # `sdg.text.weight`
    num_marks: int  # accents and vowel signs, that stand on letters
    num_broken: int  # what is no character
    by_script: list[int]  # letters of each of `SCRIPTS`


@lru_cache(maxsize=512)
def tally(text: str) -> Tally:
    """Remembered, for several filters ask for one text, and a document's pairs come in a row."""
    kind_of, counted_KC = _kinds()
    kinds = kind_of.take(codes_of(text))
    halves, marks, broken, *by_script = (
        np.bincount(kinds, minlength=len(counted_KC)) @ counted_KC
    ).tolist()
    return Tally(halves // 2, marks, broken, by_script)


@lru_cache(maxsize=1)
def _kinds() -> tuple[np.ndarray, np.ndarray]:
    """By character its kind, uint8; by kind (K, C) what one of it adds to each count."""
    joined = HALVES().astype(np.int64) << 16 | _no_letter().astype(np.int64) << 8 | _script()
    kinds, kind_of = np.unique(joined, return_inverse=True)
    halves, no_letter, script = kinds >> 16, kinds >> 8 & 255, kinds & 255
    counted = [halves, no_letter == 1, no_letter == 2]
    counted += [script == place for place in range(1, len(SCRIPTS) + 1)]
    return kind_of.astype(np.uint8), np.stack(counted, axis=1).astype(np.int64)

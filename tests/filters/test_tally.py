"""What texts are made of, against one look at each character by unicodedata and regex."""

import unicodedata
from itertools import pairwise

import pytest
import regex

from sdg.characters import BATCH
from sdg.corpora import bundled_languages
from sdg.filters.tally import SCRIPTS, Tally, tallies
from sdg.text import weight
from tests.rows import bundled_seeds

ODD = [
    "",
    " \n\t",
    "mixed ΑВС абв ابת אבג ሀለሐ कखग কখগ கங తెలుగు ไทย ខ្មែរ မြန် ქართ Հայ 한국 漢字かなカナ",
    "bell\x07 half\ud800 private\ue000 new\nline \ufffd",
    "half\ud83d",  # with the next, whole
    "\ude00half",
    "a\u0301\u0302\u0303\u0304\u0305 x",
    "a\u0301\u0302\u0303\u0304\u0305\u0306\u0307",
    "two marks\u0301\u0302",  # with the next, a pile
    "\u0303\u0304\u0305",
    "Latin",  # beside Cyrillic in the next
    "кириллица",
    "Mоsсоw αвγ 20 μg",
    "Latinعربي кириллицаعربي",
    "Ã© â€™ Ð¸Ñ€ fête",
    "１２３ ½ ² ③ ㍿",
    "long Ã \u0301\u0302\u0303\u0304\u0305 аb " * (BATCH // 20),
]
TEXTS = [*ODD, *(bundled_seeds(lang)[0].text for lang in bundled_languages()), "ไทย é é", "é"]


def script_of(character: str) -> int:
    """Its place in `SCRIPTS` from 1 on, or 0."""
    patterns = [*SCRIPTS[:-1], r"\p{Han}|\p{Hiragana}|\p{Katakana}"]
    return next((n for n, p in enumerate(patterns, 1) if regex.match(p, character)), 0)


def counted(text: str) -> Tally:
    kinds = [unicodedata.category(character) for character in text]
    of_character = {character: script_of(character) for character in set(text)}
    scripts = [of_character[character] for character in text]
    return Tally(
        weight=weight(text),
        num_broken=sum(
            character == "\ufffd" or (kind in ("Cc", "Cs", "Co") and character not in "\n\r\t")
            for kind, character in zip(kinds, text, strict=True)
        ),
        num_leads=sum(text.count(letter) for letter in "ÃâÐÑ"),
        num_piles=sum(kinds[start : start + 5] == ["Mn"] * 5 for start in range(len(text))),
        num_turns=sum({a, b} in ({1, 2}, {1, 3}, {2, 3}) for a, b in pairwise(scripts)),
        num_scripts=sum(
            scripts.count(script) >= max(2, len(text) // 50) for script in set(scripts) - {0}
        ),
    )


def test_counts_are_those_of_each_character_by_itself() -> None:
    for text, found in zip(TEXTS, tallies(TEXTS), strict=True):
        assert found == counted(text), text[:80]


@pytest.mark.parametrize("text", ODD)
def test_one_text_is_looked_at_like_many(text: str) -> None:
    assert tallies([text]) == [counted(text)]


def test_no_text_has_no_tally() -> None:
    assert tallies([]) == []

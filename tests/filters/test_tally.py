"""What a text is made of, against one look at each character by unicodedata and regex."""

import unicodedata

import pytest
import regex

from sdg.corpora import bundled_languages
from sdg.filters.tally import SCRIPTS, tally
from sdg.text import weight
from tests.rows import bundled_seeds

ODD = [
    "",
    " \n\t",
    "mixed ΑВС абв ابت אבג ሀለሐ कखग কখগ கங తెలుగు ไทย ខ្មែរ မြန် ქართ Հայ 한국 漢字かなカナ",
    "bell\x07 half\ud800 private\ue000 new\nline",
    "a\u0301\u0302\u0303\u0304\u0305 x",
    "１２３ ½ ² ③ ㍿",
]


@pytest.mark.parametrize(
    "text", [*ODD, *(bundled_seeds(lang)[0].text for lang in bundled_languages())]
)
def test_counts_are_those_of_each_character_by_itself(text: str) -> None:
    found = tally(text)
    kinds = [unicodedata.category(character) for character in text]
    assert found.weight == weight(text)
    assert found.num_marks == kinds.count("Mn")
    assert found.num_broken == sum(
        kind in ("Cc", "Cs", "Co") and character not in "\n\r\t"
        for kind, character in zip(kinds, text, strict=True)
    )
    patterns = [*SCRIPTS[:-1], r"\p{Han}|\p{Hiragana}|\p{Katakana}"]
    assert found.by_script == [len(regex.findall(pattern, text)) for pattern in patterns]

"""Folding many texts at once, against folding each by itself; hashes, against those of hashlib."""

import hashlib
import unicodedata
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.canonical import canonical_hashes, canonicals
from sdg.corpora import bundled_languages
from sdg.text import canonical
from tests.rows import bundled_seeds

_SAMPLE = range(0, 0x110000, 97)  # of the scripts of thousands of characters
CHARACTERS = [
    chr(code)
    for code in [*range(0x3400), *range(0xA000, 0xAC00), *range(0xF900, 0x12000), *_SAMPLE]
]
MARKS = [char for char in map(chr, range(0x20000)) if unicodedata.category(char)[0] == "M"]
COMPOSED = [char for char in map(chr, range(0x3400)) if len(unicodedata.normalize("NFD", char)) > 1]
PARTS = sorted({part for char in COMPOSED for part in unicodedata.normalize("NFD", char)})
BASES = sorted({form for part in PARTS for form in (part, part.upper(), part.lower())})
JAMO = [
    chr(code) for code in (*range(0x1100, 0x1200), *range(0x3131, 0x3164), *range(0xFFA1, 0xFFDD))
]
SEVERAL = ["ﬁ", "ß", "ŉ", "ำ", "½", "㍿", "İ", "ΐ", "ᾳ", "ͺ", "\u0345", "ﷺ"]


@pytest.mark.parametrize(
    "form", ["{}", "a{}b", "a-{}", "é{}", "é{}\u0301", "{}\u0317", "-{}\u0301a"]
)
def test_every_character_beside_others(form: str) -> None:
    texts = [form.format(char) for char in CHARACTERS]
    assert canonicals(texts) == list(map(canonical, texts))


def test_every_mark_on_every_letter_that_takes_one() -> None:
    marks = [*MARKS[::5], *(part for part in PARTS if part in MARKS)]
    texts = [base + mark for base, mark in product([*BASES, *COMPOSED], marks)]
    assert canonicals(texts) == list(map(canonical, texts))


def test_every_two_jamo() -> None:
    texts = [before + one + other for before in ("", "가") for one, other in product(JAMO, JAMO)]
    assert canonicals(texts) == list(map(canonical, texts))


@given(
    st.lists(
        st.text(
            st.one_of(
                st.sampled_from([*BASES, *COMPOSED]),
                st.sampled_from(MARKS),
                st.sampled_from([*JAMO, *SEVERAL, *" .-\n\r\u200d\u00a8"]),
                st.characters(),
            ),
            max_size=12,
        ),
        max_size=8,
    )
)
def test_any_texts(texts: list[str]) -> None:
    assert canonicals(texts) == list(map(canonical, texts))


@pytest.mark.parametrize("lang", bundled_languages())
def test_real_texts(lang: str) -> None:
    texts = [text for seed in bundled_seeds(lang) for text in (seed.text, seed.title, "")]
    assert canonicals(texts) == list(map(canonical, texts))
    long = ["".join(texts) * 20, "x", *texts]  # more than a batch
    assert canonicals(long) == list(map(canonical, long))


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["\n"], ["\n", "a\nb", "", "c"]])
def test_little(texts: list[str]) -> None:
    assert canonicals(texts) == list(map(canonical, texts))


def test_hashes() -> None:
    found = canonical_hashes(["Straße!", "", "STRASSE"])
    expected = [
        hashlib.blake2b(text, digest_size=16).digest() for text in (b"strasse", b"", b"strasse")
    ]
    assert [row.tobytes() for row in found] == expected
    assert canonical_hashes([]).shape == (0, 2)

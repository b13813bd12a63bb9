import unicodedata

import numpy as np
import regex
from hypothesis import given
from hypothesis import strategies as st

from sdg.characters import codes_of, laid_out, table, text_of
from sdg.text import canonical, letters, weight

MARKS = table({r"\p{M}": 1, r"\p{Nd}": 2})
TEXTS = st.text(st.characters(codec=None), max_size=40)


def test_a_table_agrees_with_unicodedata() -> None:
    wanted = [
        1 if kind[0] == "M" else 2 if kind == "Nd" else 0
        for kind in map(unicodedata.category, map(chr, range(0x3000)))
    ]
    # Characters that one of the two Unicode versions doesn't know yet are left out.
    known = [unicodedata.category(chr(code)) != "Cn" for code in range(0x3000)]
    assert np.array_equal(MARKS()[:0x3000][known], np.array(wanted)[known])


def test_private_use_and_tags_are_in_tables() -> None:
    private = table({r"\p{Co}": 1, r"\p{Cf}": 2})()
    assert private[[0xE000, 0xF0000, 0x10FFFD, 0xE0041]].tolist() == [1, 1, 1, 2]


@given(TEXTS)
def test_codes_and_back(text: str) -> None:
    assert codes_of(text).tolist() == list(map(ord, text))
    assert text_of(codes_of(text)) == text


@given(st.lists(TEXTS, max_size=5), st.sampled_from(["", "\n"]))
def test_texts_laid_out_are_cut_apart_again(texts: list[str], stop: str) -> None:
    codes, ends = laid_out(texts, stop)
    starts = [0, *ends.tolist()]
    found = [text_of(codes[start:end]) for start, end in zip(starts, ends.tolist(), strict=False)]
    assert found == [text + stop for text in texts]
    assert starts[-1] == len(codes)


@given(TEXTS)
def test_letters_weight_and_canonical_form_as_patterns_have_them(text: str) -> None:
    assert text_of(letters(text)) == "".join(regex.findall(r"[\p{L}\p{N}\p{M}]", text))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    bare = regex.sub(r"[^\p{L}\p{N}\p{M}]+", "", folded)
    assert canonical(text) == unicodedata.normalize("NFC", bare)
    halves = 0
    for character in regex.findall(r"[\p{L}\p{N}\p{M}]", text):
        halves += 2
        if regex.match(r"[\p{L}\p{N}]", character):
            halves += 4 * bool(regex.match(r"\p{Han}", character))
            halves += 2 * bool(regex.match(r"[\p{Hangul}\p{Hiragana}\p{Katakana}]", character))
            halves += 2 * bool(regex.match(r"[\p{Yi}\p{Bopomofo}]", character))
            halves += bool(regex.match(r"\p{Ethiopic}", character))
    assert weight(text) == halves // 2

"""Shingles by numpy are those that plain Python finds, in every script."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg import characters
from sdg import shingles as shingles_module
from sdg.shingles import Shingles, shingles
from tests.shingle_sets import shingle_set

TEXTS = [
    "Nairobi ni mji mkuu wa Kenya. Mji huo uko kusini!",
    "ΜΕΓΑΣ ποταμός — «Ο ΠΟΤΑΜΌΣ», 1,000 χλμ.",
    "नैरोबी केन्या की राजधानी है और सबसे बड़ा नगर भी है",
    "我们在北京大学学习中文，ＡＢＣ公司1998年成立。",
    "東京タワーはとても高いです。ﾃﾚﾋﾞも見ました",
    "ฉันรักภาษาไทยมากและอยากเรียนต่อไป",
    "မြန်မာနိုင်ငံသည် အရှေ့တောင်အာရှတွင် ရှိသည်",
    "ភាសាខ្មែរពិបាកណាស់ប៉ុន្តែខ្ញុំចូលចិត្ត",
    "ພາສາລາວບໍ່ຍາກປານໃດຖ້າຮຽນທຸກມື້",
    "አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት።",
    "می‌خواهم کتاب‌ها را بخوانم و یاد بگیرم",
    "soft\u00adhyphen and \u200bzero\u200dwidth joiner words here",
    "한국어는 띄어쓰기가 있는 언어입니다 그렇죠",
    "", "!!! …", "mto", "mto wa", "河", "河水", "Kenya 河 na 水 Tana",
]  # fmt: skip
ALPHABET = st.sampled_from("aAbB éß  ..12河水天地人ไทยก่ကာ့ㅎ\u200d\u0301\n")


def check(texts: list[str], words: int, characters: int) -> None:
    found = shingles(texts, words, characters)
    expected = [shingle_set(text, words, characters) for text in texts]
    assert len(found) == len(texts)
    sets = [set(found.hashes[a:b].tolist()) for a, b in itertools.pairwise(found.offsets)]
    # Hashes have no independent source, but which texts share how many shingles has.
    for (one, mine), (other, theirs) in itertools.product(
        zip(sets, expected, strict=True), repeat=2
    ):
        assert len(one & other) == len(mine & theirs)


@pytest.mark.parametrize(("words", "characters"), [(3, 5), (1, 1), (2, 9), (70, 80)])
def test_every_script(words: int, characters: int) -> None:
    check(TEXTS, words, characters)
    for text in TEXTS:
        check([text, text.upper()], words, characters)


@given(st.lists(st.text(ALPHABET, max_size=24), max_size=6), st.integers(1, 4), st.integers(1, 6))
def test_any_text(texts: list[str], words: int, characters: int) -> None:
    check(texts, words, characters)


def test_batches_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shingles(TEXTS * 3)
    for size in (1, 40, 100, 10**6):
        for module in (characters, shingles_module):
            monkeypatch.setattr(module, "BATCH", size)
        parts = shingles(TEXTS * 3)
        np.testing.assert_array_equal(parts.hashes, whole.hashes)
        np.testing.assert_array_equal(parts.offsets, whole.offsets)


def test_no_texts() -> None:
    nothing: Shingles = shingles([])
    assert len(nothing) == 0 and not len(nothing.hashes)

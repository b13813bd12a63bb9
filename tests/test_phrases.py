"""Folding, against Unicode's own decomposition; the phrases are tested in tests/filters/."""

import random
import re
import unicodedata

from sdg.corpora import bundled_languages
from sdg.phrases import fold, fold_all
from tests.rows import bundled_seeds


def decomposed(text: str) -> str:
    """A text in NFC, folded the long way."""
    plain = text.casefold().replace("\u2019", "'").replace("\u02bc", "'")
    bare = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", plain))
    return unicodedata.normalize("NFC", bare)


def folded(texts: list[str]) -> list[str]:
    return fold_all([text.casefold() for text in texts])


def test_every_character_of_nfc_folds_as_its_decomposition() -> None:
    every = [chr(code) for code in range(0x110000)]
    texts = [c for c in every if unicodedata.category(c)[0] in "LMNPS"]
    texts = [c for c in texts if unicodedata.is_normalized("NFC", c)]
    assert len(texts) > 100_000
    wrong = [c for c, found in zip(texts, folded(texts), strict=True) if found != decomposed(c)]
    assert wrong == []


def test_characters_side_by_side_fold_as_they_do_alone() -> None:
    draw = random.Random(0)
    letters = "eéẹộßİΐᾳйёЙѝўґ’ʼকোড়য়क़नमस्तेगाடொ각각ﬁ≠Å한ኣאָضًّ漢 .\n\ud800"
    marks = "\u0300\u0301\u0308\u0323\u0331\u0345\u3099\u094d\u093c\u064b"
    texts = [
        unicodedata.normalize(
            "NFC", "".join(draw.choice(draw.choice((letters, marks))) for _ in range(12))
        )
        for _ in range(5_000)
    ]
    texts += ["", *(seed.text for lang in bundled_languages() for seed in bundled_seeds(lang)[:9])]
    assert folded(texts) == [decomposed(text) for text in texts]


def test_a_text_that_is_not_in_nfc_is_folded_too() -> None:
    assert fold("E\u0301te\u0301 l\u2019ÉTÉ \u0921\u093c") == "ete l'ete \u0921\u093c"
    assert fold("") == ""

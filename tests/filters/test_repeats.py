"""Repeats of many texts at once, against sets of n-grams and counts of words, text by text."""

import unicodedata
from collections import Counter

import pytest

from sdg.characters import BATCH
from sdg.corpora import bundled_languages
from sdg.filters.repeats import Repeats, repeats
from tests.rows import bundled_seeds

ODD = [
    "",
    " \n\t",
    "?!",
    "abc",  # shorter than an n-gram
    "abcde",
    "abcdefgh",  # as the next two: no n-gram of one stands in another
    "abcdefgh",
    "defghabcdefg",
    "aaaaaaaa",
    "aaaaaaaaa",
    "habari habari habari",
    "zwei\nzwei\x1czwei\u2028zwei\u3000zwei zwei zwei zwei",
    "a b a c a d a e a\na\ta",
    "half\ud83d half\ud83d half\ud83d",
    "\ude00 half",
    "疟疾疟疾疟疾疟疾疟疾疟疾疟疾",
    "İSTANBUL istanbul İstanbul STRASSE straße",
    "नमस्ते नमस्ते नमस्ते",
    "say it again " * (BATCH // 10),
    "end",
]
TEXTS = [
    text.casefold()
    for text in (
        *ODD,
        *(seed.text for lang in bundled_languages() for seed in bundled_seeds(lang)[:3]),
        *(bundled_seeds(lang)[0].text[:120] * 2 for lang in bundled_languages()),
    )
]


def share(text: str, size: int) -> float:
    """Of n-grams of letters, marks and digits that stand in a text before."""
    letters = "".join(c for c in text if unicodedata.category(c)[0] in "LMN")
    grams = [letters[i : i + size] for i in range(len(letters) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def check(text: str, is_short: bool, found: Repeats) -> None:
    assert found.num_letters == sum(unicodedata.category(c)[0] in "LMN" for c in text)
    assert found.short == pytest.approx(share(text, 5) if is_short else 0.0)
    assert found.long == pytest.approx(share(text, 8))
    words = Counter(text.split())
    assert found.num_words == words.total()
    assert found.num_words >= found.most_words >= max(words.values(), default=0)


def test_shares_are_those_of_sets_of_n_grams() -> None:
    is_short = [number % 7 in (1, 2, 4) for number in range(len(TEXTS))]
    for text, short, found in zip(TEXTS, is_short, repeats(TEXTS, is_short), strict=True):
        check(text, short, found)


@pytest.mark.parametrize("text", ODD)
def test_one_text_is_looked_at_like_many(text: str) -> None:
    check(text.casefold(), True, repeats([text.casefold()], [True])[0])


def test_no_text_has_no_repeats() -> None:
    assert repeats([], []) == []


def test_few_texts_may_have_a_word_too_often_that_have_not() -> None:
    """Those are split, so that the bound has to be near."""
    texts = [seed.text for lang in bundled_languages() for seed in bundled_seeds(lang)]
    found = repeats(texts, [False] * len(texts))
    wordy = [one for one in found if one.num_words >= 8]
    assert len(wordy) > len(texts) / 2
    assert sum(one.most_words >= 0.45 * one.num_words for one in wordy) <= 0.02 * len(wordy)

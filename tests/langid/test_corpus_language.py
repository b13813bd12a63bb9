"""A corpus that is given as another language than it is in."""

import pytest

from sdg.corpora import bundled_languages
from sdg.langid import dominant_other
from tests.rows import bundled_seeds

BUNDLED = bundled_languages()
OTHERS = [lang for lang in BUNDLED if lang != "en"]
TEXTS = {lang: [seed.text for seed in bundled_seeds(lang)] for lang in BUNDLED}


@pytest.mark.parametrize("lang", BUNDLED)
def test_a_corpus_is_not_another_language_than_its_own(lang):
    assert dominant_other(TEXTS[lang], lang) is None


@pytest.mark.parametrize("lang", [*OTHERS, "nus", "din", "zu"])
def test_an_english_corpus_is_named(lang):
    assert dominant_other(TEXTS["en"], lang) == "en"


def test_another_corpus_is_named():
    assert dominant_other(TEXTS["sw"], "ha") == "sw"
    assert dominant_other(TEXTS["th"], "nus") == "th"
    assert dominant_other(TEXTS["sw"], "nus") is None  # nobody can tell
    assert dominant_other(TEXTS["am"], "ti") is None
    assert dominant_other(TEXTS["en"], "pcm") is None
    assert dominant_other([], "sw") is None
    assert dominant_other(["1", "2"], "sw") is None


def test_a_mixed_corpus_is_none():
    assert dominant_other(TEXTS["sw"][:20] + TEXTS["en"][:20], "sw") is None

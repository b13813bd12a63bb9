"""The corpora in the package: enough of them, clean, ours to give, and in their language."""

import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sdg import langid
from sdg.corpora import BUNDLED, CorpusConfig, read_documents
from sdg.languages import language
from sdg.stages.seed import SeedStage
from sdg.text import canonical, chunks, normalize, weight

FILES = sorted(BUNDLED.glob("*.jsonl"))
REQUIRED = {"sw", "ha", "am", "ar", "hi", "zh", "ru", "th", "es", "en"}
# What the Unicode character database calls the letters of a script.
LETTER_NAMES = {
    "Latn": ("LATIN",),
    "Arab": ("ARABIC",),
    "Beng": ("BENGALI",),
    "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",),
    "Hani": ("CJK",),
    "Thai": ("THAI",),
}

each_corpus = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def is_of(char: str, script: str) -> bool:
    return unicodedata.name(char, "").startswith(LETTER_NAMES[script])


def test_languages_and_scripts() -> None:
    codes = {path.stem for path in FILES}
    assert codes >= REQUIRED
    assert len({language(code).scripts[0] for code in codes}) >= 6


@each_corpus
def test_rows(path: Path) -> None:
    rows = rows_of(path)
    assert len(rows) >= 30
    for row in rows:
        assert set(row) == {"id", "title", "text", "lang", "topic", "license"}
        assert all(isinstance(value, str) and value for value in row.values())
        assert row["lang"] == path.stem == language(path.stem).code
        assert row["license"] == "CC0-1.0"
        assert row["id"].startswith(f"{path.stem}-")
    for field in ("id", "title", "text"):
        values = Counter(canonical(row[field]) for row in rows)
        assert [value for value, count in values.items() if count > 1] == []


@each_corpus
def test_text_is_clean(path: Path) -> None:
    for row in rows_of(path):
        for field in ("title", "text"):
            assert unicodedata.is_normalized("NFC", row[field]), row["id"]
            assert row[field] == normalize(row[field]), row["id"]
        # A title that stands in its text would give its query away.
        assert canonical(row["title"]) not in canonical(row["text"]), row["id"]


@each_corpus
def test_script_fits_the_language(path: Path) -> None:
    script = language(path.stem).scripts[0]
    for row in rows_of(path):
        for field, least in (("text", 0.9), ("title", 0.6)):
            letters = [char for char in row[field] if char.isalpha()]
            own = sum(is_of(char, script) for char in letters)
            assert own >= least * len(letters), (row["id"], field)


@each_corpus
def test_detectors_agree(path: Path) -> None:
    texts = [row["text"] for row in rows_of(path)]
    assert langid.dominant_other(texts, path.stem) is None


@each_corpus
def test_corpus_is_read_whole(path: Path) -> None:
    """Every passage becomes one seed under the default settings."""
    documents = list(read_documents(CorpusConfig(), [path.stem]))
    assert [d.text for d in documents] == [row["text"] for row in rows_of(path)]
    assert {d.error for d in documents} == {None}
    stage = SeedStage()
    for document in documents:
        assert weight(document.text) >= stage.min_chars
        assert chunks(document.text, path.stem, stage.max_chars) == [document.text]


def test_no_text_is_shared_between_corpora() -> None:
    texts = Counter(canonical(row["text"]) for path in FILES for row in rows_of(path))
    assert max(texts.values()) == 1

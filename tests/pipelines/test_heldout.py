"""Documents that are kept out of training, and what they ask."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.e2e import bundled
from pipelines.heldout import bundled_titles, split_documents
from pipelines.matrix import DocumentsSection
from sdg.errors import UserError

LANGS = ("sw", "am", "zh")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Texts without titles: each bundled one twice over."""
    rows = [
        {"id": f"{lang}{i}", "lang": lang, "text": d["text"] + " " + documents[i - 1]["text"]}
        for lang in (*LANGS, "fr")
        for documents in [bundled(lang)]
        for i, d in enumerate(documents)
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_documents_either_ask_or_are_trained_on(tmp_path: Path, corpus: Path) -> None:
    section = DocumentsSection(path=str(corpus), bundled=True, limit=30, kept_out=0.3, among=10)
    sets = split_documents(section, LANGS, tmp_path / "out")
    assert [s.name for s in sets] == [
        *(f"openings-{lang}" for lang in sorted(LANGS)),
        *(f"titles-{lang}" for lang in sorted(LANGS)),
    ]
    trained = lines(tmp_path / "out" / "documents.jsonl")
    assert len(trained) == 2 * len(LANGS) * 21  # of 30 each
    assert {row["lang"] for row in trained} == set(LANGS)
    for folder in sets:
        queries, searched = lines(folder / "queries.jsonl"), lines(folder / "corpus.jsonl")
        lang = folder.name.partition("-")[2]
        assert len(queries) == 9 and len(searched) == 9 + 10
        asked = [row["text"] for row in searched[:9]]
        assert not set(asked) & {row["text"] for row in trained}
        assert {row["text"] for row in searched[9:]} <= {
            row["text"] for row in trained if row["lang"] == lang
        }
        texts = {d["title"]: d["text"] for d in bundled(lang)}
        wholes = {row["text"] for row in lines(corpus)}
        for query, text in zip(queries, asked, strict=True):
            if folder.name.startswith("titles"):
                assert texts[query["text"]] == text
            else:
                joint = "" if lang == "zh" else " "
                assert query["text"] + joint + text in wholes


def test_the_split_is_the_same_every_time(tmp_path: Path, corpus: Path) -> None:
    section = DocumentsSection(path=str(corpus))
    for name in ("a", "b"):
        split_documents(section, LANGS, tmp_path / name)
    for path in (p for p in (tmp_path / "a").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_language_without_documents_is_refused(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(UserError, match="no document in ha"):
        split_documents(DocumentsSection(path=str(corpus)), ["sw", "ha"], tmp_path / "out")
    with pytest.raises(UserError, match="which ones"):
        split_documents(DocumentsSection(), ["sw"], tmp_path / "out")


def test_bundled_titles_ask_among_texts_of_their_script(tmp_path: Path) -> None:
    (folder,) = bundled_titles(["en"], tmp_path)
    assert folder.name == "bundled-en"
    searched = {row["text"] for row in lines(folder / "corpus.jsonl")}
    for lang, is_there in (("en", True), ("es", True), ("fr", True), ("am", False), ("ru", False)):
        assert {d["text"] for d in bundled(lang)} <= searched or not is_there
        assert bool({d["text"] for d in bundled(lang)} & searched) == is_there

"""Documents for an ablation: most to make runs from, some kept out, which ask for their texts.

    documents.jsonl      what runs are made from
    titles-<lang>/       titles of documents kept out ask for their texts
    openings-<lang>/     of documents without a title, the first sentence asks for the rest

Either set is in BEIR's layout and is searched among the other documents of its language as well.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.e2e import bundled, write_lines, write_titles
from pipelines.matrix import DocumentsSection
from sdg.corpora import CorpusConfig, bundled_languages, read_documents
from sdg.errors import UserError
from sdg.languages import language
from sdg.schema import Document
from sdg.text import canonical, digest, normalize, sentence_spans

SHORTEST = 40  # characters of a text that is asked for
MOST_OTHERS = 80  # texts of other languages


def split_documents(section: DocumentsSection, langs: Sequence[str], folder: Path) -> list[Path]:
    """Write `documents.jsonl` and the evaluation sets, which are returned.

    Raises:
        UserError: a corpus is missing or unreadable, or has no documents in a language.
    """
    kept: list[Document] = []
    asking: dict[str, list[dict[str, str]]] = defaultdict(list)
    for documents in _by_corpus_and_language(section, langs):
        num_out = max(1, round(section.kept_out * len(documents)))
        for number, document in enumerate(documents):
            lang = language(document.lang).code
            question = _question(document) if number < num_out else None
            if question:
                kind = "titles" if document.title else "openings"
                asking[f"{kind}-{lang}"].append(question)
            elif number >= num_out:
                kept.append(document)
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "documents.jsonl", [_line(document) for document in kept])
    sets = []
    for name, questions in sorted(asking.items()):
        shutil.rmtree(folder / name, ignore_errors=True)
        own = [d.text for d in kept if language(d.lang).code == name.partition("-")[2]]
        sets.append(write_titles(folder / name, questions, own[: section.among]))
    if not sets:
        raise UserError("documents: none of those kept out has a title or a second sentence")
    return sets


def bundled_titles(langs: Sequence[str], folder: Path) -> list[Path]:
    """Sets of bundled corpora: titles ask for their texts among those of other languages that are
    written alike."""
    sets = []
    for lang in langs:
        documents = bundled(lang)
        script = language(lang).scripts[0]
        others = [
            document["text"]
            for code in bundled_languages()
            if code != lang and language(code).scripts[0] == script
            for document in bundled(code)
        ]
        shutil.rmtree(folder / f"bundled-{lang}", ignore_errors=True)
        sets.append(write_titles(folder / f"bundled-{lang}", documents, others[:MOST_OTHERS]))
    return sets


def _by_corpus_and_language(
    section: DocumentsSection, langs: Sequence[str]
) -> Iterator[list[Document]]:
    """Each corpus's documents in each language: the `limit` of lowest hash, in its order."""
    paths = ([section.path] if section.path else []) + ([""] if section.bundled else [])
    if not paths:
        raise UserError("documents: which ones? Give CORPUS=<file or folder>, or bundled: true")
    for path in paths:
        found: dict[str, dict[str, Document]] = {language(lang).code: {} for lang in langs}
        for document in read_documents(CorpusConfig(path=path), langs):
            code = _code_of(document, langs)
            if code in found and not document.error and len(normalize(document.text)) >= SHORTEST:
                rank = digest("heldout", canonical(document.text))
                found[code][rank] = document.model_copy(update={"lang": code})
                if len(found[code]) > 2 * section.limit + 1000:
                    found[code] = dict(sorted(found[code].items())[: section.limit])
        for code, ranked in found.items():
            if not ranked:
                raise UserError(f"{path or 'bundled'}: no document in {code}")
            yield [ranked[rank] for rank in sorted(ranked)[: section.limit]]


def _code_of(document: Document, langs: Sequence[str]) -> str:
    """The language a document says it is in; of one language alone, that."""
    if not document.lang:
        return language(langs[0]).code if len(langs) == 1 else ""
    try:
        return language(document.lang).code
    except UserError:
        return ""


def _question(document: Document) -> dict[str, str] | None:
    text = normalize(document.text)
    if document.title:
        return {"title": normalize(document.title), "text": text}
    spans = sentence_spans(text, document.lang)
    if len(spans) < 2:
        return None
    start, end = spans[0]
    rest = text[end:].strip()
    return {"title": text[start:end], "text": rest} if len(rest) >= SHORTEST else None


def _line(document: Document) -> dict[str, str]:
    return {
        "id": document.source,
        "title": document.title,
        "text": document.text,
        "lang": document.lang,
        "license": document.license,
    }

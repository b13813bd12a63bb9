"""Evaluation sets in folders as tasks of the `mteb` package, which measures them offline.

A folder's files say what it is:

    corpus.jsonl queries.jsonl qrels/<split>.tsv   retrieval, in BEIR's layout: nDCG@10, recall, MRR
    sts.jsonl               {"sentence1", "sentence2", "score"}: Spearman correlation of cosines
    bitext.jsonl            {"sentence1", "sentence2"}, translations: F1 of nearest neighbours
    train.jsonl test.jsonl  {"text", "label"}: accuracy of a classifier on frozen vectors

The language is what follows the last '.' or '-' of the folder's name ("news-sw", "xquad.en").
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import langcodes
import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTask,
    AbsTaskBitextMining,
    AbsTaskClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata

from sdg.errors import UserError

SPLIT = "test"
# What a key's value may be, in words for whoever reads the error.
Kind = tuple[tuple[type, ...], str]
TEXT: Kind = ((str,), "a text")
NUMBER: Kind = ((int, float), "a number")
ID: Kind = ((str, int), "a text or a whole number")
_CORPUS, _QUERIES = "corpus.jsonl", "queries.jsonl"


def language_of(folder: Path) -> str:
    """The language code at the end of a folder's name, or "und"."""
    match = re.search(r"[.\-_]([A-Za-z]{2,3})$", folder.name)
    code = match[1].lower() if match else ""
    return code if code and langcodes.Language.get(code).is_valid() else "und"


def local_task(folder: Path) -> AbsTask:
    """The task that a folder holds; its data is read when it is measured.

    Raises:
        UserError: no such folder, or its files are of none of the layouts above.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; DATA takes folders of evaluation sets")
    for files, task in _LAYOUTS.items():
        if all((folder / name).exists() for name in files):
            return _task_of(folder, task)
    wanted = "; ".join(" + ".join(files) for files in _LAYOUTS)
    raise UserError(f"{folder}: no evaluation set; a folder holds one of: {wanted}")


class _Local:
    """What the tasks of folders share."""

    folder: Path
    kind: Any  # one of mteb's task types
    main_score: str
    data_loaded: bool


def _task_of(folder: Path, layout: Any) -> AbsTask:
    """A task of the folder's own class: mteb keeps a task's metadata in its class."""
    metadata = TaskMetadata(
        name=re.sub(r"\W+", "_", folder.name),
        description="A set in a folder",
        type=layout.kind,
        category="t2t",
        dataset={"path": str(folder), "revision": "local"},
        eval_splits=[SPLIT],
        eval_langs=[_mteb_language(language_of(folder))],
        main_score=layout.main_score,
    )
    task: AbsTask = type(layout.__name__, (layout,), {"metadata": metadata, "folder": folder})()
    return task


def _mteb_language(code: str) -> str:
    """A code as mteb knows it ("swa-Latn"), or "und-Latn", which is no language."""
    script = langcodes.Language.get(code).maximize().script
    for name in (code, _alpha3(code)):
        if name in mteb.languages.ISO_TO_LANGUAGE and script in mteb.languages.ISO_TO_SCRIPT:
            return f"{name}-{script}"
    return "und-Latn"


def _alpha3(code: str) -> str:
    try:
        return langcodes.Language.get(code).to_alpha3()
    except LookupError:
        return ""


class FolderRetrieval(_Local, AbsTaskRetrieval):
    """A set in BEIR's layout (Thakur et al., arXiv 2104.08663)."""

    kind, main_score = "Retrieval", "ndcg_at_10"

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        if self.data_loaded:
            return
        corpus = [
            {"id": str(row["_id"]), "title": row.get("title") or "", "text": row["text"]}
            for row in _rows(self.folder / _CORPUS, {"_id": ID, "text": TEXT})
        ]
        queries = [
            {"id": str(row["_id"]), "text": row["text"]}
            for row in _rows(self.folder / _QUERIES, {"_id": ID, "text": TEXT})
        ]
        relevant = read_qrels(self.folder)
        known = {row["id"] for row in queries}
        if not known & relevant.keys():
            raise UserError(f"{self.folder}/qrels: judges none of the queries in {_QUERIES}")
        self.dataset = {
            "default": {
                SPLIT: {
                    "corpus": Dataset.from_list(corpus),
                    "queries": Dataset.from_list([q for q in queries if q["id"] in relevant]),
                    "relevant_docs": {k: v for k, v in relevant.items() if k in known},
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True


class _Tables(_Local):
    """A set of tables, one JSONL file a split."""

    files: dict[str, str]  # split -> file
    columns: dict[str, Kind]

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        tables = {
            split: Dataset.from_list(
                [
                    {column: row[column] for column in self.columns}
                    for row in _rows(self.folder / file, self.columns)
                ]
            )
            for split, file in self.files.items()
        }
        self.dataset = DatasetDict(tables)
        self.data_loaded = True


class FolderSTS(_Tables, AbsTaskSTS):
    """Graded pairs."""

    kind, main_score = "STS", "cosine_spearman"
    files = {SPLIT: "sts.jsonl"}
    columns = {"sentence1": TEXT, "sentence2": TEXT, "score": NUMBER}
    min_score, max_score = 0, 5


class FolderBitext(_Tables, AbsTaskBitextMining):
    """Translations of each other, line by line."""

    kind, main_score = "BitextMining", "f1"
    files = {SPLIT: "bitext.jsonl"}
    columns = {"sentence1": TEXT, "sentence2": TEXT}


class FolderClassification(_Tables, AbsTaskClassification):
    """Texts with labels."""

    kind, main_score = "Classification", "accuracy"
    files = {"train": "train.jsonl", SPLIT: "test.jsonl"}
    columns = {"text": TEXT, "label": ID}


_LAYOUTS: dict[tuple[str, ...], Any] = {
    (_CORPUS, _QUERIES, "qrels"): FolderRetrieval,
    ("sts.jsonl",): FolderSTS,
    ("bitext.jsonl",): FolderBitext,
    ("train.jsonl", "test.jsonl"): FolderClassification,
}


def _rows(path: Path, needed: Mapping[str, Kind]) -> Iterator[dict[str, Any]]:
    """Lines of a JSONL file; each must have the keys `needed`, with values of their kinds."""
    num_rows = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                missing = [key for key in needed if not isinstance(row, dict) or key not in row]
                if missing:
                    raise UserError(f"{path}:{number}: no key '{missing[0]}'")
                for key, (types, words) in needed.items():
                    if not isinstance(row[key], types) or row[key] != row[key]:  # NaN
                        raise UserError(f"{path}:{number}: '{key}' is not {words}")
                num_rows += 1
                yield row
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    if not num_rows:
        raise UserError(f"{path}: has no rows")


def read_qrels(folder: Path) -> dict[str, dict[str, int]]:
    """Query id -> document id -> relevance above 0, of the test split or of the only one."""
    paths = sorted((folder / "qrels").glob("*.tsv"))
    path = next((p for p in paths if p.stem == SPLIT), paths[0] if len(paths) == 1 else None)
    if path is None:
        raise UserError(f"{folder}/qrels: has no {SPLIT}.tsv")
    relevant: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t"), 1):
            if number == 1 and "score" in row:
                continue
            try:
                query, document, grade = row[0], row[-2], int(row[-1])
            except (IndexError, ValueError):
                raise UserError(
                    f"{path}:{number}: wanted query-id, corpus-id and score, tab-separated"
                ) from None
            if grade > 0:
                relevant.setdefault(query, {})[document] = grade
    return relevant

"""Evaluation sets, as texts that training data must not hold.

A set is named by a folder or file (BEIR's `corpus.jsonl` and `queries.jsonl`, or any JSON Lines or
Parquet files), by a dataset id on the hub (`owner/name` or `owner/name:subset`), or by the registry
of the `mteb` package: `mteb:<task or benchmark>`, or `mteb:*` for every public task in the run's
languages. All columns that hold text count, but titles; what sets say of themselves is data.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import langcodes
import pyarrow as pa
import pyarrow.parquet as pq

from sdg.corpora import label_of
from sdg.errors import UserError
from sdg.fingerprints import files_fingerprint
from sdg.text import normalize

REGISTRY = "mteb:"
_KINDS = (".jsonl", ".parquet")
_IDS = ("_id", "id", "docid", "doc_id", "query_id", "qid", "guid")
_NO_TEXT = frozenset(
    {
        *("title", "lang", "language", "label", "label_text", "split", "source", "license", "url"),
        *("score", "domain", "category", "dataset", "type"),
    }
)
_DATASET_ID = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?", re.ASCII)
_MTEB_CODES = {
    "sw": ("swh", "swa"),
    "ar": ("ara", "arb"),
    "zh": ("zho", "cmn"),
    "fa": ("fas", "pes"),
}


class EvaluationText(NamedTuple):
    """A text of a set, with the set's own id of it."""

    set: str
    id: str
    text: str


def check_set(name: str) -> str:
    """Refuse a set that is not there. Returns what changes with what it says.

    Raises:
        UserError: no such file or dataset, or a folder without a file that is read.
    """
    if name.startswith(REGISTRY):
        return f"{len(_tasks(name, ()))} tasks" if name != f"{REGISTRY}*" else "all tasks"
    if _is_dataset(name):
        return "a dataset"
    files = _files(Path(name).expanduser())
    return files_fingerprint(files)


def read_set(name: str, langs: Sequence[str]) -> Iterator[EvaluationText]:
    """All texts of a set, one at a time.

    Raises:
        UserError: it cannot be read, or holds no text.
    """
    num_texts = 0
    for part, rows in _sources(name, langs):
        for number, row in enumerate(rows):
            named = next((row[key] for key in _IDS if row.get(key) not in (None, "")), number)
            for text in _texts(row):
                num_texts += 1
                yield EvaluationText(part, label_of(named), text)
    if not num_texts:
        raise UserError(f"{name}: holds no text; take it out of stages.decontaminate.against")


def _sources(name: str, langs: Sequence[str]) -> Iterator[tuple[str, Iterable[dict[str, Any]]]]:
    """Rows, under the name that the report has for where they are from."""
    if name.startswith(REGISTRY):
        for task in _tasks(name, langs):
            yield from ((f"{REGISTRY}{task.metadata.name}", rows) for rows in _of_task(task))
    elif _is_dataset(name):
        yield from ((name, rows) for rows in _of_hub(name))
    else:
        for file in _files(Path(name).expanduser()):
            yield name, _parquet(file) if file.suffix == ".parquet" else _json_lines(file)


def _texts(row: Mapping[str, Any]) -> Iterator[str]:
    for key, value in row.items():
        if key in _IDS or key.lower() in _NO_TEXT or key.lower().endswith(("_id", "-id")):
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text:
                yield text


# Files


def _files(path: Path) -> list[Path]:
    if path.is_file() and path.suffix in _KINDS:
        return [path]
    if not path.is_dir():
        raise UserError(
            f"{path}: no such evaluation set; give a folder in BEIR's layout, a "
            f"{' or '.join(_KINDS)} file, a dataset id (owner/name) or {REGISTRY}<task>"
        )
    found = [file for file in sorted(path.rglob("*")) if file.suffix in _KINDS and file.is_file()]
    found = [file for file in found if "qrels" not in file.relative_to(path).parts[:-1]]
    if not found:
        raise UserError(f"{path}: no evaluation set; a folder holds {' or '.join(_KINDS)} files")
    return found


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise UserError(f"{path}:{number}: not a JSON object")
                    yield row
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(1024):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error})") from None


# The hub, and mteb's registry of what lies there


def _is_dataset(name: str) -> bool:
    """Whether a name reads as "owner/name" and neither it nor its folder is on this disk."""
    here = Path(name).exists() or Path(name).parent.exists() or Path(name).suffix in _KINDS
    return bool(_DATASET_ID.fullmatch(name)) and not here


def _of_hub(name: str) -> Iterator[Iterable[dict[str, Any]]]:
    """Every split but the training one, unless that is all there is."""
    from datasets import load_dataset

    path, _, subset = name.partition(":")
    try:
        splits = dict(load_dataset(path, subset or None, streaming=True))
        tests = {key: rows for key, rows in splits.items() if key != "train"} or splits
        for rows in tests.values():
            yield (dict(row) for row in rows)
    except Exception as error:  # whatever the hub's libraries raise
        raise _not_loaded(name, error) from error


def _of_task(task: Any) -> Iterator[Iterable[dict[str, Any]]]:
    try:
        task.load_data()
    except UserError:
        raise
    except Exception as error:  # whatever the hub's libraries raise
        raise _not_loaded(f"{REGISTRY}{task.metadata.name}", error) from error
    yield from _datasets_in(task.dataset)


def _datasets_in(value: Any) -> Iterator[Iterable[dict[str, Any]]]:
    """The tables in mteb's nested dicts by subset, split and role, whatever the kind of task."""
    if hasattr(value, "column_names") and not isinstance(value, dict):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("train", "relevant_docs", "top_ranked"):
                yield from _datasets_in(inner)


def _not_loaded(name: str, error: Exception) -> UserError:
    reason = normalize(str(error).strip().split("\n")[0])[:160]
    return UserError(
        f"{name}: cannot be loaded ({type(error).__name__}: {reason}); check its name and the "
        f"network, or name a folder with a copy of it"
    )


def _tasks(name: str, langs: Sequence[str]) -> list[Any]:
    """The registry's tasks of a name."""
    try:
        import mteb
    except ImportError:
        raise UserError(
            f"{name}: needs the mteb package, which the extra 'evaluate' has; install it: "
            f"make .venv/.has/base+evaluate"
        ) from None
    wanted = name.removeprefix(REGISTRY)
    if wanted == "*":
        return list(mteb.get_tasks(languages=sorted(set(_mteb_codes(langs))), modalities=["text"]))
    try:
        return list(mteb.get_benchmark(wanted).tasks)
    except KeyError:
        pass
    try:
        return [mteb.get_task(wanted)]
    except KeyError:
        raise UserError(
            f"{name}: mteb has no task or benchmark of that name; its registry is at "
            f"https://embeddings-benchmark.github.io/mteb"
        ) from None


def _mteb_codes(langs: Iterable[str]) -> Iterator[str]:
    for lang in langs:
        base = lang.split("-")[0]
        yield from _MTEB_CODES.get(base, (langcodes.Language.get(base).to_alpha3(),))

"""Public datasets in their usual layouts -> Examples, so that one reader serves all data.

    triplets        {query, pos, neg}: MS MARCO and BGE-style; texts, lists of texts or of
                    {title, text} (Tevatron, MIRACL: positive_passages, negative_passages); TSV
                    with three columns: query, positive, negative
    nli             {premise, hypothesis, label}: entailment is the positive, contradiction the
                    negative (Gao et al., arXiv 2104.08821, section 4); premises without both go
    squad           SQuAD's JSON: a question finds its paragraph among others of the article
    classification  {text, label}: the text finds its label's name among the other labels
    sts             {sentence1, sentence2, score}: a graded pair

Files are JSON Lines, CSV, TSV or Parquet (squad: JSON). A row of another shape is a `UserError`:
the layout is the user's claim about the whole file.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from sdg.errors import UserError
from sdg.schema import Example, Provenance, to_table

Layout = Literal["examples", "triplets", "nli", "squad", "classification", "sts"]
STS_INSTRUCTION = "Retrieve semantically similar text."  # the recipe's
_INSTRUCTIONS = {
    "triplets": "Given a question, retrieve passages that answer the question",
    "nli": "Given a premise, retrieve a hypothesis that is entailed by the premise",
    "squad": "Given a question, retrieve passages that answer the question",
    "classification": "Classify the given text",
    "sts": STS_INSTRUCTION,
}
_TASKS = {"classification": "classification", "sts": "sts"}  # the others are "retrieval"
_QUERY = ("query", "question", "anchor", "sentence", "text")
_POSITIVES = ("positive_passages", "positives", "positive", "pos")
_NEGATIVES = ("negative_passages", "hard_negatives", "negatives", "negative", "neg")
_NLI_LABELS = {"0": "entailment", "1": "neutral", "2": "contradiction"}
_CHUNK_ROWS = 512


class SourceConfig(BaseModel):
    """One set of training rows: a run of Mbegu's or a public dataset in a known layout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path  # a run's folder, a folder of its shards, or files of `layout`
    layout: Layout = "examples"
    weight: float = Field(1.0, gt=0)
    # Of the layouts of others, which do not say it of themselves:
    lang: str = "und"
    license: str = ""
    instruction: str = ""  # "": the layout's
    max_score: float = Field(5.0, gt=0)  # of sts: the top of its scale


def adapt(config: SourceConfig, files: Sequence[Path], negatives: int) -> Iterator[pa.Table]:
    """The files' rows as tables of Examples, some at a time.

    Args:
        negatives: how many at most, where a layout leaves the choice (squad, classification).

    Raises:
        UserError: a file or row is not of the layout.
    """
    rows: Iterable[dict[str, Any]] = _LAYOUTS[config.layout](config, files, negatives)
    held: list[Example] = []
    for row in rows:
        held.append(_example(config, **row))
        if len(held) == _CHUNK_ROWS:
            yield to_table(held, Example)
            held.clear()
    yield to_table(held, Example)


def find_files(path: Path) -> list[Path]:
    """The files of a public dataset."""
    kinds = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
    found = [path] if path.is_file() else sorted(p for p in path.glob("*") if p.suffix in kinds)
    if not found:
        raise UserError(f"{path}: no {', '.join(kinds)} file there")
    return found


def _example(
    config: SourceConfig,
    where: str,
    query: str,
    positives: list[str],
    negatives: list[str],
    grades: list[float] | None = None,
) -> Example:
    content = "\0".join([config.layout, query, *positives])
    return Example(
        id=hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=16).hexdigest(),
        task=_TASKS.get(config.layout, "retrieval"),
        instruction=config.instruction or _INSTRUCTIONS[config.layout],
        query=query,
        query_lang=config.lang,
        positives=positives,
        positive_lang=config.lang,
        positive_scores=[],
        negatives=negatives,
        negative_scores=[],
        positive_grades=grades or [],
        provenance=Provenance(
            seed_id="",
            source=where,
            license=config.license,
            engine="dataset",
            model="",
            revision="",
            prompt="",
            prompt_sha="",
            strategy=config.layout,
            controls="{}",
            seed=0,
        ),
    )


def _read(file: Path, header: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of a table; `header` names the columns of a TSV that has no header."""
    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(_CHUNK_ROWS):
                    yield from ((str(file), row) for row in batch.to_pylist())
        elif file.suffix in (".csv", ".tsv"):
            yield from _read_csv(file, header)
        else:
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        row = json.loads(line)
                        if not isinstance(row, dict):
                            raise UserError(f"{file}:{number}: not a JSON object")
                        yield f"{file}:{number}", row
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{number}: not JSON ({error.msg})") from None
    except csv.Error as error:
        raise UserError(f"{file}: not a whole CSV file ({error})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: cannot be read ({str(error)[:160]})") from None


def _read_csv(file: Path, header: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    with file.open(encoding="utf-8", newline="") as lines:
        tabs = file.suffix == ".tsv"
        reader = (
            csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            if tabs
            else csv.reader(lines, strict=True)
        )
        names: Sequence[str] = ()
        for fields in reader:
            if not names:
                known = {*_QUERY, "premise", "sentence1"}
                names = fields if known & set(fields) else header
                if not names:
                    raise UserError(f"{file}: its first line names no column known here: {fields}")
                if names is fields:
                    continue
            if len(fields) != len(names):
                raise UserError(
                    f"{file}:{reader.line_num}: {len(fields)} fields, wanted {len(names)}"
                )
            yield f"{file}:{reader.line_num}", dict(zip(names, fields, strict=True))


def _field(row: dict[str, Any], names: Sequence[str], where: str) -> Any:
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise UserError(f"{where}: has none of the keys {', '.join(names)}")


def _text(value: Any, where: str) -> str:
    """A text, or a passage's title and text."""
    if isinstance(value, dict):
        title, text = value.get("title") or "", value.get("text")
        value = f"{title}\n{text}" if title and isinstance(text, str) else text
    if not isinstance(value, str):
        raise UserError(f"{where}: wanted a text, found {str(value)[:40]!r}")
    return value


def _texts(value: Any, where: str) -> list[str]:
    return [_text(one, where) for one in (value if isinstance(value, list) else [value])]


def _triplets(
    config: SourceConfig, files: Sequence[Path], negatives: int
) -> Iterator[dict[str, Any]]:
    for file in files:
        for where, row in _read(file, ("query", "positive", "negative")):
            found: Any = next((row[name] for name in _NEGATIVES if row.get(name) is not None), [])
            numbered = [row[f"negative_{i}"] for i in range(1, 100) if row.get(f"negative_{i}")]
            yield {
                "where": _source(file),
                "query": _text(_field(row, _QUERY, where), where),
                "positives": _texts(_field(row, _POSITIVES, where), where),
                "negatives": _texts(found, where) + _texts(numbered, where),
            }


def _nli(config: SourceConfig, files: Sequence[Path], negatives: int) -> Iterator[dict[str, Any]]:
    """Rows of one premise need not be neighbours, so the premises of a file are held in memory."""
    for file in files:
        premises: dict[str, dict[str, list[str]]] = {}
        for where, row in _read(file):
            label = str(_field(row, ("label", "gold_label"), where)).lower()
            label = _NLI_LABELS.get(label, label)
            premise = _text(_field(row, ("premise", "sentence1"), where), where)
            hypothesis = _text(_field(row, ("hypothesis", "sentence2"), where), where)
            if label in ("entailment", "contradiction"):
                premises.setdefault(premise, {}).setdefault(label, []).append(hypothesis)
            elif label not in ("neutral", "-", "-1"):
                raise UserError(f"{where}: label '{label}' is none of entailment, neutral, …")
        for premise, found in premises.items():
            if len(found) == 2:
                yield {
                    "where": _source(file),
                    "query": premise,
                    "positives": found["entailment"],
                    "negatives": found["contradiction"],
                }


def _squad(config: SourceConfig, files: Sequence[Path], negatives: int) -> Iterator[dict[str, Any]]:
    for file in files:
        try:
            articles = json.loads(file.read_text(encoding="utf-8"))["data"]
            for article in articles:
                texts = [paragraph["context"] for paragraph in article["paragraphs"]]
                for place, paragraph in enumerate(article["paragraphs"]):
                    turned = texts[place + 1 :] + texts[:place]
                    others = [text for text in turned if text != texts[place]]
                    for question in paragraph["qas"]:
                        answers = [answer["text"] for answer in question.get("answers", [])]
                        if not answers:  # SQuAD 2 has questions that no paragraph answers
                            continue
                        wrong = [t for t in others if not any(a and a in t for a in answers)]
                        yield {
                            "where": _source(file),
                            "query": question["question"],
                            "positives": [texts[place]],
                            "negatives": wrong[:negatives],
                        }
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file}: not in SQuAD's layout ({type(error).__name__}: {error})"
            ) from None


def _classification(
    config: SourceConfig, files: Sequence[Path], negatives: int
) -> Iterator[dict[str, Any]]:
    names = ("label_text", "label_name", "label")
    labels: dict[str, None] = {}
    for file in files:
        for where, row in _read(file):
            labels[str(_field(row, names, where))] = None
    if len(labels) < 2:
        raise UserError(
            f"{config.path}: only the label {', '.join(labels)}, so nothing to tell apart"
        )
    every = list(labels)
    for file in files:
        for where, row in _read(file):
            text, label = _text(_field(row, _QUERY, where), where), str(_field(row, names, where))
            # Another turn of the labels for each text, so that none is always left out.
            start = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
            turned = [every[(start + i) % len(every)] for i in range(len(every))]
            yield {
                "where": _source(file),
                "query": text,
                "positives": [label],
                "negatives": [other for other in turned if other != label][:negatives],
            }


def _sts(config: SourceConfig, files: Sequence[Path], negatives: int) -> Iterator[dict[str, Any]]:
    for file in files:
        for where, row in _read(file):
            given = _field(row, ("score", "similarity_score", "similarity", "label"), where)
            try:
                grade = float(given) / config.max_score
            except (TypeError, ValueError):
                raise UserError(f"{where}: score {given!r} is no number") from None
            if grade < 0 or grade > 1:  # NaN goes on: it is dropped with its reason
                raise UserError(f"{where}: score {given} is outside 0 … {config.max_score:g}")
            yield {
                "where": _source(file),
                "query": _text(_field(row, ("sentence1", "text1"), where), where),
                "positives": [_text(_field(row, ("sentence2", "text2"), where), where)],
                "negatives": [],
                "grades": [grade],
            }


def _source(file: Path) -> str:
    return file.name


_LAYOUTS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "triplets": _triplets,
    "nli": _nli,
    "squad": _squad,
    "classification": _classification,
    "sts": _sts,
}

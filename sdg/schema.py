"""Rows of the pipeline and their Arrow schemas: Seed -> Call -> Pair -> Example.

The pydantic models are the single definition; `arrow_schema` derives the Parquet layout from them.
Every file written carries `SCHEMA_VERSION` and the row's name in its metadata, and `read_rows`
refuses a file of another version. This module needs pydantic and pyarrow only, so that a trainer
can import it alone.
"""

import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from sdg.errors import UserError

SCHEMA_VERSION = 3
VERSION_KEY = b"mbegu.schema_version"
ROW_KEY = b"mbegu.row"


class Row(BaseModel):
    """A record of the pipeline; frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Row):
    """One row of a corpus as it was read. Rows with an `error` are counted and go no further."""

    row: int  # from 0, over the whole corpus
    source: str  # corpus file or dataset id, and the corpus's own id: "sw.parquet#PubMed_6/142"
    text: str
    title: str
    lang: str  # what the row's language column says, or ""
    license: str
    error: str | None  # why the row cannot be used: "invalid_utf8", "no_text", ...
    digest: str  # hash of the canonical text: equal for copies; "" beside an error


class Seed(Row):
    """What pairs are made from: a passage, an idea for a task, or an existing pair to translate.

    `id` is a hash of its content, never the corpus's id.
    """

    id: str
    text: str
    title: str
    lang: str
    source: str  # where it came from: corpus name, and the corpus's own id where it has one
    license: str
    kind: str = "passage"  # "passage", "idea" or "pair"
    fields: str = "{}"  # what else its kind has, JSON object: an idea's family, a pair's query ...


class Message(Row):
    """One chat message, as every engine takes it."""

    role: str
    content: str


class Call(Row):
    """One request to an engine and, once answered, its reply as it came."""

    id: str
    seed: Seed
    ordinal: int  # which of its seed's calls with this prompt, from 0
    task: str
    lang: str  # language the query is wanted in
    positive_lang: str  # language of the positive
    controls: str  # sampled control variables, JSON object
    prompt: str
    prompt_sha: str
    instruction: str
    strategies: list[str]  # what the extractive engine may do in the prompt's place
    messages: list[Message]
    sampling: str  # JSON object
    engine: str
    model: str
    revision: str
    reply: str | None = None
    finish_reason: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    error: str | None = None
    attempts: int = 0  # requests it took; 0 where a kept reply answers it


class Provenance(Row):
    """Where a training row comes from, down to the prompt's text and the random seed."""

    seed_id: str
    source: str
    license: str
    engine: str
    model: str
    revision: str
    prompt: str
    prompt_sha: str
    strategy: str  # "written" by an LLM, or the extractive strategy
    controls: str  # JSON object
    seed: int  # the run's random seed
    judged: str = ""  # JSON object: a judge's model and grades, where one was asked


class Pair(Row):
    """A query and its positive, before mining."""

    id: str
    task: str
    instruction: str
    query: str
    query_lang: str
    positive: str
    positive_lang: str
    document: str  # the whole seed passage, of which `positive` may be a part
    negatives: list[str]  # written with the pair by an LLM; mining adds to them
    provenance: Provenance
    positive_grade: float | None = None  # graded similarity in [0, 1], where the task has grades
    negative_grades: list[float] = []  # of `negatives`, or empty
    unverified: list[str] = []  # sides ("query", "positive") whose language nobody could check


# Tasks whose two sides are alike: both carry the instruction (arXiv 2511.07025, section 3).
SYMMETRIC_TASKS = ("sts",)


def instructed(instruction: str, text: str) -> str:
    """A query as the model reads it (llama-embed-nemotron-8b, arXiv 2511.07025, section 3)."""
    return f"Instruct: {instruction}\nQuery: {text}"


class Example(Row):
    """One training row, the hand-over to any trainer. Scores are the teacher's, in [-1, 1]."""

    id: str
    task: str
    instruction: str
    query: str
    query_lang: str
    positives: list[str]
    positive_lang: str
    positive_scores: list[float]
    negatives: list[str]
    negative_scores: list[float]
    provenance: Provenance
    positive_grades: list[float] = []  # graded similarity in [0, 1], where the task has grades
    negative_grades: list[float] = []
    unverified: list[str] = []  # sides ("query", "positive") whose language nobody could check


_SCALARS: dict[type, pa.DataType] = {
    str: pa.string(),
    bytes: pa.binary(),
    int: pa.int64(),
    float: pa.float32(),
    bool: pa.bool_(),
}


def _arrow_type(annotation: Any) -> tuple[pa.DataType, bool]:
    """Arrow type of a field annotation, and whether it may be null."""
    if get_origin(annotation) in (Union, types.UnionType):
        (inner,) = [a for a in get_args(annotation) if a is not type(None)]
        return _arrow_type(inner)[0], True
    if get_origin(annotation) is list:
        return pa.list_(_arrow_type(get_args(annotation)[0])[0]), False
    if isinstance(annotation, type) and issubclass(annotation, Row):
        return pa.struct(_fields(annotation)), False
    return _SCALARS[annotation], False


def _fields(model: type[Row]) -> list[pa.Field]:
    fields = []
    for name, info in model.model_fields.items():
        arrow_type, nullable = _arrow_type(info.annotation)
        fields.append(pa.field(name, arrow_type, nullable=nullable))
    return fields


def arrow_schema(model: type[Row], *extra: pa.Field) -> pa.Schema:
    """The Arrow schema of a row model, stamped with `SCHEMA_VERSION`; `extra` columns follow."""
    metadata = {VERSION_KEY: str(SCHEMA_VERSION).encode(), ROW_KEY: model.__name__.encode()}
    return pa.schema([*_fields(model), *extra], metadata=metadata)


def to_table(rows: Iterable[Row], model: type[Row]) -> pa.Table:
    """Rows as an Arrow table with the model's schema; no rows give a table of zero rows."""
    return pa.Table.from_pylist([row.model_dump() for row in rows], schema=arrow_schema(model))


def check_schema(schema: pa.Schema, model: type[Row], where: str | Path) -> None:
    """Raise `UserError` unless a file's schema is this version's schema of `model`."""
    metadata = schema.metadata or {}
    version, row = metadata.get(VERSION_KEY), metadata.get(ROW_KEY)
    if version is None:
        raise UserError(
            f"{where}: not written by Mbegu (no schema version in its metadata); "
            f"pass plain text data as CORPUS instead"
        )
    if version != str(SCHEMA_VERSION).encode():
        raise UserError(
            f"{where}: schema version {version.decode()}, but this Mbegu reads version "
            f"{SCHEMA_VERSION}; generate it again, or use the Mbegu that wrote it"
        )
    if row != model.__name__.encode():
        raise UserError(f"{where}: holds {(row or b'?').decode()} rows, wanted {model.__name__}")


def read_rows(paths: Path | Sequence[Path], model: type[Row]) -> pa.Table:
    """Read Parquet files of one row model as a table.

    Raises:
        UserError: a file is missing, cut or of another schema version or row.
    """
    tables = []
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            table = pq.read_table(path)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except pa.ArrowException as error:
            raise UserError(f"{path}: not a readable Parquet file ({error})") from None
        check_schema(table.schema, model, path)
        tables.append(table)
    return pa.concat_tables(tables) if tables else to_table([], model)


def rows_of(table: pa.Table, model: type[Row]) -> list[Any]:
    """Table rows as model instances; columns that the model lacks are left out."""
    names = list(model.model_fields)
    return [model.model_validate(row) for row in table.select(names).to_pylist()]

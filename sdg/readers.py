"""Files of a corpus, one reader a kind: Parquet, JSON Lines, CSV, TSV, text; packed or not.

A reader streams rows as values by role ("text", "title", ...). It finds the columns by their usual
names, names what is wrong with a row, and raises where the file as a whole cannot be trusted: cut,
corrupt, binary, in another encoding. Rows before a cut never pass for the whole file.
"""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, cast

import pyarrow as pa

from sdg.errors import UserError
from sdg.storage import open_parquet
from sdg.text import normalize

# Columns by their usual names, in lower case, the likeliest first.
USUAL_NAMES = {
    "text": (
        *("text", "content", "body", "passage", "document", "context", "article", "paragraph"),
        *("raw_content", "maintext", "passage_text", "full_text"),
    ),
    "title": ("title", "headline", "heading"),
    "id": ("id", "_id", "docid", "doc_id", "document_id", "pid", "passage_id", "url"),
    "lang": ("lang", "language", "lang_code", "language_code"),
    "license": ("license", "licence"),
}
# Of a dataset of pairs; a reader is asked for them by the role "query". Its "text" is the positive.
USUAL_PAIR_NAMES = {
    "text": ("positive", "pos", "positive_passage", "document", "passage", "answer", "text"),
    "query": ("query", "question", "anchor"),
    "negatives": ("negatives", "negative", "neg", "hard_negatives"),
    "positive_grade": ("positive_grade",),
    "negative_grades": ("negative_grades",),
    "instruction": ("instruction", "task", "prompt"),
    "id": USUAL_NAMES["id"],
    "lang": USUAL_NAMES["lang"],
    "license": USUAL_NAMES["license"],
}
FILE_KINDS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
_COMPRESSIONS: dict[str, Literal["gzip", "zstd"]] = {".gz": "gzip", ".zst": "zstd"}
_BINARY = (
    (b"PAR1", "a Parquet file; name it .parquet"),
    (b"\x1f\x8b", "a gzip file; name it .gz after its kind, such as .jsonl.gz"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; name it .zst after its kind, such as .jsonl.zst"),
    (b"PK\x03\x04", "a zip archive (or an office document); unpack it to text files"),
    (b"%PDF", "a PDF; extract its text first"),
)
_BAD_BYTE = re.compile("[\udc80-\udcff]")  # how "surrogateescape" marks what is not UTF-8
_LONGEST = 1 << 24  # characters of a line or field: a document, not a file without line ends
_HEAD = 100  # rows in which columns are looked for, where no schema names them

Columns = Mapping[str, str]  # the user's column names by role; "" or none: find it


@dataclass(frozen=True)
class File:
    """One file of a corpus: `name` is its path inside the corpus, without the user's folders."""

    path: Path
    name: str

    @property
    def compression(self) -> Literal["gzip", "zstd"] | None:
        return _COMPRESSIONS.get(self.path.suffix.lower())

    @property
    def kind(self) -> str:
        """The suffix that says what the file holds, ".jsonl" for "x.jsonl.gz"; "" if none does."""
        path = PurePath(self.path.name.lower())
        suffix = PurePath(path.stem).suffix if self.compression else path.suffix
        packed_parquet = suffix == ".parquet" and self.compression
        return suffix if suffix in FILE_KINDS and not packed_parquet else ""


@dataclass(frozen=True)
class Raw:
    """A row before it is a document: values by role ("text", "title", ...), or what is wrong."""

    values: dict[str, Any]
    error: str | None = None


def read_rows(file: File, wanted: Columns) -> Iterator[Raw]:
    """Rows of one file, in order.

    Raises:
        UserError: the file is no whole, readable file of its kind, or has no text column.
    """
    if file.kind == ".parquet":
        return _parquet(file, wanted)
    if file.kind in (".csv", ".tsv"):
        return _csv(file, wanted)
    if file.kind == ".txt":
        return _text(file)
    return by_role(_json_lines(file, wanted), file.name, wanted)


def known_kinds() -> str:
    return f"{', '.join(FILE_KINDS)} (all but Parquet also .gz or .zst)"


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names from a corpus as one line: of bounded length, whatever they hold."""
    shown = [normalize(name)[:40] for name in names[:most]]
    return ", ".join(shown) + (" ..." if len(names) > most else "") if names else "nothing"


# Which columns to take


def _columns(wanted: Columns, names: Sequence[str], texts: set[str], where: str) -> dict[str, str]:
    """Column names by role. `texts` are the columns known to hold strings."""
    found: dict[str, str] = {}
    by_lower = {name.strip().lower(): name for name in reversed(names)}
    for role, usual in (USUAL_PAIR_NAMES if "query" in wanted else USUAL_NAMES).items():
        named = wanted.get(role, "")
        if named and named not in names:
            raise UserError(
                f"{where}: no column '{named}' ({_setting(wanted, role)}); its columns: "
                f"{listed(names)}"
            )
        there = [by_lower[name] for name in usual if name in by_lower]
        if role == "text":
            there = [name for name in there if name in texts] or there
        if named or there:
            found[role] = named or there[0]
    for role in ("text", "query"):
        if role not in found and (role == "text" or role in wanted):
            setting = _setting(wanted, role)
            raise UserError(
                f"{where}: no {setting.partition('.')[2]} column among {listed(names)}; name it: "
                f"--set {setting}=<column>"
            )
    return found


def _setting(wanted: Columns, role: str) -> str:
    """The key of a profile that names a role's column."""
    if "query" not in wanted:
        return f"corpus.{role}"
    return f"translate.{'positive' if role == 'text' else role}"


def by_role(items: Iterator[dict[str, Any] | Raw], where: str, wanted: Columns) -> Iterator[Raw]:
    """Rows that are objects, each with keys of its own, as values by role."""
    head = list(itertools.islice(items, _HEAD))
    objects = [item for item in head if isinstance(item, dict)]
    if not objects and len(head) == _HEAD:
        raise UserError(f"{where}: its first {_HEAD} lines are no JSON objects; is it JSON Lines?")
    columns: dict[str, str] = {}
    if objects:
        names = list(dict.fromkeys(key for item in objects for key in item))
        texts = {key for item in objects for key, value in item.items() if isinstance(value, str)}
        columns = _columns(wanted, names, texts, where)
    for item in itertools.chain(head, items):
        if isinstance(item, Raw):
            yield item
        else:
            yield Raw({role: item.get(name) for role, name in columns.items()})


# One reader a kind of file


def _lines(file: File, newline: str | None) -> Iterator[str]:
    """Lines of a text file, unpacked; bytes that are no UTF-8 become surrogates."""
    number = 0
    try:
        with file.path.open("rb") as raw:
            packed = file.compression and pa.CompressedInputStream(raw, file.compression)
            source: Any = packed or raw
            # What is packed can't be peeked into, nor can files of an object store.
            stream = source if hasattr(source, "peek") else io.BufferedReader(source)
            _refuse_binary(stream.peek(1 << 12), file)
            lines = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline=newline)
            while line := lines.readline(_LONGEST):
                number += 1
                if len(line) == _LONGEST:
                    raise UserError(
                        f"{file.name}: line {number} is longer than {_LONGEST:,} characters; "
                        f"make it one document a line"
                    )
                yield line
    except PermissionError:
        raise _unreadable(file) from None
    except OSError as error:
        raise UserError(
            f"{file.path}: cut or corrupt after line {number} ({error}); fetch it again"
        ) from None


def _unreadable(file: File) -> UserError:
    return UserError(f"{file.path}: no permission to read it; chmod it, or give a copy")


def _refuse_binary(head: bytes, file: File) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(
            f"{file.path}: is in UTF-16, wanted UTF-8; convert it: iconv -f UTF-16 -t UTF-8"
        )
    for magic, what in _BINARY:
        if head.startswith(magic):
            raise UserError(f"{file.path}: is {what}")
    if b"\0" in head:
        raise UserError(
            f"{file.path}: a binary file, not text in UTF-8; give one of {known_kinds()}"
        )
    if file.kind in (".json", ".jsonl", ".ndjson"):
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith(b"["):
            raise UserError(
                f"{file.path}: is one JSON array, wanted JSON Lines, one object a line; "
                f"convert it: jq -c '.[]' in.json > out.jsonl"
            )


def _json_lines(file: File, wanted: Columns) -> Iterator[dict[str, Any] | Raw]:
    lines = (line for line in _lines(file, "\n") if not line.isspace())
    first = next(lines, "")
    second = next(lines, "")
    if first.strip() == "{" or (first and not second and _is_tree(first, wanted)):
        raise UserError(
            f"{file.path}: is one JSON object, wanted JSON Lines; write one object a line, with "
            f"the passage in a field 'text'"
        )
    for line in itertools.chain(filter(None, (first, second)), lines):
        yield _json_object(line)


def _json_object(line: str) -> dict[str, Any] | Raw:
    if _BAD_BYTE.search(line):
        return Raw({"text": line}, "invalid_utf8")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return Raw({"text": line}, "invalid_json")
    return value if isinstance(value, dict) else Raw({"text": line}, "not_a_json_object")


def _is_tree(line: str, wanted: Columns) -> bool:
    """Whether a line is an object without a text, but with a list of objects: a whole data set."""
    value = _json_object(line)
    if not isinstance(value, dict) or {wanted.get("text"), *USUAL_NAMES["text"]} & {*value}:
        return False
    return any(isinstance(v, list) and v and isinstance(v[0], dict) for v in value.values())


def _csv(file: File, wanted: Columns) -> Iterator[Raw]:
    csv.field_size_limit(max(_LONGEST, csv.field_size_limit()))
    lines = _lines(file, "")
    first = next((line for line in lines if not line.isspace()), "")
    delimiter = "\t" if file.kind == ".tsv" else max(",;\t|", key=first.count)
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    rows = _csv_rows(reader, file)
    header, _ = next(rows, ([], None))
    if not header:
        return
    columns = _columns(wanted, header, set(header), file.name)
    places = {role: header.index(name) for role, name in columns.items()}
    for fields, invalid in rows:
        error = invalid or _csv_error(fields, len(header))
        if error:
            yield Raw({"text": delimiter.join(fields)}, error)
        else:
            yield Raw({role: fields[place] for role, place in places.items()})


def _csv_error(fields: list[str], num_columns: int) -> str | None:
    if len(fields) != num_columns:
        return "too_few_fields" if len(fields) < num_columns else "too_many_fields"
    return "invalid_utf8" if any(_BAD_BYTE.search(field) for field in fields) else None


def _csv_rows(reader: Any, file: File) -> Iterator[tuple[list[str], str | None]]:
    """Rows with their error, if any; blank lines are none."""
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "expected after" not in str(error):  # a quote that swallows what follows
                raise UserError(
                    f"{file.path}: the row from line {start} never ends ({error}); "
                    f"close or double its quotes, or fetch the file again"
                ) from None
            yield [], "invalid_csv"
        else:
            if fields:
                yield fields, None


def _text(file: File) -> Iterator[Raw]:
    """Paragraphs between blank lines; lines, where no line is blank."""
    one_a_line = not _has_paragraphs(_lines(file, None))
    lines: Iterable[str] = itertools.chain(_lines(file, None), [""])
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        if paragraph and (one_a_line or not line.strip()):
            text = "".join(paragraph).strip()
            yield Raw({"text": text}, "invalid_utf8" if _BAD_BYTE.search(text) else None)
            paragraph = []


def _has_paragraphs(lines: Iterator[str]) -> bool:
    seen = blank = False
    for line in lines:
        if line.strip() and blank:
            return True
        seen = seen or bool(line.strip())
        blank = seen and not line.strip()
    return False


def _parquet(file: File, wanted: Columns) -> Iterator[Raw]:
    num_rows = 0
    try:
        # A buffer in place of `pre_buffer`: a row group may be larger than the memory.
        with open_parquet(
            file.path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True
        ) as parquet:
            columns = _parquet_columns(parquet.schema_arrow, file, wanted)
            for batch in parquet.iter_batches(256, columns=sorted(set(columns.values()))):
                values = {role: _values(batch.column(name)) for role, name in columns.items()}
                for row in zip(*values.values(), strict=True):
                    raw = dict(zip(values, row, strict=True))
                    bad = _BAD_BYTE.search(raw["text"] or "")
                    yield Raw(raw, "invalid_utf8" if bad else None)
                num_rows += batch.num_rows
    except PermissionError:
        raise _unreadable(file) from None
    except (pa.ArrowException, OSError) as error:
        reason = normalize(str(error))[:160]
        raise UserError(
            f"{file.path}: no whole Parquet file (after row {num_rows}: {reason}); fetch it again"
        ) from None


def _parquet_columns(schema: pa.Schema, file: File, wanted: Columns) -> dict[str, str]:
    texts = {field.name for field in schema if _is_string(field.type)}
    columns = _columns(wanted, schema.names, texts, file.name)
    text = columns["text"]
    if text not in texts:
        raise UserError(
            f"{file.name}: column '{text}' holds {schema.field(text).type}, not text; name "
            f"another: --set {_setting(wanted, 'text')}=<column>, of {listed(schema.names)}"
        )
    return columns


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in (*checks, pa.types.is_binary, pa.types.is_large_binary))


def _values(column: "pa.Array[Any]") -> list[Any]:
    """A column's values; Parquet's writers don't all check that strings are UTF-8."""
    if not _is_string(column.type):
        return cast(list[Any], column.to_pylist())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = column.cast(pa.large_binary()).to_pylist()
    return [v if v is None else v.decode("utf-8", "surrogateescape") for v in values]

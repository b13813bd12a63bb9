"""Examples laid out for random access: the Parquet of a source -> one memory-mapped Arrow file.

    rows.arrow     the usable rows, in the order they were read
    order.npy      row numbers, sorted by group: a group is a task and a query language
    dropped.jsonl  rows that no training can use, each with its reason
    source.json    groups, counts and lineage; written last, so that a folder with it is whole

Rows are read where they lie, so memory does not grow with the data: 8 bytes a row on disk besides.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sdg.errors import UserError
from sdg.schema import Example, check_schema

VERSION = 1
COLUMNS = (
    *("id", "task", "instruction", "query", "query_lang", "positives", "positive_scores"),
    *("negatives", "negative_scores", "positive_grades", "negative_grades"),
)
_LINEAGE = ("license", "engine", "model", "strategy")
_BATCH_ROWS = 1024
_MOST_INSTRUCTIONS = 1000  # of a task that are counted; the rest share no prompt anyway


def find_shards(path: Path) -> list[Path]:
    """The Parquet files of a run folder, a folder of shards or a single file.

    Raises:
        UserError: there are none, or one is empty.
    """
    if path.is_file():
        files = [path]
    elif (path / "examples").is_dir():
        files = sorted((path / "examples").glob("*.parquet"))
    else:
        files = sorted(path.glob("*.parquet"))
    if not files:
        what = "no such file or folder" if not path.exists() else "no *.parquet there"
        raise UserError(f"{path}: {what}; sources take a run's folder, or Parquet shards of one")
    for file in files:
        if not file.stat().st_size:
            raise UserError(f"{file}: an empty file; generate it again, or take it away")
    return files


def read_shards(files: Iterable[Path]) -> Iterator[pa.Table]:
    """The rows of Parquet shards of Examples, some at a time.

    Raises:
        UserError: a file is cut, corrupt, or of another schema version or row.
    """
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                check_schema(parquet.schema_arrow, Example, file)
                for batch in parquet.iter_batches(_BATCH_ROWS):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:160]
            raise UserError(
                f"{file}: not a whole Parquet file ({reason}); generate it again, or take it away"
            ) from None


def fingerprint(files: Iterable[Path], settings: str) -> str:
    """Hash of what a source is made from: names, sizes and times of its files, and settings."""
    state = hashlib.blake2b(f"{VERSION}\n{settings}".encode(), digest_size=8)
    for file in files:
        found = file.stat()
        state.update(f"{file.name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return state.hexdigest()


def prepare(tables: Iterable[pa.Table], folder: Path) -> None:
    """Lay a source's rows out in `folder`, which appears whole or not at all.

    Raises:
        UserError: no row is left that a training can use.
    """
    fresh = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tally = _Tally()
    schema: pa.Schema | None = None
    with (
        pa.OSFile(str(fresh / "rows.arrow"), "wb") as sink,
        (fresh / "dropped.jsonl").open("w", encoding="utf-8") as dropped,
    ):
        writer: Any = None
        for table in tables:
            reasons_N = unusable(table)
            for number in np.flatnonzero(reasons_N != ""):
                row = {"id": table["id"][number].as_py(), "reason": str(reasons_N[number])}
                dropped.write(json.dumps(row, ensure_ascii=False) + "\n")
            kept = table.filter(pa.array(reasons_N == ""))
            tally.add(kept, reasons_N)
            rows = kept.select(COLUMNS).replace_schema_metadata(None)
            schema = schema or rows.schema
            writer = writer or pa.ipc.new_file(sink, schema)
            writer.write_table(rows, max_chunksize=_BATCH_ROWS)
        if writer:
            writer.close()
    if not tally.num_rows:
        why = ", ".join(f"{n} {reason}" for reason, n in tally.dropped.items()) or "no rows at all"
        shutil.rmtree(fresh)
        raise UserError(f"{folder.name}: no row that can be trained on ({why})")
    tally.write(fresh)
    for file in fresh.iterdir():
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
    fresh.rename(folder)


def unusable(table: pa.Table) -> np.ndarray:
    """(N,) why each row cannot be trained on; "" where it can."""
    reasons_N = np.full(table.num_rows, "", dtype=object)

    def mark(rows: np.ndarray, reason: str) -> None:
        rows = rows[reasons_N[rows] == ""]
        reasons_N[rows] = reason

    mark(np.flatnonzero(_blank(table["query"])), "no_query")
    mark(np.flatnonzero(_lengths(table["positives"]) == 0), "no_positive")
    mark(_parents(table["positives"], _blank), "empty_positive")
    mark(_parents(table["negatives"], _blank), "empty_negative")
    for side in ("positive", "negative"):
        texts_N = _lengths(table[f"{side}s"])
        for kind in ("scores", "grades"):
            numbers = table[f"{side}_{kind}"]
            mark(_parents(numbers, _not_finite), "nan_score")
            counts_N = _lengths(numbers)
            mark(np.flatnonzero((counts_N != 0) & (counts_N != texts_N)), f"{kind}_mismatch")
    return reasons_N


def _lengths(lists: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy()


def _blank(texts: pa.ChunkedArray) -> np.ndarray:
    stripped = pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(texts, "")))
    return pc.equal(stripped, 0).to_numpy(zero_copy_only=False)


def _not_finite(numbers: pa.ChunkedArray) -> np.ndarray:
    return pc.invert(pc.is_finite(pc.fill_null(numbers, float("nan")))).to_numpy(
        zero_copy_only=False
    )


def _parents(lists: pa.ChunkedArray, bad: Any) -> np.ndarray:
    """Rows with an element that is bad."""
    owners = pc.list_parent_indices(lists.combine_chunks()).to_numpy()
    return np.unique(owners[np.asarray(bad(pc.list_flatten(lists)), dtype=bool)])


class _Tally:
    """What `source.json` says, counted while rows go by."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.dropped: Counter[str] = Counter()
        self._groups: dict[tuple[str, str], int] = {}
        self._group_of: list[np.ndarray] = []
        self._instructions: dict[str, Counter[str]] = {}
        self._lineage: dict[str, Counter[str]] = {name: Counter() for name in ("corpus", *_LINEAGE)}

    def add(self, kept: pa.Table, reasons_N: np.ndarray) -> None:
        self.num_rows += kept.num_rows
        self.dropped.update(str(reason) for reason in reasons_N if reason)
        names = list(zip(kept["task"].to_pylist(), kept["query_lang"].to_pylist(), strict=True))
        places = [self._groups.setdefault(name, len(self._groups)) for name in names]
        self._group_of.append(np.array(places, dtype=np.int32))
        instructions = kept["instruction"].to_pylist()
        for (task, _), instruction in zip(names, instructions, strict=True):
            counter = self._instructions.setdefault(task, Counter())
            if instruction in counter or len(counter) < _MOST_INSTRUCTIONS:
                counter[instruction] += 1
        provenance = kept["provenance"].combine_chunks()
        if not kept.num_rows:
            return
        for name in _LINEAGE:
            self._lineage[name].update(_counts(provenance.field(name)))
        corpora = pc.replace_substring_regex(provenance.field("source"), r"(?s)#.*", "")
        self._lineage["corpus"].update(_counts(corpora))

    def write(self, folder: Path) -> None:
        group_of_N = np.concatenate(self._group_of)
        np.save(folder / "order.npy", np.argsort(group_of_N, kind="stable"))
        counts = np.bincount(group_of_N, minlength=len(self._groups)).tolist()
        firsts = np.concatenate([[0], np.cumsum(counts)]).tolist()
        content = {
            "num_rows": self.num_rows,
            "dropped": dict(self.dropped),
            "groups": [
                {"task": task, "lang": lang, "first": firsts[place], "count": counts[place]}
                for (task, lang), place in self._groups.items()
            ],
            "instructions": {
                task: dict(counter.most_common(20)) for task, counter in self._instructions.items()
            },
            "lineage": {name: dict(c.most_common(100)) for name, c in self._lineage.items()},
        }
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (folder / "source.json").write_text(text, encoding="utf-8")


def _counts(values: pa.Array) -> dict[str, int]:
    return {row["values"] or "": row["counts"] for row in pc.value_counts(values).to_pylist()}


class Source:
    """A prepared source, open for reading."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name  # with the fingerprint of what it was made from
        self.about: dict[str, Any] = json.loads((folder / "source.json").read_text("utf-8"))
        self._reader = pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow")))
        self._order_N = np.load(folder / "order.npy", mmap_mode="r", allow_pickle=False)
        sizes = [self._reader.get_batch(i).num_rows for i in range(self._reader.num_record_batches)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])

    def row(self, group: dict[str, Any], place: int) -> dict[str, Any]:
        """Row `place` of a group, from 0, as in the file."""
        number = int(self._order_N[group["first"] + place])
        batch = int(np.searchsorted(self._starts, number, side="right")) - 1
        found = self._reader.get_batch(batch).slice(number - int(self._starts[batch]), 1)
        (row,) = found.to_pylist()
        return row

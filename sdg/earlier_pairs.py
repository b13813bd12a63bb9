"""Pairs that are there already, to be compared with: another run's examples, or anybody's pairs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sdg.corpora import SourceConfig, corpus_files, read_sources
from sdg.errors import UserError
from sdg.fingerprints import files_fingerprint
from sdg.readers import USUAL_PAIR_NAMES, File
from sdg.schema import ROW_KEY, Example, check_schema
from sdg.storage import open_parquet

_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "query", "positive", "document")])
_BATCH = 1024  # rows in memory at once


class EarlierPairs:
    """A run's folder; or a file, folder, glob or dataset id of pairs, in columns of usual names."""

    def __init__(self, path: str) -> None:
        """Find the files.

        Raises:
            UserError: there are none.
        """
        self.path = path
        run = Path(path).expanduser() / "examples"
        if run.is_dir() and not any(run.glob("*.parquet")):
            raise UserError(
                f"{path}: a run without examples; finish it, or leave it out of against"
            )
        self._config = _Pairs(path=str(run) if run.is_dir() else path)
        self._files = corpus_files(self._config, ())
        self._examples = bool(self._files) and all(map(_holds_examples, self._files))

    def fingerprint(self) -> str:
        """What changes with what the pairs say."""
        return files_fingerprint(file.path for file in self._files)

    def tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """The pairs, some at a time; of a row with several positives each is a pair, and a pair's
        document is its positive. Rows without both sides are none.

        Raises:
            UserError: a file cannot be read, is cut, or has no such columns.
        """
        batch: list[dict[str, Any]] = []
        for row in self._of_examples() if self._examples else self._of_files():
            batch.append(row)
            if len(batch) == _BATCH:
                yield pa.Table.from_pylist(batch, _SCHEMA).select(columns)
                batch = []
        if batch:
            yield pa.Table.from_pylist(batch, _SCHEMA).select(columns)

    def _row(self, name: Any, query: str, positive: str) -> dict[str, Any]:
        where = f"{self.path}#{name}" if name else self.path
        return {"id": where, "query": query, "positive": positive, "document": positive}

    def _of_examples(self) -> Iterator[dict[str, Any]]:
        for file in self._files:
            parquet = open_parquet(file.path)
            check_schema(parquet.schema_arrow, Example, file.path)
            for batch in parquet.iter_batches(_BATCH, columns=["id", "query", "positives"]):
                for row in batch.to_pylist():
                    for positive in row["positives"]:
                        yield self._row(row["id"], row["query"], positive)

    def _of_files(self) -> Iterator[dict[str, Any]]:
        num_rows = 0
        try:
            for _, raws in read_sources(self._config, ()):
                for raw in raws:
                    query, positive = raw.values.get("query"), raw.values.get("text")
                    if raw.error is None and isinstance(query, str) and isinstance(positive, str):
                        num_rows += 1
                        yield self._row(raw.values.get("id"), query, positive)
        except UserError as error:
            what = str(error).partition("; name it:")[0]
            raise UserError(f"against: {what}; it takes columns query and positive") from None
        if not num_rows:
            raise UserError(f"against: {self.path}: holds no pair of a query and a positive")


class _Pairs(SourceConfig):
    def columns(self) -> dict[str, str]:
        return dict.fromkeys(USUAL_PAIR_NAMES, "")


def _holds_examples(file: File) -> bool:
    if file.kind != ".parquet":
        return False
    try:
        metadata = open_parquet(file.path).schema_arrow.metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.path}: not a readable Parquet file ({error})") from None
    return bool(metadata.get(ROW_KEY) == Example.__name__.encode())

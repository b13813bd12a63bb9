"""A run's examples in the layouts that other trainers read: one writer a trainer, in `WRITERS`.

Rows are streamed, and a layout appears whole or not at all: it is written beside its place and
renamed into it. Trainers that know of no instruction get it in the query's text, as `instructed`
writes it; whoever has a field for it gets it there.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from sdg.errors import UserError
from sdg.schema import SYMMETRIC_TASKS, Example, check_schema, instructed
from sdg.text import digest

Row = dict[str, Any]
BATCH_ROWS = 1024


@dataclass
class Written:
    """What went into a layout."""

    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    most_negatives: int = 0  # of a row; counted where all rows are given as many


class JsonLines:
    """JSON Lines files of a folder, opened as they are named."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, TextIO] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def text(self, name: str) -> TextIO:
        """The open file of a name."""
        if name not in self._files:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[name] = self._stack.enter_context(path.open("w", encoding="utf-8"))
        return self._files[name]

    def add(self, name: str, row: Row) -> None:
        """Append a row to a file."""
        self.text(name).write(json.dumps(row, ensure_ascii=False) + "\n")


def examples_of(folder: Path) -> Iterator[Row]:
    """The rows of a run, some at a time.

    Raises:
        UserError: there are none, or a file is broken or of another schema version.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise UserError(f"{folder}: no examples; has the run been finished?")
    for path in paths:
        try:
            file = pq.ParquetFile(path)
            check_schema(file.schema_arrow, Example, path)
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield from batch.to_pylist()
        except pa.ArrowException as error:
            raise UserError(f"{path}: not a readable Parquet file ({error})") from None


def _sides(row: Row) -> tuple[str, list[str], list[str]]:
    """Query, positives and negatives with the instruction where the recipe has it."""

    def asked(text: str) -> str:
        return instructed(row["instruction"], text)

    if row["task"] in SYMMETRIC_TASKS:
        documents = [[asked(text) for text in row[side]] for side in ("positives", "negatives")]
        return asked(row["query"]), documents[0], documents[1]
    return asked(row["query"]), row["positives"], row["negatives"]


def write_sentence_transformers(rows: Iterator[Row], folder: Path, negatives: int) -> Written:
    """`<task>/train.parquet`: anchor, positive, negative_1 … as its trainer takes columns in order.

    Graded pairs (STS) are sentence1, sentence2 and score. Its columns are of one number, so a row
    with fewer than `negatives` negatives is left out.
    """
    written = Written()
    columns = ["anchor", "positive", *(f"negative_{k + 1}" for k in range(negatives))]
    triplets = pa.schema([pa.field(name, pa.string()) for name in columns])
    graded = pa.schema(
        [("sentence1", pa.string()), ("sentence2", pa.string()), ("score", pa.float32())]
    )
    with ExitStack() as stack:
        tables: dict[str, _TableWriter] = {}
        for row in rows:
            query, positives, hard = _sides(row)
            schema, lines = triplets, [[query, positives[0], *hard[:negatives]]]
            if row["positive_grades"]:
                pairs = zip(positives, row["positive_grades"], strict=True)
                lower = zip(hard, row["negative_grades"], strict=False)  # mined ones have none
                schema = graded
                lines = [[query, text, grade] for text, grade in [*pairs, *lower]]
            else:
                written.most_negatives = max(written.most_negatives, len(hard))
                if len(hard) < negatives:
                    written.left_out[f"fewer than {negatives} negatives"] += 1
                    continue
            name = row["task"]
            if name not in tables:
                tables[name] = stack.enter_context(_TableWriter(folder / name, schema))
            tables[name].add(lines)
            written.rows += 1
    return written


class _TableWriter:
    """`train.parquet` of a folder, a row group at a time."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(folder / "train.parquet", schema, compression="zstd")
        self._schema, self._waiting = schema, list[list[Any]]()

    def __enter__(self) -> "_TableWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        self._write()
        self._file.close()

    def add(self, lines: list[list[Any]]) -> None:
        self._waiting += lines
        if len(self._waiting) >= BATCH_ROWS:
            self._write()

    def _write(self) -> None:
        columns = zip(*self._waiting, strict=True) if self._waiting else [()] * len(self._schema)
        arrays = [
            pa.array(list(column), kind.type)
            for column, kind in zip(columns, self._schema, strict=True)
        ]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._waiting = []


def write_automodel(rows: Iterator[Row], folder: Path, negatives: int) -> Written:
    """`train.jsonl` with the documents' texts inline, as `retrieval_dataset_inline` reads it."""
    written = Written()
    with JsonLines(folder) as files:
        for row in rows:
            if not row["negatives"]:  # its loader refuses such a row at training time
                written.left_out["no negatives"] += 1
                continue
            query, positives, hard = _sides(row)
            files.add(
                "train.jsonl",
                {"question_id": row["id"], "query": query, "pos_doc": positives, "neg_doc": hard},
            )
            written.rows += 1
    return written


def write_flagembedding(rows: Iterator[Row], folder: Path, negatives: int) -> Written:
    """`<task>.jsonl`: query, pos, neg, their scores, and the instruction as the row's `prompt`.

    A file a task, since its trainer takes a batch from one file. Train with
    `--query_instruction_format 'Instruct: {}\\nQuery: {}'`.
    """
    written = Written()
    with JsonLines(folder) as files:
        for row in rows:
            if not row["negatives"]:  # its loader divides by their number
                written.left_out["no negatives"] += 1
                continue
            symmetric = row["task"] in SYMMETRIC_TASKS
            _, positives, hard = (
                _sides(row) if symmetric else ("", row["positives"], row["negatives"])
            )
            line = {"query": row["query"], "pos": positives, "neg": hard}
            line |= {"pos_scores": row["positive_scores"], "neg_scores": row["negative_scores"]}
            files.add(f"{row['task']}.jsonl", {**line, "prompt": row["instruction"]})
            written.rows += 1
    return written


def write_tevatron(rows: Iterator[Row], folder: Path, negatives: int) -> Written:
    """`train.jsonl`: query, positive_passages and negative_passages with ids of their texts."""

    def passages(texts: list[str]) -> list[Row]:
        return [{"docid": digest(text), "text": text} for text in texts]

    written = Written()
    with JsonLines(folder) as files:
        for row in rows:
            query, positives, hard = _sides(row)
            line: Row = {"query_id": row["id"], "query": query}
            line |= {"positive_passages": passages(positives), "negative_passages": passages(hard)}
            files.add("train.jsonl", line)
            written.rows += 1
    return written


def write_beir(rows: Iterator[Row], folder: Path, negatives: int) -> Written:
    """`corpus.jsonl`, `queries.jsonl` and `qrels/train.tsv`: an evaluation set, or for mining.

    The corpus is all positives and negatives, each text once. Texts are as they are: who reads this
    layout brings the instruction. Of the ids of documents 16 bytes each are held in memory.
    """
    written = Written()
    seen: set[bytes] = set()
    with JsonLines(folder) as files:
        qrels = files.text("qrels/train.tsv")
        qrels.write("query-id\tcorpus-id\tscore\n")
        for row in rows:
            for text in [*row["positives"], *row["negatives"]]:
                name = digest(text)
                if bytes.fromhex(name) not in seen:
                    seen.add(bytes.fromhex(name))
                    files.add("corpus.jsonl", {"_id": name, "title": "", "text": text})
            files.add("queries.jsonl", {"_id": row["id"], "text": row["query"]})
            for text in dict.fromkeys(row["positives"]):
                qrels.write(f"{row['id']}\t{digest(text)}\t1\n")
            written.rows += 1
    return written


Writer = Callable[[Iterator[Row], Path, int], Written]
WRITERS: dict[str, Writer] = {
    "sentence-transformers": write_sentence_transformers,
    "automodel": write_automodel,
    "flagembedding": write_flagembedding,
    "tevatron": write_tevatron,
    "beir": write_beir,
}
HUB = "hf"  # the examples as they are, with the card, as a dataset of the Hugging Face Hub


def export(run_dir: Path, to: str, negatives: int) -> tuple[Path, Written]:
    """Write a run's examples for a trainer into `export/<to>` of the run's folder.

    Raises:
        UserError: no such layout, no finished run, or broken files.
    """
    if to != HUB and to not in WRITERS:
        raise UserError(f"TO={to}: not a layout; those there are: {', '.join([*WRITERS, HUB])}")
    if not (run_dir / "summary.json").is_file():
        raise UserError(f"{run_dir}: no finished run there (it has no summary.json)")
    place = run_dir / "export" / to
    fresh = place.with_name(f".{to}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        examples = run_dir / "examples"
        if to == HUB:
            written = _copy_for_hub(examples, fresh)
        else:
            written = WRITERS[to](examples_of(examples), fresh, negatives)
        (fresh / "README.md").write_text(_card(run_dir, to), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return place, written


def _copy_for_hub(examples: Path, folder: Path) -> Written:
    """The shards, each read once to be sure that it is whole."""
    rows = sum(1 for _ in examples_of(examples))
    paths = sorted(examples.glob("*.parquet"))
    (folder / "data").mkdir()
    for number, path in enumerate(paths):
        shutil.copyfile(path, folder / "data" / f"train-{number:05}-of-{len(paths):05}.parquet")
    return Written(rows)


def _card(run_dir: Path, to: str) -> str:
    """The run's card, of which the front matter names the files of this layout."""
    card = (run_dir / "README.md").read_text(encoding="utf-8")
    if to == HUB:
        return card.replace("data_files: examples/*.parquet", "data_files: data/*.parquet")
    # Other layouts aren't read through the Hub's configuration.
    return (
        card.replace(
            "configs:\n- config_name: default\n  data_files: examples/*.parquet\n", ""
        ).rstrip()
        + f"\n\nThis copy is laid out for {to} by `make export TO={to}`.\n"
    )

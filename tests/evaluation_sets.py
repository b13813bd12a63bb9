"""Small evaluation sets of the bundled corpus, in the layouts that `make evaluate` reads."""

import json
from pathlib import Path
from typing import Any

from sdg.corpora import BUNDLED


def documents(lang: str) -> list[dict[str, str]]:
    lines = (BUNDLED / f"{lang}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines][:20]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def beir(folder: Path, lang: str) -> Path:
    found = documents(lang)
    write_lines(
        folder / "corpus.jsonl",
        [{"_id": f"d{i}", "title": "", "text": d["text"]} for i, d in enumerate(found)],
    )
    write_lines(
        folder / "queries.jsonl",
        [{"_id": f"q{i}", "text": d["title"]} for i, d in enumerate(found)],
    )
    (folder / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in range(len(found)))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return folder

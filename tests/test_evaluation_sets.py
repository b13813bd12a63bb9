"""Evaluation sets are read as texts, whatever kind of task they are of."""

from pathlib import Path

import pytest

from sdg.errors import UserError
from sdg.evaluation_sets import _of_task, check_set, read_set
from tests.evaluation_sets import beir, documents, write_lines


def test_mtebs_tasks_of_every_kind(tmp_path: Path) -> None:
    # The registry's own need a network; these are mteb's tasks all the same.
    from embedtrain.local_tasks import local_task

    rows = documents("sw")
    pairs = [{"sentence1": row["title"], "sentence2": row["text"], "score": 3.0} for row in rows]
    write_lines(tmp_path / "sts-sw" / "sts.jsonl", pairs)
    labelled = [{"text": row["text"], "label": i % 2} for i, row in enumerate(rows)]
    write_lines(tmp_path / "topics-sw" / "train.jsonl", [{"text": "mafunzo tu", "label": 1}])
    write_lines(tmp_path / "topics-sw" / "test.jsonl", labelled)
    beir(tmp_path / "news-sw", "sw")
    titles, texts = {row["title"] for row in rows}, {row["text"] for row in rows}
    for name, expected in [("sts", titles | texts), ("topics", texts), ("news", titles | texts)]:
        tables = _of_task(local_task(tmp_path / f"{name}-sw"))
        found = {
            value
            for table in tables
            for row in table
            for key, value in row.items()
            if isinstance(value, str) and key not in ("id", "title")
        }
        assert found == expected


def test_the_registrys_names() -> None:
    assert check_set("mteb:NFCorpus") == "1 tasks"
    tasks = int(check_set("mteb:NanoBEIR").split()[0])
    assert tasks > 5
    with pytest.raises(UserError, match="no task or benchmark of that name"):
        check_set("mteb:NoSuchTask")


def test_one_that_cannot_be_reached_is_said() -> None:
    with pytest.raises(UserError, match="mteb:NFCorpus: cannot be loaded"):
        list(read_set("mteb:NFCorpus", ["en"]))

"""The pieces of `make e2e` that are its own; the stages have tests of theirs."""

from pathlib import Path

import pytest

from embedtrain.evaluate import evaluate
from embedtrain.export import Card, check_golden, export
from embedtrain.local_tasks import local_task
from embedtrain.model import Embedder
from pipelines.e2e import bundled, main, measure, merge_and_export, write_titles
from tests import tiny_embedders


def test_titles_ask_for_their_texts(tmp_path: Path, minilm: Path) -> None:
    documents = bundled("en")[:8]
    others = [document["text"] for document in bundled("en")[8:]]
    folder = write_titles(tmp_path / "titles.en", documents, others)
    (found,) = evaluate(minilm, [local_task(folder)], print)
    assert found.score > 0.95  # English titles, by an English model
    assert len(found.by_query) == 8
    assert found.languages == ["eng"]


def test_a_merged_model_is_exported_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = []
    for name in ("a", "b"):
        base = tiny_embedders.build(tmp_path / "base" / name, "bert")
        export(Embedder.load(str(base)), tmp_path / name, Card(base="base", max_tokens=96))
        models.append(tmp_path / name)
    merged = merge_and_export(models, tmp_path, Path("base"))
    assert check_golden(merged) <= 1e-5
    titles = write_titles(tmp_path / "titles.en", bundled("en")[:8], [])
    assert measure({"before": models[0], "merged": merged}, [titles])  # the average of two equals
    assert "merged (+0.0000; -0.005 is allowed)" in capsys.readouterr().out


def test_a_language_without_a_test_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lang", "rw", "--corpus", "some.parquet"]) == 2
    assert "LANG=rw: no bundled corpus to test with; there are: am, ar" in capsys.readouterr().err

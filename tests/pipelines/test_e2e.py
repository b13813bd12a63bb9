"""`make e2e`: the whole road on a tiny model, and the pieces of it that are its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedtrain.evaluate import evaluate
from embedtrain.export import Card, check_golden
from embedtrain.local_tasks import local_task
from pipelines.e2e import bundled, main, write_titles
from sdg.schema import Example, read_rows, rows_of
from tests import tiny_embedders
from tests.tiny_training import weights

ROOT = Path(__file__).parents[2]
SETS = ("steps=4", "data.instruct=true")


def test_titles_ask_for_their_texts(tmp_path: Path, minilm: Path) -> None:
    documents = bundled("en")[:8]
    others = [document["text"] for document in bundled("en")[8:]]
    folder = write_titles(tmp_path / "titles.en", documents, others)
    (found,) = evaluate(minilm, [local_task(folder)], print)
    assert found.score > 0.95  # English titles, by an English model
    assert len(found.by_query) == 8
    assert found.languages == ["eng"]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """Where it was gone, the exit status, and what was said."""
    folder = tmp_path_factory.mktemp("road")
    base = tiny_embedders.build(folder / "base", "bert")
    sets = [word for text in SETS for word in ("--set", text)]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.e2e", "--lang", "sw", "--model", str(base), *sets],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return folder, done.returncode, done.stdout


def test_the_merged_model_is_the_average_of_two_that_differ(road: tuple[Path, int, str]) -> None:
    folder, _, said = road
    trainings = [folder / "trainings" / f"e2e-sw-{name}" / "model" for name in ("a", "b")]
    merged = folder / "runs" / "e2e-sw-e2e" / "merged"
    first, second, found = (weights(model) for model in (*trainings, merged))
    assert first.keys() == second.keys() == found.keys()
    assert max(float((first[name] - second[name]).abs().max()) for name in first) > 1e-5
    for name, weight in found.items():
        mean = (first[name].double() + second[name].double()) / 2
        torch.testing.assert_close(weight.double(), mean, atol=1e-7, rtol=1e-6, msg=name)
    assert check_golden(merged) <= 1e-5
    assert "merged: sentence-transformers gives its golden vectors" in said


def test_the_merged_model_says_what_its_parts_do(road: tuple[Path, int, str]) -> None:
    folder, _, _ = road
    part, merged = (
        folder / place for place in ("trainings/e2e-sw-a/model", "runs/e2e-sw-e2e/merged")
    )
    prompts = [SentenceTransformer(str(m), device="cpu").prompts for m in (part, merged)]
    assert prompts[0]["query"].startswith("Instruct: ")
    assert prompts[1] == prompts[0]
    one, both = Card.read(part), Card.read(merged)
    assert (both.max_tokens, both.sources) == (64, one.sources)
    assert both.settings["weights"] == [0.5, 0.5]
    assert "| retrieval | sw |" in (merged / "README.md").read_text(encoding="utf-8")


def test_what_asks_was_kept_out_of_training(road: tuple[Path, int, str]) -> None:
    folder, _, _ = road
    rows = rows_of(
        read_rows(sorted(folder.glob("runs/e2e-sw/examples/*.parquet")), Example), Example
    )
    trained = "\n".join(
        text for row in rows for text in (row.query, *row.positives, *row.negatives)
    )
    titles = folder / "runs/e2e-sw-e2e/titles.sw"
    asked = [
        json.loads(line)["text"] for line in (titles / "queries.jsonl").read_text().splitlines()
    ]
    corpus = [
        json.loads(line)["text"] for line in (titles / "corpus.jsonl").read_text().splitlines()
    ]
    kept_out = {document["title"]: document["text"] for document in bundled("sw")[1::2]}
    assert asked == list(kept_out)
    assert corpus[: len(asked)] == list(kept_out.values())
    assert len(corpus) > len(asked)  # the run's own passages are there to be mistaken for them
    for title, text in kept_out.items():
        assert title not in {row.query for row in rows}
        assert text not in trained


def test_all_four_are_measured_and_english_decides(road: tuple[Path, int, str]) -> None:
    folder, status, said = road
    cells = [re.sub("[│┃]", " ", line).split() for line in said.splitlines()]
    (head,) = [row for row in cells if row[:1] == ["task"]]
    assert head[-4:] == ["before", "a", "b", "merged"]
    places = ("runs/e2e-sw-e2e/before", "trainings/e2e-sw-a/model")
    lengths = [
        json.loads((folder / place / "sentence_bert_config.json").read_text())["max_seq_length"]
        for place in places
    ]
    assert lengths == [64, 64]
    for task in ("titles_sw", "titles_en"):
        (row,) = [row for row in cells if row[:1] == [task]]
        for place, score in zip(places, row[-4:-2], strict=True):
            kept = json.loads((folder / place / "evaluation" / f"{task}.json").read_text())
            assert f"{kept['result']['score']:.4f}" == score
    (line,) = re.findall(r"English, titles_en: (\S+) before, (\S+) merged \((\S+);", said)
    before, after, change = map(float, line)
    assert change == pytest.approx(after - before, abs=2e-4)
    assert status == (0 if change >= -0.005 else 1)


def test_a_language_without_a_test_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lang", "rw", "--corpus", "some.parquet"]) == 2
    assert "LANG=rw: no bundled corpus to test with; there are: am, ar" in capsys.readouterr().err

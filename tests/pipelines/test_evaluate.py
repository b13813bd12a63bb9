"""`make evaluate`: what it prints and keeps, on a real small model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.evaluate import main
from tests.evaluation_sets import beir


def test_two_models_are_compared_on_the_same_queries(
    minilm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "shorter"
    shutil.copytree(minilm, other)
    settings = json.loads((other / "sentence_bert_config.json").read_text())
    (other / "sentence_bert_config.json").write_text(json.dumps({**settings, "max_seq_length": 4}))
    sets = [beir(tmp_path / f"titles-{lang}", lang) for lang in ("en", "sw")]
    arguments = ["--model", f"{other},{minilm}", "--data", ",".join(map(str, sets))]
    assert main(arguments) == 0
    results = other / "evaluation" / "results" / "shorter+minilm.json"
    found = json.loads(results.read_text())
    first, second = (found["results"][name] for name in ("shorter", "minilm"))
    assert found["borda"] == {"shorter": 0.0, "minilm": 2.0}
    differences = [
        task_b["by_query"][q] - task_a["by_query"][q]
        for task_a, task_b in zip(first, second, strict=True)
        for q in task_a["by_query"]
    ]
    overall = found["bootstrap"]["all queries"]
    assert overall["difference"] == pytest.approx(np.mean(differences))
    assert overall["low"] < overall["difference"] < overall["high"]
    shown = capsys.readouterr().out
    assert "mean over tasks" in shown
    assert "Borda votes" in shown
    cells = [line.replace("│", " ").split() for line in shown.splitlines()]
    for metric in ("recall_at_10", "recall_at_100", "mrr_at_10"):
        values = [f"{model[0]['metrics'][metric]:.4f}" for model in (first, second)]
        assert [metric, *values] in cells
    for number, lang in enumerate(("eng", "swa")):
        assert ["mean", lang, *(f"{m[number]['score']:.4f}" for m in (first, second))] in cells
    assert str(results) in shown.replace("\n", "")
    assert main([*arguments, "--out", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["borda"] == found["borda"]
    assert "all queries: nDCG@10 of the second minus the first" in shown


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path), "--tasks", "MTEB(Multilingual, v2),NoSuchTask"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: TASKS: mteb has no task or benchmark 'NoSuchTask'")
    assert len(error.splitlines()) == 1

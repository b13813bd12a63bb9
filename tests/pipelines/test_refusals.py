"""A folder that cannot be written is one line from every command, whatever it writes there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from embedtrain import merge
from pipelines import e2e, evaluate, export, report, train
from tests import tiny_embedders, tiny_training
from tests.evaluation_sets import beir
from tests.finished_run import finished_run

SETS = ["batch_size=4", "steps=1", "max_tokens=64"]
Prepared = Callable[[Path], list[str]]


def blocked(path: Path) -> None:
    """A file where a folder is wanted, which stops root as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


def for_train(folder: Path) -> list[str]:
    config = tiny_training.make(folder)
    blocked(folder / "trainings" / "t" / "data")
    data = ["--data", str(folder / "shards"), "--model", config.model]
    return ["--run", "t", *data, *(word for text in SETS for word in ("--set", text))]


def for_e2e(folder: Path) -> list[str]:
    blocked(folder / "runs")
    return ["--lang", "sw", "--model", "none"]


def for_export(folder: Path) -> list[str]:
    finished_run(folder / "runs" / "sw", ["sw"])
    blocked(folder / "runs" / "sw" / "export")
    return ["--run", "sw", "--to", "tevatron"]


def for_report(folder: Path) -> list[str]:
    finished_run(folder / "runs" / "sw", ["sw"])
    (folder / "runs" / "sw" / "report.html").mkdir()
    return ["--run", "sw"]


def for_evaluate(folder: Path) -> list[str]:
    tiny_embedders.build(folder / "model", "bert")
    blocked(folder / "model" / "evaluation")
    return ["--model", str(folder / "model"), "--data", str(beir(folder / "titles-sw", "sw"))]


def for_merge(folder: Path) -> list[str]:
    models = [str(tiny_embedders.build(folder / name, "bert")) for name in ("a", "b")]
    blocked(folder / "out")
    return [str(folder / "out" / "merged"), *models]


@pytest.mark.parametrize(
    ("main", "prepared", "place"),
    [
        (train.main, for_train, "trainings/t/data"),
        (e2e.main, for_e2e, "runs"),
        (export.main, for_export, "runs/sw/export"),
        (report.main, for_report, "runs/sw/report.html"),
        (evaluate.main, for_evaluate, "model/evaluation"),
        (merge.main, for_merge, "out"),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_line(
    main: Callable[[list[str]], int],
    prepared: Prepared,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = prepared(tmp_path)
    capsys.readouterr()
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert place in line


def test_weights_on_a_full_disk_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(tiny_embedders.build(tmp_path / name, "bert")) for name in ("a", "b")]
    try:
        tiny_training.limit_files(20_000)  # less than the weights, more than all else
        assert merge.main([str(tmp_path / "out"), *models]) == 1
    finally:
        tiny_training.limit_files(-1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not (tmp_path / "out").exists()

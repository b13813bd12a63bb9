"""`make train`: its settings files, what it refuses, and the same training as a Ray Train job."""

from pathlib import Path

import pytest
import torch
import yaml

from embedtrain.config import TrainConfig
from pipelines.settings import config_names, find_config, read_settings
from pipelines.train import main
from sdg.errors import UserError
from tests import tiny_training


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file of a tiny training, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    config = tiny_training.make(tmp_path, steps=4)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=True)))
    return path


@pytest.mark.parametrize("name", config_names("train_"))
def test_every_settings_file_is_read(name: str) -> None:
    config = read_settings(TrainConfig, find_config(name, "train_"), {})
    assert config.loss.temperature > 0


def test_there_is_one_for_each_kind_of_machine_and_stage() -> None:
    kinds = {"tiny", "1b", "8b_1gpu", "8b_8gpu", "stage1", "stage2"}
    assert set(config_names("train_")) >= {f"train_{kind}" for kind in kinds}
    assert not [name for name in config_names() if name.startswith("train_")]


def test_the_recipes_stages_have_its_numbers() -> None:
    """Table of the two stages in arXiv 2511.07025."""
    wanted = {"train_stage1": (1e-5, 2048, 5773, 1), "train_stage2": (2e-6, 128, 33668, 4)}
    for name, (rate, batch, steps, negatives) in wanted.items():
        config = read_settings(TrainConfig, find_config(name, "train_"), {})
        assert (config.optim.learning_rate, config.batch_size) == (rate, batch)
        assert (config.steps, config.data.negatives) == (steps, negatives)
        assert (config.optim.weight_decay, config.optim.warmup_steps) == (0.01, 100)
        assert (config.loss.name, config.loss.temperature) == ("hard_negatives", 0.02)
        assert (config.max_tokens, config.pooling) == (512, "mean")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "../x"], "RUN=../x: a run's name is letters"),
        (["--run", "x"], "which model? Give a folder or a hub id: MODEL=<model>"),
        (["--run", "x", "--model", "none/here"], "no data: give sources"),
        (["--run", "x", "--config", "train_2b"], "those that come along: train_1b, train_8b_1gpu"),
        (["--run", "x", "--set", "optim.rate=1"], "--set optim.rate: unknown key; allowed: learn"),
        (["--run", "x", "--set", "loss.name=hard"], "--set loss.name: Input should be 'hard_neg"),
        (["--run", "x", "--model", "m", "--data", "gone"], "gone: no such file or folder"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_flags_go_before_the_file(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny_training.tiny_embedders.build(tmp_path / "other", "bert")
    arguments = ["--run", "first", "--config", str(settings), "--model", str(other)]
    assert main([*arguments, "--data", str(tmp_path / "shards"), "--set", "log_steps=1"]) == 0
    said = capsys.readouterr().out
    assert "step 1/4" in said
    assert "the model: trainings/first/model" in said
    assert (tmp_path / "trainings/first/model/config.json").read_text().count('"bert"') == 1


@pytest.mark.slow
def test_two_workers_of_ray_train_are_one_process(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    assert main(["--run", "alone", "--config", str(settings)]) == 0
    assert main(["--run", "ray", "--config", str(settings), "--ray", "2"]) == 0
    alone, both = (tmp_path / "trainings" / name / "model" for name in ("alone", "ray"))
    assert tiny_training.difference(alone, both) < 1e-6
    arguments = ["--run", "odd", "--config", str(settings), "--ray", "2", "--set", "batch_size=3"]
    capsys.readouterr()
    assert main(arguments) == 2
    assert "error: batch_size 3: not a multiple of the 2 ranks" in capsys.readouterr().err


def test_a_settings_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        find_config(str(tmp_path / "none.yaml"), "train_")

"""`make train`: its settings files, what it refuses, and the same training as a Ray Train job."""

import signal
from pathlib import Path

import pytest
import torch
import yaml
from ray.train import TrainingFailedError

from embedtrain.config import TrainConfig
from pipelines.ray_train import _until_done, scaling_of
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
        (["--run", "../x"], "RUN=../x: a name is letters"),
        (["--run", "x"], "which model? Give a folder or a hub id: MODEL=<model>"),
        (["--run", "x", "--model", "none/here"], "no data: give a run, DATA=runs/<run>"),
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
    handler = signal.getsignal(signal.SIGINT)
    assert main(["--run", "ray", "--config", str(settings), "--ray", "2"]) == 0
    assert signal.getsignal(signal.SIGINT) is handler
    alone, both = (tmp_path / "trainings" / name / "model" for name in ("alone", "ray"))
    assert tiny_training.difference(alone, both) < 1e-6
    arguments = ["--run", "odd", "--config", str(settings), "--ray", "2", "--set", "batch_size=3"]
    capsys.readouterr()
    assert main(arguments) == 2
    found = capsys.readouterr()
    assert "error: batch_size 3: not a multiple of the 2 ranks" in found.err
    assert "2 workers of Ray Train, on CPUs" in found.out
    assert "a worker was lost" not in found.out  # a mistake is not tried again


def test_ray_train_takes_the_clusters_gpus() -> None:
    """Those of its workers: this machine may have none."""
    assert scaling_of({"CPU": 4.0, "GPU": 8.0}, 8).use_gpu
    assert not scaling_of({"CPU": 4.0}, 4).use_gpu
    with pytest.raises(UserError, match="--ray 9: more workers than the cluster's 8 GPUs"):
        scaling_of({"CPU": 64.0, "GPU": 8.0}, 9)
    with pytest.raises(UserError, match="--ray 5: more workers than the cluster's 4 CPUs"):
        scaling_of({"CPU": 4.0}, 5)


@pytest.mark.parametrize("checkpoints", [True, False])
def test_lost_workers_are_replaced_while_it_goes_on(tmp_path: Path, checkpoints: bool) -> None:
    """Six times, if each leaves a new checkpoint."""
    (tmp_path / "checkpoints").mkdir()
    said: list[str] = []
    tries = 0

    def fit() -> None:
        nonlocal tries
        tries += 1
        if checkpoints:
            (tmp_path / "checkpoints" / "last").write_text(f"step-{tries}")
        if tries < 7:
            raise TrainingFailedError("Worker exited\nnode lost")

    if checkpoints:
        _until_done(fit, tmp_path, said.append)
        assert (tries, len(said)) == (7, 6)
    else:
        with pytest.raises(UserError, match="lost 4 times without a new checkpoint .* node lost"):
            _until_done(fit, tmp_path, said.append)
        assert (tries, len(said)) == (4, 3)


def test_a_settings_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        find_config(str(tmp_path / "none.yaml"), "train_")

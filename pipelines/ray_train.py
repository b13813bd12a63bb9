"""A training as a Ray Train job: Ray starts the ranks, wherever the cluster has room for them.

The folder must be one that all of the cluster's machines see.
"""

import os
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from embedtrain.config import TrainConfig
from sdg.errors import UserError

ROOT = Path(__file__).parents[1]  # where the packages are, which workers import


def _worker(job: dict[str, Any]) -> None:
    from embedtrain.train import train

    train(TrainConfig.model_validate_json(job["config"]), Path(job["folder"]))


def train_on_ray(config: TrainConfig, folder: Path, num_workers: int) -> Path:
    """Train on so many workers, each with a GPU where the machine has them.

    A worker that is lost is replaced, and the training goes on from its last checkpoint.

    Raises:
        UserError: the training cannot go on; the worker's own words.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    gpu = torch.cuda.is_available()
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"config": config.model_dump_json(), "folder": str(folder)},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=gpu),
        run_config=RunConfig(
            name="ray",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=0 if not gpu else 3),
        ),
    )
    if "RAY_ADDRESS" in os.environ:  # a job: its working directory has the code
        ray.init(address=os.environ["RAY_ADDRESS"])
    else:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {"env_vars": {"PYTHONPATH": path}}
        ray.init(address="local", include_dashboard=False, runtime_env=environment)
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise UserError(_own_words(error)) from error
    finally:
        ray.shutdown()
    return folder / "model"


def _own_words(error: BaseException) -> str:
    """What the first failed worker said, without the traceback that Ray puts in front."""
    lines = [line for line in str(error).splitlines() if "UserError:" in line]
    if lines:
        return lines[0].partition("UserError:")[2].strip()
    return str(error).strip().splitlines()[-1][:500]

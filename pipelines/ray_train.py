"""A training as a Ray Train job: Ray starts the ranks, wherever the cluster has room for them.

The folder must be one that all of the cluster's machines see.
"""

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from embedtrain.config import TrainConfig
from sdg.errors import UserError

ROOT = Path(__file__).parents[1]  # where the packages are, which workers import
MAX_LOSSES = 3  # of workers, one after another, without a new checkpoint between


def _worker(job: dict[str, Any]) -> None:
    from embedtrain.train import train

    train(TrainConfig.model_validate_json(job["config"]), Path(job["folder"]))


def train_on_ray(
    config: TrainConfig, folder: Path, num_workers: int, say: Callable[[str], None]
) -> Path:
    """Train on so many workers, each with a GPU if the cluster has any.

    Where a worker is lost, all are started anew and go on from the last checkpoint.

    Raises:
        UserError: the cluster is too small, or the training cannot go on; the worker's own words.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" in os.environ:  # a job: its working directory has the code
        ray.init(address=os.environ["RAY_ADDRESS"])
    else:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {"env_vars": {"PYTHONPATH": path}}
        ray.init(address="local", include_dashboard=False, runtime_env=environment)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        scaling = scaling_of(ray.cluster_resources(), num_workers)
        say(f"{num_workers} workers of Ray Train, on {'GPUs' if scaling.use_gpu else 'CPUs'}")
        _until_done(lambda: _trainer(config, folder, scaling).fit(), folder, say)
    finally:
        for number, handler in before.items():  # Ray Train leaves its own, which needs its cluster
            signal.signal(number, handler)
        ray.shutdown()
    return folder / "model"


def scaling_of(resources: Mapping[str, float], num_workers: int) -> ScalingConfig:
    """What each worker takes of a cluster; the machine that asks may be without a GPU itself.

    Raises:
        UserError: there is not that much.
    """
    device = "GPU" if resources.get("GPU") else "CPU"
    found = int(resources.get(device, 0))
    if num_workers > found:
        raise UserError(f"--ray {num_workers}: more workers than the cluster's {found} {device}s")
    return ScalingConfig(num_workers=num_workers, use_gpu=device == "GPU")


def _trainer(config: TrainConfig, folder: Path, scaling: ScalingConfig) -> TorchTrainer:
    return TorchTrainer(
        _worker,
        train_loop_config={"config": config.model_dump_json(), "folder": str(folder)},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if scaling.use_gpu else "gloo"),
        scaling_config=scaling,
        # Ray would start anew after a user's mistake as well.
        run_config=RunConfig(
            name="ray", storage_path=str(folder), failure_config=FailureConfig(max_failures=0)
        ),
    )


def _until_done(fit: Callable[[], Any], folder: Path, say: Callable[[str], None]) -> None:
    last, losses = "", 0
    while True:
        try:
            fit()
            return
        except ray.train.TrainingFailedError as error:
            mistake, reason = _own_words(error)
            if mistake:
                raise UserError(reason) from error
            pointer = folder / "checkpoints" / "last"
            now = pointer.read_text(encoding="utf-8") if pointer.exists() else ""
            losses = losses + 1 if now == last else 1
            last = now
            if losses > MAX_LOSSES:
                raise UserError(
                    f"a worker was lost {losses} times without a new checkpoint between: {reason}"
                ) from error
            say(f"a worker was lost, so all start anew from the last checkpoint ({reason})")


def _own_words(error: BaseException) -> tuple[bool, str]:
    """Whether it was a `UserError`, and what the first failed worker said, without a traceback."""
    text = str(error)
    mistakes = [line for line in text.splitlines() if "UserError:" in line]
    if mistakes:
        return True, mistakes[0].partition("UserError:")[2].strip()
    return False, text.strip().splitlines()[-1][:500]

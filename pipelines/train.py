"""Train an embedder: `make train RUN=sw-minilm MODEL=<folder or hub id> [CONFIG=train_1b]`.

    python -m pipelines.train --run sw-minilm --model … [--set key=value …]
    torchrun --nproc-per-node 8 -m pipelines.train --run …       on the GPUs of one machine
    python -m pipelines.train --run … --ray 16                   as a Ray Train job of 16 workers

Settings are a YAML file (`pipelines/configs/train_*.yaml`), keys those of `embedtrain.config`. A
training that was stopped, or killed, goes on from its last checkpoint when the same command is
given again.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.settings import checked_name, find_config, parse_sets, read_settings
from sdg.errors import entry_point

if TYPE_CHECKING:
    from embedtrain.config import TrainConfig

TRAININGS_DIR = Path("trainings")
DEFAULT_CONFIG = "train_tiny"


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="train", description="Train a text embedder.")
    add = parser.add_argument
    add("--run", required=True, help="name of the training, and of its folder in trainings/")
    add("--model", help="folder or hub id of the model to begin with")
    add("--data", help="a run's folder, or more with commas between; instead of data.sources")
    add("--config", default="", help="a name in pipelines/configs, or a YAML file")
    add("--seed", type=int, help="random seed (default 0)")
    add("--ray", type=int, metavar="N", help="run as a Ray Train job of N workers")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the settings")
    return parser.parse_args(argv)


def read_config(args: argparse.Namespace) -> "TrainConfig":
    """The settings, with the flags on top."""
    from embedtrain.config import TrainConfig

    changes = parse_sets(args.set)
    if args.model:
        changes["model"] = args.model
    if args.data:
        changes["data.sources"] = [{"path": path} for path in args.data.split(",") if path]
    if args.seed is not None:
        changes["seed"] = args.seed
    return read_settings(TrainConfig, find_config(args.config or DEFAULT_CONFIG, "train_"), changes)


def folder_of(name: str) -> Path:
    """The folder of a training; a name cannot lead out of `trainings/`."""
    return TRAININGS_DIR / checked_name(name)


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 the system refused (a full disk), 2 wrong use or a training that
    cannot go on, 130 stopped by a signal."""
    args = parse_args(argv)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    folder = folder_of(args.run)
    config = read_config(args)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if args.ray:
        from pipelines.ray_train import train_on_ray

        model: Path | None = train_on_ray(config, folder.resolve(), args.ray, say)
    else:
        from embedtrain.train import train

        model = train(config, folder, say)
    if model is None:
        return 130
    if os.environ.get("RANK", "0") == "0":
        say(f"the model: {model}\nTensorBoard: tensorboard --logdir {folder}/events")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

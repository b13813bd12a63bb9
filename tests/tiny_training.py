"""A training so small that a test can do it in a second or two, and the data for it."""

import resource
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from embedtrain.config import TrainConfig
from sdg.schema import Example, to_table
from tests import tiny_embedders
from tests.rows import make_example

WORDS = ("maji", "moto", "mti", "nyumba", "shamba", "barua", "samaki", "mvua", "jua", "njia")


def examples(count: int = 48) -> list[Example]:
    """Retrieval in two languages: a number's words ask for a longer text with them."""

    def text(number: int, repeats: int) -> str:
        return " ".join([WORDS[number % 10], WORDS[number // 10 % 10], str(number)] * repeats)

    return [
        make_example(
            i,
            query=text(i, 1),
            query_lang=("sw", "ha")[i % 3 == 0],
            positives=[text(i, 1 + i % 4)],
            negatives=[text(1000 + 7 * i + k, 1 + (i + k) % 3) for k in range(3)],
            negative_scores=[0.3, 0.2, 0.1],
        )
        for i in range(count)
    ]


def make(folder: Path, family: str = "llama", **settings: Any) -> TrainConfig:
    """Settings for data and a model that are made in `folder`, if they are not there yet."""
    shards, model = folder / "shards", folder / family
    if not shards.exists():
        shards.mkdir(parents=True)
        pq.write_table(to_table(examples(), Example), shards / "00000.parquet")
    if not model.exists():
        tiny_embedders.build(model, family)
    return TrainConfig.model_validate(
        {
            "model": str(model),
            "data": {"sources": [{"path": str(shards)}], "negatives": 2},
            "loss": {"temperature": 0.1},
            "optim": {"learning_rate": 1e-3, "warmup_steps": 2, "eps": 1e-3},
            "batch_size": 4,
            "steps": 12,
            "max_tokens": 64,
            "forward_tokens": 400,
            "precision": "fp32",
            "save_dtype": "fp32",
            "checkpoint_steps": 4,
            "log_steps": 2,
            **settings,
        }
    )


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def difference(a: Path, b: Path) -> float:
    """The largest difference between weights of two models."""
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def limit_files(num_bytes: int) -> None:
    """Let no file of this process grow further, as on a full disk; -1 takes the limit away."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if num_bytes < 0 else num_bytes, hard))

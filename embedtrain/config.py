"""A training's settings: one YAML file is a `TrainConfig` (`pipelines/configs/train_*.yaml`)."""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedtrain.data import DataConfig

LossName = Literal["hard_negatives", "in_batch", "same_tower", "gecko", "gemini", "qwen3", "gte"]


class Section(BaseModel):
    """A part of the settings; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LossConfig(Section):
    """What is minimised; formulas in `embedtrain.losses`."""

    name: LossName = "hard_negatives"
    temperature: float = Field(0.02, gt=0)
    matryoshka: tuple[Annotated[int, Field(ge=1)], ...] = ()  # dimensions beside the whole vector
    # Learn a teacher's scores beside the loss: rows have them from mining.
    distill: Literal["none", "margin_mse", "kl"] = "none"
    distill_weight: float = Field(1.0, gt=0)
    teacher_temperature: float = Field(1.0, gt=0)  # of kl
    # Of rows with graded similarity: CoSENT over the grades, or as the others (then those below
    # grade 0.8 or without negatives are left out).
    graded: Literal["cosent", "contrastive"] = "cosent"
    cosent_temperature: float = Field(0.05, gt=0)


class OptimConfig(Section):
    """AdamW with linear warm-up and linear decay to 0 (the recipe's values where it gives them)."""

    learning_rate: float = Field(1e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)  # not on biases and norms
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    warmup_steps: int = Field(100, ge=0)
    clip: float = Field(1.0, gt=0)  # largest norm of the gradient


class LoraConfig(Section):
    """Low-rank additions in place of all weights (Hu et al., arXiv 2106.09685)."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)


class TrainConfig(Section):
    """All that decides what is trained."""

    model: str = ""  # folder or hub id; MODEL= goes before
    pooling: Literal["mean", "last", "cls"] | None = None  # None: as the model says, else mean
    attention: Literal["packed", "padded"] = "packed"
    lora: LoraConfig | None = None
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    batch_size: int = Field(128, ge=1)  # queries a step, over all ranks
    steps: int | None = Field(None, ge=1)  # None: `epochs`
    epochs: float = Field(1.0, gt=0)
    max_tokens: int = Field(512, ge=4)  # longer texts are cut
    forward_tokens: int = Field(16384, ge=4)  # in one forward pass: lower it where memory runs out
    precision: Literal["fp32", "bf16"] = "bf16"  # of the computing; weights are kept in fp32
    save_dtype: Literal["fp32", "bf16"] = "bf16"  # of the finished model
    gradient_checkpointing: bool = False  # compute layers again in the backward pass
    compile: bool = False
    seed: int = 0
    checkpoint_steps: int = Field(500, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    log_steps: int = Field(10, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "TrainConfig":
        if self.forward_tokens < self.max_tokens:
            raise ValueError(
                f"forward_tokens {self.forward_tokens} is less than max_tokens {self.max_tokens}: "
                f"a pass must hold one text"
            )
        return self

    def num_steps(self, num_rows: int) -> int:
        """Steps in all, for so many rows in one epoch."""
        return self.steps or max(1, round(self.epochs * num_rows / self.batch_size))

    def fingerprint(self) -> str:
        """Hash of what a checkpoint depends on: all but what changes speed or looks alone."""
        free = {"forward_tokens", "gradient_checkpointing", "compile", "attention"}
        free |= {"checkpoint_steps", "keep_checkpoints", "log_steps"}
        text = self.model_dump_json(exclude=free)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

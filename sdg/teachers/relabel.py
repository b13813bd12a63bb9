"""A cross-encoder that reads a query together with a passage, and says whether it answers it."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sdg.errors import UserError
from sdg.stage import Resources
from sdg.teachers.base import check_folder

WHERE = "stages.mine.relabel"


class Relabel(BaseModel):
    """Candidates that a judge says answer the query become positives of it (Gecko, arXiv
    2403.20327, section 3.2; RLHN, arXiv 2505.16967): some of the nearest always do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)  # of sentence-transformers' CrossEncoder: hub id or folder
    revision: str = ""
    threshold: float = Field(0.5, ge=0, le=1)  # what the judge gives a passage that answers
    top: int = Field(16, ge=1)  # candidates judged, the nearest
    batch_size: int = Field(32, ge=1)

    def check(self) -> None:
        """Raise `UserError` if it cannot be opened here, before anything starts."""
        if importlib.util.find_spec("sentence_transformers") is None:
            raise UserError(
                f"{WHERE}: sentence_transformers is not installed: pip install -e '.[train]' has it"
            )
        check_folder(self.model, WHERE)

    def resources(self) -> Resources:
        """What a worker needs that opens it."""
        return Resources(memory_gb=3, gpu_if_any=True)

    def open(self) -> "Judge":
        """Load it."""
        from sentence_transformers import CrossEncoder

        check_folder(self.model, WHERE)
        try:
            model = CrossEncoder(
                self.model, revision=self.revision or None, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise UserError(f"{WHERE}: {self.model} cannot be loaded ({reason})") from None
        if model.num_labels != 1:
            raise UserError(
                f"{WHERE}: {self.model} gives {model.num_labels} labels; take a cross-encoder that "
                f"gives one score"
            )
        return Judge(model, self)


class Judge:
    """A loaded cross-encoder."""

    def __init__(self, model: Any, settings: Relabel) -> None:
        self._model = model
        self._settings = settings

    def answers(self, queries: Sequence[str], passages: Sequence[str]) -> np.ndarray:
        """Whether each passage answers its query (B,), bool; scores are logistic, in [0, 1]."""
        if not queries:
            return np.zeros(0, dtype=bool)
        import torch

        scores_B = self._model.predict(
            list(zip(queries, passages, strict=True)),
            batch_size=self._settings.batch_size,
            show_progress_bar=False,
            activation_fn=torch.nn.Sigmoid(),
        )
        return np.asarray(scores_B) >= self._settings.threshold

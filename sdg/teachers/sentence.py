"""Any sentence-transformers model as a teacher, its prompts applied.

    teachers: [{name: sentence_transformers, model: intfloat/multilingual-e5-base}]

A prompt that the profile gives goes before the model's own; `{instruction}` in it is the task's.
"""

import importlib.util
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from sdg.errors import UserError
from sdg.stage import Resources
from sdg.teachers.base import Encoder, PromptedTeacher, by_prompt

MEMORY_GB = 3.0  # of a worker with a small model


class SentenceTransformersTeacher(PromptedTeacher):
    """A model of the `sentence-transformers` package, on a GPU if the cluster has one."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    name: Literal["sentence_transformers"] = "sentence_transformers"
    batch_size: int = Field(64, ge=1)

    def check(self) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise UserError(
                "stages.mine.teachers: sentence_transformers is not installed: "
                "pip install -e '.[train]' has it"
            )
        self.check_model()

    def resources(self) -> Resources:
        return Resources(memory_gb=MEMORY_GB, gpu_if_any=True)

    def open(self, path: Path) -> Encoder:
        from sentence_transformers import SentenceTransformer

        self.check_model()  # the folder may be missing on this machine alone
        try:
            model = SentenceTransformer(
                self.model, revision=self.revision or None, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise UserError(
                f"stages.mine.teachers: {self.model} is no sentence-transformers model that can be "
                f"loaded ({reason})"
            ) from None
        if self.max_length:
            model.max_seq_length = self.max_length
        return _SentenceEncoder(self, model)


class _SentenceEncoder(Encoder):
    def __init__(self, teacher: SentenceTransformersTeacher, model: Any) -> None:
        self._teacher = teacher
        self._model = model

    def queries(self, texts: Sequence[str], instructions: Sequence[str]) -> np.ndarray:
        prompts = self._teacher.query_prompts(instructions)
        return by_prompt(texts, prompts, partial(self._encode, self._model.encode_query))

    def documents(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode(self._model.encode_document, texts, self._teacher.document_prompt)

    def _encode(self, encode: Any, texts: Sequence[str], prompt: str | None) -> np.ndarray:
        if not texts:
            return np.zeros((0, self._model.get_embedding_dimension()), dtype=np.float32)
        given = {} if prompt is None else {"prompt": prompt}
        vectors_BD = encode(
            list(texts),
            batch_size=self._teacher.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
            **given,
        )
        return np.asarray(vectors_BD, dtype=np.float32)

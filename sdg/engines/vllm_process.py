"""vLLM's processes: started with their errors written down, told apart when they fail, and ended.

Nothing here imports vLLM before it is to be started: that takes many seconds.
"""

import json
import multiprocessing
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sdg.engines.serving import one_line
from sdg.errors import UserError

LOG_CONFIG = "VLLM_LOGGING_CONFIG_PATH"
# vLLM reads these when it is imported, in its child processes too.
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
# The last line of a traceback, "torch.OutOfMemoryError: CUDA out of memory ...".
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): (.+)$", re.MULTILINE)


_SMALLER = "take a smaller MODEL, or a quantized one"
# What vLLM and torch say where something does not fit, the more telling first -> what to do about
# it on GPUs, and on CPUs where that is another thing.
REMEDIES = (
    (
        "is less than desired GPU memory utilization",
        "others use this GPU: lower engine.gpu_memory_utilization",
        "",
    ),
    (
        "cache is needed, which is larger than the available KV cache",
        "lower engine.max_model_len, or raise engine.gpu_memory_utilization or "
        "engine.tensor_parallel_size",
        "lower engine.max_model_len or raise engine.cpu_kv_cache_gb",
    ),
    (
        "No available memory for the cache blocks",
        f"raise engine.gpu_memory_utilization or engine.tensor_parallel_size, or {_SMALLER}",
        "raise engine.cpu_kv_cache_gb",
    ),
    (
        "Cannot auto-fit max_model_len",
        f"raise engine.gpu_memory_utilization or engine.tensor_parallel_size, or {_SMALLER}",
        "raise engine.cpu_kv_cache_gb",
    ),
    (
        "CUDA out of memory occurred when warming up sampler with",
        "lower engine.engine_args.max_num_seqs or engine.gpu_memory_utilization",
        "",
    ),
    (
        "allocation is less than requested memory for kv",
        "lower engine.cpu_kv_cache_gb",
        "",
    ),
    (
        "is less than desired CPU memory utilization",
        "close other programs, or lower engine.engine_args.gpu_memory_utilization, which counts "
        "for CPUs too",
        "",
    ),
    ("than the derived max_model_len", "lower engine.max_model_len", ""),
    (
        "must be divisible by tensor parallel size",
        "lower engine.tensor_parallel_size to a divisor of it",
        "",
    ),
    (
        "is larger than the number of",
        "lower engine.tensor_parallel_size to the GPUs that one machine has",
        "",
    ),
    ("with compute capability of at least 8.0", "set engine.dtype: half", ""),
    (
        "out of memory",
        f"raise engine.tensor_parallel_size, lower engine.max_model_len, or {_SMALLER}",
        "",
    ),
    (
        "can't allocate memory",
        "",
        f"lower engine.cpu_kv_cache_gb or engine.max_model_len, or {_SMALLER}",
    ),
)


@dataclass(frozen=True)
class Launch:
    """What an engine is started with."""

    model: str
    arguments: dict[str, Any]  # of `AsyncEngineArgs`
    on_cpu: bool


class RunningEngine:
    """A started `LLMEngine` and the processes it computes in."""

    def __init__(self, launch: Launch) -> None:
        """Start it.

        Raises:
            UserError: vLLM cannot load this model with these settings, with vLLM's own reason.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-")
        self._errors = _prepare_environment(Path(self._folder.name))
        before = multiprocessing.active_children()
        try:
            self.llm = _start(launch, self._errors)
        except BaseException:
            self._folder.cleanup()
            raise
        finally:
            # vLLM's processes have read it; any other that starts from here has no use for it.
            if os.environ.get(LOG_CONFIG, "").startswith(self._folder.name):
                del os.environ[LOG_CONFIG]
        self._children = [c for c in multiprocessing.active_children() if c not in before]
        self._guard = _guard(self._children)
        self._is_closing = False
        threading.Thread(target=self._watch, name="vllm-watch", daemon=True).start()

    def _watch(self) -> None:
        """Wake who waits for an output when there will be none: a process that was killed says
        nothing, and vLLM's synchronous client would wait for ever."""
        ended = wait([child.sentinel for child in self._children])
        if not self._is_closing:
            codes = {c.exitcode for c in self._children if c.sentinel in ended}
            error = RuntimeError(f"its process ended with exit code {', '.join(map(str, codes))}")
            self.llm.engine_core.outputs_queue.put_nowait(error)

    def reason(self, error: BaseException) -> str:
        """Why it crashed: what its processes logged, or else what was raised here."""
        return one_line(_first_raised(self._errors) or f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """End it, dead or alive."""
        self._is_closing = True
        self.llm.renderer.shutdown()
        self.llm.engine_core.shutdown()
        self._guard.communicate()  # with the end of its input it kills what is left of them
        for child in self._children:
            child.join(10)
        self._folder.cleanup()


def _start(launch: Launch, errors: Path) -> Any:
    from vllm import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    try:
        return LLMEngine.from_engine_args(
            AsyncEngineArgs(**launch.arguments), usage_context=UsageContext.LLM_CLASS
        )
    except (ValueError, TypeError, OSError) as error:  # pydantic's and the hub's errors too
        remedy = remedy_for(str(error), launch.on_cpu)
        said = f"MODEL={launch.model}: vLLM refuses it: {one_line(error, 400)}"
        raise UserError(f"{said}; {remedy}" if remedy else said) from None
    except RuntimeError as error:  # its processes failed, and have logged why
        reason = _first_raised(errors) or str(error)
        remedy = remedy_for(reason, launch.on_cpu) or "the worker's log has the rest"
        raise UserError(
            f"MODEL={launch.model}: vLLM did not start: {one_line(reason, 300)}; {remedy}"
        ) from None


def remedy_for(reason: str, on_cpu: bool) -> str:
    """Which setting to change where vLLM did not start for this reason; "" where none helps."""
    for said, on_gpus, on_cpus in REMEDIES:
        if said in " ".join(reason.split()):
            return (on_cpus or on_gpus) if on_cpu else on_gpus
    return ""


def _first_raised(errors: Path) -> str:
    """The first exception that vLLM's processes logged; in this one it has no reason of its own."""
    logged = errors.read_text(encoding="utf-8") if errors.is_file() else ""
    raised = _RAISED.search(logged)
    return raised[0] if raised else ""


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


# Kills processes given as <pid>:<start>, but for those that another has the number of by now.
_KILL = r"""
cat > /dev/null
for one in "$@"; do
  start=$(sed "s/.*) //" "/proc/${one%:*}/stat" 2> /dev/null | cut -d " " -f 20)
  [ "$start" = "${one#*:}" ] && kill -9 "${one%:*}"
done
"""


def _guard(children: Sequence[BaseProcess]) -> subprocess.Popen[bytes]:
    """A process that kills vLLM's processes, this one's children and theirs, when this one is
    killed.

    The engine outlives a killed parent and keeps its memory, in which the next one must start. The
    guard waits for the end of its input, which comes with the end of this process, however it ends.
    """
    import psutil

    found: list[str] = []
    for child in children:
        try:
            for process in (child.pid, *psutil.Process(child.pid).children(recursive=True)):
                pid = getattr(process, "pid", process)
                stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
                found.append(f"{pid}:{stat.rpartition(') ')[2].split()[19]}")
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue  # it has ended already
    command = ["sh", "-c", _KILL, "guard", *found]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

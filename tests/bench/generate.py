"""Output tokens/s of the pipeline's infer stage on Ray, beside raw `vllm.LLM.chat`.

    make bench BENCH=generate [ARGS="--repeats 3 --calls 2000"]
    make bench BENCH=generate ARGS="--shape 8b --repeats 1"          # on a GPU

Both sides get the same calls, rendered from the bundled corpora, the same tiny random model, engine
arguments, sampling parameters, request seeds and grammars. Each starts its engine anew in processes
of its own, answers a shard of calls to warm up, and is timed on the rest; the sides take turns.
Ours reads calls from Parquet shards, keeps replies as they come and commits answered shards, as a
run does.

`--shape` puts a Llama of that shape in the tiny model's place, with weights that vLLM makes up, no
grammar and no end-of-text token: every reply is `--tokens` long (`tests.bench.llama_chat`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from sdg.engines.serving import messages_of, sampling_of
from sdg.engines.vllm import VLLMEngine
from sdg.engines.vllm_session import sampling_params
from sdg.kept import RepliesConfig
from sdg.languages import language
from sdg.models import ModelShare
from sdg.prompting import load_prompt
from sdg.schema import Call, rows_of, to_table
from sdg.stage import Context, Inputs
from sdg.stages.infer import InferStage
from sdg.stages.render import make_call
from sdg.store import StageStore, write_table
from sdg.text import chunks
from tests import tiny_model
from tests.rows import bundled_seeds, pieces

LANGS = ("sw", "en", "ha", "fr", "es")
PROMPTS = ("retrieval/short_query", "retrieval/keyword_query", "retrieval/long_question")
MOST_BYTES = 3000  # of a prompt: the model's tokens are bytes, and it has room for 4096
WARM, SHARD_ROWS = 64, 512  # as many calls as a shard of 128 passages gives
SIDES = ("ours", "raw")
RESULT = "result.json"  # of one side, as its process leaves it


def make_calls(model: str, num_calls: int, tokens: int | None) -> list[Call]:
    """Calls as the render stage writes them, in a mixture of languages and prompts; `tokens`, if
    given, is what they allow for a reply."""
    ctx = Context(LANGS, 0, Path())
    share = (ModelShare(engine="vllm", model=model),)
    calls: list[Call] = []
    ordinal = 0
    while len(calls) < num_calls:
        for lang in LANGS:
            prompts = [load_prompt(name, language(lang).base) for name in PROMPTS]
            for seed in bundled_seeds(lang):
                text = chunks(seed.text, lang, 1200)[0]
                seed = seed.model_copy(update={"text": text})
                for prompt in prompts:
                    calls.append(make_call(seed, lang, ordinal, prompt, share, ctx))
        ordinal += 1
        calls = [c for c in calls if len(c.messages[0].content.encode()) <= MOST_BYTES]
    calls = calls[:num_calls]
    if tokens is None:
        return calls
    allowed = [sampling_of(call).model_copy(update={"max_tokens": tokens}) for call in calls]
    return [
        call.model_copy(update={"sampling": sampling.model_dump_json()})
        for call, sampling in zip(calls, allowed, strict=True)
    ]


def engine_of(folder: Path, args: argparse.Namespace) -> VLLMEngine:
    """Both sides' engine."""
    given: dict[str, Any] = {"model": str(folder / "model"), "cpu_kv_cache_gb": 1.0}
    if not args.shape:
        return VLLMEngine(**given, engine_args=args.engine_args)
    from tests.bench.llama_chat import LlamaEngine

    return LlamaEngine(**given, engine_args={"load_format": "dummy", **args.engine_args})


def shard_names(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "kept").glob("*.parquet"))


@dataclass
class Measured:
    """What a side came to."""

    tokens: int
    seconds: float
    cpu_seconds: float  # of all its processes

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds


class Clock:
    """Wall and processor time since it was made, of this process and all below it."""

    def __init__(self) -> None:
        self._cpu, self._wall = self._cpu_seconds(), time.monotonic()

    def stop(self, tokens: int) -> Measured:
        seconds = time.monotonic() - self._wall
        return Measured(tokens, seconds, self._cpu_seconds() - self._cpu)

    def _cpu_seconds(self) -> float:
        me = psutil.Process()
        times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
        return sum(spent.user + spent.system for spent in times)


def run_ours(folder: Path, args: argparse.Namespace) -> Measured:
    """The infer stage on a Ray cluster."""
    from sdg.cluster import Cluster, Job

    with tempfile.TemporaryDirectory() as place:
        store = StageStore(Path(place))
        inputs = Inputs(tuple(shard_names(folder)), StageStore(folder).read)
        replies = RepliesConfig(folder=f"{place}/replies")
        stage = InferStage(engines=(engine_of(folder, args),), replies=replies)
        job = Job(stage, Context(LANGS, 0, store.prepared_dir), store, inputs)
        stage.prepare(inputs, job.ctx)
        (group,) = stage.groups(inputs.shards)
        cluster = Cluster(2)
        try:
            with cluster.pool(group.resources) as pool:
                warm, *shards = inputs.shards
                store.append(*pool.run(job, [warm]))
                clock, tokens = Clock(), 0
                for done in pool.run(job, shards):
                    store.append(done)
                    assert done.num_kept == done.num_in
                    tokens += done.counters["tokens_out"]
                return clock.stop(tokens)
        finally:
            cluster.close()


def run_raw(folder: Path, args: argparse.Namespace) -> Measured:
    """`LLM.chat`."""
    from vllm import LLM

    engine = engine_of(folder, args)
    llm = LLM(**engine.arguments())
    warm, *shards = (rows_of(StageStore(folder).read(name), Call) for name in shard_names(folder))
    calls = [call for shard in shards for call in shard]
    llm.chat([messages_of(c) for c in warm], [sampling_params(engine, c) for c in warm], False)
    messages = [messages_of(call) for call in calls]
    params = [sampling_params(engine, call) for call in calls]
    clock = Clock()
    outputs = llm.chat(messages, params, use_tqdm=False)
    return clock.stop(sum(len(output.outputs[0].token_ids) for output in outputs))


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """The model, and the calls in shards, of which the first is to warm up with."""
    num_warm = WARM
    if args.shape:
        from tests.bench import llama_chat

        llama_chat.build(args.shape, folder / "model")
        num_warm = SHARD_ROWS  # as many at once as are timed: kernels are made for sizes of a batch
    else:
        tiny_model.build(folder / "model")
    tokens = args.tokens if args.shape else None
    calls = make_calls(str(folder / "model"), num_warm + args.calls, tokens)
    store = StageStore(folder)
    parts = [calls[:num_warm], *pieces(calls[num_warm:], SHARD_ROWS)]
    for number, part in enumerate(parts):
        write_table(store.kept_path(f"{number:05d}"), to_table(part, Call))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=("1b", "8b"), help="of a Llama; else the tiny model")
    parser.add_argument("--tokens", type=int, default=128, help="of every reply, with --shape")
    parser.add_argument(
        "--engine-args", type=json.loads, default={}, help="more of vLLM's, as JSON"
    )
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        measured = {"ours": run_ours, "raw": run_raw}[args.side](args.folder, args)
        (args.folder / RESULT).write_text(json.dumps(asdict(measured)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, args)
        speeds: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(args.repeats):
            for side in SIDES:
                found = measure(folder, side)
                speeds[side].append(found.speed)
                print(
                    f"{side:5} {found.tokens} tokens in {found.seconds:.2f} s: "
                    f"{found.speed:.0f} tokens/s; {found.cpu_seconds:.1f} s of processors",
                    flush=True,
                )
    ours, raw = (statistics.median(speeds[side]) for side in SIDES)
    print(f"medians of {args.repeats}: ours {ours:.0f} tokens/s, LLM.chat {raw:.0f} tokens/s")
    print(f"ratio={ours / raw:.3f}")


def measure(folder: Path, side: str) -> Measured:
    """One side, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.generate", *sys.argv[1:], "--side", side]
    # Ray's workers give way to other processes, by default: here both sides are to be alike.
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    done = subprocess.run(
        [*command, "--folder", str(folder)], capture_output=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr.decode()[-3000:]}")
    return Measured(**json.loads((folder / RESULT).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()

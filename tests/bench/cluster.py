"""Time of an infer stage that waits for an endpoint, with 1, 2 and 4 workers on machines of a cluster.

    make bench BENCH=cluster [ARGS="--calls 480 --latency 0.5"]

The machines are raylets on this one, with a processor each as Ray counts them; the endpoint is a
server here that takes its time for each reply. Each worker has so many requests in flight, so twice
the workers should take half the time: the ratio is one worker's time to four times that of four.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sdg.engines.openai import OpenAIEngine
from sdg.kept import RepliesConfig
from sdg.schema import Call, to_table
from sdg.stage import Context, Inputs
from sdg.stages.infer import InferStage
from sdg.store import StageStore, write_table
from tests.bench.generate import LANGS, make_calls
from tests.engines.scripted_server import Handler, ok, serving
from tests.faulty_endpoint import good_query
from tests.rows import pieces

WORKERS = (1, 2, 4)
CONCURRENCY = 4  # requests in flight of a worker
SHARD_ROWS = 8
MODEL = "model-1"


def prepare(folder: Path, num_calls: int) -> Inputs:
    """The calls, in shards."""
    calls = [c.model_copy(update={"engine": "openai"}) for c in make_calls(MODEL, num_calls, None)]
    store = StageStore(folder)
    parts = list(pieces(calls, SHARD_ROWS))
    names = [f"{number:05d}" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        write_table(store.kept_path(name), to_table(part, Call))
    return Inputs(tuple(names), store.read)


def measure(inputs: Inputs, url: str, workers: int, folder: Path) -> tuple[float, float]:
    """Seconds of the whole stage, and of its calls alone, without the start of its workers."""
    from sdg.cluster import Cluster, Job

    engine = OpenAIEngine(model=MODEL, base_url=url, replicas=workers, concurrency=CONCURRENCY)
    stage = InferStage(engines=(engine,), replies=RepliesConfig(keep=False))
    store = StageStore(folder)
    job = Job(stage, Context(LANGS, 0, store.prepared_dir), store, inputs)
    store.prepared_dir.mkdir(parents=True)
    (group,) = stage.groups(inputs.shards)
    cluster = Cluster(0)
    first = answered = 0.0
    try:
        started = time.monotonic()
        with cluster.pool(group.resources) as pool:
            for done in pool.run(job, inputs.shards):
                assert done.num_kept == done.num_in, done
                answered = time.monotonic()
                first = first or answered - done.seconds
        return answered - started, answered - first
    finally:
        cluster.close()


@contextmanager
def machines(num: int) -> Iterator[None]:
    """A cluster that `Cluster` joins."""
    command = [sys.executable, "-m", "tests.cluster.machines", str(num)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin and process.stdout
        lines = (line for line in process.stdout if line.startswith("{"))
        os.environ["RAY_ADDRESS"] = json.loads(next(lines))["ray"]
        try:
            yield
        finally:
            process.stdin.close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=480)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds that a reply takes")
    args = parser.parse_args(argv)

    def late(handler: Handler) -> None:
        content = handler.body["messages"][-1]["content"]
        time.sleep(args.latency)
        ok(json.dumps({"query": good_query(content)}))(handler)

    os.environ["OPENAI_API_KEY"] = "sk-none"
    seconds: dict[int, float] = {}
    with (
        machines(max(WORKERS)),
        serving() as server,
        tempfile.TemporaryDirectory() as place,
    ):
        server.default = late
        inputs = prepare(Path(place) / "calls", args.calls)
        ideal = args.calls * args.latency / CONCURRENCY
        print(f"{args.calls} calls, {args.latency:g} s each, {CONCURRENCY} at once a worker")
        for workers in WORKERS:
            whole, seconds[workers] = measure(
                inputs, server.url, workers, Path(place) / f"{workers}"
            )
            print(
                f"{workers} workers: {seconds[workers]:6.1f} s for the calls "
                f"(at best {ideal / workers:.1f}), {whole:6.1f} s with the workers' start; "
                f"{seconds[1] / seconds[workers]:.2f} times as fast as one",
                flush=True,
            )
    most = max(WORKERS)
    print(f"ratio={seconds[1] / (most * seconds[most]):.3f}")


if __name__ == "__main__":
    main()

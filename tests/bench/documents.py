"""A whole run at several sizes: `make bench BENCH=documents [ARGS="--sizes 1000,10000,100000"]`.

Documents are words of a language's bundled corpus, drawn at random as often as they stand there, so
that there are as many as are asked for and none is like another; `python -m pipelines.generate`
makes `--calls` of each, four as it does for a user. For each size: rows/s of every stage from its
start to its end, and the most memory that the driver held, and all of its processes together. With
`--engine openai` the calls go to a server here, in a process of its own, that answers at once. The
last line is the documents/s at the largest size over those at the smallest, of which 1 is linear
time.
"""

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdg.corpora import BUNDLED
from sdg.text import word_spans
from tests.bench.memory import Memory
from tests.engines.scripted_server import Handler, ok, serving
from tests.faulty_endpoint import good_query

ROOT = Path(__file__).parents[2]
SENTENCES, WORDS = 6, 12  # of a document; of a sentence


def write_corpus(path: Path, lang: str, num: int) -> None:
    """So many documents, a line each."""
    lines = (BUNDLED / f"{lang}.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    words = [text[start:end] for text in texts for start, end in word_spans(text, lang)]
    gap = " " if " " in texts[0] else ""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num):
            drawn = (draw.choices(words, k=WORDS) for _ in range(SENTENCES))
            text = gap.join(f"{gap.join(some).capitalize()}." for some in drawn)
            file.write(json.dumps({"id": str(number), "text": text}, ensure_ascii=False) + "\n")


def answer(handler: Handler) -> None:
    query = good_query(handler.body["messages"][-1]["content"])
    ok(json.dumps({"query": query}, ensure_ascii=False))(handler)


def _serve(url: Any) -> None:
    with serving() as server:
        server.default = answer
        url.put(server.url)
        time.sleep(1e6)


@contextmanager
def server() -> Iterator[str]:
    """The URL of an endpoint in a process of its own."""
    context = multiprocessing.get_context("spawn")
    url: Any = context.Queue()
    process = context.Process(target=_serve, args=(url,), daemon=True)
    process.start()
    try:
        yield url.get(timeout=60)
    finally:
        process.kill()


def run(folder: Path, arguments: Sequence[str]) -> tuple[float, Memory]:
    """Seconds of a run, and its memory.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "pipelines.generate", "--run", "r", *arguments]
    command += ["--set", f"runs={folder / 'runs'}"]
    started = time.monotonic()
    environment = {**os.environ, "OPENAI_API_KEY": "sk-none"}
    with (folder / "screen").open("w+b") as screen:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=screen, stderr=subprocess.STDOUT
        )
        memory = Memory(process.pid)
        memory.start()
        failed = process.wait()
        memory.stop()
        if failed:
            screen.seek(0)
            raise SystemExit(screen.read().decode()[-2000:])
    return time.monotonic() - started, memory


def stage_seconds(run_dir: Path, stages: Sequence[str]) -> dict[str, float]:
    """From the end of a stage's last shard to the end of the next one's, or from the first's
    beginning, its plan's time."""
    found, before = {}, (run_dir / "profile.json").stat().st_mtime
    for place, name in enumerate(stages, 1):
        end = (run_dir / "stages" / f"{place}-{name}" / "manifest.jsonl").stat().st_mtime
        found[name] = end - before
        before = end
    return found


def measure(lang: str, engine: str, url: str, size: int, calls: int) -> float:
    """One size; returns documents/s."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "corpus.jsonl", lang, size)
        arguments = ["--lang", lang, "--corpus", str(folder / "corpus.jsonl"), "--engine", engine]
        arguments += ["--set", f"stages.render.calls_per_seed={calls}"]
        if url:
            arguments += ["--model", "model-1", "--set", f"engine.base_url={url}"]
            arguments += ["--set", "prompts={retrieval/short_query: 1}"]
        seconds, memory = run(folder, arguments)
        run_dir = folder / "runs" / "r"
        summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
        taken = stage_seconds(run_dir, [stage["name"] for stage in summary["stages"]])
        print(
            f"{size:,} documents, {summary['calls']:,} calls, {summary['examples']:,} examples: "
            f"{seconds:.0f} s, {size / seconds:,.0f} documents/s; driver {memory.driver:,.0f} MB, "
            f"all {memory.together:,.0f} MB"
        )
        for stage in summary["stages"]:
            wall = taken[stage["name"]]
            print(
                f"  {stage['name']:8} {stage['num_in']:>9,} in, {stage['num_kept']:>9,} kept, "
                f"{wall:7.1f} s, {stage['num_in'] / max(wall, 1e-3):>9,.0f} rows/s"
            )
        sys.stdout.flush()
        return size / seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="documents", description=__doc__)
    parser.add_argument("--lang", default="sw")
    parser.add_argument("--sizes", default="1000,10000", help="numbers of documents")
    parser.add_argument("--calls", type=int, default=4, help="of each document")
    parser.add_argument("--engine", default="extractive", choices=("extractive", "openai"))
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    if args.engine == "openai":
        with server() as url:
            speeds = [measure(args.lang, args.engine, url, size, args.calls) for size in sizes]
    else:
        speeds = [measure(args.lang, args.engine, "", size, args.calls) for size in sizes]
    print(f"ratio={speeds[-1] / speeds[0]:.2f}")


if __name__ == "__main__":
    main()

"""Kill runs with SIGKILL at random moments, run them again, compare with an undisturbed run.

    .venv/bin/python -m tests.kill_campaign --lang sw --corpus FILE --kills 20

Each round starts a fresh run, kills its driver (and nothing else: Ray's processes must notice by
themselves) at a moment drawn evenly over the undisturbed run's duration, gives the same command
again, and compares all examples and the summary's row counts. Exit status 0 when every round gave
exactly the undisturbed run's rows.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent


def start(arguments: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
    """A run in `folder`, as a user would start it."""
    command = [sys.executable, "-m", "pipelines.generate", "--run", "r", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def outcome(folder: Path) -> tuple[dict[str, pa.Table], list[dict[str, Any]]]:
    """Example files by name, and the row counts of every stage."""
    run = folder / "runs" / "r"
    tables = {path.name: pq.read_table(path) for path in sorted(run.glob("examples/*.parquet"))}
    stages = json.loads((run / "summary.json").read_text(encoding="utf-8"))["stages"]
    return tables, [{k: v for k, v in stage.items() if k != "seconds"} for stage in stages]


def finish(arguments: Sequence[str], folder: Path) -> float:
    """Run to the end; returns seconds."""
    started = time.monotonic()
    process = start(arguments, folder)
    output, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"run in {folder} failed:\n{output.decode()}")
    return time.monotonic() - started


def finished_shards(folder: Path) -> int:
    """Manifest lines so far, over all stages."""
    manifests = (folder / "runs" / "r" / "stages").glob("*/manifest.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in manifests)


def campaign(arguments: Sequence[str], folder: Path, kills: int, seed: int) -> int:
    """The number of rounds whose rows differ from the undisturbed run's."""
    folder.mkdir(parents=True, exist_ok=True)
    calm = folder / "calm"
    shutil.rmtree(calm, ignore_errors=True)
    calm.mkdir()
    duration = finish(arguments, calm)
    expected = outcome(calm)
    num_rows = sum(table.num_rows for table in expected[0].values())
    print(f"undisturbed: {num_rows} examples in {duration:.1f} s", flush=True)
    moments, wrong = random.Random(seed), 0
    for number in range(kills):
        place = folder / f"kill{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        after = moments.uniform(0.02, 1.0) * duration
        process = start(arguments, place)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = finished_shards(place)
        finish(arguments, place)
        same = outcome(place) == expected
        wrong += not same
        verdict = "same rows" if same else "DIFFERENT ROWS"
        print(f"kill {number + 1} after {after:.1f} s, {done} shards done: {verdict}", flush=True)
        if same:
            shutil.rmtree(place)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lang", default="sw")
    parser.add_argument("--corpus", type=Path, help="default: the bundled one")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, default=Path("runs/kill-campaign"))
    args = parser.parse_args()
    arguments = ["--lang", args.lang]
    if args.corpus:
        arguments += ["--corpus", str(args.corpus.resolve())]
    wrong = campaign(arguments, args.folder, args.kills, args.seed)
    print(f"{args.kills} kills, {wrong} with other rows than the undisturbed run")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

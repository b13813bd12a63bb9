"""A run against an endpoint that fails in every way, killed again and again, beside one that isn't.

    .venv/bin/python -m tests.fault_campaign --kills 20 --actor-kills 10

First an undisturbed run; then a run of the same settings of which a share of the requests fails,
whose driver and whose engine's worker are killed by SIGKILL at random moments, and which is given
again after each kill. Exit status 0 where both have the same examples and row counts, and the second
took at most 1.5 times the first's requests, as the server counts them.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faulty_endpoint import FaultyServer, endpoint
from tests.kill_campaign import outcome

COUNTS = ("name", "num_in", "num_kept", "num_out", "dropped")
ROOT = Path(__file__).parent.parent
SETS = (
    "engine.timeout_s=4",
    "engine.concurrency=4",
    "stages.infer.reply_attempts=6",  # above the faults that the server makes of one request
    "stages.seed.shard_rows=8",
    "prompts={retrieval/short_query: 3, retrieval/long_question: 1}",
)
KEY = "sk-campaign-4f9a1c77d2e84b0f"
WAIT_S = 600.0


@dataclass
class Result:
    """What the disturbed run came to, beside the other."""

    same_rows: bool
    same_counts: bool
    num_examples: int
    calm_requests: int
    requests: int
    kills: int
    actor_kills: int
    faults: dict[str, int]

    @property
    def ratio(self) -> float:
        return self.requests / self.calm_requests


def start(folder: Path, url: str, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    """The run in `folder`, as a user would start it."""
    command = [sys.executable, "-m", "pipelines.generate", "--run", "r", "--engine", "openai"]
    command += ["--model", "model-1", "--set", f"engine.base_url={url}", *arguments]
    for item in SETS:
        command += ["--set", item]
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "OPENAI_API_KEY": KEY,
        "NO_PROXY": "127.0.0.1,localhost",
        **{name: os.environ[name] for name in ("RAY_TMPDIR",) if name in os.environ},
    }
    with (folder / "screen.txt").open("ab") as screen:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=screen, stderr=subprocess.STDOUT
        )


def finish(folder: Path, url: str, arguments: Sequence[str]) -> None:
    """Run to the end, giving the command again where a run stops by itself; it may, seldom, where
    one shard lost too many workers."""
    for _ in range(3):
        if start(folder, url, arguments).wait() == 0:
            return
    raise SystemExit(f"{folder}: the run failed:\n{(folder / 'screen.txt').read_text()[-3000:]}")


def engine_workers(driver: int) -> list[int]:
    """Ids of the processes below the driver that run a stage."""
    table = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=2) for line in table.splitlines()]
    below, found = {driver}, []
    for _ in range(4):  # driver, raylet, worker, and what may be in between
        below |= {int(pid) for pid, parent, *_ in rows if int(parent) in below}
    for pid, _, *args in rows:
        if int(pid) in below and args and args[0].startswith("ray::Worker"):
            found.append(int(pid))
    return found


def disturb(
    folder: Path,
    url: str,
    arguments: Sequence[str],
    server: FaultyServer,
    moments: Sequence[tuple[int, str]],
) -> Counter[str]:
    """Kill at each moment, given as a number of requests and who is killed, but not before there
    was a request since the last kill: what only starts up loses nothing. Then run to the end.
    Returns how often each victim was killed."""
    process, killed, last = start(folder, url, arguments), Counter[str](), -1
    for number, victim in moments:
        deadline = time.monotonic() + WAIT_S
        while server.num_requests < max(number, last + 1) and time.monotonic() < deadline:
            if process.poll() is not None:
                if process.returncode == 0:
                    return killed  # fewer requests than expected: it is through
                process = start(folder, url, arguments)
            time.sleep(0.01)
        if victim == "driver":
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start(folder, url, arguments)
            killed[victim] += 1
        else:
            workers = engine_workers(process.pid)
            for worker in workers:
                with suppress(ProcessLookupError):  # one may end because another was killed
                    os.kill(worker, signal.SIGKILL)
            killed[victim] += bool(workers)
        last = server.num_requests
        print(f"  {victim} killed after {last} requests", flush=True)
    if process.wait() != 0:
        finish(folder, url, arguments)
    return killed


def campaign(
    folder: Path,
    arguments: Sequence[str],
    *,
    kills: int,
    actor_kills: int,
    share: float = 0.3,
    seed: int = 0,
) -> Result:
    """Both runs, in folders below `folder`."""
    calm, rough = folder / "calm", folder / "rough"
    for place in (calm, rough):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    with endpoint(0) as (server, behaviour):
        finish(calm, server.url, arguments)
        calm_requests = behaviour.num_requests
    victims = ["driver"] * kills + ["worker"] * actor_kills
    rand = random.Random(seed)
    rand.shuffle(victims)
    numbers = sorted(rand.randrange(calm_requests) for _ in victims)
    with endpoint(share, seed) as (server, behaviour):
        moments = list(zip(numbers, victims, strict=True))
        killed = disturb(rough, server.url, arguments, behaviour, moments)
        requests, faults = behaviour.num_requests, dict(behaviour.faults)
    (rows, counts), (rough_rows, rough_counts) = outcome(calm), outcome(rough)
    counts, rough_counts = (
        [{key: stage[key] for key in COUNTS} for stage in stages]
        for stages in (counts, rough_counts)
    )
    return Result(
        same_rows=rows == rough_rows,
        same_counts=counts == rough_counts,
        num_examples=sum(table.num_rows for table in rows.values()),
        calm_requests=calm_requests,
        requests=requests,
        kills=killed["driver"],
        actor_kills=killed["worker"],
        faults=faults,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lang", default="sw,en,fr")
    parser.add_argument("--calls-per-seed", type=int, default=24)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--actor-kills", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.3, help="of requests that fail")
    parser.add_argument("--seed", type=int, default=0, help="of faults and moments")
    parser.add_argument("--folder", type=Path, default=Path("runs/fault-campaign"))
    args = parser.parse_args()
    arguments = ["--lang", args.lang]
    arguments += ["--set", f"stages.render.calls_per_seed={args.calls_per_seed}"]
    result = campaign(
        args.folder,
        arguments,
        kills=args.kills,
        actor_kills=args.actor_kills,
        share=args.share,
        seed=args.seed,
    )
    for name, num in sorted(result.faults.items()):
        print(f"{num:6} {name}")
    print(
        f"{result.num_examples} examples; {result.calm_requests} requests undisturbed, "
        f"{result.requests} with {sum(result.faults.values())} faults, {result.kills} kills of the "
        f"driver and {result.actor_kills} of a worker: {result.ratio:.3f} times as many; "
        f"{'the same' if result.same_rows else 'OTHER'} examples, "
        f"{'the same' if result.same_counts else 'OTHER'} row counts"
    )
    return 0 if result.same_rows and result.same_counts and result.ratio <= 1.5 else 1


if __name__ == "__main__":
    sys.exit(main())

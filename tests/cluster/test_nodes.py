"""A run on a cluster of several machines, sent there as a job; one of them dies in its midst.

The machines are raylets, each with a node of its own as Ray sees it; one is killed with all of its
workers, as a loss of power does.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.engines.scripted_server import Handler
from tests.faulty_endpoint import FaultyServer, endpoint
from tests.kill_campaign import outcome

pytest.importorskip("aiohttp_cors", reason="Ray's job server needs ray[default]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
Address = tuple[str, int]
TOKEN = "f3b0" * 16  # that the cluster asks for
ARGUMENTS = ["--lang", "sw", "--run", "r", "--engine", "openai", "--model", "model-1"]
SETS = (
    "prompts={retrieval/short_query: 1}",
    "stages.render.calls_per_seed=2",
    "stages.seed.shard_rows=4",
    "engine.concurrency=2",
)


@dataclass
class Machines:
    """A cluster: a head without processors, and machines with one each."""

    jobs: str  # address of the job server
    ray: str
    raylets: list[int]  # process ids, of all but the head

    def lose(self, client: Address, server: Address) -> None:
        """Kill the raylet, and all below it, of the machine that holds a connection's client end."""
        # Both ends: to other servers, other clients may have the same port.
        held = [c for c in psutil.net_connections("tcp") if (c.laddr, c.raddr) == (client, server)]
        (pid,) = {end.pid for end in held if end.pid}
        (raylet,) = {process.pid for process in psutil.Process(pid).parents()} & {*self.raylets}
        self.raylets.remove(raylet)
        whole = psutil.Process(raylet)
        for process in [whole, *whole.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # one that ends by itself where another is gone
                process.kill()


class Held:
    """Answers as `behaviour` does, but lets all wait from a given request on until released."""

    def __init__(self, behaviour: FaultyServer, after: int) -> None:
        self.behaviour = behaviour
        self.after = after
        # Both ends of the connections of those who wait.
        self.waiting: queue.SimpleQueue[tuple[Address, Address] | None] = queue.SimpleQueue()
        self.released = threading.Event()

    def __call__(self, handler: Handler) -> None:
        if self.behaviour.num_requests >= self.after and not self.released.is_set():
            self.waiting.put((handler.client_address, handler.connection.getsockname()))
            self.released.wait(300)
        self.behaviour(handler)

    def lose_one(self, machines: Machines) -> None:
        """Kill the machine that the first who waits is on, in the midst of its request."""
        ends = self.waiting.get(timeout=300)
        assert ends, "nobody waits"
        machines.lose(*ends)
        self.released.set()


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with (
        tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        # Jobs run `python`, and that is to be this one.
        environment.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        environment.setenv("OPENAI_API_KEY", "sk-none")
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", TOKEN)
        command = [sys.executable, "-m", "tests.cluster.machines", "3"]
        own = {**os.environ, "RAY_TMPDIR": folder}
        with subprocess.Popen(
            command, cwd=ROOT, env=own, stdin=-1, stdout=-1, text=True
        ) as process:
            assert process.stdin and process.stdout
            lines = (line for line in process.stdout if line.startswith("{"))
            yield Machines(**json.loads(next(lines)))
            process.stdin.close()


def settings(url: str) -> list[str]:
    return [word for item in (*SETS, f"engine.base_url={url}") for word in ("--set", item)]


def submit(machines: Machines, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipelines.submit", "--address", machines.jobs, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_machine_that_dies_changes_no_row(machines: Machines, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    with endpoint(0) as (server, behaviour):
        command = [sys.executable, "-m", "pipelines.generate", *ARGUMENTS, *settings(server.url)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "sk-none"}
        subprocess.run(command, cwd=alone, env=environment, check=True, capture_output=True)
        num_requests = behaviour.num_requests
    with endpoint(0) as (server, behaviour):
        server.default = held = Held(behaviour, num_requests // 3)
        runs = f"runs={together / 'runs'}"
        replicas = ("--set", "engine.replicas=3", "--set", runs)
        with ThreadPoolExecutor(1) as pool:
            killer = pool.submit(held.lose_one, machines)
            try:
                done = submit(machines, *ARGUMENTS, *settings(server.url), *replicas)
            finally:
                held.waiting.put(None)  # should nobody have come, don't wait for one
            assert done.returncode == 0, done.stdout + done.stderr
            killer.result()
        assert behaviour.num_requests < 1.5 * num_requests
    assert "Example 3" in done.stdout  # what the job has shown
    log = (together / "runs/r/logs/run.log").read_text(encoding="utf-8")
    assert "worker lost" in log
    assert outcome(together) == outcome(alone)


def test_a_job_without_the_token_is_not_taken(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    done = submit(machines, "--lang", "sw", "--set", f"runs={tmp_path}")
    assert done.returncode == 2
    assert "the job server took no job" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_status_is_the_jobs(machines: Machines, tmp_path: Path) -> None:
    """A run that the cluster is too small for says what is missing."""
    runs = ("--set", f"runs={tmp_path}/runs")
    done = submit(machines, "--lang", "sw", "--set", "workers=400", *runs)
    assert done.returncode == 2
    assert "400 workers" in done.stdout and "CPU" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lang", "sx"], "near ones: sw"),
        (["--lang", "sw"], "RUNS=/<shared folder>/runs"),
        (
            ["--lang", "sw", "--set", "runs=/shared", "--corpus", str(ROOT / "x.txt")],
            "CORPUS=x.txt",
        ),
        (
            ["--lang", "sw", "--set", "runs=/shared", "--corpus", "tests"],
            "is outside of what is sent",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_it_is_sent(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import submit as command
    from sdg.errors import UserError

    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=said):
        command.check(arguments)

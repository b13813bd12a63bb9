"""Runs against an endpoint that fails in every way: nothing lost, nothing doubled, no key told."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.fault_campaign import KEY, Result, campaign

pytestmark = pytest.mark.timeout(1500)  # five starts of Ray, on a machine that may be busy

ONE_LANGUAGE = ["--lang", "sw", "--set", "stages.render.calls_per_seed=4"]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder of a short name: Ray's own files are in it too, and among them sockets."""
    with (
        tempfile.TemporaryDirectory(prefix="f", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("RAY_TMPDIR", f"{folder}/ray")
        yield Path(folder)


@pytest.fixture(scope="module")
def result(place: Path) -> Result:
    return campaign(place, ONE_LANGUAGE, kills=1, actor_kills=1)


def test_faults_and_kills_change_no_row(result: Result) -> None:
    assert result.same_rows and result.same_counts
    assert result.num_examples >= 120
    assert sum(result.faults.values()) >= 0.2 * result.requests
    assert (result.kills, result.actor_kills) == (1, 1)


def test_faults_and_kills_cost_half_as_many_requests_at_most(result: Result) -> None:
    assert result.ratio <= 1.5


def test_the_key_is_in_no_file_of_a_run_or_of_ray_and_on_no_screen(
    result: Result, place: Path
) -> None:
    """The endpoint has said it back in the errors of rows and of requests that were retried."""
    dropped = [row for path in place.rglob("*-infer/dropped/*") for row in rows(path)]
    assert [row for row in dropped if row["reason"] == "bad_request" and "***" in row["error"]]
    assert set(result.faults) & {"server error", "overload", "rate limit"}
    assert list(place.rglob("ray/**/*.log"))
    assert leaks(place) == []


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def leaks(folder: Path) -> list[str]:
    """Files that hold the key, or most of it, Parquet's compressed texts included."""
    found = []
    every = (Path(at, name) for at, _, names in os.walk(folder) for name in names)
    for path in sorted(p for p in every if p.is_file()):
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # Ray's processes tidy up when they end
            continue
        if path.suffix == ".parquet":
            content += json.dumps(rows(path)).encode()
        if KEY[3:15].encode() in content:
            found.append(str(path))
    return found

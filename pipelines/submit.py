"""Make training examples on a running Ray cluster: `make submit LANG=sw ADDRESS=http://head:8265`.

Sends this checkout as a Ray job, whose command is `python -m pipelines.generate …` with the same
options, and shows what it prints until it ends; the exit status is the job's. With token
authentication, RAY_AUTH_MODE=token and RAY_AUTH_TOKEN are taken from the environment. Keys of
endpoints and object stores belong into the cluster's own environment: they are not sent.
"""

import argparse
import asyncio
import os
import shlex
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import generate
from sdg.errors import UserError, entry_point

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ROOT = Path(__file__).parents[1]
# Not sent, beside what .gitignore names.
EXCLUDED = ["/.git", "/.venv", "/runs", "/trainings", "/tests", "__pycache__", ".*_cache"]
RETRY_S, MAX_RETRIES = 5.0, 24  # of a connection that breaks
MAX_OFFERS = 4  # of a job to a head node that has only just started, a quarter of a minute each


def parse_args(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The cluster's address, and what is for `generate`."""
    parser = argparse.ArgumentParser(
        prog="submit",
        allow_abbrev=False,
        description="Run pipelines.generate as a job of a Ray cluster.",
        epilog="All other options are those of pipelines.generate, which see.",
    )
    parser.add_argument("--address", default=os.environ.get("RAY_API_SERVER_ADDRESS", ""))
    args, rest = parser.parse_known_args(argv)
    return args.address, rest


def check(arguments: Sequence[str]) -> str:
    """Refuse here what the job would be refused for. Returns the run's name.

    Raises:
        UserError: an option is wrong, or a file would not reach the cluster.
    """
    args = generate.parse_args(arguments)
    profile = generate.read_profile(args)
    langs = profile.languages_of(args.lang)
    name = args.run or "-".join(lang.code for lang in langs)
    generate.run_dir_of(name)
    if not args.dry_run and "://" not in profile.runs and not Path(profile.runs).is_absolute():
        raise UserError(
            f"runs: {profile.runs} is a folder of this machine; give one that all machines of the "
            f"cluster share, RUNS=/<shared folder>/runs, or an object store, RUNS=s3://<bucket>/runs"
        )
    for given, path in (("CONFIG", args.config), ("CORPUS", profile.corpus.path)):
        here = Path(path)
        if here.is_absolute() and here.is_relative_to(ROOT):
            raise UserError(
                f"{given}={path}: the cluster gets this checkout under another name; give the path "
                f"from its top, {given}={here.relative_to(ROOT)}"
            )
        if not here.is_absolute() and here.exists() and not _is_sent(here):
            raise UserError(
                f"{given}={path}: is outside of what is sent to the cluster ({ROOT} without "
                f"{', '.join(EXCLUDED[:4])}); copy it to a folder that all machines share"
            )
    return name


def _is_sent(path: Path) -> bool:
    found = path.resolve()
    if not found.is_relative_to(ROOT):
        return False
    top = f"/{found.relative_to(ROOT).parts[0]}" if found != ROOT else ""
    return top not in EXCLUDED


def submit(address: str, arguments: Sequence[str], name: str) -> int:
    """Have the job run; its exit status.

    Raises:
        UserError: the cluster cannot be reached or takes no job.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    if not address:
        raise UserError(
            "which cluster? Give the address of its job server: ADDRESS=http://<head node>:8265"
        )
    command = shlex.join(["python", "-m", "pipelines.generate", *arguments])
    job = f"mbegu-{''.join(c if c.isalnum() else '-' for c in name)}-{uuid.uuid4().hex[:8]}"
    try:
        client = JobSubmissionClient(address)
        _send(client, command, job)
    except (ConnectionError, RuntimeError, ValueError, AuthenticationError) as error:
        said = " ".join(str(error).split())[:300]
        raise UserError(
            f"ADDRESS={address}: the job server took no job ({said}); is it the head node's, port "
            f"8265? Does it ask for a token (RAY_AUTH_MODE, RAY_AUTH_TOKEN)?"
        ) from None
    print(f"job {job} on {address}", flush=True)
    return follow(client, job, address)


def _send(client: "JobSubmissionClient", command: str, job: str) -> None:
    """Hand the job over; a head node that has only just started may have nobody to run it yet."""
    for offer in range(1, MAX_OFFERS + 1):
        try:
            client.submit_job(
                entrypoint=command,
                submission_id=job,
                runtime_env={"working_dir": str(ROOT), "excludes": EXCLUDED},
            )
            return
        except RuntimeError as error:
            if offer == MAX_OFFERS or "No available agent" not in str(error):
                raise
            time.sleep(RETRY_S)


def follow(client: "JobSubmissionClient", job: str, address: str) -> int:
    """Show what a job prints until it ends. A connection that breaks is opened anew."""
    shown = failures = 0
    while True:
        try:
            shown = asyncio.run(_show(client, job, shown))
            details = client.get_job_info(job)
            failures = 0
        except KeyboardInterrupt:
            print(
                f"\nthe job goes on; ray job logs {job} --address {address} --follow shows it, and "
                f"ray job stop {job} --address {address} stops it",
                file=sys.stderr,
            )
            return 130
        except (RuntimeError, OSError) as error:  # aiohttp's and requests' are OSErrors
            failures += 1
            if failures > MAX_RETRIES:
                raise UserError(
                    f"job {job}: {address} is out of reach ({error}); the job may still run there, "
                    f"and the same command goes on from what it has finished"
                ) from None
            time.sleep(RETRY_S)
            continue
        if details.status.is_terminal():
            if details.driver_exit_code is None:
                print(f"job {job}: {details.message}", file=sys.stderr)
                return 1
            return details.driver_exit_code
        time.sleep(1)


async def _show(client: "JobSubmissionClient", job: str, shown: int) -> int:
    """Print a job's output behind the characters already shown; how many there are now."""
    there = 0
    async for text in client.tail_job_logs(job):
        print(text[max(0, shown - there) :], end="", flush=True)
        there += len(text)
    return max(shown, there)


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: the job's; 2 for wrong use, 130 if it was left to itself."""
    address, arguments = parse_args(argv)
    return submit(address, arguments, check(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

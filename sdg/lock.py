"""One process at a time works on a run's folder.

On a file system the kernel holds the lock, and frees it when the process dies. In an object store
the lock is an object that its holder writes anew every few seconds: one that stays as it is for
longer was left behind.
"""

import fcntl
import json
import logging
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdg.errors import UserError
from sdg.storage import is_object, read_object, write_text

log = logging.getLogger(__name__)

RENEW_S = 5.0
LEFT_S = 20.0  # without a renewal, after which a lock counts as left behind


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Keep a second process out of a run's folder.

    Raises:
        UserError: there is one at work.
    """
    with _leased(run_dir / "lock") if is_object(run_dir) else _locked(run_dir / "lock"):
        yield


def is_locked(run_dir: Path) -> bool:
    """Whether a process, this one or another, works on a run's folder in this file system."""
    path = run_dir / "lock"
    if not path.is_file():
        return False
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held, or another user's
        return True
    return False


def _busy(path: Path) -> UserError:
    return UserError(
        f"{path.parent}: another process is working on this run; wait for it, or give another "
        f"RUN=<name>"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(path) from None
        yield


@contextmanager
def _leased(path: Path) -> Iterator[None]:
    found = _read(path)
    deadline = time.monotonic() + LEFT_S
    while found and time.monotonic() < deadline:
        log.info("%s: waiting whether its holder is alive", path)
        time.sleep(min(RENEW_S, LEFT_S) / 2)
        if (now := _read(path)) != found:
            if now:
                raise _busy(path)
            break  # it has been given back
    mine, ended = uuid.uuid4().hex, threading.Event()
    _write(path, mine)
    thread = threading.Thread(target=_renew, args=(path, mine, ended), daemon=True)
    thread.start()
    try:
        time.sleep(min(1.0, LEFT_S / 4))  # another may have found it free in the same moment
        if not _is(path, mine):
            raise _busy(path)
        yield
    finally:
        ended.set()
        thread.join()
        if _is(path, mine):
            path.unlink(missing_ok=True)


def _renew(path: Path, mine: str, ended: threading.Event) -> None:
    while not ended.wait(RENEW_S):
        try:
            if not _is(path, mine):
                log.error("%s: another process has taken this run over", path)
                return
            _write(path, mine)
        except OSError as error:
            log.warning("%s: not renewed: %s", path, error)


def _read(path: Path) -> str:
    try:
        return read_object(path).decode()
    except FileNotFoundError:
        return ""


def _is(path: Path, mine: str) -> bool:
    found = _read(path)
    return bool(found) and json.loads(found)["id"] == mine


def _write(path: Path, mine: str) -> None:
    write_text(path, json.dumps({"id": mine, "machine": platform.node(), "at": time.time()}))

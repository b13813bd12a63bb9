"""Journals: replies as they come, a line of JSON each, on the disk within a fraction of a second.

Each worker writes a journal of its own and holds a lock on it for as long as it lives: a journal
whose lock is free is finished, however its writer ended. Anyone may read all of them.
"""

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from sdg.kept.record import KeptReply

GROUP_S = 0.1  # replies that come within it share one sync of the disk
MAX_LINES = 5_000  # of one journal; then its writer begins another


class JournalWriter:
    """Appends replies to a journal, from any thread; a thread of its own writes and syncs."""

    def __init__(self, folder: Path, full: Callable[[], None]) -> None:
        """Begin.

        Args:
            full: called each time that a journal is full and the next has not begun.
        """
        self._folder = folder
        self._full = full
        self._file: BinaryIO | None = None
        self._num_lines = 0
        self._waiting: list[bytes] = []
        self._num_added = self._num_written = 0
        self._changed = threading.Condition()
        self._hurried = self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def add(self, reply: KeptReply) -> None:
        """Have a reply written soon.

        Raises:
            OSError: an earlier one could not be.
        """
        line = reply.model_dump_json().encode() + b"\n"
        with self._changed:
            self._check()
            self._waiting.append(line)
            self._num_added += 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all that was added is on the disk; raises as `add` does."""
        with self._changed:
            wanted, self._hurried = self._num_added, True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._error or self._num_written >= wanted)
            self._check()

    def close(self) -> None:
        """Write what is left and let go of the journal."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _check(self) -> None:
        if self._error:
            raise self._error

    def _write(self) -> None:
        try:
            while lines := self._next():
                self._append(lines)
                with self._changed:
                    self._num_written += len(lines)
                    self._changed.notify_all()
        except Exception as error:  # add and flush raise it
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            if self._file:
                self._file.close()

    def _next(self) -> list[bytes]:
        """The lines that wait, and those that soon follow; none when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(lambda: self._hurried or self._closed, timeout=GROUP_S)
            lines, self._waiting, self._hurried = self._waiting, [], False
            return lines

    def _append(self, lines: list[bytes]) -> None:
        if self._file is None or self._num_lines >= MAX_LINES:
            if self._file:
                self._file.close()
                self._full()
            self._file, self._num_lines = _new_journal(self._folder), 0
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._num_lines += len(lines)


def _new_journal(folder: Path) -> BinaryIO:
    """An empty journal that is locked before anybody can see it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}.jsonl"
    hidden = path.with_suffix(".new")
    file = hidden.open("ab")
    fcntl.flock(file, fcntl.LOCK_EX)
    hidden.rename(path)
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)  # the file's name, too, is to outlive a loss of power
    finally:
        os.close(entry)
    return file


@dataclass
class Lines:
    """What was found in a stretch of a journal."""

    replies: list[tuple[KeptReply, int, int]] = field(default_factory=list)  # offset, size
    damaged: list[int] = field(default_factory=list)  # offsets of lines that hold no reply
    end: int = 0  # offset behind the last whole line
    cut: int = 0  # bytes of a line without an end


def read_lines(file: BinaryIO, start: int) -> Lines:
    """The whole lines from `start` on; what is behind them is a line being written, or cut."""
    file.seek(start)
    found = Lines(end=start)
    for line in file:
        if not line.endswith(b"\n"):
            found.cut = len(line)
            break
        try:
            found.replies.append((KeptReply.model_validate_json(line), found.end, len(line)))
        except ValidationError:
            found.damaged.append(found.end)
        found.end += len(line)
    return found


def read_at(file: BinaryIO, offset: int, size: int) -> KeptReply:
    """The reply of one line."""
    file.seek(offset)
    return KeptReply.model_validate_json(file.read(size))


def journals(folder: Path) -> list[Path]:
    """All of them, the oldest first."""
    found = []
    for path in folder.glob("*.jsonl"):
        try:
            found.append((path.stat().st_mtime_ns, path))
        except FileNotFoundError:
            continue  # it has just gone into a segment
    return [path for _, path in sorted(found)]


def finished(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Journals that nobody writes any more, each open, and locked while it is looked at."""
    for path in journals(folder):
        try:
            file = path.open("r+b")  # NFS locks only what may be written
        except FileNotFoundError:
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield path, file
    for path in folder.glob("*.new"):  # of a writer that was killed at that very moment
        with suppress(FileNotFoundError):  # or of one that has just begun
            if time.time() - path.stat().st_mtime > 60:
                path.unlink()

"""The store: looks replies up in journals and segments, keeps new ones, tidies up."""

import fcntl
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from sdg.kept.journal import JournalWriter, finished, journals, read_at, read_lines
from sdg.kept.record import KeptReply, best
from sdg.kept.segments import MAKING, SCHEMA, Segment, prefixes, write_segment

log = logging.getLogger(__name__)

SMALL = 20_000  # rows below which segments are merged, where there are
SEVERAL = 8
DAY_S = 86_400


class RepliesConfig(BaseModel):
    """Where replies are kept, and for how long; the `replies:` section of a profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: bool = True  # false: neither use kept replies nor keep any
    folder: str = ""  # that runs share, and every machine of a run sees; "": .replies in `runs:`
    days: float = Field(180, gt=0)  # that a reply stays though no run wants it
    max_gb: float = Field(20, gt=0)  # above it, those wanted longest ago go

    @property
    def path(self) -> Path:
        """The folder."""
        assert self.folder, "the profile fills it in"
        return Path(self.folder).expanduser()


@dataclass
class _Journal:
    """A journal as far as it has been read."""

    path: Path
    file: BinaryIO
    end: int = 0
    places: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # offset, size

    def read_on(self) -> None:
        found = read_lines(self.file, self.end)
        self.end = found.end
        for reply, offset, size in found.replies:
            self.places.setdefault(reply.key, []).append((offset, size))

    def find(self, key: str) -> Iterator[KeptReply]:
        for offset, size in self.places.get(key, ()):
            yield read_at(self.file, offset, size)


class ReplyStore:
    """Kept replies: found by content id, from any thread."""

    def __init__(self, config: RepliesConfig) -> None:
        self._config = config
        self._folder = config.path
        self._lock = Lock()
        self._segments: dict[str, Segment] = {}
        self._journals: dict[str, _Journal] = {}
        self._writer: JournalWriter | None = None

    def find(self, wanted: Sequence[tuple[str, int]]) -> list[KeptReply | None]:
        """For each call, by its content id and `max_tokens`, the kept reply that answers it."""
        with self._lock:
            self._refresh()
            found: dict[str, list[KeptReply]] = {key: [] for key, _ in wanted}
            for key, replies in found.items():
                for journal in self._journals.values():
                    replies += journal.find(key)
            sought = np.unique(prefixes(list(found)))
            for segment in list(self._segments.values()):
                self._find_in(segment, sought, found)
        return [best(found[key], max_tokens) for key, max_tokens in wanted]

    def _find_in(
        self, segment: Segment, sought: np.ndarray, found: dict[str, list[KeptReply]]
    ) -> None:
        try:
            rows = segment.candidates(sought)
            hits = [r for r in segment.read(rows) if r.key in found] if len(rows) else []
        except FileNotFoundError:
            return  # just removed, as it was not wanted for long; or merged
        for reply in hits:
            found[reply.key].append(reply)
        if hits:
            segment.touch()

    def keep(self, reply: KeptReply) -> None:
        """Have a reply written soon; `flush` waits for it."""
        with self._lock:
            if self._writer is None:
                tidy_mine = partial(tidy, self._config)
                self._writer = JournalWriter(self._folder / "journal", tidy_mine)
            writer = self._writer
        writer.add(reply)

    def flush(self) -> None:
        """Wait until all that is to be kept is on the disk."""
        if self._writer:
            self._writer.flush()

    def close(self) -> None:
        """Write what is left, and let go of all files."""
        if self._writer:
            self._writer.close()
        with self._lock:
            for journal in self._journals.values():
                journal.file.close()
            self._journals.clear()
            self._segments.clear()

    def _refresh(self) -> None:
        """See what others have written, moved and removed meanwhile.

        A segment stands before its journals go. So journals are listed first, and all again when
        one was gone by the time it was opened.
        """
        while not self._list():
            pass

    def _list(self) -> bool:
        there = {path.name: path for path in journals(self._folder / "journal")}
        stand = {path.name: path for path in (self._folder / "segments").glob("*.parquet")}
        for name in self._journals.keys() - there.keys():
            self._journals.pop(name).file.close()
        for name in self._segments.keys() - stand.keys():
            del self._segments[name]
        for name in stand.keys() - self._segments.keys():
            self._segments[name] = Segment(stand[name])
        for name, path in there.items():
            if name not in self._journals:
                try:
                    self._journals[name] = _Journal(path, path.open("rb"))
                except FileNotFoundError:
                    return False
            self._journals[name].read_on()
        return True


def tidy(config: RepliesConfig) -> None:
    """Move finished journals into segments, and remove replies that nobody has wanted for long.

    Does nothing while another process does it.
    """
    folder = config.path
    if not config.keep or not folder.is_dir():
        return
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _compact(folder)
        _prune(folder, config)


@contextmanager
def tidied(config: RepliesConfig) -> Iterator[None]:
    """The folder, tidied before and after."""
    tidy(config)
    try:
        yield
    finally:
        tidy(config)


def _segments(folder: Path) -> list[Segment]:
    return [Segment(path) for path in sorted((folder / "segments").glob("*.parquet"))]


def _compact(folder: Path) -> None:
    target = folder / "segments"
    shutil.rmtree(target / MAKING, ignore_errors=True)  # of one that was killed
    for index in target.glob("*.arrow"):
        if not index.with_suffix(".parquet").exists():
            index.unlink()
    for path, file in finished(folder / "journal"):
        found = read_lines(file, 0)
        for offset in found.damaged:
            log.warning("%s: damaged at byte %d: one kept reply is lost", path, offset)
        if found.cut:
            log.info("%s: its last line was cut by a kill; %d bytes left out", path, found.cut)
        fresh = _not_in(_segments(folder), [reply for reply, _, _ in found.replies])
        table = pa.Table.from_pylist([reply.model_dump() for reply in fresh], schema=SCHEMA)
        write_segment(target, iter([table]), path.stat().st_mtime)
        path.unlink()
    small = [segment for segment in _segments(folder) if segment.num_rows < SMALL]
    if len(small) >= SEVERAL:
        small.sort(key=lambda segment: segment.used)
        rows = (batch for segment in small for batch in segment.batches())
        write_segment(target, rows, small[-1].used)
        for segment in small:
            segment.remove()


def _not_in(segments: Sequence[Segment], replies: Sequence[KeptReply]) -> list[KeptReply]:
    """Those that no segment has: one whole reply a content id is enough, and one cut."""
    sought = np.unique(prefixes([reply.key for reply in replies]))
    known = {
        (reply.key, reply.cut, reply.max_tokens if reply.cut else 0)
        for segment in segments
        for reply in segment.read(segment.candidates(sought))
    }
    fresh = []
    for reply in replies:
        name = (reply.key, reply.cut, reply.max_tokens if reply.cut else 0)
        if name not in known:
            known.add(name)
            fresh.append(reply)
    return fresh


def _prune(folder: Path, config: RepliesConfig) -> None:
    segments = sorted(_segments(folder), key=lambda segment: segment.used, reverse=True)
    total = sum(path.stat().st_size for path in journals(folder / "journal"))
    for segment in segments:
        total += segment.size
        too_old = time.time() - segment.used > config.days * DAY_S
        too_much = total > config.max_gb * 1e9
        if too_old or too_much:
            why = f"replies.max_gb: {config.max_gb:g}" if too_much else f"days: {config.days:g}"
            log.info(
                "kept replies: %d removed (%.1f MB), last wanted %s; %s",
                segment.num_rows,
                segment.size / 1e6,
                time.strftime("%Y-%m-%d", time.gmtime(segment.used)),
                why if too_much else f"replies.{why}",
            )
            total -= segment.size
            segment.remove()

"""The store: nothing kept is lost, whoever writes, tidies, or dies meanwhile."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sdg.errors import UserError
from sdg.kept import KeptReply, RepliesConfig, ReplyStore
from sdg.kept import journal as journal_module
from sdg.kept.store import tidy
from sdg.text import digest
from tests.kept.test_content import kept

ROOT = Path(__file__).parents[2]
Config = Callable[..., RepliesConfig]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return lambda **more: RepliesConfig(folder=str(tmp_path / "kept"), **more)


def reply(number: int, **changes: Any) -> KeptReply:
    return kept(**{"key": digest(number), "text": f"jibu {number}", "at": number, **changes})


def keep(config: RepliesConfig, replies: Sequence[KeptReply]) -> None:
    with closing(ReplyStore(config)) as store:
        for one in replies:
            store.keep(one)


def texts(config: RepliesConfig, numbers: Sequence[int], max_tokens: int = 100) -> list[str | None]:
    with closing(ReplyStore(config)) as store:
        found = store.find([(digest(number), max_tokens) for number in numbers])
    return [one.text if one else None for one in found]


def journals(config: RepliesConfig) -> list[Path]:
    return sorted(Path(config.folder).glob("journal/*.jsonl"))


def segments(config: RepliesConfig) -> list[Path]:
    return sorted(Path(config.folder).glob("segments/*.parquet"))


def test_what_is_kept_is_found_in_journals_and_in_segments(config: Config) -> None:
    replies = [reply(n, finish_reason=["stop", "length"][n % 2]) for n in range(300)]
    keep(config(), replies)
    for number, where in ((1, journals), (2, segments)):
        assert len(where(config())) == 1, number
        with closing(ReplyStore(config())) as store:
            assert store.find([(one.key, 100) for one in replies]) == replies
            assert store.find([(digest("other"), 100), (replies[7].key, 101)]) == [None, None]
        tidy(config())
    assert journals(config()) == []


def test_an_empty_store_finds_nothing_and_writes_nothing(config: Config) -> None:
    assert texts(config(), [1]) == [None]
    tidy(config())
    assert not Path(config().folder).exists()


def test_a_store_sees_what_others_keep_move_and_remove(config: Config) -> None:
    with closing(ReplyStore(config())) as store:
        for number in range(6):
            keep(config(), [reply(number)])
            if number % 2:
                tidy(config())
            wanted = [(digest(n), 100) for n in range(7)]
            found = [one.text if one else None for one in store.find(wanted)]
            assert found == [f"jibu {n}" if n <= number else None for n in range(7)]
        for path in segments(config()):
            path.unlink()
        assert store.find(wanted) == [None] * 7


def test_a_living_writers_journal_is_let_alone(config: Config) -> None:
    with closing(ReplyStore(config())) as store:
        store.keep(reply(1))
        store.flush()
        tidy(config())
        assert (len(journals(config())), segments(config())) == (1, [])
        store.keep(reply(2))
        store.flush()
        assert texts(config(), [1, 2]) == ["jibu 1", "jibu 2"]
    tidy(config())
    assert (journals(config()), len(segments(config()))) == ([], 1)


WRITER = """
import sys, time
from sdg.kept import RepliesConfig, ReplyStore
from tests.kept.test_store import reply
store = ReplyStore(RepliesConfig(folder=sys.argv[1]))
first = int(sys.argv[2])
for number in range(first, first + 6000):  # past the end of a first journal
    store.keep(reply(number))
    if number % 100 == 99:
        store.flush()
        print(number, flush=True)
time.sleep(600)
"""


def start_writer(config: RepliesConfig, first: int = 0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, config.folder, str(first)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def said(writer: "subprocess.Popen[str]", times: int) -> int:
    """The last number that a writer calls safe, after so many."""
    assert writer.stdout
    for _ in range(times):
        line = writer.stdout.readline()
    return int(line)


def test_a_killed_writer_loses_nothing_that_it_called_safe(config: Config) -> None:
    writer = start_writer(config())
    safe = said(writer, 30)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    expected = [f"jibu {n}" for n in range(safe + 1)]
    assert texts(config(), range(safe + 1)) == expected
    tidy(config())
    assert journals(config()) == []
    assert texts(config(), range(safe + 1)) == expected


def test_two_writers_and_who_tidies_at_the_same_time(
    config: Config,
) -> None:
    writers = [start_writer(config(), 0), start_writer(config(), 1_000_000)]
    over = threading.Event()

    def keep_tidying() -> None:
        while not over.is_set():
            tidy(config())
            keep(config(), [reply(10**7)])
            time.sleep(0.05)

    threads = [threading.Thread(target=keep_tidying) for _ in range(2)]
    for thread in threads:
        thread.start()
    safe = [0, 0]
    with closing(ReplyStore(config())) as store:
        for _ in range(6):
            safe = [said(writer, 10) for writer in writers]
            for first, last in zip((0, 1_000_000), safe, strict=True):
                wanted = [(digest(number), 100) for number in range(first, last + 1)]
                assert None not in store.find(wanted)
    over.set()
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    for thread in threads:
        thread.join()
    assert segments(config())
    tidy(config())
    for first, last in zip((0, 1_000_000), safe, strict=True):
        expected = [f"jibu {number}" for number in range(first, last + 1)]
        assert texts(config(), range(first, last + 1)) == expected


@pytest.mark.parametrize("cut", [1, 40, 150])
def test_a_line_cut_by_a_kill_is_left_out_and_said(
    config: Config, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    keep(config(), [reply(n) for n in range(3)])
    (path,) = journals(config())
    path.write_bytes(path.read_bytes()[:-cut])
    assert texts(config(), range(3)) == ["jibu 0", "jibu 1", None]
    with caplog.at_level(logging.INFO):
        tidy(config())
    assert f"{path}: its last line was cut" in caplog.text
    assert texts(config(), range(3)) == ["jibu 0", "jibu 1", None]


def test_a_damaged_line_is_named_and_the_others_stand(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    keep(config(), [reply(n) for n in range(3)])
    (path,) = journals(config())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1][:60] + b"\0\xff" + lines[1][62:], lines[2]]))
    assert texts(config(), range(3)) == ["jibu 0", None, "jibu 2"]
    tidy(config())
    assert f"{path}: damaged at byte {len(lines[0])}" in caplog.text
    assert texts(config(), range(3)) == ["jibu 0", None, "jibu 2"]


@pytest.mark.parametrize("where", [0.2, 0.5, 0.98])
def test_a_damaged_segment_stops_the_run_before_anything_is_paid_twice(
    config: Config, where: float
) -> None:
    keep(config(), [reply(n) for n in range(300)])
    tidy(config())
    (path,) = segments(config())
    content = bytearray(path.read_bytes())
    for i in range(40):
        content[int(where * len(content)) + i - 20] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"segments/.*damaged.*remove it") as error:
        texts(config(), range(300))
    assert "\n" not in str(error.value)
    path.unlink()
    assert texts(config(), [1]) == [None]


def test_a_lost_index_is_made_anew(config: Config) -> None:
    keep(config(), [reply(n) for n in range(30)])
    tidy(config())
    (path,) = segments(config())
    for spoil in (Path.unlink, lambda index: index.write_bytes(b"x" * 99)):
        spoil(path.with_suffix(".arrow"))
        assert texts(config(), [29, 31]) == ["jibu 29", None]


def test_the_same_reply_is_kept_once_and_a_cut_one_beside_a_whole(config: Config) -> None:
    cut = reply(1, finish_reason="length", max_tokens=20)
    keep(config(), [cut, reply(1, text="whole")])
    keep(config(), [cut, reply(1, text="whole, later").model_copy(update={"at": 99}), reply(2)])
    tidy(config())
    rows = [row for path in segments(config()) for row in pq.read_table(path).to_pylist()]
    assert sorted(row["text"] for row in rows) == ["jibu 1", "jibu 2", "whole"]
    assert texts(config(), [1], 100) == ["whole"]
    assert texts(config(), [1], 15) == ["jibu 1"]


def test_small_segments_are_merged(config: Config) -> None:
    for number in range(20):
        keep(config(), [reply(number)])
        tidy(config())
    assert len(segments(config())) < 8
    assert texts(config(), range(20)) == [f"jibu {n}" for n in range(20)]


def aged(paths: Sequence[Path], days: Sequence[float]) -> Iterator[Path]:
    for path, age in zip(paths, days, strict=True):
        os.utime(path, (time.time() - age * 86_400,) * 2)
        yield path


def test_replies_not_wanted_for_long_go_and_it_is_said(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        keep(config(), [reply(number)])
        tidy(config())
    by_number = {pq.read_table(p)["text"][0].as_py(): p for p in segments(config())}
    paths = [by_number[f"jibu {n}"] for n in range(3)]
    list(aged(paths, [40, 20, 40]))
    assert texts(config(), [2]) == ["jibu 2"]  # wanted again: young again
    with caplog.at_level(logging.INFO):
        tidy(config(days=30))
    assert texts(config(), range(3)) == [None, "jibu 1", "jibu 2"]
    assert caplog.text.count("removed") == 1
    assert "replies.days: 30" in caplog.text
    assert not paths[0].with_suffix(".arrow").exists()


def test_what_was_wanted_longest_ago_makes_room(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        keep(config(), [reply(number)])
        tidy(config())
    paths = segments(config())
    names = [pq.read_table(path)["text"][0].as_py() for path in paths]
    list(aged(paths, [1, 4, 2, 3]))
    size = paths[0].stat().st_size + paths[0].with_suffix(".arrow").stat().st_size
    with caplog.at_level(logging.INFO):
        tidy(config(max_gb=2.5 * size / 1e9))
    assert sorted(x for x in texts(config(), range(4)) if x) == sorted([names[0], names[2]])
    assert "replies.max_gb" in caplog.text
    tidy(config(max_gb=1e-9))
    assert texts(config(), range(4)) == [None] * 4


def test_a_long_run_keeps_within_the_limit_while_it_runs(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_LINES", 50)
    small = config(max_gb=50e-6)
    with closing(ReplyStore(small)) as store:
        for number in range(2000):
            store.keep(reply(number))
            if number % 25 == 0:
                store.flush()
        store.flush()  # else files may go while they are counted
        files = [path for path in Path(small.folder).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 80_000
    assert texts(small, [1999]) == ["jibu 1999"]


def test_a_disk_that_takes_no_more_stops_the_run(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_module.os, "fsync", full)
    with closing(ReplyStore(config())) as store:
        store.keep(reply(1))
        with pytest.raises(OSError, match="No space left"):
            store.flush()
        with pytest.raises(OSError, match="No space left"):
            store.keep(reply(2))

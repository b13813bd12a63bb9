"""What entry points say of errors: the system's own, from Python and from libraries in Rust."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from sdg.errors import UserError, entry_point
from tests.tiny_training import limit_files


def by_python(folder: Path) -> None:
    (folder / "a").write_text("a" * 1000)


def by_safetensors(folder: Path) -> None:
    save_file({"weight": np.zeros(1000)}, folder / "a")


def by_tokenizers(folder: Path) -> None:
    Tokenizer(WordLevel({"a" * 1000: 0}, "a")).save(str(folder / "a"))


def run(action: Callable[[], None]) -> int:
    @entry_point
    def main(argv: Sequence[str]) -> int:
        action()
        return 0

    return main([])


@pytest.mark.parametrize("write", [by_python, by_safetensors, by_tokenizers])
def test_a_disk_that_takes_no_more_is_one_line(
    write: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        limit_files(500)
        status = run(lambda: write(tmp_path))
    finally:
        limit_files(-1)
    assert (status, capsys.readouterr().err) == (1, "error: File too large\n")


FULL = Path("/dev/full")  # a device that is always full


@pytest.mark.parametrize(
    "write", [lambda: FULL.write_text("a"), lambda: np.zeros(10_000).tofile(FULL)]
)
def test_a_full_disk_is_called_so(
    write: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the disk is full; what is finished is kept: free some space")


def test_mistakes_are_said_and_bugs_are_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> None:
        raise UserError("LANG=x: no such language")

    def wrong() -> None:
        raise ZeroDivisionError

    assert run(mistaken) == 2
    assert capsys.readouterr().err == "error: LANG=x: no such language\n"
    with pytest.raises(ZeroDivisionError):
        run(wrong)
    assert run(lambda: None) == 0


def test_a_name_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> None:
        raise UserError("a\x1b[31m\r\u200c.csv: empty")  # a joiner is part of some scripts

    assert run(mistaken) == 2
    assert capsys.readouterr().err == "error: a\\x1b[31m\\r\u200c.csv: empty\n"


def test_a_signal_to_end_is_a_stop_and_the_handler_that_was_there_stays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
    assert signal.getsignal(signal.SIGTERM) is before

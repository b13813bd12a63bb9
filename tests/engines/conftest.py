"""Calls to ask engines with."""

import json
from collections.abc import Callable

import pytest

from sdg.schema import Call, Message, Seed
from sdg.text import digest

MakeCall = Callable[..., Call]


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

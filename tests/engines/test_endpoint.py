"""What is found out about an endpoint before a run asks it."""

import time

import pytest
from pydantic import ValidationError

from sdg.errors import UserError
from tests.engines.conftest import openai_engine
from tests.engines.scripted_server import ScriptedServer, Step, status

pytestmark = pytest.mark.usefixtures("quick_and_keyed")


def test_a_url_with_a_password_is_refused_without_repeating_it() -> None:
    for url in ("http://me:hunter2@host/v1", "https://host/v1?api_key=hunter2"):
        with pytest.raises(ValidationError) as error:
            openai_engine(url)
        assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "models", "post", "said"),
    [
        ({"model": ""}, None, None, r"MODEL=<name>; it offers model-0, .*model-7, \.\.\.$"),
        ({"model": "model-99"}, None, status(404), r"no such model; it offers model-9, "),
        ({"model": "model-99"}, None, status(400, "invalid model name"), "no such model"),
        ({}, status(401), None, "OPENAI_API_KEY"),
        ({}, status(403), None, "OPENAI_API_KEY"),
        ({}, status(503), None, "HTTP 503"),
    ],
)
def test_check_refuses(
    server: ScriptedServer,
    settings: dict[str, object],
    models: Step | None,
    post: Step | None,
    said: str,
) -> None:
    server.models, server.default = models or server.models, post or server.default
    with pytest.raises(UserError, match=said) as error:
        openai_engine(server.url, **settings).check([], "sw")
    assert "\n" not in str(error.value)


def test_check_passes(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    openai_engine(server.url).check([], "sw")
    openai_engine(server.url, model="alias-of-model-1").check([], "sw")  # unlisted, but it answers
    server.default = status(
        400, "'max_tokens' is not supported with this model", param="max_tokens"
    )
    openai_engine(server.url, model="alias-of-model-1").check([], "sw")
    server.models = status(404)
    openai_engine(server.url, model="anything").check([], "sw")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    openai_engine("").check([], "sw")


def test_check_sees_a_forgotten_v1(server: ScriptedServer) -> None:
    with pytest.raises(UserError, match=rf"did you mean engine.base_url={server.url}$"):
        openai_engine(server.url.removesuffix("/v1")).check([], "sw")


def test_check_of_a_dead_endpoint_is_one_quick_line(dead: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=dead) as error:
        openai_engine(dead).check([], "sw")
    assert time.monotonic() - started < 20
    assert "\n" not in str(error.value)


def test_only_an_endpoint_at_home_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    for home in (
        "http://localhost:1/v1",
        "http://10.1.2.3/v1",
        "http://ollama:1/v1",
        "http://[::1]/v1",
    ):
        assert openai_engine(home).endpoint() == (home, "none")
    for away in ("", "https://api.example.com/v1", "http://8.8.8.8/v1"):
        with pytest.raises(UserError, match="set OPENAI_API_KEY"):
            openai_engine(away).check([], "sw")


def test_reserved_names_are_refused_in_extra_body() -> None:
    with pytest.raises(ValidationError, match=r"extra_body\.seed"):
        openai_engine("http://localhost/v1", extra_body={"seed": 1})

"""The OpenAI-compatible engine against a scripted server, and against a real `vllm serve`."""

import json
import logging
import random
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from sdg.engines.limits import backoff_s
from sdg.errors import UserError
from sdg.tasks.retrieval import QueryReply
from tests import tiny_model
from tests.engines.conftest import KEY, MakeCall, openai_engine
from tests.engines.scripted_server import (
    Handler,
    ScriptedServer,
    Step,
    cut,
    ok,
    reset,
    serving,
    stall,
    status,
)

pytestmark = pytest.mark.usefixtures("quick_and_keyed")


def test_the_request_holds_what_the_call_says(server: ScriptedServer, make_call: MakeCall) -> None:
    call = make_call(temperature=0.3, top_p=0.9, max_tokens=77)
    with closing(openai_engine(server.url, extra_body={"top_k": 4}).open()) as session:
        (reply,) = session.answer([call])
    ((headers, body),) = server.requests
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "model-1",
        "messages": [{"role": "user", "content": call.messages[0].content}],
        "temperature": 0.3,
        "top_p": 0.9,
        "max_tokens": 77,
        "seed": int(call.id[:8], 16) % 2**31,
        "top_k": 4,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "retrieval",
                "schema": QueryReply.model_json_schema(),
                "strict": True,
            },
        },
    }
    assert (reply.text, reply.finish_reason) == ('{"query":"nini"}', "stop")
    assert (reply.tokens_in, reply.tokens_out, reply.attempts) == (7, 3, 1)


@pytest.mark.parametrize(
    ("structured", "wanted"), [("json_object", {"type": "json_object"}), ("none", None)]
)
def test_structured_is_a_setting(
    server: ScriptedServer, make_call: MakeCall, structured: str, wanted: object
) -> None:
    with closing(openai_engine(server.url, structured=structured).open()) as session:
        session.answer([make_call()])
    assert server.requests[0][1].get("response_format") == wanted


@pytest.mark.parametrize(
    ("step", "error", "timeout_s"),
    [
        (status(500), "server_error", 60),
        (status(503), "server_error", 60),
        (status(409), "server_error", 60),
        (status(408), "timeout", 60),
        # Far longer than the time limit, and that longer than a good answer takes on a busy machine.
        (stall(60), "timeout", 3),
        (reset(), "connection", 60),
        (cut(), "connection", 60),
        (lambda handler: handler.send_json(200, {"no": "answer"}), "server_error", 60),
    ],
)
def test_what_may_pass_is_tried_again_and_then_the_rows_error(
    server: ScriptedServer, make_call: MakeCall, step: Step, error: str, timeout_s: float
) -> None:
    with closing(openai_engine(server.url, max_attempts=2, timeout_s=timeout_s).open()) as session:
        server.script = [step]
        (reply,) = session.answer([make_call()])
        assert (reply.text, reply.error, reply.attempts) == ('{"query":"nini"}', None, 2)
        server.script = [step, step]
        (reply,) = session.answer([make_call()])
        assert (reply.text, reply.error, reply.attempts) == (None, error, 2)


def test_a_rate_limit_costs_no_row(server: ScriptedServer, make_call: MakeCall) -> None:
    server.script = [status(429)] * 7
    with closing(openai_engine(server.url, max_attempts=2).open()) as session:
        (reply,) = session.answer([make_call()])
    assert (reply.text, reply.attempts) == ('{"query":"nini"}', 8)


def test_retry_after_holds_for_all_requests(server: ScriptedServer, make_call: MakeCall) -> None:
    times: list[float] = []

    def answer(handler: Handler) -> None:
        times.append(time.monotonic())
        ok()(handler)

    server.script = [status(429, headers={"Retry-After": "1"})]
    server.default = answer
    with closing(openai_engine(server.url, concurrency=1).open()) as session:
        started = time.monotonic()
        replies = session.answer([make_call(ordinal=i) for i in range(3)])
    assert sorted(reply.attempts for reply in replies) == [1, 1, 2]
    assert min(times) - started >= 1


def test_a_long_retry_after_stops_the_run(server: ScriptedServer, make_call: MakeCall) -> None:
    server.default = status(429, "daily limit", headers={"Retry-After": "86400"})
    with (
        closing(openai_engine(server.url).open()) as session,
        pytest.raises(UserError, match="wait 1440 minutes .*daily limit.*same command again"),
    ):
        session.answer([make_call()])


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (status(400, "This model's maximum context length is 512 tokens."), "prompt_too_long"),
        (status(400, "broken", code="context_length_exceeded"), "prompt_too_long"),
        (status(400, "messages:\n  bad role"), "bad_request: messages: bad role"),
        (status(422, "w" * 900), "bad_request: " + "w" * 159 + "…"),
        (ok("", finish_reason="content_filter"), "content_filter"),
    ],
)
def test_a_row_that_is_refused_is_that_rows_error(
    server: ScriptedServer, make_call: MakeCall, step: Step, error: str
) -> None:
    with closing(openai_engine(server.url, concurrency=1).open()) as session:
        server.script = [ok(), step]
        before, bad, after = session.answer([make_call(ordinal=i) for i in range(3)])
    assert (bad.text, bad.error, bad.attempts) == (None, error, 1)
    assert before.text == after.text == '{"query":"nini"}'


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (status(401, f"Incorrect API key provided: {KEY}"), "OPENAI_API_KEY"),
        (status(403), "OPENAI_API_KEY"),
        (status(404, "The model `model-1` does not exist."), "check MODEL"),
        (
            status(400, "response_format is not supported", param="response_format"),
            "set engine.structured: json_object or none",
        ),
        (
            status(400, "'max_tokens' is not supported, use 'max_completion_tokens'."),
            "engine.max_tokens_field",
        ),
        (status(429, "You exceeded your quota", code="insufficient_quota"), "quota"),
    ],
)
def test_what_no_row_can_succeed_with_stops_the_run(
    server: ScriptedServer, make_call: MakeCall, step: Step, said: str
) -> None:
    server.default = step
    with closing(openai_engine(server.url, concurrency=2).open()) as session:
        with pytest.raises(UserError, match=said) as error:
            session.answer([make_call(ordinal=i) for i in range(50)])
        assert "\n" not in str(error.value)
        assert len(server.requests) <= 4  # the rest are not sent, let alone paid for
        with pytest.raises(UserError, match=said):
            session.answer([make_call()])


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (status(503, "loading"), "server_error .HTTP 503 loading"),
        (reset(), "connection"),
        (None, ""),
    ],
)
def test_an_endpoint_that_is_down_stops_the_run_and_costs_no_row(
    server: ScriptedServer,
    dead: str,
    make_call: MakeCall,
    monkeypatch: pytest.MonkeyPatch,
    step: Step | None,
    said: str,
) -> None:
    monkeypatch.setattr("sdg.engines.openai_session.GIVE_UP_S", 1.0)
    server.default = step or server.default
    url = server.url if step else dead
    with closing(openai_engine(url, max_attempts=2).open()) as session:
        started = time.monotonic()
        with pytest.raises(UserError, match=f"nearly all requests fail.*{said}") as error:
            session.answer([make_call(ordinal=i) for i in range(40)])
        assert time.monotonic() - started >= 1
    assert url in str(error.value)
    assert "give the same command again" in str(error.value)


def test_rows_that_fail_beside_an_endpoint_that_is_well_are_the_rows_matter(
    server: ScriptedServer, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poison rows alone are left: the least question is answered, so the run need not stop."""
    monkeypatch.setattr("sdg.engines.openai_session.GIVE_UP_S", 0.2)

    def poisoned(handler: Handler) -> None:
        (ok() if handler.body["messages"][0]["content"] == "." else status(500))(handler)

    server.default = poisoned
    with closing(openai_engine(server.url, max_attempts=2).open()) as session:
        replies = session.answer([make_call(ordinal=i) for i in range(12)])
        assert {reply.error for reply in replies} == {"server_error"}
        with pytest.raises(UserError, match="nearly all requests fail"):
            session.answer([make_call(ordinal=i) for i in range(200)])


def test_a_row_that_is_limited_for_ever_is_given_up(
    server: ScriptedServer, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts say 429 to a request of more tokens than they serve in a minute, however often asked."""
    monkeypatch.setattr("sdg.engines.openai_session.GIVE_UP_LIMITED_S", 0.2)

    def limited(handler: Handler) -> None:
        content = handler.body["messages"][0]["content"]
        (status(429, "Request too large") if "huge" in content else ok())(handler)

    server.default = limited
    with closing(openai_engine(server.url, max_attempts=2).open()) as session:
        replies = session.answer([make_call("huge"), *(make_call(ordinal=i) for i in range(6))])
    assert [reply.error for reply in replies] == ["rate_limited", *[None] * 6]


def test_an_endpoint_that_restarts_costs_no_row(
    make_call: MakeCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, done = threading.Event(), threading.Event()

    def wait_s(failures: int, rand: random.Random) -> float:
        failed.set()
        return backoff_s(failures, rand)

    monkeypatch.setattr("sdg.engines.openai_session.backoff_s", wait_s)
    server = ScriptedServer()

    def late() -> None:
        failed.wait(60)
        with serving(server):
            done.wait(60)

    thread = threading.Thread(target=late)
    thread.start()
    with closing(openai_engine(server.url, max_attempts=1).open()) as session:
        (reply,) = session.answer([make_call()])
    done.set()
    thread.join()
    assert reply.text
    assert reply.attempts > 1


def test_concurrency_holds_over_all_threads_and_order_is_kept(
    server: ScriptedServer, make_call: MakeCall
) -> None:
    inside: set[Handler] = set()
    most, three = 0, threading.Event()

    def echo(handler: Handler) -> None:
        nonlocal most
        with server.lock:
            inside.add(handler)
            most = max(most, len(inside))
            if most == 3:
                three.set()
        three.wait(60)
        time.sleep(0.05)  # in which a fourth would come
        with server.lock:
            inside.remove(handler)  # before the answer, on which the next may follow at once
        ok(str(handler.body["seed"]))(handler)

    server.default = echo
    shards = [[make_call(f"{n}", ordinal=i) for i in range(8)] for n in range(4)]
    with (
        closing(openai_engine(server.url, concurrency=3).open()) as session,
        ThreadPoolExecutor(4) as pool,
    ):
        answered = list(pool.map(session.answer, shards))
    for calls, replies in zip(shards, answered, strict=True):
        assert [reply.text for reply in replies] == [
            str(int(call.id[:8], 16) % 2**31) for call in calls
        ]
    assert most == 3


def test_the_key_is_nowhere(
    server: ScriptedServer,
    make_call: MakeCall,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sdg.engines.openai_session.GIVE_UP_LIMITED_S", 0.1)
    caplog.set_level(logging.DEBUG)
    engine = openai_engine(server.url, max_attempts=1)
    seen = [repr(engine), engine.model_dump_json()]
    echo = f"who is {KEY}? Bearer {KEY}"
    steps = [status(code, echo) for code in (400, 401, 403, 404, 429, 500)]
    steps.append(status(400, f"response_format {echo}"))
    for step in [*steps, ok()]:
        session = engine.open()
        server.default = step
        seen += [repr(session), repr(vars(session))]
        try:
            seen.append(repr(session.answer([make_call()])))
        except UserError as error:
            seen += [
                repr(error),
                "".join(traceback.format_exception(error)),
                repr(error.__context__),
            ]
        session.close()
    server.models = status(500, echo)
    with pytest.raises(UserError) as refused:
        engine.check([], "sw")
    seen += [str(refused.value), caplog.text]
    assert caplog.text
    assert not [text for text in seen if KEY in text]


def test_a_real_server(vllm_url: str, make_call: MakeCall) -> None:
    engine = openai_engine(vllm_url, model="tiny")
    engine.check([], "sw")
    with pytest.raises(UserError, match=r"it offers tiny$"):
        openai_engine(vllm_url, model="huge").check([], "sw")
    calls = [make_call(ordinal=i) for i in range(16)]
    with closing(engine.open()) as session:
        replies = session.answer(calls)
        again = session.answer(calls)
        long = make_call("x" * (tiny_model.MAX_LENGTH + 1))
        cut, too_long = session.answer([make_call(max_tokens=5), long])
    finished = [reply for reply in replies if reply.finish_reason == "stop"]
    assert len(finished) >= 8
    for reply in finished:
        QueryReply.model_validate(json.loads(reply.text or ""))
        assert reply.tokens_out == len((reply.text or "").encode()) + 1  # one token a byte
    assert [reply.text for reply in again] == [reply.text for reply in replies]
    assert (cut.finish_reason, cut.tokens_out) == ("length", 5)
    assert (too_long.text, too_long.error) == (None, "prompt_too_long")

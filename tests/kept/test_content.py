"""What replies are kept by, and which calls they answer."""

from pathlib import Path
from typing import Any

import pytest

from sdg.engines import Reply
from sdg.engines.openai import OpenAIEngine
from sdg.engines.vllm import VLLMEngine
from sdg.kept import KeptReply, content_ids
from sdg.kept.record import best, came_back, storable
from sdg.schema import Call, Message
from tests.rows import make_call, make_seed

URL = "http://localhost:1/v1"
MESSAGES = [Message(role="user", content="Andika swali.")]


def engine(**settings: Any) -> OpenAIEngine:
    return OpenAIEngine(**{"model": "m", "base_url": URL, **settings})


def id_of(call: Call | None = None, **settings: Any) -> str:
    (found,) = content_ids(engine(**settings), [call or make_call(messages=MESSAGES)])
    return found


def kept(**changes: Any) -> KeptReply:
    values = {
        "key": "0" * 32,
        "model": "m",
        "revision": "",
        "max_tokens": 100,
        "text": "{}",
        "finish_reason": "stop",
        "tokens_in": 7,
        "tokens_out": 50,
        "error": None,
        "attempts": 1,
        "run": "r",
        "at": 1,
    }
    return KeptReply(**{**values, **changes})


@pytest.mark.parametrize(
    "other",
    [
        {"call": make_call(messages=[Message(role="user", content="Andika swali!")])},
        {"call": make_call(messages=[Message(role="system", content="Andika swali.")])},
        {"call": make_call(messages=MESSAGES, sampling='{"temperature": 0.5}')},
        {"call": make_call(messages=MESSAGES, sampling='{"top_p": 0.5}')},
        {"call": make_call(messages=MESSAGES, ordinal=1)},  # the same text: another sample
        {"call": make_call(messages=MESSAGES, task="sts")},  # another schema
        {"model": "n"},
        {"revision": "r2"},
        {"structured": "none"},
        {"extra_body": {"min_p": 0.1}},
    ],
)
def test_whatever_the_model_is_told_tells_calls_apart(other: dict[str, Any]) -> None:
    assert id_of(**other) != id_of()


@pytest.mark.parametrize(
    "same",
    [
        {"call": make_call(messages=MESSAGES, sampling='{"max_tokens": 9}')},
        {"call": make_call(messages=MESSAGES, prompt_sha="f" * 12, instruction="Other")},
        {"call": make_call(messages=MESSAGES, sampling='{"top_p": 1.0, "temperature": 1.0}')},
        {"base_url": "http://localhost:2/v1"},
        {"concurrency": 1, "timeout_s": 5, "max_attempts": 9, "shards_in_flight": 1},
        {"max_tokens_field": "max_completion_tokens"},
    ],
)
def test_whatever_it_is_not_told_does_not(same: dict[str, Any]) -> None:
    assert id_of(**same) == id_of()


def test_an_endpoint_that_is_told_no_schema_does_not_know_which() -> None:
    ids = {
        id_of(make_call(messages=MESSAGES, task=t), structured="none") for t in ("sts", "bitext")
    }
    assert len(ids) == 1


def test_vllm_arguments_that_change_speed_alone_keep_the_replies(tmp_path: Path) -> None:
    def of(**settings: Any) -> str:
        (found,) = content_ids(VLLMEngine(**{"model": "a/b", **settings}), [make_call()])
        return found

    fast = {"max_num_seqs": 8, "enforce_eager": True, "enable_prefix_caching": False}
    assert of(engine_args=fast, tensor_parallel_size=4, gpu_memory_utilization=0.5) == of()
    assert of(engine_args={"hf_overrides": {"rope_theta": 1.0}}) != of()
    assert of(chat_template_kwargs={"reasoning_effort": "low"}) != of()
    assert of(quantization="fp8") != of()
    (tmp_path / "config.json").write_text("{}")
    before = of(model=str(tmp_path))
    assert of(model=str(tmp_path)) == before
    (tmp_path / "config.json").write_text("{ }")  # trained on, under the same name
    assert of(model=str(tmp_path)) != before


def test_ids_are_of_the_text_and_not_of_how_it_is_split() -> None:
    parts = [("ab", "c"), ("a", "bc")]
    calls = [
        make_call(make_seed(), messages=[Message(role="user", content=p) for p in part])
        for part in parts
    ]
    assert len(set(content_ids(engine(), calls))) == 2


@pytest.mark.parametrize(
    ("reply", "limits"),
    [
        # max_tokens 100; answers a call with max_tokens 20, 50, 100, 200?
        (kept(tokens_out=50), (False, True, True, True)),
        (kept(tokens_out=None), (False, False, True, True)),
        (kept(tokens_out=100, finish_reason="length"), (True, True, True, False)),
        (kept(tokens_out=None, finish_reason="length"), (True, True, True, False)),
    ],
)
def test_a_whole_reply_that_fits_is_used_and_a_cut_one_where_it_would_be_cut_again(
    reply: KeptReply, limits: tuple[bool, ...]
) -> None:
    assert tuple(reply.answers(limit) for limit in (20, 50, 100, 200)) == limits


def test_the_best_reply_is_whole_and_the_first() -> None:
    cut = [kept(finish_reason="length", text=str(n), max_tokens=n) for n in (40, 80)]
    whole = [kept(text="late", at=9), kept(text="early", at=3)]

    def text(max_tokens: int, *found: KeptReply) -> str | None:
        chosen = best(found, max_tokens)
        return chosen.text if chosen else None

    assert text(60, *cut, *whole) == text(60, *reversed(whole), *cut) == "early"
    assert text(45, *cut, *whole) == "80"  # the whole ones have 50 tokens
    assert text(30, *cut) == "80"
    assert text(90, *cut) is None


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply("{}", "stop"), True),
        (Reply("{", "length"), True),
        (Reply(None, "content_filter", error="content_filter"), True),  # it was paid for
        (Reply(None, "stop", error="refused"), True),
        (Reply("", None), True),  # a server that names no reason
        (Reply(None, error="timeout", attempts=5), False),
        (Reply(None, error="prompt_too_long"), False),
        (Reply(None, "error", error="engine_error"), False),
        (Reply(None, "abort", error="engine_abort"), False),
    ],
)
def test_only_what_a_model_has_said_is_kept(reply: Reply, expected: bool) -> None:
    assert came_back(reply) is expected


def test_half_surrogates_are_stored_as_far_as_they_can_be() -> None:
    assert storable("\ud83d\udca7 a \ud800 b") == "💧 a \ufffd b"
    assert storable(None) is None

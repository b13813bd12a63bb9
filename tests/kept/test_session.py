"""A session asks its engine only what nobody has been told before; the server counts."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from sdg.engines import Reply
from sdg.engines.openai import OpenAIEngine
from sdg.kept import RepliesConfig, ReplyStore, ReusingSession
from sdg.kept.store import tidy
from sdg.schema import Call, rows_of, to_table
from sdg.stage import Context, Shard
from sdg.stages import InferStage
from sdg.text import digest
from tests.engines.scripted_server import Handler, ScriptedServer, ok, serving, status
from tests.rows import make_call


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving() as server:
        server.default = echo
        yield server


def echo(handler: Handler) -> None:
    """Answers that tell which request they are to; cut where fewer than 50 tokens are allowed."""
    body = handler.body
    text = json.dumps([body["messages"][-1]["content"], body["seed"]])
    reason = "length" if body["max_tokens"] < 50 else "stop"
    ok(text, reason)(handler)


class Asker:
    """Asks as the infer stage of some run does."""

    def __init__(self, server: ScriptedServer, folder: Path) -> None:
        self.server = server
        self.config = RepliesConfig(folder=str(folder / "kept"))
        self.heard: list[Call] = []

    def ask(self, calls: Sequence[Call], run: str = "r", model: str = "m") -> list[Reply]:
        engine = OpenAIEngine(model=model, base_url=self.server.url, max_attempts=1)
        with closing(ReusingSession(engine, ReplyStore(self.config), run)) as session:
            return session.answer(calls, lambda call, reply: self.heard.append(call))

    def num_asked(self, calls: Sequence[Call], run: str = "r", model: str = "m") -> int:
        before = len(self.server.requests)
        self.ask(calls, run, model)
        return len(self.server.requests) - before


@pytest.fixture
def asker(server: ScriptedServer, tmp_path: Path) -> Asker:
    return Asker(server, tmp_path)


def calls(num: int, max_tokens: int = 100, prompt: str = "Swali") -> list[Call]:
    messages = [{"role": "user", "content": prompt}]
    sampling = json.dumps({"max_tokens": max_tokens})
    return [
        make_call(id=digest(prompt, i), ordinal=i, messages=messages, sampling=sampling)
        for i in range(num)
    ]


@pytest.mark.parametrize("tidied", [False, True])
def test_the_same_calls_are_made_once(asker: Asker, tidied: bool) -> None:
    first = asker.ask(calls(20))
    assert len({reply.text for reply in first}) == 20  # one text, twenty samples
    assert len(asker.server.requests) == len(asker.heard) == 20
    if tidied:
        tidy(asker.config)
    again = asker.ask(calls(25), run="other")
    assert len(asker.server.requests) == 25
    assert [reply.text for reply in again[:20]] == [reply.text for reply in first]
    assert [reply.attempts for reply in again] == [0] * 20 + [1] * 5
    assert [reply.tokens_out for reply in again] == [3] * 25


def test_another_text_or_model_is_asked(asker: Asker) -> None:
    assert asker.num_asked(calls(5)) == 5
    assert asker.num_asked(calls(5, prompt="Swali jingine")) == 5
    assert asker.num_asked(calls(5), model="n") == 5
    assert asker.num_asked(calls(5, prompt="Swali jingine")) == asker.num_asked(calls(5)) == 0


def test_more_tokens_are_given_to_those_alone_that_were_cut(asker: Asker) -> None:
    assert asker.num_asked([*calls(4, 40, "a"), *calls(3, 60, "b")]) == 7
    assert asker.num_asked([*calls(4, 30, "a"), *calls(3, 30, "b")]) == 0  # b's have 3 tokens
    assert asker.num_asked([*calls(4, 99, "a"), *calls(3, 99, "b")]) == 4
    assert asker.num_asked([*calls(4, 999, "a"), *calls(3, 999, "b")]) == 0
    replies = asker.ask([*calls(4, 40, "a"), *calls(3, 2, "b")])
    assert [reply.finish_reason for reply in replies] == ["stop"] * 4 + ["length"] * 3
    assert [reply.attempts for reply in replies[4:]] == [1] * 3  # 3 tokens don't go into 2


def test_what_failed_on_the_way_is_asked_again_and_what_was_declined_is_not(asker: Asker) -> None:
    asker.server.script = [status(500), ok(finish_reason="content_filter"), ok("")]
    for call in calls(3):
        asker.ask([call])
    replies = asker.ask(calls(3))
    assert [reply.error for reply in replies] == [None, "content_filter", None]
    assert len(asker.server.requests) == 4


def test_a_run_knows_its_own_replies(asker: Asker) -> None:
    """A run that was cut and goes on counts what it paid for before; another run does not."""
    asker.ask(calls(4), run="cut")
    assert [reply.attempts for reply in asker.ask(calls(5), run="cut")] == [1] * 5
    assert [reply.attempts for reply in asker.ask(calls(5), run="other")] == [0] * 5


def infer(asker: Asker, folder: Path, wanted: Sequence[Call]) -> dict[str, int]:
    engine = OpenAIEngine(model="some-model", revision="r1", base_url=asker.server.url)
    stage = InferStage(engines=(engine,), replies=asker.config)
    folder.mkdir(exist_ok=True)
    ctx = Context(("sw",), 0, folder)
    if not (folder / "run.json").exists():
        stage.prepare(None, ctx)  # type: ignore[arg-type]
    shard = Shard("0", to_table(wanted, Call))
    left = len(stage.undone(shard, ctx))
    before = len(asker.server.requests)
    with closing(stage.open(ctx)) as session:
        result = stage.run(shard, ctx, session)
    assert len(asker.server.requests) - before == left  # what a dry run would have said
    assert len(rows_of(result.kept, Call)) == len(wanted)
    return result.counters


def test_the_stage_counts_what_it_paid_for(asker: Asker, tmp_path: Path) -> None:
    paid = {"calls": 4, "reused": 0, "tokens_in": 28, "tokens_out": 12}
    assert infer(asker, tmp_path / "a", calls(4)) == paid
    assert infer(asker, tmp_path / "a", calls(4)) == paid  # the same run, cut before its commit
    assert infer(asker, tmp_path / "b", calls(6)) == {
        "calls": 2,
        "reused": 4,
        "tokens_in": 14,
        "tokens_out": 6,
    }


def test_the_engine_is_not_started_where_nothing_is_to_be_asked(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker.ask(calls(3))
    monkeypatch.setattr(OpenAIEngine, "open", lambda self: 1 / 0)
    assert asker.num_asked(calls(3)) == asker.num_asked([]) == 0


def test_nothing_is_kept_where_the_user_wants_it_so(asker: Asker, tmp_path: Path) -> None:
    asker.config = asker.config.model_copy(update={"keep": False})
    for name in ("a", "b"):
        assert infer(asker, tmp_path / name, calls(4))["calls"] == 4
    assert not Path(asker.config.folder).exists()

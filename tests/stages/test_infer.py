"""infer: replies are kept as they came, errors become dropped rows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdg.engines import ExtractiveEngine, Hear, Reply, Session, hear_nothing
from sdg.engines.openai import OpenAIEngine
from sdg.schema import Call, rows_of, to_table
from sdg.stage import Context, Group, Inputs, Result, Shard
from sdg.stages import InferStage
from tests.rows import bundled_seeds, kept_rows, make_call, reasons, run_stage, sharded


class Scripted(Session):
    """Answers from a list."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self.replies = list(replies)
        self.batches: list[int] = []

    def answer(self, calls: Sequence[Call], hear: Hear = hear_nothing) -> list[Reply]:
        self.batches.append(len(calls))
        return self.replies


def infer(replies: Sequence[Reply], calls: Sequence[Call] | None = None) -> Result:
    calls = [make_call(ordinal=i) for i in range(len(replies))] if calls is None else calls
    ctx = Context(("sw",), 0, Path())
    return InferStage().run(Shard("0", to_table(calls, Call)), ctx, Scripted(replies))


def test_replies_go_to_their_calls_in_order() -> None:
    replies = [Reply(f"reply {i}", "stop", i, 2 * i) for i in range(3)]
    result = infer(replies)
    calls: list[Call] = rows_of(result.kept, Call)
    for i, call in enumerate(calls):
        answered = {"reply": f"reply {i}", "finish_reason": "stop", "attempts": 1}
        tokens = {"tokens_in": i, "tokens_out": 2 * i}
        assert call == make_call(ordinal=i).model_copy(update=answered | tokens)
    assert result.counters == {"calls": 3, "reused": 0, "tokens_in": 3, "tokens_out": 6}
    assert (result.num_kept, result.dropped.num_rows) == (3, 0)


@pytest.mark.parametrize(
    "text", ["", "  {bad json\n", '```json\n{"query": "x"}\n```', "\0\ufeff\u202e", "💧🏔", "\n\r\n"]
)
def test_a_reply_is_kept_as_it_came(text: str) -> None:
    result = infer([Reply(text, "length")])
    assert result.kept["reply"].to_pylist() == [text]
    assert result.kept["finish_reason"].to_pylist() == ["length"]


def test_half_surrogate_pairs_do_not_stop_the_run() -> None:
    result = infer([Reply("\ud83d\udca7 a \ud800 b"), Reply(None, error="broken: \udfff")])
    assert result.kept["reply"].to_pylist() == ["💧 a \ufffd b"]
    assert result.dropped["error"].to_pylist() == ["broken: \ufffd"]


def test_an_error_is_counted_by_its_kind_and_kept_whole() -> None:
    result = infer(
        [
            Reply("fine"),
            Reply(None, error="http_500: upstream: gone", attempts=3),
            Reply(None, error="prompt_too_long"),
        ]
    )
    assert result.kept["reply"].to_pylist() == ["fine"]
    assert result.dropped["reason"].to_pylist() == ["http_500", "prompt_too_long"]
    assert result.dropped["error"].to_pylist() == ["http_500: upstream: gone", "prompt_too_long"]
    assert result.counters == {"calls": 5, "reused": 0, "tokens_in": 0, "tokens_out": 0}
    assert result.num_kept == 1


def test_no_calls_do_not_wake_the_engine() -> None:
    session = Scripted([])
    empty = Shard("0", to_table([], Call))
    result = InferStage().run(empty, Context(("sw",), 0, Path()), session)
    assert (session.batches, result.num_kept, result.kept.num_rows) == ([], 0, 0)


@pytest.mark.parametrize("num_replies", [1, 3])
def test_an_engine_that_loses_a_reply_is_found_out(num_replies: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        infer([Reply("x")] * num_replies, [make_call(), make_call(ordinal=1)])


def test_the_extractive_engine_answers_shard_by_shard() -> None:
    seeds = [*bundled_seeds("en")[:6], bundled_seeds("en")[6].model_copy(update={"text": "Short."})]
    strategies = ["random_crop", "inverse_cloze"]
    calls = [make_call(seed, i, strategies=strategies) for seed in seeds for i in range(2)]
    results = run_stage(InferStage(), sharded(calls, Call, 0, 5), lang="en")
    assert reasons(results) == ["document_too_short"] * 2
    whole = run_stage(InferStage(), sharded(calls, Call), lang="en")
    assert kept_rows(results, Call) == kept_rows(whole, Call)
    assert len(kept_rows(whole, Call)) == 12


def test_what_changes_speed_alone_is_no_part_of_the_fingerprint() -> None:
    def fingerprint(**settings: Any) -> dict[str, object]:
        engine = OpenAIEngine(model="m", base_url="http://localhost:1/v1", **settings)
        return InferStage(engines=(engine,)).fingerprint()

    assert OpenAIEngine.speed_only
    assert "shards_in_flight" in OpenAIEngine.speed_only
    assert fingerprint(shards_in_flight=1) == fingerprint(shards_in_flight=7)
    assert fingerprint() != fingerprint(revision="other")
    assert InferStage(engines=(ExtractiveEngine(),)).fingerprint() != fingerprint()


def test_an_ordinary_worker_runs_the_extractive_engine() -> None:
    assert InferStage().groups(["00000"]) == [Group("", ("00000",), None)]


def test_each_model_gets_its_own_calls_and_no_call_is_lost() -> None:
    names = ["a/one", "b/two", "c/three"]
    stage = InferStage(engines=tuple(OpenAIEngine(model=name) for name in names))
    calls = [make_call(ordinal=i, model=names[i % 3], revision="") for i in range(20)]
    tables = sharded(calls, Call, 7, 0)
    inputs = Inputs(tuple(tables), lambda name, columns: tables[name])
    ctx = Context(("sw",), 0, Path())
    shards = stage.shards(inputs, ctx)
    loaded = {
        name: rows_of(stage.load(name, inputs, replace(ctx, group=group.name)), Call)
        for group in stage.groups(shards)
        for name in group.shards
    }
    assert sorted(c.id for rows in loaded.values() for c in rows) == sorted(c.id for c in calls)
    groups = stage.groups(shards)
    assert [name for group in groups for name in group.shards] == [
        f"{shard}.m{i}" for i in range(3) for shard in tables
    ]
    for group, name in zip(groups, names, strict=True):
        assert {c.model for shard in group.shards for c in loaded[shard]} == {name}
        assert stage.by_group()[group.name].model == name
        assert group.resources == OpenAIEngine(model=name).resources()

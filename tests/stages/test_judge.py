"""judge: blind, graded, dropped with the right reason; through the real stage and a scripted judge."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.preflight import check_profile
from pipelines.profile import load_profile
from sdg.engines import Hear, Reply, Session
from sdg.engines.base import hear_nothing
from sdg.engines.openai import OpenAIEngine
from sdg.errors import UserError
from sdg.kept import RepliesConfig
from sdg.languages import language
from sdg.prompting import load_prompt
from sdg.schema import Call, Pair, rows_of, to_table
from sdg.stage import NO_INPUT, Context, Result, Shard
from sdg.stages import JudgeStage
from sdg.tasks import JUDGE, Rejected, check_prompt
from tests.engines.scripted_server import ok, serving
from tests.rows import make_pair, make_provenance

CTX = Context(("sw",), 7, Path())
STAGE = JudgeStage(engine=OpenAIEngine(model="some-judge"))
WRITER = {"model": "secret-writer", "strategy": "secret-strategy", "prompt": "secret/prompt"}


class Judging(Session):
    """A judge that grades each call by a function of the query and the texts that it is shown."""

    def __init__(self, grade: Callable[[str, list[str]], Any]) -> None:
        self.grade = grade
        self.calls: list[Call] = []

    def answer(self, calls: Sequence[Call], hear: Hear = hear_nothing) -> list[Reply]:
        self.calls = list(calls)
        replies = []
        for call in calls:
            said = self.grade(*shown(call))
            if isinstance(said, Reply):
                replies.append(said)
            else:
                text = said if isinstance(said, str) else json.dumps(said)
                replies.append(Reply(text, "stop", 5, 3))
        return replies


def shown(call: Call) -> tuple[str, list[str]]:
    """The query and the texts, out of what the judge reads."""
    (message,) = call.messages
    query = re.search(r"<query>\n(.*?)\n</query>", message.content, re.DOTALL)
    assert query
    texts = re.findall(r'<text number="\d+">\n(.*?)\n</text>', message.content, re.DOTALL)
    return query[1], texts


def pairs_about(*subjects: str, **changes: Any) -> list[Pair]:
    return [
        make_pair(
            f"{subject} ni nini?",
            f"{subject} ni kitu ambacho watu wa kijiji hiki wanakijua vizuri sana.",
            provenance=make_provenance(seed_id=subject, **WRITER),
            **changes,
        )
        for subject in subjects
    ]


def judge(
    pairs: Sequence[Pair], grade: Callable[[str, list[str]], Any], stage: JudgeStage = STAGE
) -> tuple[Result, Judging]:
    session = Judging(grade)
    result = stage.run(Shard("0", to_table(pairs, Pair)), CTX, session)
    assert result.num_kept + result.dropped.num_rows == len(pairs)
    return result, session


def by_subject(query: str, texts: list[str], **grades: float) -> dict[str, Any]:
    """An honest judge: 5 for the text about the query's subject, 0 for the others."""
    relevance = [5.0 * (query.split()[0] in text) for text in texts]
    return {"relevance": relevance, "language": 5, "answerable": 5, **grades}


SUBJECTS = [f"neno{i}" for i in range(40)]


def test_an_honest_judge_keeps_good_pairs_wherever_the_positive_stands() -> None:
    pairs = pairs_about(*SUBJECTS)
    result, session = judge(pairs, by_subject)
    assert [pair.id for pair in rows_of(result.kept, Pair)] == [pair.id for pair in pairs]
    places = [
        shown(call)[1].index(pair.positive) for call, pair in zip(session.calls, pairs, strict=True)
    ]
    assert all(len(shown(call)[1]) == 2 for call in session.calls)
    assert 10 <= sum(places) <= 30  # binomial(40, 1/2): outside of it once in a thousand
    again, _ = judge(pairs, by_subject)
    assert again.kept.equals(result.kept)


def test_a_judge_that_always_praises_the_first_text_lets_half_of_it_through_at_most() -> None:
    def first(query: str, texts: list[str]) -> dict[str, Any]:
        return {"relevance": [5, *[1] * (len(texts) - 1)], "language": 5, "answerable": 5}

    result, _ = judge(pairs_about(*SUBJECTS), first)
    assert set(result.dropped["reason"].to_pylist()) == {"judged_irrelevant"}
    assert 10 <= result.dropped.num_rows <= 30


def test_the_judge_is_told_nothing_of_who_wrote_a_pair() -> None:
    _, session = judge(pairs_about("nyuki", "siafu"), by_subject)
    for call in session.calls:
        asked = " ".join(message.content for message in call.messages)
        assert "secret" not in asked
        assert "Swahili" in asked and "Kiswahili" in asked
        assert (call.engine, call.model) == ("openai", "some-judge")
        assert json.loads(call.sampling)["temperature"] == 0


def test_grades_are_kept_with_the_pair_kept_or_dropped() -> None:
    def grade(query: str, texts: list[str]) -> dict[str, Any]:
        return by_subject(query, texts, language=5 if "nyuki" in query else 2)

    result, _ = judge(pairs_about("nyuki", "siafu"), grade)
    for table, lang in ((result.kept, 5), (result.dropped, 2)):
        (pair,) = rows_of(table, Pair)
        assert json.loads(pair.provenance.judged) == {
            "model": "some-judge",
            "prompt": "judge/pair",
            "relevance": 5,
            "rival": 0,
            "language": lang,
            "answerable": 5,
        }
    assert result.dropped["reason"].to_pylist() == ["judged_bad_language"]
    assert result.counters == {**result.counters, "judged": 2, "calls": 2, "tokens_in": 10}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"relevance": [2.9, 0], "language": 5, "answerable": 5}, "judged_irrelevant"),
        ({"relevance": [4, 4], "language": 5, "answerable": 5}, "judged_ambiguous"),
        ({"relevance": [4, 3], "language": 2.9, "answerable": 5}, "judged_bad_language"),
        ({"relevance": [4, 3], "language": 3, "answerable": 2.9}, "judged_unanswerable"),
        ({"relevance": [3, 2], "language": 3, "answerable": 3}, None),
        ({"relevance": [5], "language": 5, "answerable": 5}, "judge_grades_missing"),
        ({"relevance": [5, 6], "language": 5, "answerable": 5}, "judge_wrong_schema"),
        ({"relevance": [5, 0], "language": "good", "answerable": 5}, "judge_wrong_schema"),
        ({"relevance": [5, 0], "language": 5}, "judge_wrong_schema"),
        ("I like it.", "judge_not_json"),
        (Reply(None, error="http_500: gone"), "judge_http_500"),
    ],
)
def test_each_verdict_has_its_reason(said: Any, reason: str | None) -> None:
    """The grades said are those of the positive and of the other text, in this order."""
    pairs = pairs_about("nyuki", "siafu")

    def grade(query: str, texts: list[str]) -> Any:
        if not isinstance(said, dict) or len(said["relevance"]) < 2:
            return said
        own = query.split()[0] in texts[0]
        return {**said, "relevance": said["relevance"] if own else said["relevance"][::-1]}

    result, _ = judge(pairs, grade)
    assert result.dropped["reason"].to_pylist() == ([reason] * 2 if reason else [])


def test_written_negatives_are_what_the_positive_stands_among() -> None:
    (pair,) = pairs_about("nyuki", negatives=["Siafu ni wadudu.", "Asali ni tamu."])
    stage = STAGE.model_copy(update={"num_others": 7})
    _, session = judge([pair, *pairs_about("samaki")], by_subject, stage)
    assert sorted(shown(session.calls[0])[1]) == sorted([pair.positive, *pair.negatives])


def test_a_pair_alone_is_judged_alone() -> None:
    result, session = judge(pairs_about("nyuki"), by_subject)
    assert len(shown(session.calls[0])[1]) == 1
    assert json.loads(result.kept["provenance"][0]["judged"].as_py())["rival"] is None


def test_texts_of_its_own_passage_never_stand_beside_a_pair() -> None:
    pairs = [
        make_pair(f"swali {i}", f"jibu la kwanza {i}", provenance=make_provenance(seed_id="one"))
        for i in range(5)
    ]
    _, session = judge(pairs, by_subject)
    assert all(len(shown(call)[1]) == 1 for call in session.calls)


def test_the_schema_asks_for_a_grade_a_text() -> None:
    (pair,) = pairs_about("nyuki")
    schema = JUDGE.json_schema(STAGE.call(pair, ["moja", "mbili"], CTX))
    relevance = schema["properties"]["relevance"]
    assert (relevance["minItems"], relevance["maxItems"]) == (3, 3)
    assert set(schema["required"]) == {"relevance", "language", "answerable"}
    with pytest.raises(Rejected, match="grades_missing"):
        call = STAGE.call(pair, ["moja"], CTX)
        said = '{"relevance": [5, 5, 5], "language": 5, "answerable": 5}'
        JUDGE.verdict(call.model_copy(update={"reply": said, "finish_reason": "stop"}))


def test_a_text_in_a_pair_is_shown_and_not_run() -> None:
    (pair,) = pairs_about("{{ 7 * 7 }}")
    _, session = judge([pair], by_subject)
    assert "{{ 7 * 7 }} ni nini?" in session.calls[0].messages[0].content


def test_the_judges_replies_are_kept_as_the_writers_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a real endpoint: asked once, and answered from the store in another run."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pairs = to_table(pairs_about("nyuki", "siafu"), Pair)
    counted = []
    with serving() as server:
        server.default = ok('{"relevance": [4, 4], "language": 5, "answerable": 5}')
        stage = JudgeStage(
            engine=OpenAIEngine(model="m", base_url=server.url),
            replies=RepliesConfig(folder=str(tmp_path / "replies")),
        )
        for run in ("first", "second"):
            ctx = Context(("sw",), 7, tmp_path / run)
            stage.prepare(NO_INPUT, ctx)
            state = stage.open(ctx)
            result = stage.run(Shard("0", pairs), ctx, state)
            stage.close(state)
            assert result.dropped["reason"].to_pylist() == ["judged_ambiguous"] * 2
            counted.append((result.counters["calls"], result.counters["reused"]))
    assert counted == [(2, 0), (0, 2)]


# The profile

JUDGED = "stages.judge.engine={name: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}"


def problems(*sets: str) -> str:
    profile = load_profile("", {}, list(sets))
    with pytest.raises(UserError) as caught:
        check_profile(profile, [language("sw")])
    return str(caught.value)


def test_there_is_no_judge_unless_it_is_asked_for() -> None:
    names = [s.name for s in load_profile("", {}, []).build([language("sw")]).rounds]
    assert "judge" not in names
    names = [s.name for s in load_profile("", {}, [JUDGED]).build([language("sw")]).rounds]
    assert names.index("judge") == names.index("mine") - 1


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["stages.judge.engine={name: extractive}"], "cannot judge"),
        ([JUDGED, "stages.judge.prompt=retrieval/short_query"], "cannot judge"),
        ([JUDGED, "stages.judge.prompt=judge/none"], "no such prompt"),
        ([JUDGED, "prompts={judge/pair: 1}"], "stages.judge.prompt"),
        ([JUDGED, "engine={name: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}"], "its own"),
    ],
)
def test_a_judge_that_cannot_work_is_refused(sets: list[str], said: str) -> None:
    assert said in problems(*sets)


def test_a_judge_may_be_a_writer_where_that_is_allowed() -> None:
    own = "engine={name: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}"
    assert "its own" not in problems(JUDGED, own, "stages.judge.allow_own=true")


@pytest.mark.parametrize("lang", ["sw", "ar", "zh", "qu"])
def test_the_prompt_suits_every_language(lang: str) -> None:
    check_prompt(load_prompt("judge/pair", lang))

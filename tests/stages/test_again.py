"""Replies of no use are asked for again, those of use and hopeless ones are not."""

import json
from collections.abc import Sequence

import pytest

from sdg.engines import Hear, Reply, Session, hear_nothing
from sdg.engines.serving import request_seed
from sdg.schema import Call
from sdg.stages.again import answer
from tests.rows import make_call

GOOD = json.dumps({"query": "mji mkuu wa Kenya uko wapi na watu wake hufanya kazi gani"})
ENGLISH = "Which office issues the permit for a new well in the capital city of this country?"


class Planned(Session):
    """Answers the n-th request for each call by the n-th reply of a plan."""

    def __init__(self, plan: Sequence[Reply]) -> None:
        self.plan = list(plan)
        self.asked: list[Call] = []

    def answer(self, calls: Sequence[Call], hear: Hear = hear_nothing) -> list[Reply]:
        self.asked += calls
        return [self.plan.pop(0) for _ in calls]


def said(text: str, finish_reason: str = "stop", attempts: int = 1) -> Reply:
    return Reply(text, finish_reason, tokens_in=100, tokens_out=10, attempts=attempts)


@pytest.mark.parametrize(
    "bad",
    [
        said(""),
        said(GOOD[:20], "length"),
        said("no JSON at all"),
        said('{"question": "nini"}'),
        said('{"query": ""}'),
        said("I'm sorry, but I cannot help with that."),
        said('{"query": "' + "na tena " * 60),
        said(json.dumps({"query": ENGLISH})),
        Reply(None, "stop", 100, 10, error="refused"),
    ],
)
def test_a_reply_of_no_use_is_asked_for_again(bad: Reply) -> None:
    session, call = Planned([bad, said(GOOD)]), make_call()
    assert answer(session, [call], 2) == [Reply(GOOD, "stop", 200, 20, attempts=2)]
    assert len({request_seed(asked) for asked in session.asked}) == 2
    assert len({asked.messages[0].content for asked in session.asked}) == 1
    again = Planned([bad, said(GOOD)])
    answer(again, [call], 2)
    assert [asked.id for asked in again.asked] == [asked.id for asked in session.asked]


@pytest.mark.parametrize(
    "reply",
    [
        said(GOOD),
        said(f"```json\n{GOOD}\n```"),
        said(f"<think>hm</think>{GOOD}"),
        said("", "content_filter"),
        Reply(None, error="prompt_too_long"),
        Reply(None, error="server_error"),
        Reply(None, error="engine_crash: out of bounds"),
    ],
)
def test_one_of_use_is_not_nor_what_would_be_the_same_again(reply: Reply) -> None:
    assert answer(Planned([reply]), [make_call()], 3) == [reply]


def test_only_the_bad_ones_are_asked_for_again_and_only_so_often() -> None:
    calls = [make_call(ordinal=i) for i in range(3)]
    session = Planned([said(GOOD), said("a"), said(GOOD), said("b"), said("c")])
    replies = answer(session, calls, 3)
    assert [reply.text for reply in replies] == [GOOD, "c", GOOD]
    assert [reply.attempts for reply in replies] == [1, 3, 1]
    assert answer(Planned([said("a")]), calls[:1], 1) == [said("a")]
    assert answer(Planned([]), [], 3) == []


def test_a_reply_stays_where_the_next_does_not_come() -> None:
    lost = Reply(None, error="server_error", attempts=5)
    assert answer(Planned([said("a"), lost]), [make_call()], 2) == [said("a", attempts=6)]


def test_what_a_kept_reply_cost_is_not_paid_again() -> None:
    (reply,) = answer(Planned([said("a", attempts=0), said(GOOD)]), [make_call()], 2)
    assert (reply.tokens_in, reply.tokens_out, reply.attempts) == (100, 10, 1)

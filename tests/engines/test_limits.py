"""Pace, back-off and circuit breaker, on times that the test gives; gates on a real event loop."""

import asyncio
import itertools
import random
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.engines.failures import retry_after_s
from sdg.engines.limits import MAX_BACKOFF_S, START, AdaptiveLimit, Breaker, Gate, backoff_s


@pytest.mark.parametrize(
    ("failures", "most"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 8), (900, 8)]
)
def test_backoff_is_uniform_up_to_a_bound_that_doubles(failures: int, most: float) -> None:
    rand = random.Random(0)
    waits = [backoff_s(failures, rand) for _ in range(4000)]
    assert min(waits) >= 0 and max(waits) <= most <= MAX_BACKOFF_S
    for share in (0.25, 0.5, 0.75):  # four standard errors of a share among 4000
        assert sum(w < share * most for w in waits) / 4000 == pytest.approx(share, abs=0.03)


@given(
    least=st.integers(1, 50),
    most=st.integers(1, 50),
    events=st.lists(st.tuples(st.booleans(), st.integers(0, 9))),
)
def test_the_limit_stays_within_its_bounds(
    least: int, most: int, events: list[tuple[bool, int]]
) -> None:
    limit, now = AdaptiveLimit(most, least), 0.0
    for answered, age in events:
        now += 1
        limit.answered() if answered else limit.overloaded(now - age, now)
        assert min(least, most) <= limit.limit <= most


def test_the_limit_doubles_each_round_trip_until_the_first_overload_then_grows_by_one() -> None:
    limit = AdaptiveLimit(1000)
    seen = [limit.limit]
    for _ in range(4):
        for _ in range(limit.limit):
            limit.answered()
        seen.append(limit.limit)
    assert seen == [START, 2 * START, 4 * START, 8 * START, 16 * START]
    limit.overloaded(1, 2)
    assert limit.limit == 8 * START
    for _ in range(5):
        before = limit.limit
        for _ in range(before + 1):
            limit.answered()
        assert limit.limit in (before, before + 1)
    assert limit.limit >= 8 * START + 4


def test_refusals_of_one_burst_halve_once() -> None:
    limit = AdaptiveLimit(64)
    for _ in range(100):
        limit.answered()
    assert limit.limit == 64
    for _ in range(40):
        limit.overloaded(sent_at=1.0, now=2.0)
    assert limit.limit == 32
    limit.overloaded(sent_at=2.5, now=3.0)
    assert limit.limit == 16


@pytest.mark.parametrize("capacity", [3, 17, 90])
def test_the_pace_is_the_endpoints(capacity: int) -> None:
    """An endpoint that refuses what is above its capacity is kept at half of it or more."""
    limit = AdaptiveLimit(500)
    paces = []
    for now in range(400):
        in_flight = limit.limit
        paces.append(in_flight)
        for number in range(in_flight):
            if number < capacity:
                limit.answered()
            else:
                limit.overloaded(now, now + 0.5)
    settled = paces[100:]
    assert max(settled) <= capacity + 2
    assert capacity // 2 <= min(settled)
    assert sum(settled) / len(settled) >= 0.7 * capacity  # TCP's 3/4, of Mathis et al., 1997


def test_the_breaker_opens_when_nearly_all_fails_for_long() -> None:
    breaker = Breaker(30)
    for now in range(7):
        breaker.record(True, now)
        assert not breaker.is_bad, "seven failures may be seven bad rows"
    breaker.record(True, 7)
    assert breaker.is_bad and not breaker.is_open(36.9) and breaker.is_open(37)
    for now in range(8, 27):
        breaker.record(True, now)
    breaker.record(False, 27)  # one in twenty: still as bad as before
    assert breaker.is_open(37)
    breaker.record(False, 28)
    assert not breaker.is_bad and not breaker.is_open(99)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(0, 9))
def test_the_breaker_stays_closed_while_one_in_ten_is_answered(
    fates: list[bool], phase: int
) -> None:
    breaker = Breaker(0)
    for now in range(20):
        breaker.record(False, now)
    for now, failed in enumerate(fates, 20):
        breaker.record(failed and now % 10 != phase, now)
        assert not breaker.is_open(now)


def test_a_reset_breaker_starts_anew() -> None:
    breaker = Breaker(1)
    for now in range(9):
        breaker.record(True, now)
    assert breaker.is_open(9)
    breaker.reset()
    breaker.record(True, 10)
    assert not breaker.is_bad


def test_the_gate_lets_in_as_many_as_the_limit_and_in_order() -> None:
    async def main() -> tuple[list[int], int]:
        gate = Gate(AdaptiveLimit(3))
        order: list[int] = []
        inside = most = 0

        async def visit(number: int) -> None:
            nonlocal inside, most
            async with gate.place():
                order.append(number)
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= 1

        await asyncio.gather(*(visit(number) for number in range(20)))
        return order, most

    assert asyncio.run(main()) == (list(range(20)), 3)


def test_who_was_inside_before_goes_first() -> None:
    async def main() -> list[str]:
        gate = Gate(AdaptiveLimit(1))
        order: list[str] = []

        async def visit(name: str, in_front: bool) -> None:
            async with gate.place(in_front=in_front):
                order.append(name)

        async with gate.place():
            tasks = [asyncio.create_task(visit(name, name == "again")) for name in ("new", "again")]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(main()) == ["again", "new"]


@pytest.mark.parametrize("moments", list(itertools.product(range(4), repeat=2)))
def test_a_cancelled_visitor_leaves_no_place_taken(moments: tuple[int, int]) -> None:
    """Cancelled while waiting, when just let in, or inside, the others still get through."""

    async def main() -> int:
        gate = Gate(AdaptiveLimit(1))
        done = 0

        async def visit() -> None:
            nonlocal done
            async with gate.place():
                await asyncio.sleep(0)
                done += 1

        tasks = [asyncio.create_task(visit()) for _ in range(4)]
        for moment, task in zip(moments, tasks, strict=False):
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        return done

    assert asyncio.run(main()) >= 2


def test_nobody_is_let_in_during_a_pause() -> None:
    async def main() -> float:
        gate = Gate(AdaptiveLimit(5))
        gate.pause(0.1)
        gate.pause(0.02)
        assert gate.is_closed
        started = time.monotonic()
        async with gate.place():
            return time.monotonic() - started

    assert asyncio.run(main()) >= 0.09


NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT, the date of RFC 9110's examples


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("1.5", 1.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:30:05 GMT", 125),
        ("Wednesday, 21-Oct-15 07:29:00 GMT", 60),  # the obsolete form that has to be read, too
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0),
        (formatdate(NOW + 3600, usegmt=True), 3600),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("nan", 0),
        ("inf", 0),
        ("１２", 0),
        ("9" * 400, 0),
        ("Wed, 99 Oct 99999 07:28:00 GMT", 0),
    ],
)
def test_retry_after_is_read(header: str, seconds: float) -> None:
    assert retry_after_s(header, NOW) == seconds

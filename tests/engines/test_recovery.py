"""Finding what crashes an engine, on engines that crash on what the test says."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.engines.recovery import PATIENCE, KeepsCrashing, isolate


def crashing_on(
    poison: set[int], answered: list[int], runs: list[list[int]], order: Callable[[int], int]
) -> Callable[[Sequence[int]], list[int]]:
    """An engine that answers a batch in some order until it comes to a poisonous item."""

    def run(batch: Sequence[int]) -> list[int]:
        runs.append(list(batch))
        left = sorted(batch, key=order)
        while left and left[0] not in poison:
            answered.append(left.pop(0))
        return left

    return run


@given(st.data())
def test_the_poison_is_found_and_all_else_is_answered_once(data: st.DataObject) -> None:
    num = data.draw(st.integers(0, 200))
    poison = data.draw(st.sets(st.integers(0, max(0, num - 1)), max_size=min(num, 2)))
    salt = data.draw(st.integers(0, 1000))
    answered: list[int] = []
    runs: list[list[int]] = []
    order = data.draw(st.sampled_from([lambda i: i, lambda i: -i, lambda i: hash((salt, i))]))
    found = list(isolate(range(num), crashing_on(poison, answered, runs, order)))
    assert sorted(found) == sorted(poison)
    assert sorted(answered) == sorted(set(range(num)) - poison)
    assert [run for run in runs if len(run) == 1 and run[0] in poison] == [[i] for i in found]


@given(st.integers(1, 500), st.data())
def test_one_poisonous_item_takes_as_many_crashes_as_halvings(
    num: int, data: st.DataObject
) -> None:
    poison = data.draw(st.integers(0, num - 1))
    runs: list[list[int]] = []
    # The worst order: the poison is met at once, so a crash tells nothing of the others.
    run = crashing_on({poison}, [], runs, lambda i: i != poison)
    assert list(isolate(range(num), run)) == [poison]
    assert sum(poison in batch for batch in runs) <= math.ceil(math.log2(num)) + 1


def test_a_crash_from_outside_costs_one_more_run() -> None:
    runs: list[list[int]] = []
    answered: list[int] = []
    assert list(isolate([1, 2, 3], crashing_on(set(), answered, runs, lambda i: i))) == []
    assert (runs, answered) == ([[1, 2, 3]], [1, 2, 3])


@pytest.mark.parametrize("num", [1, 2, 64])
def test_an_engine_that_crashes_on_everything_is_given_up(num: int) -> None:
    runs: list[list[int]] = []
    everything = crashing_on(set(range(num)), [], runs, lambda i: i)
    if num <= 2:  # so few may be to blame
        assert list(isolate(range(num), everything)) == list(range(num))
        return
    with pytest.raises(KeepsCrashing):
        list(isolate(range(num), everything))
    assert len(runs) <= math.log2(num) + PATIENCE + 1

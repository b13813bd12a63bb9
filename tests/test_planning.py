"""Quotas, walks and rounds, against plain simulations."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.planning import (
    GROWTH,
    Budget,
    CellState,
    Spent,
    Stream,
    Walk,
    apportion,
    apportion_within,
    plan_cells,
)

WEIGHTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3), st.floats(0.01, 100), min_size=1, max_size=8
)


@given(st.integers(0, 5000), WEIGHTS)
def test_shares_add_up_and_none_is_off_by_one(total: int, weights: dict[str, float]) -> None:
    shares = apportion(total, weights)
    assert sum(shares.values()) == total
    whole = math.fsum(weights.values())
    for key, share in shares.items():
        assert abs(share - total * weights[key] / whole) < 1 + 1e-6


@given(st.integers(0, 300), WEIGHTS, st.randoms(use_true_random=False))
def test_what_one_cannot_take_goes_to_the_others(
    total: int, weights: dict[str, float], rand: random.Random
) -> None:
    most = {key: rand.randint(0, 60) for key in weights}
    given_ = apportion_within(total, weights, most)
    assert all(0 <= given_[key] <= most[key] for key in weights)
    assert sum(given_.values()) == min(total, sum(most.values()))


@given(st.integers(1, 60), st.integers(0, 300), st.integers(0, 300), st.integers(0, 9))
def test_a_seed_finds_its_own_calls_of_a_round(size: int, done: int, num: int, key: int) -> None:
    walk = Walk.of(size, key)
    asked: Counter[int] = Counter()
    expected: dict[int, list[int]] = {}
    for call in range(done + num):
        index = walk.index_of(call)
        if call >= done:
            expected.setdefault(index, []).append(asked[index])
        asked[index] += 1
    assert max(asked.values(), default=0) - min(asked[i] for i in range(size)) <= 1
    for index in range(size):
        assert list(walk.times(index, done, num)) == expected.get(index, [])


def test_any_stretch_of_a_walk_is_spread_over_all_seeds() -> None:
    walk = Walk.of(10_000, "x")
    for first in (0, 777, 25_000):
        tenths = Counter(walk.index_of(call) // 1000 for call in range(first, first + 200))
        assert sorted(tenths) == list(range(10))
        assert set(tenths.values()) <= {18, 19, 20, 21, 22}


@pytest.mark.parametrize(
    ("stream", "taken"),
    [
        (Stream("sw", "retrieval", "passage"), ["passage/sw"]),
        (Stream("sw", "translate", "pair"), ["pair/en"]),
        (Stream("en-GB", "translate", "pair"), ["pair/sw"]),
        (Stream("sw", "retrieval", "idea"), ["idea/retrieval/long", "idea/retrieval/short"]),
        (Stream("sw", "retrieval", "idea", "short"), ["idea/retrieval/short"]),
        (Stream("sw", "sts", "idea"), ["idea/sts/"]),
    ],
)
def test_a_stream_takes_the_seeds_it_can_be_made_from(stream: Stream, taken: list[str]) -> None:
    classes = ["passage/sw", "passage/ha", "pair/en", "pair/sw"]
    classes += ["idea/retrieval/long", "idea/retrieval/short", "idea/sts/"]
    assert [seeds for seeds in classes if stream.takes(seeds)] == taken


def plan(cells: dict[str, CellState], calls_left: int | None = None, *, last: bool = False):
    return plan_cells(cells, oversample=1.5, min_yield=0.05, calls_left=calls_left, last_round=last)


def test_the_first_round_oversamples_and_a_full_cell_rests() -> None:
    cells = {
        "a": CellState(quota=10, capacity=1000),
        "b": CellState(quota=10, accepted=10, calls=15, capacity=1000),
    }
    assert [cell.planned for cell in plan(cells).values()] == [15, 0]
    assert {cell.short for cell in plan(cells).values()} == {""}


@pytest.mark.parametrize(
    ("cell", "short"),
    [
        (CellState(quota=10, accepted=3, calls=160, capacity=0), "seeds"),
        (CellState(quota=10, capacity=0), "seeds"),
        (CellState(quota=100, accepted=3, calls=100, capacity=99), "yield"),
        (CellState(quota=100, accepted=3, calls=99, capacity=99), ""),  # too few to tell
        (CellState(quota=100, accepted=5, calls=100, capacity=99), ""),
    ],
)
def test_a_cell_is_given_up_with_the_reason(cell: CellState, short: str) -> None:
    found = plan({"x": cell})["x"]
    assert found.short == short
    assert bool(found.planned) == (not short)


def test_the_last_round_and_the_spent_budget_are_reasons() -> None:
    cells = {"x": CellState(quota=10, accepted=5, calls=20, capacity=99)}
    assert plan(cells, last=True)["x"].short == "rounds"
    assert plan(cells, calls_left=0)["x"].short == "budget"


def test_a_small_budget_is_shared() -> None:
    cells = {name: CellState(quota=num, capacity=999) for name, num in (("a", 30), ("b", 10))}
    found = plan(cells, calls_left=20)
    assert {name: cell.planned for name, cell in found.items()} == {"a": 15, "b": 5}
    assert sum(cell.planned for cell in plan(cells, calls_left=1).values()) == 1


@given(st.floats(0.06, 1.0), st.integers(1, 400), st.integers(0, 2**32))
def test_rounds_fill_any_quota_without_waste(share: float, quota: int, seed: int) -> None:
    """Simulated: each call gives an example with probability `share`."""
    rand = random.Random(seed)
    cell = CellState(quota=quota, capacity=10**9)
    for _ in range(12):
        cell = plan({"x": cell})["x"]
        if not cell.planned:
            break
        assert not cell.calls or cell.planned <= max(32, GROWTH * cell.calls)
        gave = sum(rand.random() < share for _ in range(cell.planned))
        update = {"accepted": cell.accepted + gave, "calls": cell.calls + cell.planned}
        cell = cell.model_copy(update=update)
    if cell.short == "yield":  # bad luck in a small sample
        assert share < 0.2
        return
    assert cell.accepted >= quota
    assert cell.calls <= max(1.5 * quota, 2.5 * (quota + 2 * math.sqrt(quota)) / share) + 32


def test_calls_left_of_each_budget() -> None:
    spent = Spent(calls=100, tokens=50_000, gpu_hours=2.0)
    assert spent.calls_left(Budget(), 0) is None
    assert spent.calls_left(Budget(calls=130), 0) == 30
    assert spent.calls_left(Budget(tokens=60_000), 0) == 20
    assert spent.calls_left(Budget(gpu_hours=3), 0) == 50
    assert spent.calls_left(Budget(calls=130, tokens=51_000, gpu_hours=3), 0) == 2
    assert spent.calls_left(Budget(calls=99), 0) == 0
    assert Spent().calls_left(Budget(tokens=1000), 250.0) == 4
    assert spent.calls_left(Budget(calls=131), 0, judged=True) == 15
    assert Spent().calls_left(Budget(tokens=1000), 250.0, judged=True) == 2

"""mix: as many examples as were asked for, the same whatever the shards."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.schema import Example
from sdg.stages import MixStage
from tests.rows import kept_rows, make_example, make_provenance, reasons, run_stage, sharded

EXAMPLES = [make_example(i) for i in range(200)]


def mix(num: int, pairs: int | None, *sizes: int, seed: int = 0) -> list[Example]:
    shards = sharded(EXAMPLES[:num], Example, *sizes)
    quotas = None if pairs is None else {"sw/retrieval": pairs}
    results = run_stage(MixStage(quotas=quotas), shards, seed=seed)
    kept = kept_rows(results, Example)
    assert reasons(results) == ["over_quota"] * (num - len(kept))
    return kept


@given(num=st.integers(0, 60), pairs=st.integers(1, 80), split=st.integers(0, 60))
def test_as_many_are_kept_as_wanted_or_all(num: int, pairs: int, split: int) -> None:
    assert len(mix(num, pairs, min(split, num))) == min(num, pairs)


@pytest.mark.parametrize("pairs", [1, 50, 199, 200, 201, None])
@pytest.mark.parametrize("sizes", [(1,), (0, 100, 0), (50, 50, 50)])
def test_the_choice_does_not_depend_on_the_shards(
    pairs: int | None, sizes: tuple[int, ...]
) -> None:
    assert mix(200, pairs, *sizes) == mix(200, pairs)


def test_without_a_number_all_are_kept() -> None:
    assert mix(200, None, 64) == EXAMPLES


def test_fewer_are_a_part_of_more() -> None:
    few, more = mix(200, 30), mix(200, 90)
    assert [example for example in more if example in few] == few


def test_the_seed_chooses() -> None:
    assert mix(200, 50, seed=1) == mix(200, 50, 30, seed=1)
    assert mix(200, 50, seed=1) != mix(200, 50, seed=2)


def test_every_part_keeps_its_share() -> None:
    parts = [make_provenance(prompt=f"p{i % 4}") for i in range(2000)]
    examples = [make_example(i, provenance=part) for i, part in enumerate(parts)]
    results = run_stage(MixStage(quotas={"sw/retrieval": 1000}), sharded(examples, Example, 500))
    counts = Counter(row.provenance.prompt for row in kept_rows(results, Example))
    assert sum(counts.values()) == 1000
    assert all(200 < count < 300 for count in counts.values())  # 250 ± 4.5 standard deviations


def test_each_cell_has_a_quota_of_its_own() -> None:
    swapped = make_provenance(controls='{"run_lang": "ha", "low": "2"}')
    examples = [
        *(make_example(i) for i in range(30)),
        *(make_example(i, task="sts") for i in range(100, 130)),
        *(make_example(i, positive_lang="ha") for i in range(200, 230)),
        *(make_example(i, positive_lang="en", provenance=swapped) for i in range(300, 330)),
        *(make_example(i, positive_lang="zu") for i in range(400, 410)),
    ]
    quotas = {"sw/retrieval": 7, "sw/sts": 40, "ha/retrieval": 11}
    results = run_stage(MixStage(quotas=quotas), sharded(examples, Example, 50))
    kept = Counter(
        ("ha" if "run_lang" in row.provenance.controls else row.positive_lang, row.task)
        for row in kept_rows(results, Example)
    )
    assert kept == {("sw", "retrieval"): 7, ("sw", "sts"): 30, ("ha", "retrieval"): 11}

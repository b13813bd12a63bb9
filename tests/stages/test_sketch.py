"""sketch: one row a pair, which says of its texts what dedupe compares."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.canonical import canonical_hashes
from sdg.schema import Pair, to_table
from sdg.sketches import Sketcher, band_layout
from sdg.stages.sketch import SIDES, Side, SketchStage, hashes_of, queries_of, texts_of
from tests.rows import make_pair, run_stage, sharded

TEXTS = st.sampled_from(
    ["mto mrefu wa Tana", "Mto Mrefu wa Tana!", "", "?!", "ወንዝ ታላቅ ነው", "河很长"]
)


def stage(*sides: Side) -> SketchStage:
    return SketchStage(threshold=0.8, words=3, characters=5, sides=sides)


def pairs_of(texts: list[tuple[str, str, str]]) -> list[Pair]:
    return [
        make_pair(query, positive, document=document, id=str(i))
        for i, (query, positive, document) in enumerate(texts)
    ]


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=12), st.data())
def test_it_says_of_texts_what_they_say_themselves(
    texts: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    bands = band_layout(0.8)[1]
    sketched = stage(*SIDES).of(to_table(pairs_of(texts), Pair))
    for side, mine in zip(SIDES, zip(*texts, strict=True), strict=False):
        assert hashes_of(sketched, side).tolist() == canonical_hashes(mine).tolist()
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=9)) if texts else []
    sides = [data.draw(st.sampled_from(SIDES[1:])) for _ in rows]
    number = np.array(rows, np.int64)

    def expect(found: Any, wanted: list[str]) -> None:
        for one, other in zip(found, Sketcher(0.8).sketch(wanted), strict=True):
            assert one.tolist() == other.tolist()

    expect(queries_of(sketched, number, bands), [texts[row][0] for row in rows])
    wanted = [texts[row][SIDES.index(side)] for row, side in zip(rows, sides, strict=True)]
    expect(texts_of(sketched, number, sides, bands), wanted)


@pytest.mark.parametrize("sides", [(), ("query",), ("positive",), ("document",), SIDES])
def test_only_what_is_asked_for_and_each_text_once(sides: tuple[Side, ...]) -> None:
    texts = [("q", "one", "one"), ("q", "one", "other"), ("q", "other", "one")]
    (result,) = run_stage(stage(*sides), sharded(pairs_of(texts), Pair)).values()
    there = {side: [value is not None for value in result.kept[side].to_pylist()] for side in SIDES}
    expected = {
        "query": [True] * 3,
        "positive": [True, False, "document" not in sides],
        "document": [sides == ("document",), True, False],
    }
    assert there == {s: expected[s] if s in sides else [False] * 3 for s in SIDES}

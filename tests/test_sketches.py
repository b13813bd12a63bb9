"""Sketches say of texts what the texts' own sets do, and come back from Arrow as they went."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.sketches import DOCS, HASH_BITS, Sketcher, Sketches, band_layout
from tests.shingle_sets import shingle_set

TEXTS = st.lists(st.text(st.sampled_from("ab .ወ河ไ"), max_size=12), max_size=12)


def equal(one: Sketches, other: Sketches) -> bool:
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


@given(TEXTS, st.sampled_from([0.5, 0.8, 1.0]))
def test_they_are_the_texts_shingle_sets(texts: list[str], threshold: float) -> None:
    found = Sketcher(threshold).sketch(texts)
    assert found.sizes_N.tolist() == [len(shingle_set(text)) for text in texts]
    assert found.keys_NB.shape == (len(texts), band_layout(threshold)[1])
    for some in np.split(found.hashes, np.cumsum(found.sizes_N)):
        assert (np.diff(some.astype(np.int64)) > 0).all()  # sorted, none twice
    assert found.hashes.max(initial=0) < 1 << HASH_BITS


@given(TEXTS)
def test_one_by_one_they_are_the_same(texts: list[str]) -> None:
    found = Sketcher(0.8).sketch(texts)
    single = [Sketcher(0.8).sketch([text]) for text in texts]
    assert found.hashes.tolist() == [value for one in single for value in one.hashes.tolist()]
    for keys, one in zip(found.keys_NB, single, strict=True):
        assert keys.tolist() == one.keys_NB[0].tolist()


def test_more_texts_than_are_sorted_at_once() -> None:
    texts = [f"maji {i} ya mto {i % 7}" for i in range(2 * DOCS + 5)]
    found = Sketcher(0.8).sketch(texts)
    last = Sketcher(0.8).sketch(texts[-3:])
    assert found.hashes[-int(last.sizes_N.sum()) :].tolist() == last.hashes.tolist()
    assert found.keys_NB[-3:].tolist() == last.keys_NB.tolist()


@given(TEXTS, st.data())
def test_arrow_gives_back_what_it_was_given(texts: list[str], data: st.DataObject) -> None:
    bands = band_layout(0.8)[1]
    found = Sketcher(0.8).sketch(texts)
    values = found.to_arrow()
    assert equal(Sketches.from_arrow(values, bands), found)
    places = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=5)) if texts else []
    taken = values.cast(pa.binary()).take(pa.array(places, pa.int64()))
    expected = Sketcher(0.8).sketch([texts[place] for place in places])
    assert equal(Sketches.from_arrow(taken, bands), expected)
    assert equal(Sketches.from_arrow(values[1:], bands), Sketcher(0.8).sketch(texts[1:]))


def test_a_text_without_a_sketch_is_no_sketch() -> None:
    with pytest.raises(AssertionError):
        Sketches.from_arrow(pa.array([b"\0" * 8 * band_layout(0.8)[1], None]), band_layout(0.8)[1])

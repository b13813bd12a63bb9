"""Near-duplicates are those that comparing every two sets finds."""

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg import near_duplicates
from sdg.near_duplicates import NearDuplicates, first_of_equals, keep_first
from sdg.sketches import Sketcher, band_layout
from tests.shingle_sets import jaccard, shingle_set

WORDS = [f"{a}{b}" for a in "bdfgklmnprstw" for b in ("a", "e", "ika", "ole", "ungu")]


def near_pairs(
    folder: Path, texts: Sequence[str], threshold: float, groups: Sequence[int] | None = None
) -> set[tuple[int, int]]:
    finder = NearDuplicates(folder, threshold)
    finder.add(Sketcher(threshold).sketch(texts))
    found = finder.pairs(None if groups is None else np.array(groups))
    assert (np.diff(found[:, 1]) >= 0).all() and (found[:, 0] < found[:, 1]).all()
    pairs = [(int(a), int(b)) for a, b in found]
    assert len(set(pairs)) == len(pairs)
    return set(pairs)


def every_pair(texts: Sequence[str], threshold: float) -> set[tuple[int, int]]:
    """By comparing every two."""
    sets = [shingle_set(text) for text in texts]
    return {
        (i, j)
        for (i, one), (j, other) in itertools.combinations(enumerate(sets), 2)
        if jaccard(one, other) >= threshold and one
    }


def edited(rng: random.Random, words: list[str], num: int) -> list[str]:
    words = list(words)
    for _ in range(num):
        place = rng.randrange(len(words))
        words[place : place + rng.choice([0, 1])] = [rng.choice(WORDS)]
    return words


def corpus(seed: int, num: int, length: int, join: str = " ") -> list[str]:
    """Texts, a third of them copies of earlier ones with a few words changed."""
    rng = random.Random(seed)
    texts: list[list[str]] = []
    for _ in range(num):
        copied = texts and rng.random() < 0.35
        words = (
            edited(rng, rng.choice(texts), rng.randrange(7))
            if copied
            else rng.choices(WORDS, k=length)
        )
        texts.append(words)
    return [join.join(words) for words in texts]


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
def test_precision_is_1_and_recall_near_it(threshold: float, tmp_path: Path) -> None:
    texts = corpus(1, 250, 60)
    expected = every_pair(texts, threshold)
    found = near_pairs(tmp_path / "near", texts, threshold)
    assert len(expected) > 10
    assert found <= expected
    assert len(found) >= 0.98 * len(expected)


def test_texts_without_spaces(tmp_path: Path) -> None:
    han = {
        word: "".join(chr(0x4E00 + 97 * i + k) for k in range(2)) for i, word in enumerate(WORDS)
    }
    thai = {
        word: "".join(chr(0xE01 + (7 * i + 3 * k) % 46) for k in range(4))
        for i, word in enumerate(WORDS)
    }
    for name, words in (("han", han), ("thai", thai)):
        texts = ["".join(words[word] for word in text.split()) for text in corpus(2, 140, 30)]
        expected = every_pair(texts, 0.8)
        found = near_pairs(tmp_path / name, texts, 0.8)
        assert len(expected) > 10
        assert found <= expected
        assert len(found) >= 0.98 * len(expected)


def test_a_number_of_bands_finds_pairs_at_the_threshold() -> None:
    for threshold in (0.5, 0.55, 0.7, 0.8, 0.85, 0.95, 0.999, 1.0):
        rows, bands = band_layout(threshold)
        assert 1 - (1 - threshold**rows) ** bands >= 0.99
        assert rows * bands <= 100


def test_groups_keep_texts_apart(tmp_path: Path) -> None:
    texts = ["mto mrefu wa Tana", "Mto mrefu, wa Tana", "mto mrefu wa tana!", "mlima"]
    assert near_pairs(tmp_path / "all", texts, 0.8) == {(0, 1), (0, 2), (1, 2)}
    assert near_pairs(tmp_path / "parted", texts, 0.8, [5, 7, 5, 5]) == {(0, 2)}


def test_many_copies_of_few_texts(tmp_path: Path) -> None:
    # Every copy is paired with the first of its family at least, in time that is linear.
    texts = [f"{WORDS[i % 3]} mto mrefu wa Tana na {'x' * (i % 2)} maji" for i in range(3000)]
    found = near_pairs(tmp_path / "near", texts, 0.9)
    firsts = {text: texts.index(text) for text in texts}
    assert {(firsts[text], i) for i, text in enumerate(texts) if firsts[text] != i} <= found
    assert all(texts[a] == texts[b] for a, b in found)
    assert len(found) < 100 * len(texts)


def test_texts_that_say_nothing_are_near_to_nothing(tmp_path: Path) -> None:
    assert near_pairs(tmp_path / "none", [], 0.8) == set()
    assert near_pairs(tmp_path / "empty", ["", "", "?!", "?!"], 0.8) == set()
    assert near_pairs(tmp_path / "some", ["", "mto", "?!", "mto"], 0.8) == {(1, 3)}


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=30), st.integers(0, 5))
def test_no_two_near_ones_stay_and_none_goes_for_one_that_goes(
    edges: list[tuple[int, int]], num_given: int
) -> None:
    pairs = sorted({(min(e), max(e)) for e in edges if e[0] != e[1]}, key=lambda pair: pair[::-1])
    near_to = keep_first(13, np.array(pairs, np.int64).reshape(-1, 2), num_given).tolist()
    for one, other in pairs:
        assert other < num_given or near_to[one] >= 0 or near_to[other] >= 0
    for text, kept in enumerate(near_to):
        if kept >= 0:
            assert text >= num_given and near_to[kept] < 0 and (kept, text) in pairs


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=20), st.data())
def test_first_of_equals_among_some_rows(
    digests: list[tuple[int, int]], data: st.DataObject
) -> None:
    rows = sorted(data.draw(st.sets(st.sampled_from(range(len(digests)))))) if digests else []
    mine = [digests[row] for row in rows]
    every = np.array(digests, np.uint64).reshape(-1, 2)
    found = first_of_equals(every, np.array(rows, np.int64))
    assert found.tolist() == [mine.index(one) for one in mine]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=20))
def test_first_of_equals(digests: list[tuple[int, int]]) -> None:
    large = np.array(digests, np.uint64).reshape(-1, 2) * np.uint64(2**63)
    expected = [digests.index((a, b)) for a, b in digests]
    every = np.arange(len(digests))
    small = first_of_equals(np.array(digests, np.uint64).reshape(-1, 2), every)
    assert small.tolist() == expected
    assert first_of_equals(large, every).tolist() == [
        [(x % 2, y % 2) for x, y in digests].index((a % 2, b % 2)) for a, b in digests
    ]


def test_parts_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    texts, numbers = corpus(8, 200, 40), [rng.getrandbits(64) for _ in range(300)]
    digests = np.array([rng.choices(numbers, k=2) for _ in range(500)] * 2, np.uint64)
    every = np.arange(len(digests))
    whole, first = near_pairs(tmp_path / "whole", texts, 0.8), first_of_equals(digests, every)
    assert len(whole) > 20 and (first[500:] < 500).all()
    monkeypatch.setattr(near_duplicates, "_PART", 16)
    assert near_pairs(tmp_path / "parts", texts, 0.8) == whole
    assert first_of_equals(digests, every).tolist() == first.tolist()

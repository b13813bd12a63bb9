"""dedupe: the first of each pair stays, over all shards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.schema import Pair
from sdg.stage import ACCEPTED
from sdg.stages import DedupeStage
from sdg.stages.dedupe import duplicate_rows
from tests.rows import bare, kept_rows, make_pair, reasons, run_stage, sharded


def dedupe(pairs: list[Pair], *sizes: int) -> list[int]:
    """Numbers of the pairs that stay."""
    results = run_stage(DedupeStage(), sharded(pairs, Pair, *sizes))
    stay = [int(pair.id) for pair in kept_rows(results, Pair)]
    assert reasons(results) == ["duplicate"] * (len(pairs) - len(stay))
    return stay


def numbered(texts: list[tuple[str, str]]) -> list[Pair]:
    return [make_pair(query, positive, id=str(i)) for i, (query, positive) in enumerate(texts)]


QUERIES = st.sampled_from(
    ["mto", "Mto", "MTO?", "\uff4d\uff54\uff4f", "m-t-o", "mlima", "mlima!", "ወንዝ", "河"]
)
POSITIVES = st.sampled_from(["Mto ni mrefu.", "mto ni mrefu", "Mto  ni (mrefu)", "Mwingine."])


@given(
    st.lists(st.tuples(QUERIES, POSITIVES), max_size=40),
    st.lists(st.integers(0, 10), max_size=4),
)
def test_it_is_what_a_dictionary_gives(texts: list[tuple[str, str]], sizes: list[int]) -> None:
    first: dict[tuple[str, str], int] = {}
    for i, (query, positive) in enumerate(texts):
        first.setdefault((bare(query), bare(positive)), i)
    fitting = [size for i, size in enumerate(sizes) if sum(sizes[: i + 1]) <= len(texts)]
    fitting = fitting if sum(fitting) <= len(texts) else []
    assert dedupe(numbered(texts), *fitting) == sorted(first.values())


@pytest.mark.parametrize(
    "other",
    [
        "MTO WA TANA",
        "mto, wa Tana!",
        "mto wa  tana",
        "\uff4d\uff54\uff4f wa tana",
        "«mto» wa—tana",
        "mtowatana",
    ],
)
def test_case_punctuation_width_and_spaces_make_no_difference(other: str) -> None:
    assert dedupe(numbered([("mto wa Tana", "x"), (other, "x"), (other, "y")])) == [0, 2]
    assert dedupe(numbered([("q", "mto wa Tana"), ("q", other)]), 1) == [0]


@pytest.mark.parametrize(
    ("one", "other"), [("mto", "mtu"), ("résumé", "resume"), ("कि", "की"), ("mto 1", "mto 2")]
)
def test_letters_marks_and_digits_do(one: str, other: str) -> None:
    assert dedupe(numbered([(one, "x"), (other, "x")])) == [0, 1]


def test_query_and_positive_do_not_run_together() -> None:
    assert dedupe(numbered([("ab", "c"), ("a", "bc"), ("abc", "")])) == [0, 1, 2]


def test_the_first_of_all_shards_stays() -> None:
    texts = [("a", "x"), ("b", "x"), ("a", "x"), ("c", "x"), ("b", "x"), ("a", "x")]
    for sizes in [(), (1,), (2, 2), (0, 3, 0), (6,), (1, 1, 1, 1, 1)]:
        assert dedupe(numbered(texts), *sizes) == [0, 1, 3]


def test_no_pairs_at_all() -> None:
    assert dedupe([], 0, 0) == []


def test_digests_are_compared_whole() -> None:
    # Equal but for the last byte, for the first, or for what follows a zero byte.
    keys = [bytes(16), bytes(15) + b"\1", b"\1" + bytes(15), b"\0\1" + bytes(14), bytes(15) + b"\1"]
    np.testing.assert_array_equal(duplicate_rows(b"".join([*keys, bytes(16)])), [4, 5])
    assert duplicate_rows(b"").tolist() == []


def test_what_an_earlier_round_accepted_goes() -> None:
    before = numbered([("mto wa Tana", "x"), ("mlima", "y")])
    now = [("Mto wa Tana!", "X"), ("mlima", "z"), ("ziwa", "y"), ("ziwa", "Y"), ("mto", "x")]
    earlier = {ACCEPTED: sharded(before, Pair, 1)}
    results = run_stage(DedupeStage(), sharded(numbered(now), Pair, 2), earlier=earlier)
    assert [int(pair.id) for pair in kept_rows(results, Pair)] == [2, 4]
    assert reasons(results) == ["pair_of_earlier_round", "query_of_earlier_round", "duplicate"]

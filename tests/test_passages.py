"""Near copies among negatives: shingles and their overlap, against Python's sets of strings."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sdg.passages import SHINGLE, overlap, shingles

# Few letters, so that texts have shingles in common.
TEXTS = st.text(st.sampled_from("ab\u1200\u4e00\U00020000\ud800"), max_size=30)


def strings(text: str) -> frozenset[str]:
    return frozenset(text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1)))


@settings(max_examples=300)
@given(TEXTS, TEXTS, st.booleans())
def test_overlap_is_that_of_sets(left: str, right: str, joined: bool) -> None:
    if joined:
        right = left[len(left) // 2 :] + right
    assert len(shingles(left)) == len(strings(left))
    smaller, larger = sorted((strings(left), strings(right)), key=len)
    assert overlap(shingles(left), shingles(right)) == len(smaller & larger) / len(smaller)

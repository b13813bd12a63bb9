"""Patterns of many alternatives, searched in one pass."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import re2

from sdg.characters import batches

_LOOKAROUND = re.compile(r"\(\?<?[!=](?:[^()]|\([^()]*\))*\)")
# RE2 takes these for ASCII's alone.
_WIDER = (
    (r"\b", ""),
    (r"\d", r"\p{Nd}"),
    (r"[\s", r"[\pZ\t-\r"),
    (r"\s", r"[\pZ\t-\r]"),
)


class Rough:
    """A pattern of RE2's that is found wherever one of the `regex` module is, and maybe elsewhere:
    what it finds has to be searched for again.

    A backtracking matcher tries each alternative at each character; RE2's automaton reads a text
    once for all of them, but knows no lookaround.
    """

    def __init__(self, pattern: str) -> None:
        wider = _LOOKAROUND.sub("", pattern)
        for theirs, ours in _WIDER:
            wider = wider.replace(theirs, ours)
        self._compiled: re.Pattern[bytes] = re2.compile(f"(?m){wider}")
        if self._compiled.search(b""):
            raise ValueError(f"{pattern}: is found in an empty text, so in every text")

    def hits(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether the pattern may be in it. All texts are read as one, once."""
        return [hit for batch in batches(texts) for hit in self._of_batch(batch)]

    def _of_batch(self, texts: Sequence[str]) -> list[bool]:
        lines = [text.encode() for text in texts]
        joined = b"\n".join(lines)
        ends = list(accumulate(len(line) + 1 for line in lines))
        hits, start = [False] * len(texts), 0
        while found := self._compiled.search(joined, start):
            # What begins in a text and ends in another may hide that the other has a hit too.
            first, last = (bisect_right(ends, place) for place in found.span())
            hits[first : last + 1] = [True] * (last + 1 - first)
            start = ends[last]
        return hits

"""Sketches of texts: what near-duplicates are found by, without the texts themselves.

A sketch is a text's shingle set, sorted, and the keys of its MinHash bands. A band is a few MinHash
values taken together (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
chapter 3); near texts most likely agree in one.

Signatures are computed here and not by a MinHash package: the fastest there is hands them over as
Python integers, which takes longer than all of this.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sdg.shingles import CHARACTERS, WORDS, Shingles, odd_numbers, shingles

RECALL = 0.99  # of pairs exactly at the threshold; more of those above it
CHANCE = 0.41  # about, that such a pair agrees in one band
HASH_BITS = 54  # of a shingle's hash; the rest takes a text's number while sets are sorted
DOCS = 1 << 10  # texts whose shingles are sorted at once
_FACTORS = odd_numbers(1000, 1000).astype(np.uint32)  # of a MinHash value's hash function
_WEIGHTS = odd_numbers(3000, 10)  # of the values of a band


@dataclass(frozen=True)
class Sketcher:
    """How texts are sketched.

    Args:
        threshold: Jaccard similarity from which on two texts are near, in (0, 1].
        words, characters: see `sdg.shingles`.
    """

    threshold: float
    words: int = WORDS
    characters: int = CHARACTERS

    def sketch(self, texts: Sequence[str]) -> "Sketches":
        """The sketch of each text."""
        starts = range(0, max(1, len(texts)), DOCS)
        parts = [self._sketch(texts[start : start + DOCS]) for start in starts]
        return Sketches(*map(np.concatenate, zip(*parts, strict=True)))

    def _sketch(self, texts: Sequence[str]) -> "Sketches":
        found = _as_sets(shingles(texts, self.words, self.characters))
        rows, bands = band_layout(self.threshold)
        sizes = np.diff(found.offsets).astype(np.int32)
        return Sketches(sizes, found.hashes, _band_keys(found, rows, bands))


class Sketches(NamedTuple):
    """Sketches of N texts."""

    sizes_N: np.ndarray  # int32: shingles of each text
    hashes: np.ndarray  # uint64: those of all, one text after another, each text's sorted
    keys_NB: np.ndarray  # uint64: of B bands; without meaning where a text has no shingles

    def to_arrow(self) -> pa.Array:
        """As binary values, one a text."""
        bands = self.keys_NB.shape[1]
        sizes_N = self.sizes_N.astype(np.int64) + bands
        numbers = np.empty(sizes_N.sum(), np.uint64)
        is_key = _first_of_each(sizes_N, bands)
        numbers[is_key], numbers[~is_key] = self.keys_NB.ravel(), self.hashes
        offsets = np.concatenate([[0], np.cumsum(sizes_N * numbers.itemsize)])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(numbers)]
        return pa.Array.from_buffers(pa.large_binary(), len(sizes_N), buffers)

    @classmethod
    def from_arrow(cls, values: pa.Array, bands: int) -> "Sketches":
        """What `to_arrow` gave, or some of it."""
        assert values.null_count == 0
        values = values.cast(pa.large_binary())
        _, offsets, data = values.buffers()
        ends = np.frombuffer(offsets, np.int64)[values.offset :][: len(values) + 1]
        numbers = np.frombuffer(data or b"", np.uint64)[ends[0] // 8 : ends[-1] // 8]
        sizes_N = np.diff(ends) // 8
        is_key = _first_of_each(sizes_N, bands)
        keys_NB = numbers[is_key].reshape(-1, bands)
        return cls((sizes_N - bands).astype(np.int32), numbers[~is_key], keys_NB)


def band_layout(threshold: float) -> tuple[int, int]:
    """MinHash values in a band, and bands, by which pairs at the threshold are found."""
    rows = 8 if threshold >= 0.9 else max(2, round(math.log(CHANCE) / math.log(threshold)))
    chance = threshold**rows
    return rows, 1 if chance >= RECALL else math.ceil(math.log(1 - RECALL) / math.log(1 - chance))


def _as_sets(found: Shingles) -> Shingles:
    """Each text's shingles sorted, none twice, in `HASH_BITS` bits."""
    bits = np.uint64(HASH_BITS)
    text = np.repeat(np.arange(len(found), dtype=np.uint64), np.diff(found.offsets))
    keys = (found.hashes >> (np.uint64(64) - bits)) | (text << bits)
    keys.sort()
    if len(keys):
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    ends = np.searchsorted(keys, np.arange(1, len(found), dtype=np.uint64) << bits)
    offsets = np.concatenate([[0], ends, [len(keys)]]) if len(found) else np.zeros(1, np.int64)
    return Shingles(keys & ((np.uint64(1) << bits) - np.uint64(1)), offsets)


def _band_keys(found: Shingles, rows: int, bands: int) -> np.ndarray:
    """Keys (N, B) uint64."""
    keys_BN = np.zeros((bands, len(found)), np.uint64)
    filled = np.flatnonzero(np.diff(found.offsets))
    starts = found.offsets[filled]
    low = found.hashes.astype(np.uint32)
    for band in range(bands if len(filled) else 0):
        mine = np.zeros(len(filled), np.uint64)
        for row in range(rows):
            smallest = np.minimum.reduceat(low * _FACTORS[band * rows + row], starts)
            mine += smallest * _WEIGHTS[row]
        keys_BN[band, filled] = mine
    return keys_BN.T


def _first_of_each(sizes_N: np.ndarray, num: int) -> np.ndarray:
    """Of runs of these sizes, laid end to end, which places are among the first `num` of one."""
    starts_N = np.cumsum(sizes_N) - sizes_N
    first = np.zeros(sizes_N.sum(), bool)
    first[(starts_N[:, None] + np.arange(num)).ravel()] = True
    return first

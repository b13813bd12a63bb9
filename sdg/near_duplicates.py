"""Near-duplicates among many texts: MinHash and LSH find candidates, each is then checked exactly.

Two texts are near when the Jaccard similarity of their shingle sets is at least a threshold. A band
is a few MinHash values taken together (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, chapter 3); texts that agree in a band are compared by their sets, so that no pair
is reported that is not near. Sets and bands lie in files: memory holds a part of one band at a
time.

Signatures are computed here and not by a MinHash package: the fastest there is hands them over as
Python integers, which takes longer than all of this.
"""

import math
import mmap
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from sdg.shingles import CHARACTERS, WORDS, Shingles, odd_numbers, shingles

RECALL = 0.99  # of pairs exactly at the threshold; more of those above it
CHANCE = 0.41  # about, that such a pair agrees in one band
_PART = 1 << 18  # keys sorted at once
_DOCS = 1 << 10  # texts whose shingles are sorted at once: a text's number goes into 10 bits ...
_HASH_BITS = np.uint64(54)  # ... and this is left for the hash
_PAIRS = 1 << 12  # compared at once: some 30 MB
_SMALL = 64  # texts that agree in a band, of which every two are compared
_LEADERS = 64  # of more than that: each is compared with so many of the first that differ
_FACTORS = odd_numbers(1000, 1000).astype(np.uint32)  # of a MinHash value's hash function
_WEIGHTS = odd_numbers(3000, 10)  # of the values of a band


class NearDuplicates:
    """Collects texts, then finds the pairs among them."""

    def __init__(
        self, folder: Path, threshold: float, words: int = WORDS, characters: int = CHARACTERS
    ) -> None:
        """Start without texts.

        Args:
            folder: for the sets and bands; what is there already (a dead worker's) goes.
            threshold: Jaccard similarity from which on two texts are near, in (0, 1].
            words, characters: see `sdg.shingles`.
        """
        self.threshold = threshold
        self._units = words, characters
        self._folder = folder
        self.rows, self.bands = band_layout(threshold)
        self._waiting: list[str] = []
        self._sizes = [np.empty(0, np.int32)]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def add(self, *texts: str) -> None:
        """Texts, numbered on from those added before."""
        self._waiting += texts
        while len(self._waiting) >= _DOCS:
            self._flush()

    def _flush(self) -> None:
        found = _as_sets(shingles(self._waiting[:_DOCS], *self._units))
        del self._waiting[:_DOCS]
        self._sizes.append(np.diff(found.offsets).astype(np.int32))
        self._append("sets", found.hashes)
        self._append("bands", self._band_keys(found))

    def pairs(self, groups: np.ndarray | None = None) -> np.ndarray:
        """All pairs (P, 2) int64 of near texts found, the lower number first, sorted by the second.

        Of a band with more than `_SMALL` texts in one place, the texts are compared with the first
        of each family there, not all with all.

        Args:
            groups: a number a text (N,); only texts of one group are compared.
        """
        self._flush()
        sizes = np.concatenate(self._sizes)
        num = np.int64(max(1, len(sizes)))
        checked, near = np.empty(0, np.int64), [np.empty(0, np.int64)]
        blocks = np.memmap(self._folder / "bands", np.uint64, "r").reshape(-1, self.bands, _DOCS)
        with _Sets(self._folder / "sets", sizes) as sets:
            for band in range(self.bands):
                keys = blocks[:, band].ravel()[: len(sizes)]
                compared = [checked]
                for places in _parts(keys):
                    places = places[sizes[places] > 0]
                    order, ends = _runs(keys[places], None if groups is None else groups[places])
                    order = places[order]
                    codes = _not_in(checked, [a * num + b for a, b in _within_runs(order, ends)])
                    near.append(codes[self._are_near(sets, codes // num, codes % num)])
                    compared.append(codes)
                    for members in _large_runs(order, ends):
                        for first, rest in self._families(sets, members):
                            near.append(first * num + rest)
                    sets.forget()
                checked = np.sort(np.concatenate(compared))
        found = np.unique(np.concatenate(near))
        return np.stack([found // num, found % num], axis=1)[np.argsort(found % num, kind="stable")]

    def _append(self, name: str, values: np.ndarray) -> None:
        with (self._folder / name).open("ab") as file:
            values.tofile(file)

    def _band_keys(self, found: Shingles) -> np.ndarray:
        """Keys (bands, `_DOCS`) uint64; texts without shingles have no meaningful ones."""
        keys = np.zeros((self.bands, _DOCS), np.uint64)
        filled = np.flatnonzero(np.diff(found.offsets))
        starts = found.offsets[filled]
        low = found.hashes.astype(np.uint32)
        for band in range(self.bands if len(filled) else 0):
            mine = np.zeros(len(filled), np.uint64)
            for row in range(self.rows):
                smallest = np.minimum.reduceat(low * _FACTORS[band * self.rows + row], starts)
                mine += smallest * _WEIGHTS[row]
            keys[band, filled] = mine
        return keys

    def _are_near(self, sets: "_Sets", left: np.ndarray, right: np.ndarray) -> np.ndarray:
        small, large = np.sort(np.stack([sets.sizes[left], sets.sizes[right]]), axis=0)
        near = small >= self.threshold * large  # else they cannot be
        possible = np.flatnonzero(near)
        for start in range(0, len(possible), _PAIRS):
            part = possible[start : start + _PAIRS]
            near[part] = sets.jaccard(left[part], right[part]) >= self.threshold
        return near

    def _families(
        self, sets: "_Sets", members: np.ndarray
    ) -> Iterator[tuple[np.int64, np.ndarray]]:
        """The first text and those near to it, then the same of what is left."""
        for _ in range(_LEADERS):
            if len(members) < 2:
                return
            first, rest = members[0], members[1:]
            near = self._are_near(sets, np.full(len(rest), first), rest)
            yield first, rest[near]
            members = rest[~near]


def band_layout(threshold: float) -> tuple[int, int]:
    """MinHash values in a band, and bands, by which pairs at the threshold are found."""
    rows = 8 if threshold >= 0.9 else max(2, round(math.log(CHANCE) / math.log(threshold)))
    chance = threshold**rows
    return rows, 1 if chance >= RECALL else math.ceil(math.log(1 - RECALL) / math.log(1 - chance))


def keep_first(num: int, pairs: np.ndarray, num_given: int = 0) -> np.ndarray:
    """Which texts to drop so that no two near ones stay: the first of each two does.

    Args:
        num: texts there are.
        pairs: as `NearDuplicates.pairs` gives them.
        num_given: so many of the first stay whatever they are near to.

    Returns:
        (num,) int64: the text that stays and that a dropped one is near to, or -1 for those that
        stay. So no text is dropped for one that goes itself, as whole components would have it.
    """
    near_to = [-1] * num
    for first, second in pairs.tolist():
        if second >= num_given and near_to[second] < 0 and near_to[first] < 0:
            near_to[second] = first
    return np.array(near_to, np.int64)


def first_of_equals(digests: np.ndarray) -> np.ndarray:
    """For each 128-bit hash of (N, 2) uint64 the number of the first that is equal to it (N,)."""
    first = np.empty(len(digests), np.int64)
    for places in _parts(digests[:, 0]):
        order, ends = _runs(digests[places, 0], digests[places, 1])
        sizes = np.diff(ends, prepend=0)
        first[places[order]] = np.repeat(places[order[ends - sizes]], sizes)
    return first


def _parts(keys: np.ndarray) -> Iterator[np.ndarray]:
    """The places of keys (N,) uint64 in parts of about `_PART`, equal keys in one of them, each
    part ascending."""
    num = np.uint64(-(-len(keys) // _PART))
    part = ((keys >> np.uint64(32)) * num >> np.uint64(32)).astype(np.uint16)
    for number in range(int(num)):
        yield np.flatnonzero(part == number)


def _not_in(known: np.ndarray, found: Sequence[np.ndarray]) -> np.ndarray:
    """Numbers found that are not among the known ones, sorted as those are, each once."""
    codes = np.sort(np.concatenate([known[:0], *found]))
    fresh = np.ones(len(codes), bool)
    fresh[1:] = codes[1:] != codes[:-1]
    if len(known):
        places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        fresh &= known[places] != codes
    return codes[fresh]


def _as_sets(found: Shingles) -> Shingles:
    """Each text's shingles sorted, none twice, in `_HASH_BITS` bits."""
    text = np.repeat(np.arange(len(found), dtype=np.uint64), np.diff(found.offsets))
    keys = (found.hashes >> (np.uint64(64) - _HASH_BITS)) | (text << _HASH_BITS)
    keys.sort()
    if len(keys):
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    ends = np.searchsorted(keys, np.arange(1, len(found), dtype=np.uint64) << _HASH_BITS)
    offsets = np.concatenate([[0], ends, [len(keys)]]) if len(found) else np.zeros(1, np.int64)
    return Shingles(keys & ((np.uint64(1) << _HASH_BITS) - np.uint64(1)), offsets)


def _runs(keys: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """An order (N,) in which equal keys stand together, ascending, and where each run ends (R,)."""
    order = np.argsort(keys, kind="stable") if groups is None else np.lexsort((keys, groups))
    if not len(order):
        return order, np.empty(0, np.int64)
    differs = keys[order][1:] != keys[order][:-1]
    if groups is not None:
        differs |= groups[order][1:] != groups[order][:-1]
    return order, np.append(np.flatnonzero(differs) + 1, len(order))


def _within_runs(order: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every two members of each run of up to `_SMALL`."""
    sizes = np.diff(ends, prepend=0)
    some = (sizes > 1) & (sizes <= _SMALL)
    ends, sizes = ends[some], sizes[some]
    end = np.repeat(ends, sizes)
    places = end - (np.repeat(np.cumsum(sizes), sizes) - np.arange(len(end)))
    for step in range(1, _SMALL):
        inside = places + step < end
        places, end = places[inside], end[inside]
        if not len(places):
            return
        yield order[places], order[places + step]


def _large_runs(order: np.ndarray, ends: np.ndarray) -> Iterator[np.ndarray]:
    """Members of each run of more than `_SMALL`."""
    sizes = np.diff(ends, prepend=0)
    for run in np.flatnonzero(sizes > _SMALL):
        yield order[ends[run] - sizes[run] : ends[run]]


class _Sets:
    """The texts' shingle sets, read from their file where they are needed."""

    def __init__(self, path: Path, sizes: np.ndarray) -> None:
        self.sizes = sizes
        self._starts = np.cumsum(sizes, dtype=np.int64) - sizes
        self._file = path.open("rb") if sizes.any() else None
        self._map = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ) if self._file else None

    def __enter__(self) -> "_Sets":
        return self

    def __exit__(self, *_: object) -> None:
        if self._map and self._file:
            self._map.close()
            self._file.close()

    def forget(self) -> None:
        """Give the pages that were read back to the system."""
        if self._map:
            self._map.madvise(mmap.MADV_DONTNEED)

    def jaccard(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Similarity (P,) of pairs; 0 where both are empty."""
        if not len(left) or not self._map:
            return np.zeros(len(left))
        common = np.diff(self._rows(left).multiply(self._rows(right)).tocsr().indptr)
        either = self.sizes[left] + self.sizes[right] - common
        return common / np.maximum(either, 1)

    def _rows(self, texts: np.ndarray) -> sparse.csr_matrix:
        """The sets as rows of a matrix (B, 2^54) of ones."""
        sizes = self.sizes[texts].astype(np.int64)
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(indptr[-1]) + np.repeat(self._starts[texts] - indptr[:-1], sizes)
        hashes = np.frombuffer(self._map or b"", np.int64)[places]
        return sparse.csr_matrix(
            (np.ones(len(hashes), np.int8), hashes, indptr),
            shape=(len(texts), 1 << int(_HASH_BITS)),
        )

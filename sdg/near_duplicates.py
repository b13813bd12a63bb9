"""Near-duplicates among many texts: MinHash and LSH find candidates, each is then checked exactly.

Two texts are near when the Jaccard similarity of their shingle sets is at least a threshold. Texts
that agree in a band (see sdg/sketches.py) are compared by their sets, so that no pair is reported
that is not near. Sets and bands lie in files: memory holds the keys of one band, 8 bytes a text,
and the sets that are being compared.
"""

import mmap
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from sdg.sketches import HASH_BITS, Sketches, band_layout

_PART = 1 << 18  # keys sorted at once
_PAIRS = 1 << 12  # compared at once: some 30 MB
_SMALL = 64  # texts that agree in a band, of which every two are compared
_LEADERS = 64  # of more than that: each is compared with so many of the first that differ


class NearDuplicates:
    """Collects texts by their sketches, then finds the pairs among them."""

    def __init__(self, folder: Path, threshold: float) -> None:
        """Start without texts.

        Args:
            folder: for the sets and bands; what is there already (a dead worker's) goes.
            threshold: Jaccard similarity from which on two texts are near, in (0, 1].
        """
        self.threshold = threshold
        self._folder = folder
        self.bands = band_layout(threshold)[1]
        self.num = 0  # of texts
        self._sizes = [np.empty(0, np.int32)]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def add(self, sketches: Sketches) -> None:
        """Texts, numbered on from those added before."""
        self._sizes.append(sketches.sizes_N)
        self.num += len(sketches.sizes_N)
        # Keys band by band, for one band is read at a time.
        for name, values in (("sets", sketches.hashes), ("bands", sketches.keys_NB.T)):
            with (self._folder / name).open("ab") as file:
                values.tofile(file)

    def pairs(self, groups: np.ndarray | None = None) -> np.ndarray:
        """All pairs (P, 2) int64 of near texts found, the lower number first, sorted by the second.

        Of a band with more than `_SMALL` texts in one place, the texts are compared with the first
        of each family there, not all with all.

        Args:
            groups: a number a text (N,); only texts of one group are compared.
        """
        sizes = np.concatenate(self._sizes)
        num = np.int64(max(1, len(sizes)))
        checked, near = np.empty(0, np.int64), [np.empty(0, np.int64)]
        with _Sets(self._folder / "sets", sizes) as sets:
            for keys in map(self._keys, range(self.bands)):
                compared = [checked]
                for places in _parts(keys.__getitem__, len(keys)):
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

    def _keys(self, band: int) -> np.ndarray:
        """The keys of a band, (N,) uint64."""
        all_keys = numbers_in(self._folder / "bands", 1).ravel()
        start, found = 0, [all_keys[:0]]
        for sizes in self._sizes:
            found.append(all_keys[start + band * len(sizes) :][: len(sizes)])
            start += self.bands * len(sizes)
        return np.concatenate(found)

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


def first_of_equals(digests: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each of some rows (R,) of 128-bit hashes (N, 2) uint64 the place among them of the first
    that is equal to it (R,) int32."""
    first = np.empty(len(rows), np.int32)
    for places in _parts(lambda some: digests[rows[some], 0], len(rows)):
        mine = digests[rows[places]]
        order, ends = _runs(mine[:, 0], mine[:, 1])
        sizes = np.diff(ends, prepend=0)
        first[places[order]] = np.repeat(places[order[ends - sizes]], sizes)
    return first


def numbers_in(path: Path, columns: int) -> np.ndarray:
    """A file of uint64 as rows of so many, mapped into memory."""
    if not path.exists() or not path.stat().st_size:
        return np.empty((0, columns), np.uint64)
    return np.memmap(path, np.uint64, "r").reshape(-1, columns)


def _parts(read: Callable[[slice], np.ndarray], num_keys: int) -> Iterator[np.ndarray]:
    """The places of uint64 keys in parts of about `_PART`, equal keys in one of them, each part
    ascending; `read` gives those of a slice."""
    num = np.uint64(-(-num_keys // _PART))
    part = np.empty(num_keys, np.uint16)
    for start in range(0, num_keys, _PART):
        some = slice(start, start + _PART)
        part[some] = (read(some) >> np.uint64(32)) * num >> np.uint64(32)
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
            shape=(len(texts), 1 << HASH_BITS),
        )

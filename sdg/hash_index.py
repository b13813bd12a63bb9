"""A table on disk from 64-bit hashes to whom each belongs first; memory holds a part at most."""

import shutil
from pathlib import Path

import numpy as np

_PARTS = 64  # by the hashes' first bits, each sorted by itself
_SHIFT = np.uint64(58)
_MOST_BITS = 24  # of a hash, by which most that are not there are told
_PAIR = np.dtype([("hash", np.uint64), ("owner", np.uint32)])


class HashIndexWriter:
    """Takes hashes in any order, then sorts them part by part."""

    def __init__(self, folder: Path) -> None:
        """Start an empty one in a folder of its own; what is there (a dead worker's) goes."""
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def add(self, hashes: np.ndarray, owners: np.ndarray) -> None:
        """Hashes (S,) uint64 and whom each belongs to (S,), below 2^32."""
        pairs = np.empty(len(hashes), _PAIR)
        pairs["hash"], pairs["owner"] = hashes, owners
        part = (hashes >> _SHIFT).astype(np.int64)
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(_PARTS), side="right")
        start = 0
        for number, end in enumerate(ends.tolist()):
            if end > start:
                with (self._folder / f"part-{number}").open("ab") as file:
                    pairs[order[start:end]].tofile(file)
            start = end

    def finish(self) -> None:
        """Write the table; of a hash that is there more than once the lowest owner counts."""
        with (
            (self._folder / "hashes").open("wb") as hashes,
            (self._folder / "owners").open("wb") as owners,
        ):
            for number in range(_PARTS):
                path = self._folder / f"part-{number}"
                if path.exists():
                    pairs = np.fromfile(path, _PAIR)
                    pairs = pairs[np.lexsort((pairs["owner"], pairs["hash"]))]
                    first = np.ones(len(pairs), bool)
                    first[1:] = pairs["hash"][1:] != pairs["hash"][:-1]
                    pairs["hash"][first].tofile(hashes)
                    pairs["owner"][first].tofile(owners)
                    path.unlink()


class HashIndex:
    """Looks hashes up in what a writer finished."""

    def __init__(self, folder: Path) -> None:
        self._hashes = _mapped(folder / "hashes", np.uint64)
        self._owners = _mapped(folder / "owners", np.uint32)
        bits = min(_MOST_BITS, len(self).bit_length() + 4)
        self._shift = np.uint64(64 - bits)
        self._begins = np.zeros(1 << bits, bool)  # with which first bits there is a hash
        self._begins[self._hashes >> self._shift] = True

    def __len__(self) -> int:
        return len(self._hashes)

    def owners(self, hashes: np.ndarray) -> np.ndarray:
        """Whom each hash belongs to (S,) int64, -1 where nobody has it."""
        found = np.full(len(hashes), -1, np.int64)
        maybe = np.flatnonzero(self._begins.take(hashes >> self._shift))
        asked = hashes[maybe]
        places = np.minimum(np.searchsorted(self._hashes, asked), len(self) - 1)
        there = self._hashes[places] == asked
        found[maybe[there]] = self._owners[places[there]]
        return found


def _mapped(path: Path, kind: type) -> np.ndarray:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)

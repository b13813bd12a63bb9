"""Texts as the byte n-grams that py3langid's model knows, for many texts at once.

py3langid (Lui and Baldwin, ACL 2012, P12-3005) is naive Bayes over 100,000 n-grams of 2 to 6 bytes,
which an automaton finds, the longest that ends at each byte. Its own loop walks a text byte by byte
in Python; here one numpy step takes all texts' next bytes, with the same n-grams found. They are
the features of every score in this package: the model's columns, and those fitted on a corpus.

Shapes: N features found, over all texts; B texts; F features of the model; C columns (languages).
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from scipy import sparse

from sdg.langid.policy import OPENERS

_RESET = b"\xff"  # stands in no UTF-8, so it takes the automaton back to its start
_LOOK_BACK = 6  # bytes; no n-gram is longer, so a walk may start anywhere so far before
_BLOCK = 32  # bytes walked in one go: fewer steps, the more of them are looked at twice


@dataclass(frozen=True)
class Features:
    """The n-grams found in B texts, in their order."""

    ids_N: np.ndarray  # int32
    starts_B: np.ndarray  # where each text's begin, and the end of the last: B + 1 numbers
    num_bytes_B: np.ndarray
    in_name_N: np.ndarray  # bool: it ends in a word that may be a name, as its capital says

    @cached_property
    def num_B(self) -> np.ndarray:
        """How many n-grams each text has."""
        return np.diff(self.starts_B)

    def part(self, first: int, last: int) -> "Features":
        """Those of the texts from one up to another, which are not copied."""
        start, end = self.starts_B[[first, last]].tolist()
        return Features(
            self.ids_N[start:end],
            self.starts_B[first : last + 1] - start,
            self.num_bytes_B[first:last],
            self.in_name_N[start:end],
        )

    def of(self, places: np.ndarray) -> "Features":
        """Those of some of the texts, by their places, in the order given."""
        num_B = self.num_B.take(places)
        starts_B = np.append(0, np.cumsum(num_B))
        taken = np.arange(starts_B[-1])
        taken += np.repeat(self.starts_B.take(places) - starts_B[:-1], num_B)
        return Features(
            self.ids_N.take(taken),
            starts_B,
            self.num_bytes_B.take(places),
            self.in_name_N.take(taken),
        )

    def sums(self, values_N: np.ndarray) -> np.ndarray:
        """The sum of each text's values, (B,) float64."""
        # A last value stands in for texts without n-grams at the end, which then count as none.
        sums_B: np.ndarray = np.add.reduceat(
            np.append(values_N, values_N.dtype.type(0)), self.starts_B[:-1], dtype=np.float64
        )
        return np.where(self.num_B > 0, sums_B, 0.0)

    def rows_N(self) -> np.ndarray:
        """The text that each n-gram is of."""
        return np.repeat(np.arange(len(self.num_B)), self.num_B)


def joined(parts: Sequence[Features]) -> Features:
    """Those of the texts of one part after those of another."""
    nums_B = np.concatenate([part.num_B for part in parts])
    return Features(
        np.concatenate([part.ids_N for part in parts]),
        np.append(0, np.cumsum(nums_B)),
        np.concatenate([part.num_bytes_B for part in parts]),
        np.concatenate([part.in_name_N for part in parts]),
    )


@dataclass(frozen=True)
class Background:
    """py3langid's model: log P(n-gram | language) of its 140 languages."""

    labels: tuple[str, ...]  # of the columns; two languages have a column for each of two scripts
    log_FC: np.ndarray  # float32
    log_mix_F: np.ndarray  # of all languages together, in equal shares
    _next: np.ndarray
    _row: np.ndarray
    _found: np.ndarray  # n-gram that a state stands for, or -1

    @property
    def num_features(self) -> int:
        return len(self.log_mix_F)

    @cached_property
    def mix_F(self) -> np.ndarray:
        """P(n-gram) of all languages together."""
        mix_F: np.ndarray = np.exp(self.log_mix_F)
        return mix_F

    def columns(self, labels: frozenset[str]) -> list[int]:
        """The columns of some labels; those that it has none for are left out."""
        return [i for i, label in enumerate(self.labels) if label in labels]

    def find(self, texts: Sequence[str]) -> Features:
        """The n-grams of texts."""
        parts = [_encode(text) for text in texts]
        num_bytes_B = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
        data = _RESET + _RESET.join(parts) + _RESET
        found = self._walk(data)
        at = np.flatnonzero(found >= 0)
        ends_B = np.cumsum(num_bytes_B + 1) + 1
        starts_B = np.concatenate([[0], np.searchsorted(at, ends_B)])
        ids_N, in_name_N = found.take(at), _in_names(data).take(at)
        return Features(ids_N, starts_B, num_bytes_B, in_name_N)

    def _walk(self, data: bytes) -> np.ndarray:
        """The n-gram that ends at each byte, or -1; all blocks of the data side by side."""
        size = min(_BLOCK, len(data))
        num_blocks = -(-len(data) // size)
        padded = np.frombuffer(
            _RESET * _LOOK_BACK + data + _RESET * (num_blocks * size - len(data)), dtype=np.uint8
        )
        windows = np.lib.stride_tricks.sliding_window_view(padded, size + _LOOK_BACK)[::size]
        steps = np.ascontiguousarray(windows.T, dtype=np.int64)
        at = np.full(num_blocks, self._row[0])
        states = np.empty((size + _LOOK_BACK, num_blocks), dtype=np.int32)
        for bytes_, state in zip(steps, states, strict=True):
            at += bytes_
            # Every index is within bounds by the model's make; "clip" spares numpy the check.
            self._next.take(at, out=state, mode="clip")
            self._row.take(state, out=at, mode="clip")
        return self._found.take(states[_LOOK_BACK:].T, mode="clip").reshape(-1)[: len(data)]


_GAP, _IN_WORD, _CAPITAL = range(3)


def _kind_of(byte: int) -> int:
    """What a byte is of; letters beyond ASCII have several, all in a word."""
    if bytes([byte]) == _RESET:
        return _GAP
    if "A" <= chr(byte) <= "Z":
        return _CAPITAL
    return _IN_WORD if byte >= 128 or chr(byte).isalpha() or chr(byte) == "'" else _GAP


_KINDS = bytes(map(_kind_of, range(256)))


_OPENERS = frozenset(word.encode() for word in OPENERS)


def _in_names(data: bytes) -> np.ndarray:
    """Which bytes are of a word that begins with a Latin capital, and is not in `OPENERS`."""
    kinds = np.frombuffer(data.translate(_KINDS), dtype=np.uint8)
    # No word is first or last: `_RESET`.
    starts = np.flatnonzero((kinds[1:] == _CAPITAL) & (kinds[:-1] == _GAP)) + 1
    gaps = np.flatnonzero(kinds == _GAP)
    ends = gaps[np.searchsorted(gaps, starts)]
    lengths = ends - starts
    names = np.zeros(len(data), dtype=bool)
    names[np.arange(lengths.sum()) + np.repeat(ends - np.cumsum(lengths), lengths)] = True
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        word = data[start:end]
        if word in _OPENERS:
            names[start:end] = False
        elif b"'" in word:
            for part in word.split(b"'"):
                if part in _OPENERS:
                    names[start : start + len(part)] = False
                start += len(part) + 1
    return names


def _encode(text: str) -> bytes:
    """As py3langid does."""
    if text.isupper():
        text = text.lower()
    if text.isascii():
        return text.encode()
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


@lru_cache(maxsize=1)
def background() -> Background:
    """The model, read once a process; read only, so threads may share it."""
    model = LanguageIdentifier.from_model_file(MODEL_FILE)
    nobody = model.nb_classes.index("zxx")  # "no language"
    log_FC = np.empty((len(model.nb_ptc), len(model.nb_classes) - 1), dtype=np.float32)
    log_FC[:, :nobody] = model.nb_ptc[:, :nobody]
    log_FC[:, nobody:] = model.nb_ptc[:, nobody + 1 :]
    moves = np.frombuffer(model.tk_nextmove, dtype=model.tk_nextmove.typecode)
    return Background(
        labels=tuple(label for label in model.nb_classes if label != "zxx"),
        log_FC=log_FC,
        log_mix_F=np.log(np.exp(log_FC).mean(axis=1)),
        _next=moves.astype(np.int32),
        _row=np.array(model.tk_row, dtype=np.int64) << 8,
        _found=np.array(model.tk_output, dtype=np.int32),
    )


@lru_cache(maxsize=16)
def column(index: int) -> np.ndarray:
    """log P(n-gram) of a column of the model, (F,); a copy, for at a stride each costs a miss."""
    return background().log_FC[:, index].copy()


@dataclass(frozen=True)
class Counts:
    """ln(1 + count) of every n-gram in every text: what py3langid weighs by."""

    ids_U: np.ndarray  # the n-grams that are in any of the texts
    logs_BU: sparse.csc_matrix  # float32

    def __matmul__(self, table_F: np.ndarray) -> np.ndarray:
        """Products with the rows of a table of all n-grams: (F, K) -> (B, K), (F,) -> (B,).

        A row is read once for all texts, which share most of what they are made of.
        """
        product: np.ndarray = self.logs_BU @ table_F.take(self.ids_U, axis=0, mode="clip")
        return product

    def totals(self) -> np.ndarray:
        """The sum of each text's, (B,) float64."""
        num_texts = self.logs_BU.shape[0]
        return np.bincount(self.logs_BU.indices, self.logs_BU.data, minlength=num_texts)


def log_counts(found: Features, num_features: int) -> Counts:
    """The n-grams of texts as py3langid weighs them."""
    num_texts = len(found.num_B)
    bits = num_texts.bit_length()
    dtype = np.uint32 if num_features << bits < 1 << 32 else np.uint64  # half sorts in half
    keys_N: np.ndarray = found.ids_N.astype(dtype)
    keys_N <<= bits
    keys_N |= found.rows_N().astype(dtype)
    keys_N.sort()
    first = _first_of_each(keys_N)
    keys, counts = keys_N.take(first), np.diff(first, append=len(keys_N))
    ids, rows = keys >> bits, (keys & ((1 << bits) - 1)).astype(np.int32)
    at_U = _first_of_each(ids)
    # There are few counts, and a logarithm is slow.
    logs = np.log1p(np.arange(counts.max(initial=0) + 1), dtype=np.float32).take(counts)
    indptr = np.append(at_U, len(ids)).astype(np.int32)
    return Counts(ids[at_U], sparse.csc_matrix((logs, rows, indptr), shape=(num_texts, len(at_U))))


def _first_of_each(sorted_N: np.ndarray) -> np.ndarray:
    """Where each value of sorted ones is first."""
    is_first = np.ones(len(sorted_N), dtype=bool)
    np.not_equal(sorted_N[1:], sorted_N[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)


def strongest_segment(gains_N: np.ndarray, found: Features) -> np.ndarray:
    """The greatest sum of consecutive gains in each text, at least 0, (B,) float64.

    Kadane's maximum subarray for all texts in one pass: where a text turns into another language,
    the gains of the other over its own add up from there on, wherever its sentences end.
    """
    sums = np.zeros(len(gains_N) + 1)  # before each n-gram, and after the last
    np.cumsum(gains_N, out=sums[1:])
    # A step down between texts, greater than any rise within one, keeps their minima apart.
    steps_N = np.repeat(np.arange(len(found.num_B)) * (np.ptp(sums) + 1), found.num_B)
    rises_N = sums[1:] - steps_N
    rises_N -= np.minimum.accumulate(sums[:-1] - steps_N)
    some_B = found.num_B > 0
    strongest_B = np.zeros(len(some_B))
    strongest_B[some_B] = np.maximum.reduceat(rises_N, found.starts_B[:-1][some_B])
    return np.maximum(strongest_B, 0)

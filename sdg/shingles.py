"""Shingles of texts as 64-bit hashes, for comparing texts as sets: near-duplicates, n-gram overlap.

A shingle is a run of units. In scripts with spaces a unit is a word; in scripts without (Han, kana,
Thai, Lao, Khmer, Burmese and the others that Unicode's line breaking calls complex, UAX #14) a unit
is a character, so that no text is one long word. Case, width and punctuation make no difference.

Everything is done on whole batches in numpy: a word's hash is the polynomial of its characters,
which a running sum over the batch gives for every word at once.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sdg.characters import BATCH, NUM_CODES, batches, laid_out, table, text_of

WORDS, CHARACTERS = 3, 5  # units of a shingle, by the unit that it begins with
_WORD, _DENSE, _IGNORED = 1 << 24, 1 << 25, 1 << 26  # kinds of characters, above their codes
_BASE = 0x9E3779B97F4A7C15  # of the polynomial; odd, so that it has an inverse
_INVERSE = pow(_BASE, -1, 2**64)
_SPACELESS = (
    r"[\p{Line_Break=SA}\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{Javanese}\p{Balinese}]"
)
_kind = table(  # by character, as `_characters` has it above the codes
    {
        r"[\p{L}\p{N}\p{M}]": _WORD >> 24,
        rf"[{_SPACELESS}&&[\p{{L}}\p{{N}}\p{{M}}]]": _DENSE >> 24,
        r"\p{Cf}": _IGNORED >> 24,
    }
)


@dataclass(frozen=True)
class Shingles:
    """Hashes of several texts, one text after another; a text may have one more than once.

    `hashes` (S,) uint64, of which text i has those from `offsets[i]` to `offsets[i + 1]`; `offsets`
    (N + 1,) int64.
    """

    hashes: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int) -> np.ndarray:
        return self.hashes[self.offsets[text] : self.offsets[text + 1]]


def shingles(texts: Sequence[str], words: int = WORDS, characters: int = CHARACTERS) -> Shingles:
    """The shingles of each text.

    A text of fewer units than a shingle has is one shingle as a whole; a text without any letter or
    digit has none.

    Args:
        words, characters: how many units a shingle has that begins with a word, with a character
            of a script without spaces.
    """
    parts = [_of_batch(batch, words, characters) for batch in batches(texts)]
    hashes = np.concatenate([part.hashes for part in parts]) if parts else np.empty(0, np.uint64)
    sizes = [np.diff(part.offsets) for part in parts]
    return Shingles(
        hashes, np.concatenate([[0], np.cumsum(np.concatenate([[], *sizes]))]).astype(np.int64)
    )


def _of_batch(texts: Sequence[str], words: int, characters: int) -> Shingles:
    units, dense, ends = _units(texts)
    counts = np.diff(ends, prepend=0)
    hashes = np.empty(len(units), np.uint64)
    of_words = runs(units, words)
    hashes[: len(of_words)] = of_words
    wanted = np.full(len(units), words)
    if dense is not None:
        of_characters = runs(units, characters)
        np.copyto(hashes[: len(of_characters)], of_characters, where=dense[: len(of_characters)])
        wanted[dense] = characters
    left = np.repeat(ends, counts) - np.arange(len(units))  # units to the text's end
    whole = left >= wanted
    first = (ends - counts)[counts > 0]
    short = first[~whole[first]]
    hashes[short] = _short_runs(units, short, left[short])
    whole[short] = True
    number = np.concatenate([[0], np.cumsum(whole)])
    return Shingles(hashes[whole], number[np.concatenate([[0], ends])])


def runs(values: np.ndarray, size: int) -> np.ndarray:
    """Hashes (max(0, V - size + 1),) uint64 of all runs of so many values (V,): polynomials of
    them, modulo 2^64. Two runs make one of twice the size."""
    hashes, done = values.astype(np.uint64), 1
    for bit in f"{size:b}"[1:]:
        hashes = hashes[:-done] * np.uint64(pow(_BASE, done, 2**64)) + hashes[done:]
        done *= 2
        if bit == "1":
            hashes = hashes[:-1] * np.uint64(_BASE) + values[done:]
            done += 1
    return hashes


def _short_runs(values: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The same hashes of runs of any sizes (R,); meant for few."""
    hashes = values[starts]
    for step in range(1, int(sizes.max(initial=1))):
        longer = np.flatnonzero(sizes > step)
        hashes[longer] = hashes[longer] * np.uint64(_BASE) + values[starts[longer] + step]
    return hashes


def _units(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Hashes (U,) of all texts' units; which are characters, if any; where each text's end (N,)."""
    codes, stops = laid_out(texts, "\n")
    values = _characters().take(codes)
    highest = values.max(initial=0)
    if highest >= _IGNORED:
        ignored = values >= _IGNORED
        stops -= np.cumsum(ignored)[stops - 1]
        values = values[~ignored]
    in_word = values >= _WORD
    dense = values >= _DENSE if highest >= _DENSE else None
    if dense is not None and dense.any():
        in_word &= ~dense
        begins, finishes = in_word | dense, in_word | dense
        begins[1:] &= ~(in_word[1:] & in_word[:-1])
        finishes[:-1] &= ~(in_word[1:] & in_word[:-1])
        starts, last = np.flatnonzero(begins), np.flatnonzero(finishes)
    else:
        turns = np.flatnonzero(in_word[1:] != in_word[:-1])
        turns = np.concatenate([[-1], turns]) if in_word[:1].any() else turns
        starts, last = turns[::2] + 1, turns[1::2]
    powers, inverses = _powers(BATCH if len(values) <= BATCH else 1 << len(values).bit_length())
    sums = values * powers[: len(values)]
    np.cumsum(sums, out=sums)
    units = sums[last]
    units -= np.where(starts > 0, sums[starts - 1], np.uint64(0))
    units *= inverses[starts]
    kinds = None if dense is None else dense[starts]
    return _mix(units), kinds, np.searchsorted(starts, stops)


def _mix(hashes: np.ndarray) -> np.ndarray:
    """Spread every bit over all (the finaliser of MurmurHash3, public domain)."""
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xFF51AFD7ED558CCD)
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xC4CEB9FE1A85EC53)
    hashes ^= hashes >> np.uint64(33)
    return hashes


def odd_numbers(first: int, num: int) -> np.ndarray:
    """Odd numbers (num,) uint64 without a pattern, the same on every machine: factors of hashes."""
    return _mix(np.arange(first, first + num, dtype=np.uint64)) | np.uint64(1)


@lru_cache(maxsize=2)
def _powers(num: int) -> tuple[np.ndarray, np.ndarray]:
    """The base's powers and their inverses, modulo 2^64."""
    both = []
    for base in (_BASE, _INVERSE):
        steps = np.full(num, base, np.uint64)
        steps[0] = 1
        both.append(np.cumprod(steps))
    return both[0], both[1]


@lru_cache(maxsize=1)
def _characters() -> np.ndarray:
    """By code point (uint32): what stands for it in hashes, from `_WORD` on if part of a word, from
    `_DENSE` on if a unit by itself, from `_IGNORED` on if not there at all.

    Compatibility forms and case are folded where one character stands for one. Format characters
    (joiners, soft hyphens, direction marks) are not there.
    """
    kind = _kind().astype(np.uint32) << 24
    fold = np.arange(NUM_CODES, dtype=np.uint32)
    codes = np.flatnonzero((kind == _WORD) | (kind == _DENSE)).astype(np.uint32)
    lines = "\n".join(text_of(codes))
    lines = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", lines).casefold())
    for code, folded in zip(codes.tolist(), lines.split("\n"), strict=True):
        if len(folded) == 1:
            fold[code] = ord(folded)
    return fold + kind[fold]

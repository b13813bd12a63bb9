"""`sdg.text.canonical` of many texts at once, by tables.

Beside one by one it takes a third of the time in most languages, a tenth and less where marks are
many (Hindi, Burmese, Tamil) or characters are (Chinese); of ASCII, as much.

Nearly every character folds by itself, whatever stands beside it, so a look-up folds a whole batch.
What characters do to each other (marks that compose or change places, conjoining jamo) is found by
looking at the marks; a text where they might is folded by itself.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sdg.characters import NUM_CODES, batches, codes_of, laid_out, table, text_of
from sdg.text import HALVES, canonical

_MARK, _SEVERAL, _ALONE = 1 << 24, 1 << 25, 1 << 26  # above the code: what is to be done about it
_END = ord("\n")  # of a text; its own say nothing and go
_CODES = np.r_[0:_END, _END + 1 : 0xD800, 0xE000:0x40000, 0xE0000:0xE1000]  # all that may be text
_LAST_COMPOSED = 0x20000
_JAMO = np.r_[0x1161:0x1176, 0x11A8:0x11C3]  # that compose with what is before them
_is_mark = table({r"\p{M}": 1})
_IOTA = 0x37A  # a letter in the end, but a mark on the way: others stand before it


class _Tables(NamedTuple):
    """How characters fold.

    `fold` is by code point (uint32): the letter that a character becomes, or 0. It has, on top,
    `_MARK` if it stays as it is unless what is before it has a say; `_SEVERAL` if it becomes those
    of that place in `several`; `_ALONE` if texts that have it are folded by themselves.
    """

    fold: np.ndarray
    several: list[np.ndarray]  # the letters of a character that becomes several
    order: np.ndarray  # by code point (uint8): the canonical combining class
    last: np.ndarray  # the same, of the last mark that a composed letter has in it
    composes: np.ndarray  # by code point (bool): composes with some character before it
    on_symbols: np.ndarray  # the same (bool): with some that is no letter, as = with a stroke
    pairs: np.ndarray  # first << 21 | second (P,) of characters that compose, sorted


def canonicals(texts: Sequence[str]) -> list[str]:
    """The canonical form of each text."""
    return [found for batch in batches(texts) for found in _of_batch(batch)]


def canonical_hashes(texts: Sequence[str]) -> np.ndarray:
    """128 bits of each canonical form's hash, (N, 2) uint64."""
    hashes = (hashlib.blake2b(text.encode(), digest_size=16).digest() for text in canonicals(texts))
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, 2)


def _of_batch(texts: Sequence[str]) -> list[str]:
    tables = _tables()
    codes, ends = laid_out(texts, chr(_END))
    folded = tables.fold.take(codes)
    folded[ends - 1] = _END
    alone: list[int] = []
    if folded.max(initial=0) >= _MARK:
        odd = np.flatnonzero(folded >= _MARK)
        places = odd[_depend(folded, odd, tables)]
        alone = np.unique(np.searchsorted(ends, places, side="right")).tolist()
        folded = _spread(folded, tables)
    found = text_of(folded.compress(folded > 0) & (_MARK - 1)).split(chr(_END))[:-1]
    for number in alone:
        found[number] = canonical(texts[number])
    return found


def _depend(folded: np.ndarray, odd: np.ndarray, tables: _Tables) -> np.ndarray:
    """Whether what an odd character becomes depends on its neighbours, (O,) bool."""
    mine = folded[odd]
    is_apart = (odd > 0) & (folded[odd - 1] == 0)
    before = _last_kept(folded, odd, is_apart)
    code, code_before = mine & (_MARK - 1), before & (_MARK - 1)
    order, order_before = tables.order[code], tables.order[code_before]
    moves = (order > 0) & (tables.last[code_before] > order)
    pair = code_before.astype(np.int64) << 21 | code
    at = np.minimum(np.searchsorted(tables.pairs, pair), len(tables.pairs) - 1)
    over_a_mark = (order_before > 0) & (order_before < order)
    joins = (tables.pairs[at] == pair) | (tables.composes[code] & over_a_mark)
    unknown = (before >= _SEVERAL) | (is_apart & tables.on_symbols[code])
    is_mark = (mine & _MARK) > 0
    depends: np.ndarray = (mine >= _ALONE) | (is_mark & (moves | joins | unknown))
    return depends


def _last_kept(folded: np.ndarray, odd: np.ndarray, is_apart: np.ndarray) -> np.ndarray:
    """What odd characters stand beside once all is gone that is no letter, (O,)."""
    before = np.where(odd > 0, folded[odd - 1], _END)
    if is_apart.any():
        kept = np.append(-1, np.flatnonzero(folded > 0))
        last = kept[np.searchsorted(kept, odd[is_apart]) - 1]
        before[is_apart] = np.where(last < 0, _END, folded[last])
    return before


def _spread(folded: np.ndarray, tables: _Tables) -> np.ndarray:
    """Characters that become several, as those."""
    at = np.flatnonzero((folded & _SEVERAL) > 0)
    if not len(at):
        return folded
    parts = [tables.several[place] for place in (folded[at] & (_MARK - 1)).tolist()]
    sizes = np.ones(len(folded), np.int64)
    sizes[at] = list(map(len, parts))
    wide = np.repeat(folded, sizes)
    starts = np.cumsum(sizes)[at] - sizes[at]
    for start, part in zip(starts.tolist(), parts, strict=True):
        wide[start : start + len(part)] = part
    return wide


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    pairs, order, last, composes = _neighbours()
    is_mark = (order > 0) | composes
    letters, sizes = _fold_each(_CODES)
    ends = np.cumsum(sizes)
    fold = np.zeros(NUM_CODES, np.uint32)
    several: list[np.ndarray] = []
    single = sizes == 1
    fold[_CODES[single]] = letters[ends[single] - 1]
    alone = np.zeros(NUM_CODES, bool)
    alone[_IOTA] = True
    for place in np.flatnonzero(sizes > 1).tolist():
        part = letters[ends[place] - sizes[place] : ends[place]]
        fold[_CODES[place]] = _SEVERAL | len(several)
        alone[_CODES[place]] = is_mark[part].any()
        several.append(part)
    on_symbols = np.zeros(NUM_CODES, bool)
    on_symbols[pairs[fold[pairs >> 21] == 0] & ((1 << 21) - 1)] = True
    stays = fold == np.arange(NUM_CODES)
    becomes_mark = is_mark[np.where(fold < _MARK, fold, 0)]
    fold[is_mark & stays] |= _MARK
    alone |= ((is_mark | becomes_mark) & ~stays) | np.isin(fold, _JAMO)
    fold[alone] = _ALONE | np.flatnonzero(alone)
    return _Tables(fold, several, order, last, composes, on_symbols, pairs)


def _fold_each(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is left of each character in canonical form: all of it (L,), and how much each has."""
    lines = np.full(2 * len(codes), _END, np.uint32)
    lines[::2] = codes
    text = unicodedata.normalize("NFKC", text_of(lines)).casefold()
    text = unicodedata.normalize("NFKC", text)
    found = codes_of(text)
    is_end, is_letter = found == _END, HALVES().take(found) > 0
    number = np.cumsum(is_end)[is_letter]
    return found[is_letter], np.bincount(number, minlength=len(codes))


def _neighbours() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`pairs`, `order`, `last` and `composes` of `_Tables`."""
    order, composes = np.zeros(NUM_CODES, np.uint8), np.zeros(NUM_CODES, bool)
    marks = np.flatnonzero(_is_mark()).tolist()
    order[marks] = [unicodedata.combining(chr(code)) for code in marks]
    last, pairs = order.copy(), []
    for code in range(_LAST_COMPOSED):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            last[code] = unicodedata.combining(unicodedata.normalize("NFD", chr(code))[-1])
            first, second = (int(part, 16) for part in parts)
            if len(unicodedata.normalize("NFC", chr(first) + chr(second))) == 1:
                pairs.append(first << 21 | second)
                composes[second] = True
    return np.array(sorted(pairs), np.int64), order, last, composes

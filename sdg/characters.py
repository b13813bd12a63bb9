"""What each character is, as tables by code point, so that numpy looks at a whole text at once.

Where a pattern would stop at every word, a table takes the same few nanoseconds a character in
every script.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import regex

NUM_CODES = 0x110000
BATCH = 1 << 17  # characters at once: the arrays stay in the processor's cache
# All that Unicode has given a meaning so far; what lies between is nothing.
_ASSIGNED = (range(0x40000), range(0xE0000, 0xE1000), range(0xF0000, NUM_CODES))


def codes_of(text: str) -> np.ndarray:
    """Code points of a text (C,) uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def text_of(codes: np.ndarray) -> str:
    """The text of code points."""
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def laid_out(texts: Sequence[str], stop: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Code points of texts, one after another (C,) uint32, each with `stop` at its end; and where
    each ends (N,), its stop included."""
    sizes_N = np.fromiter(map(len, texts), np.int64, len(texts)) + len(stop)
    return codes_of(stop.join([*texts, ""])), np.cumsum(sizes_N)


def batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Parts of about `BATCH` characters, or one long text."""
    sizes = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1) // BATCH
    starts = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(texts)]
    for start, end in pairwise(starts):
        if end > start:
            yield texts[start:end]


def table(classes: Mapping[str, int]) -> Callable[[], np.ndarray]:
    """A table by code point, uint8, made when it is first asked for.

    Args:
        classes: pattern of single characters -> their value; of two that match, the later counts.
    """

    @lru_cache(maxsize=1)
    def make() -> np.ndarray:
        values = np.zeros(NUM_CODES, np.uint8)
        for codes in _ASSIGNED:
            every = text_of(np.arange(codes.start, codes.stop, dtype=np.uint32))
            for pattern, value in classes.items():
                for match in regex.finditer(f"(?:{pattern})+", every, regex.V1):
                    values[codes.start + match.start() : codes.start + match.end()] = value
        return values

    return make

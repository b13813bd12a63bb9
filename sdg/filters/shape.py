"""Texts that are too short, too long, or say the same over and over."""

from collections import Counter
from functools import lru_cache

import numpy as np
from pydantic import Field

from sdg.filters.base import Candidate, FilterConfig, plain, reasons, size_of
from sdg.text import letters, sentences


class LengthConfig(FilterConfig):
    """Bounds in `sdg.text.weight`: letters of an alphabet, of which a Han character makes three."""

    min_query: int = Field(3, ge=1)
    max_query: int = Field(800, ge=1)
    min_positive: int = Field(20, ge=1)
    max_positive: int = Field(20_000, ge=1)


@reasons(
    "query_too_short",
    "query_too_long",
    "positive_too_short",
    "positive_too_long",
    config=LengthConfig,
)
def length(row: Candidate, config: LengthConfig) -> str | None:
    """Nothing can be learnt from a query of a letter or a positive of three words.

    Bounds on length are the first of Gopher's quality rules (arXiv 2112.11446, A.1.1); these are
    by information, as words cannot be counted alike in Chinese, Thai and Finnish.
    """
    for name, text, low, high in (
        ("query", row.pair.query, config.min_query, config.max_query),
        ("positive", row.pair.positive, config.min_positive, config.max_positive),
    ):
        size = size_of(text)
        if size < low:
            return f"{name}_too_short"
        if size > high:
            return f"{name}_too_long"
    return None


class RepetitionConfig(FilterConfig):
    """Shares from which a text repeats itself. Of 117,000 genuine passages, sentences and questions
    in 38 languages two reach the second, none the others; a text said twice has .5."""

    short: float = Field(0.4, gt=0, le=1)  # of character 5-grams, in texts below 150 characters
    any_length: float = Field(0.45, gt=0, le=1)  # of character 8-grams
    line: float = Field(0.3, gt=0, le=1)  # of letters, in sentences that stand there before
    word: float = Field(0.45, gt=0, le=1)  # of the commonest word, among 8 or more


_MIN_CHARACTERS, _SHORT = 12, 150  # characters
LONG = 8  # characters of the longer n-grams
_BASE = 0x9E3779B97F4A7C15  # of their polynomial; odd
# Two hashes of so many characters make one of twice as many.
_STEPS = tuple((step, np.uint64(pow(_BASE, step, 2**64))) for step in (1, 2, 4))


@reasons("repetition", config=RepetitionConfig)
def repetition(row: Candidate, config: RepetitionConfig) -> str | None:
    """Loops: the commonest failure of a small model, and boilerplate in a corpus.

    Gopher's repetition rules (arXiv 2112.11446, table A1) count words and lines; here the n-grams
    are of letters, marks and digits, for Thai, Burmese, Khmer and Chinese have no words to split
    at, and sentences are the lines, for a row's text has no other.
    """
    pair = row.pair
    sides = ((pair.query, pair.query_lang), (pair.positive, pair.positive_lang))
    return "repetition" if any(_repeats(text, lang, config) for text, lang in sides) else None


@lru_cache(maxsize=512)
def _repeats(text: str, lang: str, config: RepetitionConfig) -> bool:
    if len(text) < _SHORT:
        bare = plain(text)
        if len(bare) < _MIN_CHARACTERS:
            return False
        share = _duplicates(bare, LONG)
        if _duplicates(bare, 5) >= config.short:
            return True
    else:
        share = _duplicates_of_long(letters(text.casefold()))
    if share >= config.any_length:
        return True
    # A sentence that is there twice has n-grams that are, but for the few at its start.
    if share >= config.line / 2 and _duplicate_lines(text, lang) >= config.line:
        return True
    words = text.casefold().split()
    # So many are another word or the same again, in a text of any kind.
    if len(words) < 8 or len(words) - len(set(words)) + 1 < config.word * len(words):
        return False
    return Counter(words).most_common(1)[0][1] >= config.word * len(words)


def _duplicate_lines(text: str, lang: str) -> float:
    """Share of a text's letters in sentences that stand in it before."""
    lines = [plain(line) for line in sentences(text, lang)]
    total = sum(map(len, lines))
    return 1 - sum(map(len, set(lines))) / total if total else 0.0


def _duplicates(text: str, size: int) -> float:
    """Share of a text's character n-grams that stand in it before."""
    num = len(text) - size + 1
    return 1 - len({text[i : i + size] for i in range(num)}) / num if num > 0 else 0.0


def _duplicates_of_long(codes_C: np.ndarray) -> float:
    """The same, of `LONG` characters, by the hashes: polynomials of code points modulo 2^64."""
    num = len(codes_C) - LONG + 1
    if num <= 0:
        return 0.0
    hashes = codes_C.astype(np.uint64)
    for step, factor in _STEPS:
        hashes = hashes[:-step] * factor + hashes[step:]
    hashes.sort()
    return int((hashes[1:] == hashes[:-1]).sum()) / num

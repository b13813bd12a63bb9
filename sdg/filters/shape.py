"""Texts that are too short, too long, or say the same over and over."""

from collections import Counter
from functools import lru_cache

from pydantic import Field

from sdg.filters.base import Candidate, FilterConfig, reasons
from sdg.filters.texts import SHORT, Text
from sdg.text import canonical, sentence_parts


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
    for name, size, low, high in (
        ("query", row.query.weight, config.min_query, config.max_query),
        ("positive", row.positive.weight, config.min_positive, config.max_positive),
    ):
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


_MIN_CHARACTERS = 12  # that a short text's n-grams are worth looking at
_MIN_WORDS = 8


@reasons("repetition", config=RepetitionConfig)
def repetition(row: Candidate, config: RepetitionConfig) -> str | None:
    """Loops: the commonest failure of a small model, and boilerplate in a corpus.

    Gopher's repetition rules (arXiv 2112.11446, table A1) count words and lines; here the n-grams
    are of letters, marks and digits, for Thai, Burmese, Khmer and Chinese have no words to split
    at, and sentences are the lines, for a row's text has no other; in Thai, whose sentences only a
    model tells apart, what stands between spaces.
    """
    pair = row.pair
    repeat = _repeats(row.query, pair.query_lang, config) or _repeats(
        row.positive, pair.positive_lang, config
    )
    return "repetition" if repeat else None


def _repeats(side: Text, lang: str, config: RepetitionConfig) -> bool:
    found = side.repeats
    if len(side.text) < SHORT and found.num_letters < _MIN_CHARACTERS:
        return False
    if found.short >= config.short or found.long >= config.any_length:
        return True
    # A sentence that is there twice has n-grams that are, but for the few at its start.
    if found.long >= config.line / 2 and _repeats_lines(side.text, lang, config.line):
        return True
    if found.num_words < _MIN_WORDS or found.most_words < config.word * found.num_words:
        return False
    words = side.text.casefold().split()
    return Counter(words).most_common(1)[0][1] >= config.word * len(words)


@lru_cache(maxsize=512)  # sentences are dear, and a document's pairs come one after the other
def _repeats_lines(text: str, lang: str, least: float) -> bool:
    """Whether such a share of a text's letters is in sentences that stand in it before."""
    lines = [canonical(piece) for piece in sentence_parts(text, lang)]
    total = sum(map(len, lines))
    return total - sum(map(len, set(lines))) >= least * total > 0

"""Filters of pairs: each a small pure function that gives the reason to drop a pair, or None.

`FILTERS` is the registry, in the order they are asked; the first reason counts. To add one, write
a function under `@register`, with its parameters (if any) as a `FilterConfig` of its own, and plant
rows for it in tests/test_filters.py, which fails until every filter and reason has some.

Sizes are in `sdg.text.weight`, so that one bound suits Chinese and Swahili alike, and comparisons
in canonical characters, so that no filter leans on spaces that half of the scripts don't write.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex
from pydantic import BaseModel, ConfigDict, Field
from rapidfuzz import fuzz

from sdg import langid, phrases
from sdg.schema import Pair
from sdg.text import canonical, weight

WRITTEN = "written"  # provenance.strategy of what a language model wrote
# Strategies whose query is a bag of words: no detector was made for those.
KEYWORDS = frozenset({"keyphrase"})


class FilterConfig(BaseModel):
    """Parameters of one filter: its section in a profile's YAML. The base has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Check = Callable[[Pair, Any], str | None]


@dataclass(frozen=True)
class Filter:
    """A registered filter."""

    name: str
    check: Check
    config: type[FilterConfig]
    reasons: tuple[str, ...]  # all that `check` may answer


FILTERS: dict[str, Filter] = {}


def register(*reasons: str, config: type[FilterConfig] = FilterConfig) -> Callable[[Check], Check]:
    """Add a filter to `FILTERS` under its function's name, with the reasons it may give."""

    def add(check: Check) -> Check:
        FILTERS[check.__name__] = Filter(check.__name__, check, config, reasons)
        return check

    return add


@lru_cache(maxsize=512)
def _canonical(text: str) -> str:
    """`canonical`, kept: several filters ask, and a document's pairs come one after the other."""
    return canonical(text)


@lru_cache(maxsize=512)
def _verify(text: str, lang: str) -> str | None:
    return langid.verify(text, lang)


class LengthConfig(FilterConfig):
    """Bounds in `sdg.text.weight`: letters of an alphabet, of which a Han character makes three."""

    min_query: int = Field(3, ge=1)
    max_query: int = Field(800, ge=1)
    min_positive: int = Field(20, ge=1)
    max_positive: int = Field(20_000, ge=1)


@register(
    "query_too_short",
    "query_too_long",
    "positive_too_short",
    "positive_too_long",
    config=LengthConfig,
)
def length(pair: Pair, config: LengthConfig) -> str | None:
    """Nothing can be learnt from a query of a letter or a positive of three words.

    Bounds on length are the first of Gopher's quality rules (arXiv 2112.11446, A.1.1); these are
    by information, as words cannot be counted alike in Chinese, Thai and Finnish.
    """
    for name, text, low, high in (
        ("query", pair.query, config.min_query, config.max_query),
        ("positive", pair.positive, config.min_positive, config.max_positive),
    ):
        size = weight(text)
        if size < low:
            return f"{name}_too_short"
        if size > high:
            return f"{name}_too_long"
    return None


_TAG = regex.compile(
    r"</?(?:a|b|blockquote|body|br|code|div|em|font|h[1-6]|head|html|hr|i|img|li|link|meta|ol|p|pre"
    r"|ref|script|span|strong|style|sub|sup|table|tbody|td|th|tr|u|ul)(?:\s+[\w:-]+=[^<>]*)?\s*/?>",
    regex.IGNORECASE,
)
MAX_ENTITIES = 3  # in a positive
_ENTITY = regex.compile(r"&(?:[a-z]{2,8}|#\d{2,6}|#x[0-9a-f]{2,5});", regex.IGNORECASE)
_URL = regex.compile(r"(?:https?://|www\.)\S+", regex.IGNORECASE)
# UTF-8 read as Latin-1 or Windows-1252, then written again: é as Ã©, ’ as â€™, и as Ð¸.
_MOJIBAKE = regex.compile(r"Ã[©¨¡³±§¼¶¤ª«­ ]|â€[™œ¦“”˜\x9d]|(?:[ÐÑ][\x80-\xbf°±²³µ¸º»¼½¾]){2}")


@register("broken_text", "markup")
def markup(pair: Pair, config: FilterConfig) -> str | None:
    """Replacement characters, mojibake, HTML tags and entities, and queries that are an address.

    They tell of a page that was not extracted or a text that was decoded wrongly, which no query
    of a person looks like. C4 (arXiv 1910.10683, 2.2) drops pages with code for the same reason.
    """
    texts = (pair.query, pair.positive)
    if any("\ufffd" in text or _MOJIBAKE.search(text) for text in texts):
        return "broken_text"
    # An entity or two ("&gt; 90 %") spoil no passage.
    entities = _ENTITY.search(pair.query) or len(_ENTITY.findall(pair.positive)) > MAX_ENTITIES
    if entities or any(_TAG.search(text) for text in texts):
        return "markup"
    return "markup" if _URL.search(pair.query) and not weight(_URL.sub("", pair.query)) else None


@register("refusal")
def refusal(pair: Pair, config: FilterConfig) -> str | None:
    """A language model that declines, or speaks of itself, in place of a query.

    Anchored at the start, with an apology before the inability or an object that only a model
    speaks of: people too type "I can't sleep".
    """
    if pair.provenance.strategy != WRITTEN:
        return None
    return "refusal" if phrases.REFUSAL.search(phrases.fold(pair.query)) else None


@register("prompt_leak")
def prompt_leak(pair: Pair, config: FilterConfig) -> str | None:
    """A query that repeats the prompt: its tags, its answer's shape, or talk of "the passage".

    Such a query makes sense to nobody who has not seen the document (InPars-v2, arXiv 2301.01820,
    and Promptagator, arXiv 2209.11755, filter by a retrieval round trip for want of this).
    """
    if pair.provenance.strategy != WRITTEN:
        return None
    return "prompt_leak" if phrases.LEAK.search(phrases.fold(pair.query)) else None


class CopiedConfig(FilterConfig):
    """When a written query counts as lifted from its document."""

    min_weight: int = Field(25, ge=1)  # shorter ones may be a name, or the only way to say it
    fuzzy_min_weight: int = Field(40, ge=1)
    fuzzy_score: float = Field(92.0, ge=50, le=100)  # rapidfuzz's partial ratio, 0 to 100


@register("copied", "query_in_positive", config=CopiedConfig)
def copied(pair: Pair, config: CopiedConfig) -> str | None:
    """A query lifted from its document where that was not meant: it teaches string matching.

    What a model wrote may not stand in the document, nor nearly so; an inverse cloze (arXiv
    1906.00300) may not have its sentence left in the positive. Titles, crops and keyphrases are
    taken from the document by design.
    """
    query = _canonical(pair.query)
    if pair.provenance.strategy == "inverse_cloze":
        return "query_in_positive" if query in _canonical(pair.positive) else None
    size = weight(pair.query)
    if pair.provenance.strategy != WRITTEN or size < config.min_weight:
        return None
    document = _canonical(pair.document)
    if query in document:
        return "copied"
    if size < config.fuzzy_min_weight or len(query) > len(document):
        return None
    found = fuzz.partial_ratio_alignment(query, document, score_cutoff=config.fuzzy_score)
    return "copied" if found else None


@register("query_equals_positive")
def same(pair: Pair, config: FilterConfig) -> str | None:
    """A query that is its own positive, but for case, punctuation or width: nothing to learn."""
    equal = _canonical(pair.query) == _canonical(pair.positive)
    return "query_equals_positive" if equal else None


class RepetitionConfig(FilterConfig):
    """Shares from which a text repeats itself. Of 117,000 genuine passages, sentences and questions
    in 38 languages two reach the second, none the others; a text said twice has .5."""

    short: float = Field(0.4, gt=0, le=1)  # of character 5-grams, in texts below 150 characters
    any_length: float = Field(0.45, gt=0, le=1)  # of character 8-grams
    word: float = Field(0.45, gt=0, le=1)  # of the commonest word, among 8 or more


_MIN_CHARACTERS, _SHORT = 12, 150  # canonical characters


@register("repetition", config=RepetitionConfig)
def repetition(pair: Pair, config: RepetitionConfig) -> str | None:
    """Loops: the commonest failure of a small model, and boilerplate in a corpus.

    Gopher's repetition rules (arXiv 2112.11446, table A1) count words; here the n-grams are of
    canonical characters, for Thai, Burmese, Khmer and Chinese have no words to split at.
    """
    repeats = any(_repeats(text, config) for text in (pair.query, pair.positive))
    return "repetition" if repeats else None


def _repeats(text: str, config: RepetitionConfig) -> bool:
    plain = _canonical(text)
    if len(plain) < _MIN_CHARACTERS:
        return False
    if len(plain) < _SHORT and _duplicates(plain, 5) >= config.short:
        return True
    if _duplicates(plain, 8) >= config.any_length:
        return True
    words = text.casefold().split()
    return len(words) >= 8 and Counter(words).most_common(1)[0][1] >= config.word * len(words)


def _duplicates(text: str, size: int) -> float:
    """Share of a text's character n-grams that stand in it before."""
    num = len(text) - size + 1
    return 1 - len({text[i : i + size] for i in range(num)}) / num if num > 0 else 0.0


@register(
    "query_wrong_script",
    "query_wrong_language",
    "positive_wrong_script",
    "positive_wrong_language",
)
def language(pair: Pair, config: FilterConfig) -> str | None:
    """Each side in the language it should be in, as far as anyone can tell: see sdg/langid.py.

    Models fall back to English, and name a neighbour's language as the one asked for; corpora mix.
    """
    if pair.provenance.strategy in KEYWORDS:
        reason = langid.check_script(pair.query, pair.query_lang)
    else:
        reason = _verify(pair.query, pair.query_lang)
    if reason:
        return f"query_{reason}"
    reason = _verify(pair.positive, pair.positive_lang)
    return f"positive_{reason}" if reason else None


def is_unverified(pair: Pair) -> bool:
    """True where nobody could tell whether the query's language is the one it should be in."""
    return not langid.can_verify(pair.query, pair.query_lang)

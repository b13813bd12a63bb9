"""Pages that were not extracted and texts that were decoded wrongly."""

from functools import lru_cache

import regex

from sdg import phrases
from sdg.filters.base import Candidate, FilterConfig, fold, reasons
from sdg.filters.tally import NO_CHARACTER, tally
from sdg.text import weight

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


_MARKDOWN = regex.compile(r"\A\s*#{1,6} |\*\*\S[^*]*\*\*|\]\(https?://")
MARKS = 5  # one upon another: a pile of accents
_NO_TEXT = regex.compile(rf"{NO_CHARACTER}|\p{{Mn}}{{{MARKS}}}", regex.V1)


@reasons("broken_text", "markup")
def markup(row: Candidate, config: FilterConfig) -> str | None:
    """Replacement characters, mojibake and controls; HTML, Markdown, queries that are an address.

    They tell of a page that was not extracted or a text that was decoded wrongly, which no query
    of a person looks like. C4 (arXiv 1910.10683, 2.2) drops pages with code for the same reason.
    """
    query, positive = row.pair.query, row.pair.positive
    if _is_broken(query) or _is_broken(positive):
        return "broken_text"
    if _has_markup(positive) or _num_entities(query) or _has_tag(query):
        return "markup"
    if any(sign in query for sign in "#*]") and _MARKDOWN.search(query):
        return "markup"
    is_address = any(sign in query for sign in "/.") and _URL.search(query)
    return "markup" if is_address and not weight(_URL.sub("", query)) else None


def _is_broken(text: str) -> bool:
    found = tally(text)
    if (found.num_broken or found.num_marks >= MARKS) and _NO_TEXT.search(text):
        return True
    if text.isascii():
        return False
    return "\ufffd" in text or (
        any(sign in text for sign in "ÃâÐÑ") and _MOJIBAKE.search(text) is not None
    )


def _has_markup(passage: str) -> bool:
    """Tags, or entities: one or two ("&gt; 90 %") spoil no passage."""
    return _has_tag(passage) or _num_entities(passage) > MAX_ENTITIES


# Looking for a pattern's rarest character first costs next to nothing.


def _has_tag(text: str) -> bool:
    return "<" in text and _TAG.search(text) is not None


def _num_entities(text: str) -> int:
    return len(_ENTITY.findall(text)) if "&" in text else 0


_MIXED_WORD = regex.compile(
    r"[\p{L}\p{M}]*(?:\p{Latin}[\p{Cyrillic}\p{Greek}]|[\p{Cyrillic}\p{Greek}]\p{Latin}"
    r"|\p{Cyrillic}\p{Greek}|\p{Greek}\p{Cyrillic})[\p{L}\p{M}]*"
)
MIN_MIXED = 4  # letters of a word; "nм" and "μg" are units
_LOOK_ALIKE = 3  # so many of the first scripts are each other's letters
MIN_OF_SCRIPT, MANY_SCRIPTS = 2, 4  # letters; scripts


@reasons("mixed_script")
def mixed_script(row: Candidate, config: FilterConfig) -> str | None:
    """Words put together of look-alike letters, and texts in which a model fell from script to
    script."""
    is_mixed = _is_mixed(row.pair.query) or _is_mixed(row.pair.positive)
    return "mixed_script" if is_mixed else None


@lru_cache(maxsize=512)
def _is_mixed(text: str) -> bool:
    if text.isascii():
        return False
    by_script = tally(text).by_script
    if sum(map(bool, by_script[:_LOOK_ALIKE])) > 1 and any(
        len(word[0]) >= MIN_MIXED for word in _MIXED_WORD.finditer(text)
    ):
        return True
    least = max(MIN_OF_SCRIPT, len(text) // 50)  # a long text may quote letters, each once
    return sum(count >= least for count in by_script) >= MANY_SCRIPTS


PER_BOILERPLATE = 250  # characters of a text, in which one such phrase is too many


@reasons("boilerplate")
def boilerplate(row: Candidate, config: FilterConfig) -> str | None:
    """What pages say beside their text: cookies, rights reserved, newsletters, JavaScript."""
    return "boilerplate" if _is_boilerplate(row.pair.positive) else None


@lru_cache(maxsize=512)
def _is_boilerplate(text: str) -> bool:
    return phrases.BOILERPLATE.count(fold(text)) * PER_BOILERPLATE > len(text)


def is_spoilt(passage: str) -> bool:
    """Whether a filter of this file drops every pair that has this passage as its positive."""
    return (
        _is_broken(passage)
        or _has_markup(passage)
        or _is_mixed(passage)
        or _is_boilerplate(passage)
    )

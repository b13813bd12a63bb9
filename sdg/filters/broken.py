"""Pages that were not extracted and texts that were decoded wrongly."""

from functools import lru_cache

import regex

from sdg import phrases
from sdg.characters import counts, table
from sdg.filters.base import Candidate, FilterConfig, fold, reasons
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
# Controls, halves of surrogate pairs, private use, and piles of accents.
MARKS = 5
_OTHERS = r"[\p{Cc}\p{Cs}\p{Co}--[\n\r\t]]"
_NO_TEXT = regex.compile(rf"{_OTHERS}|\p{{Mn}}{{{MARKS}}}", regex.V1)
_NO_LETTER = table({r"\p{Mn}": 1, _OTHERS: 2})


@reasons("broken_text", "markup")
def markup(row: Candidate, config: FilterConfig) -> str | None:
    """Replacement characters, mojibake and controls; HTML, Markdown, queries that are an address.

    They tell of a page that was not extracted or a text that was decoded wrongly, which no query
    of a person looks like. C4 (arXiv 1910.10683, 2.2) drops pages with code for the same reason.
    """
    query, positive = row.pair.query, row.pair.positive
    if _is_broken(query) or _is_broken(positive):
        return "broken_text"
    if _has_markup(positive) or _ENTITY.search(query) or _TAG.search(query):
        return "markup"
    if _MARKDOWN.search(query):
        return "markup"
    return "markup" if _URL.search(query) and not weight(_URL.sub("", query)) else None


def _is_broken(text: str) -> bool:
    _, num_marks, num_others = counts(text, _NO_LETTER, 3)
    if (num_others or num_marks >= MARKS) and _NO_TEXT.search(text):
        return True
    return "\ufffd" in text or _MOJIBAKE.search(text) is not None


def _has_markup(passage: str) -> bool:
    """Tags, or entities: one or two ("&gt; 90 %") spoil no passage."""
    if "<" in passage and _TAG.search(passage):
        return True
    return "&" in passage and len(_ENTITY.findall(passage)) > MAX_ENTITIES


_MIXED_WORD = regex.compile(
    r"[\p{L}\p{M}]*(?:\p{Latin}[\p{Cyrillic}\p{Greek}]|[\p{Cyrillic}\p{Greek}]\p{Latin}"
    r"|\p{Cyrillic}\p{Greek}|\p{Greek}\p{Cyrillic})[\p{L}\p{M}]*"
)
MIN_MIXED = 4  # letters of a word; "nм" and "μg" are units
_SCRIPTS = (
    *("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Ethiopic", "Devanagari", "Bengali"),
    *("Tamil", "Telugu", "Thai", "Khmer", "Myanmar", "Georgian", "Armenian", "Hangul"),
)
_JAPANESE = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
_SCRIPT = table(  # by character: 1 and on
    {
        **{rf"\p{{{script}}}": place for place, script in enumerate(_SCRIPTS, 1)},
        _JAPANESE: len(_SCRIPTS) + 1,
    }
)
_LOOK_ALIKE = 3  # so many of the first are each other's letters
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
    by_script = counts(text, _SCRIPT, len(_SCRIPTS) + 2)[1:]
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

"""Pages that were not extracted and texts that were decoded wrongly."""

import regex

from sdg.filters.base import Candidate, FilterConfig, reasons
from sdg.filters.texts import Text
from sdg.phrases import BOILERPLATE
from sdg.text import weight

_TAG = regex.compile(
    r"</?(?:a|b|blockquote|body|br|code|div|em|font|h[1-6]|head|html|hr|i|img|li|link|meta|ol|p|pre"
    r"|ref|script|span|strong|style|sub|sup|table|tbody|td|th|tr|u|ul)(?:\s+[\w:-]+=[^<>]*)?\s*/?>",
    regex.IGNORECASE,
)
MAX_ENTITIES = 3  # in a positive
_ENTITY = regex.compile(r"&(?:[a-z]{2,8}|#\d{2,6}|#x[0-9a-f]{2,5});", regex.IGNORECASE)
_URL = regex.compile(r"(?:https?://|www\.)\S+", regex.IGNORECASE)
# UTF-8 read as Latin-1 or Windows-1252, then written again: é as Ã©, ’ as â€™, и as Ð¸. A tally
# counts the letters that these begin with.
_MOJIBAKE = regex.compile(r"Ã[©¨¡³±§¼¶¤ª«­ ]|â€[™œ¦“”˜\x9d]|(?:[ÐÑ][\x80-\xbf°±²³µ¸º»¼½¾]){2}")
_MARKDOWN = regex.compile(r"\A\s*#{1,6} |\*\*\S[^*]*\*\*|\]\(https?://")
# A run's texts are of one line. One dash between bars is a mathematician's (|-|p).
_RULING = regex.compile(r"\|\s*:?--+:?\s*(?:\||\Z)|--:?\s*\|\s*:?--")
_HEADING = regex.compile(r"\A\s*# |(?:\A|\s)#{2,6} \S")  # "# 1" is a number


@reasons("broken_text", "markup")
def markup(row: Candidate, config: FilterConfig) -> str | None:
    """Replacement characters, mojibake and controls; HTML, Markdown, queries that are an address.

    They tell of a page that was not extracted or a text that was decoded wrongly, which no query
    of a person looks like. C4 (arXiv 1910.10683, 2.2) drops pages with code for the same reason.
    """
    query, positive = row.pair.query, row.pair.positive
    if _is_broken(row.query) or _is_broken(row.positive):
        return "broken_text"
    if _has_markup(positive) or _num_entities(query) or _has_tag(query):
        return "markup"
    if ("#" in query or "*" in query or "]" in query) and _MARKDOWN.search(query):
        return "markup"
    is_address = ("://" in query or "." in query) and _URL.search(query)
    return "markup" if is_address and not weight(_URL.sub("", query)) else None


def _is_broken(side: Text) -> bool:
    found = side.tally
    return bool(
        found.num_broken or found.num_piles or (found.num_leads and _MOJIBAKE.search(side.text))
    )


def _has_markup(passage: str) -> bool:
    """Tags; a table or a heading of Markdown's; or entities: one or two ("&gt; 90 %") spoil no
    passage."""
    return (
        _has_tag(passage)
        or _num_entities(passage) > MAX_ENTITIES
        or ("|" in passage and _RULING.search(passage) is not None)
        or ("# " in passage and _HEADING.search(passage) is not None)
    )


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
MANY_SCRIPTS = 4
# One or two small Greek letters, none of them an omicron: nobody tells it from an "o".
_FEW_GREEK = regex.compile(r"[^\p{Cyrillic}\p{Greek}]*(?:[α-ξπρσ-ω][^\p{Cyrillic}\p{Greek}]*){1,2}")
_CAPITAL, _SMALL = regex.compile(r"(?=\p{Latin})\p{Lu}"), regex.compile(r"(?=\p{Latin})\p{Ll}")
PER_SMALL = 2  # capitals of a name, at least, for each small Latin letter of it


@reasons("mixed_script")
def mixed_script(row: Candidate, config: FilterConfig) -> str | None:
    """Words put together of look-alike letters, and texts in which a model fell from script to
    script. Names of science (IFNγ, NFκB, RORγt) are genuine.
    """
    return "mixed_script" if _is_mixed(row.query) or _is_mixed(row.positive) else None


def _is_mixed(side: Text) -> bool:
    found = side.tally
    if found.num_turns and any(
        len(word[0]) >= MIN_MIXED and not _names_science(word[0])
        for word in _MIXED_WORD.finditer(side.text)
    ):
        return True
    return found.num_scripts >= MANY_SCRIPTS


def _names_science(word: str) -> bool:
    """Latin letters, most of them capitals, with a small Greek one or two: no small Greek letter
    looks like a capital, so nobody mistook one for the other."""
    if not _FEW_GREEK.fullmatch(word):
        return False
    return len(_CAPITAL.findall(word)) >= PER_SMALL * len(_SMALL.findall(word))


PER_BOILERPLATE = 250  # characters of a text, in which one such phrase is too many


@reasons("boilerplate")
def boilerplate(row: Candidate, config: FilterConfig) -> str | None:
    """What pages say beside their text: cookies, rights reserved, newsletters, JavaScript."""
    return "boilerplate" if _is_boilerplate(row.positive) else None


def _is_boilerplate(side: Text) -> bool:
    return side.count(BOILERPLATE) * PER_BOILERPLATE > len(side.text)


def is_spoilt(passage: Text) -> bool:
    """Whether a filter of this file drops every pair that has this passage as its positive."""
    return (
        _is_broken(passage)
        or _has_markup(passage.text)
        or _is_mixed(passage)
        or _is_boilerplate(passage)
    )

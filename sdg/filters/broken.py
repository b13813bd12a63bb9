"""Pages that were not extracted and texts that were decoded wrongly."""

import regex

from sdg.filters.base import Candidate, FilterConfig, reasons
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


@reasons("broken_text", "markup")
def markup(row: Candidate, config: FilterConfig) -> str | None:
    """Replacement characters, mojibake, HTML tags and entities, and queries that are an address.

    They tell of a page that was not extracted or a text that was decoded wrongly, which no query
    of a person looks like. C4 (arXiv 1910.10683, 2.2) drops pages with code for the same reason.
    """
    query, positive = row.pair.query, row.pair.positive
    if any("\ufffd" in text or _MOJIBAKE.search(text) for text in (query, positive)):
        return "broken_text"
    # An entity or two ("&gt; 90 %") spoil no passage.
    if _ENTITY.search(query) or len(_ENTITY.findall(positive)) > MAX_ENTITIES:
        return "markup"
    if _TAG.search(query) or _TAG.search(positive):
        return "markup"
    return "markup" if _URL.search(query) and not weight(_URL.sub("", query)) else None

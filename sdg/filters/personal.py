"""Personal data: e-mail addresses, and numbers of phones, cards, accounts and identity papers."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import lru_cache, partial
from typing import Literal

import langcodes
import phonenumbers
import pyarrow as pa
import regex
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.in_ import aadhaar, pan
from stdnum.us import ssn
from stdnum.za import idnr

from sdg.filters.base import Candidate, FilterConfig, Sides, reasons, sides_of
from sdg.filters.texts import Text, look_at
from sdg.languages import language
from sdg.patterns import Rough

_EMAIL = regex.compile(r"[\w.+-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.\p{L}{2,}")
_PHONE = regex.compile(
    r"(?<![\p{L}\p{N}.])[+(]?\p{Nd}(?:[\s().-]{0,2}\p{Nd}){6,14}(?![\p{L}\p{N}])"
)
_CARD = regex.compile(r"(?<![\p{L}\p{N}])[3-6]\d(?:[ -]?\d){11,17}(?![\p{L}\p{N}])")
# Numbers with a check digit of their own, in the form they are written in: a bare run of digits may
# be anything.
_PAPERS: tuple[tuple[regex.Pattern[str], Callable[[str], bool]], ...] = tuple(
    (regex.compile(rf"(?<![\p{{L}}\p{{N}}-]){pattern}(?![\p{{L}}\p{{N}}-])"), is_valid)
    for pattern, is_valid in (
        (r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?", iban.is_valid),
        (r"\d{3}\.\d{3}\.\d{3}-\d{2}", cpf.is_valid),
        (r"\d{17}[\dXx]", ric.is_valid),
        (r"\d{8}-?[A-Z]", dni.is_valid),
        (r"[XYZ]-?\d{7}-?[A-Z]", nie.is_valid),
        (r"[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}", nir.is_valid),
        (r"\d{4}[ -]\d{4}[ -]\d{4}", aadhaar.is_valid),
        (r"[A-Z]{3}[ABCFGHLJPTK][A-Z]\d{4}[A-Z]", pan.is_valid),
        (r"\d{3}-\d{2}-\d{4}", ssn.is_valid),
        (r"\d{13}", idnr.is_valid),
    )
)
MIN_MAILBOX = 4  # letters of what stands before an address's @, to be looked for in the query
_JOINTS = regex.compile(r"[.+_-]+")  # where its words meet
_LATIN_END = regex.compile(r"[\p{Latin}\p{N}.+_-]+\Z")
_IN_WORD = r"[\p{Latin}\p{Cyrillic}\p{M}\p{N}]"
_WORD_STARTS, _WORD_ENDS = rf"(?<!{_IN_WORD})(?!(?<=\[)EMAIL\])", rf"(?!{_IN_WORD})"
_ANY = Rough("|".join(["@", *(one.pattern for one in (_PHONE, _CARD, *dict(_PAPERS)))]))


class PersonalConfig(FilterConfig):
    """What is done with a pair that has personal data."""

    action: Literal["drop", "mask"] = "drop"  # mask: [EMAIL], [PHONE], [NUMBER] take its place


@reasons("personal_data", config=PersonalConfig)
def personal(row: Candidate, config: PersonalConfig) -> str | None:
    """An e-mail address, or a number that is somebody's by its form and check digits.

    A query may also be cut out of an address of its document's, without the @. With `mask`, the
    filter stage has put marks in their places before any filter is asked.
    """
    sides = [(row.query, row.pair.query_lang)]
    sides += [(text, row.pair.positive_lang) for text in (row.positive, *row.negatives)]
    if any(is_personal(text, lang) for text, lang in sides):
        return "personal_data"
    query = row.pair.query
    return "personal_data" if _without_mailboxes(query, [row.pair.document]) != query else None


def is_personal(text: Text, lang: str) -> bool:
    """Whether a text has personal data."""
    return text.may_have(_ANY) and any(_spans(text.text, lang))


def masked(table: pa.Table) -> tuple[pa.Table, int]:
    """A table of pairs with [EMAIL], [PHONE] or [NUMBER] in the place of what is personal, and how
    many of them have such a mark now."""
    given = sides_of(table)
    texts = look_at(
        text for row in given for text in (row.query, row.positive, row.document, *row.negatives)
    )
    rows = [_masked(row, texts) for row in given]
    for name in ("query", "positive", "document", "negatives"):
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        values = pa.array([getattr(row, name) for row in rows], field.type)
        table = table.set_column(place, field, values)
    return table, sum(a != b for a, b in zip(given, rows, strict=True))


def _masked(row: Sides, texts: Mapping[str, Text]) -> Sides:
    lang = row.positive_lang
    query = _mask(texts[row.query], row.query_lang)
    return row._replace(
        query=_without_mailboxes(query, [row.document, row.positive]),
        positive=_mask(texts[row.positive], lang),
        document=_mask(texts[row.document], lang),
        negatives=[_mask(texts[text], lang) for text in row.negatives],
    )


def _mask(given: Text, lang: str) -> str:
    text = given.text
    if not given.may_have(_ANY):
        return text
    parts, end = [], 0
    for start, stop, mark in sorted(_spans(text, lang)):
        if start >= end:
            parts += [text[end:start], f"[{mark}]"]
            end = stop
    return "".join([*parts, text[end:]])


def _without_mailboxes(query: str, passages: Sequence[str]) -> str:
    """A query with [EMAIL] in the place of what stands before the @ of an address in a passage, as
    a keyphrase or a crop may have it. Not where a passage says those words outside of addresses
    too: then they are a name or a word that it is about.
    """
    having = [text for text in passages if "@" in text]
    mailboxes = _mailboxes(having) if having else []
    beside = [_EMAIL.sub("@", text) for text in passages] if mailboxes else []
    for mailbox in mailboxes:
        pattern = _as_words(mailbox)
        said = {found[0].casefold() for text in beside for found in pattern.finditer(text)}
        query = pattern.sub(partial(_unless, said), query)
    return query


def _unless(said: Set[str], found: regex.Match[str]) -> str:
    return found[0] if found[0].casefold() in said else "[EMAIL]"


def _mailboxes(passages: Sequence[str]) -> list[str]:
    """What stands before the @ of their addresses, long ones first: one may be a part of another.

    Where no space is written before it, it begins with its Latin letters.
    """
    found: set[str] = set()
    for text in passages:
        for address in _EMAIL.finditer(text):
            before = address[0].partition("@")[0]
            latin = _LATIN_END.search(before)
            found.add(latin[0] if latin else before)
    fit = [box for box in found if sum(map(str.isalpha, box)) >= MIN_MAILBOX]
    return sorted(fit, key=lambda box: (-len(box), box))


def _as_words(mailbox: str) -> regex.Pattern[str]:
    """Finds a mailbox's name as whole words, with spaces or what else between them, and no mark."""
    parts = [regex.escape(part) for part in _JOINTS.split(mailbox) if part]
    name = r"[\s.+_-]{1,3}".join(parts)
    return regex.compile(rf"{_WORD_STARTS}{name}{_WORD_ENDS}", regex.IGNORECASE)


def _spans(text: str, lang: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, what) of personal data, in code points."""
    for found in _EMAIL.finditer(text):
        yield *found.span(), "EMAIL"
    for found in _CARD.finditer(text):
        if luhn.is_valid(regex.sub(r"[ -]", "", found[0])):
            yield *found.span(), "NUMBER"
    for pattern, is_valid in _PAPERS:
        for found in pattern.finditer(text):
            if is_valid(found[0]):
                yield *found.span(), "NUMBER"
    for found in _PHONE.finditer(text):
        if _is_phone(found[0], _region(lang)):
            yield *found.span(), "PHONE"


def _is_phone(text: str, region: str | None) -> bool:
    """A valid number with its country's code, or as it is dialled in the language's country."""
    if not text.startswith(("+", "0", "(0", "(+")) and text[0].isascii():
        return False
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


@lru_cache(maxsize=256)
def _region(lang: str) -> str | None:
    """The country that most speakers live in, as CLDR has it."""
    return langcodes.get(language(lang).code).maximize().territory

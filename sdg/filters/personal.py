"""Personal data: e-mail addresses, and numbers of phones, cards, accounts and identity papers."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
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
_ANY = Rough("|".join(["@", *(one.pattern for one in (_PHONE, _CARD, *dict(_PAPERS)))]))


class PersonalConfig(FilterConfig):
    """What is done with a pair that has personal data."""

    action: Literal["drop", "mask"] = "drop"  # mask: [EMAIL], [PHONE], [NUMBER] take its place


@reasons("personal_data", config=PersonalConfig)
def personal(row: Candidate, config: PersonalConfig) -> str | None:
    """An e-mail address, or a number that is somebody's by its form and check digits.

    With `mask`, the filter stage has put marks in their places before any filter is asked.
    """
    sides = [(row.query, row.pair.query_lang)]
    sides += [(text, row.pair.positive_lang) for text in (row.positive, *row.negatives)]
    return "personal_data" if any(is_personal(text, lang) for text, lang in sides) else None


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
    return row._replace(
        query=_mask(texts[row.query], row.query_lang),
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

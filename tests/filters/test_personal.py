"""Queries that were cut out of an address of their document's."""

import pytest

from sdg.filters import FILTERS, candidates, masked
from sdg.filters.personal import PersonalConfig
from sdg.schema import Pair, to_table
from tests.rows import bundled_seeds, make_pair

TEXT = bundled_seeds("sw")[0].text
JUMA = f"{TEXT} Andika kwa juma.hassan@example.com leo."


def masked_query(query: str, positive: str, document: str = "") -> str:
    row = make_pair(query, positive, document=document or positive)
    table, num = masked(to_table([row], Pair))
    assert num == 1
    (found,) = table["query"].to_pylist()
    return found


def reason(query: str, positive: str, document: str) -> str | None:
    table = to_table([make_pair(query, positive, document=document)], Pair)
    return FILTERS["personal"].check(candidates(table, None)[0], PersonalConfig())


CUT = [
    ("kutumia juma.hassan example.com", "kutumia [EMAIL] example.com"),
    ("Juma.Hassan ni nani", "[EMAIL] ni nani"),
    ("kwa juma hassan leo", "kwa [EMAIL] leo"),
    ("andika (juma.hassan), juma.hassan@", "andika ([EMAIL]), [EMAIL]@"),
]


@pytest.mark.parametrize(("query", "wanted"), CUT)
def test_what_was_cut_out_of_an_address_is_masked(query: str, wanted: str) -> None:
    assert masked_query(query, JUMA) == wanted
    assert masked_query(query, TEXT, JUMA) == wanted
    assert masked_query(query, JUMA, TEXT) == wanted


@pytest.mark.parametrize("query", [query for query, _ in CUT])
def test_what_was_cut_out_of_an_address_of_the_document_drops_its_pair(query: str) -> None:
    assert reason(query, TEXT, JUMA) == "personal_data"
    assert reason(query, TEXT, TEXT) is None


@pytest.mark.parametrize(
    ("query", "address"),
    [
        ("habari za juma.hassani", "juma.hassan@example.com"),  # another word
        ("mwalimu wa shule", "mwalimu.mkuu@example.com"),  # a part of it
        ("ona kwa macho", "ona@example.com"),  # too short
        ("mwaka 2019", "2019@example.com"),  # no letters
    ],
)
def test_other_words_stay(query: str, address: str) -> None:
    passage = f"{TEXT} {address}."
    assert masked_query(query, passage) == query
    assert reason(query, TEXT, passage) is None


def test_words_that_the_text_says_outside_of_its_addresses_stay() -> None:
    passage = f"Wizara ya Afya hutoa chanjo. {TEXT} Andika kwa afya@example.com."
    assert masked_query("wizara ya afya", passage) == "wizara ya afya"
    assert masked_query("wizara ya afya", passage[13:].replace("Afya", "")) == "wizara ya [EMAIL]"
    assert masked_query("wizara ya afya", "Afya ni mali.", f"{TEXT} afya@example.com") == (
        "wizara ya afya"
    )
    assert reason("wizara ya afya", TEXT, passage) is None


def test_an_address_that_no_space_stands_before() -> None:
    passage = "请联系zhang.wei@example.com或者来我们的办公室。"
    assert masked_query("联系zhang.wei", passage) == "联系[EMAIL]"


def test_a_mailbox_that_is_a_part_of_another() -> None:
    passage = f"{TEXT} juma@example.com na juma.hassan@example.com"
    assert masked_query("juma.hassan na juma", passage) == "[EMAIL] na [EMAIL]"


def test_a_mark_is_no_mailbox() -> None:
    passage = f"{TEXT} email@example.com na juma.hassan@example.com"
    query = "email ya juma.hassan au juma.hassan@example.com"
    assert masked_query(query, passage) == "[EMAIL] ya [EMAIL] au [EMAIL]"

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from sdg.patterns import Rough
from sdg.phrases import BOILERPLATE, LEAK, fold

PATTERNS = (
    r"\b(?:в|из) (?:этом|тексте)\b",
    r"\bpassage\b(?! of (?:time|the))",
    r"(?<![中英])文中说",
    r"(?<![\p{L}\p{N}.])[+(]?\p{Nd}(?:[\s().-]{0,2}\p{Nd}){6,14}(?![\p{L}\p{N}])",
    r"\d{3}\s?-\d{2}",
)
PIECES = (
    "в",
    "этом",
    "из тексте",
    "passage",
    " of time",
    "文中说",
    "英",
    "٣٤٥",
    "12",
    "-",
    "\u00a0",
)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(st.lists(st.sampled_from((*PIECES, " ", "x", "123")), max_size=12).map("".join))
def test_what_is_rough_is_found_wherever_the_pattern_is(pattern: str, text: str) -> None:
    if regex.search(pattern, text):
        assert Rough(pattern).hits([text]) == [True]


@pytest.mark.parametrize("pattern", (*PATTERNS, r"^[^\w]*passage", r"[^\w]+x\s*\d"))
@given(
    st.lists(
        st.lists(st.sampled_from((*PIECES, " ", "\n", "x", "x3")), max_size=4).map("".join),
        max_size=12,
    )
)
def test_no_text_hides_anothers_hit(pattern: str, texts: list[str]) -> None:
    """Read as one, though a pattern may run from a text into the next."""
    hits = Rough(pattern).hits(texts)
    assert len(hits) == len(texts)
    for text, hit in zip(texts, hits, strict=True):
        assert hit or not regex.search(pattern, text)


def test_texts_without_a_hit_are_not_searched_again() -> None:
    texts = ["passage", "", "pass", "age 345", "12-345", "the passage", "x"] * 20_000
    assert Rough("passage").hits(texts) == [text.endswith("passage") for text in texts]


@pytest.mark.parametrize(
    ("text", "is_leak"),
    [
        ("According to the passage, who won?", True),
        ("Kulingana na kifungu hiki, nani alishinda?", True),
        ("Согласно тексту, кто победил", True),
        ("根据文章，谁赢了", True),
        ("what is the passage of time", False),
        ("英文中说谢谢", False),
        ("在文中说了什么", True),
        ("Answer\u00a0: nani", True),
    ],
)
def test_leaks(text: str, is_leak: bool) -> None:
    assert LEAK.counts(["", fold(text)]) == [0, is_leak]
    assert LEAK.count(fold(text)) == is_leak


def test_boilerplate_is_counted() -> None:
    assert BOILERPLATE.count(fold("Política de Privacidad. Все права защищены. 版权所有")) == 3
    assert BOILERPLATE.count(fold("a policy of privacy; the rights are ours")) == 0


def test_what_an_empty_text_has_is_no_pattern_to_look_for() -> None:
    with pytest.raises(ValueError, match="found in an empty text"):
        Rough("x*")

"""What scripts texts are in, a batch at a time by tables, against patterns and plain counting."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from sdg.langid.policy import Policy, policy
from sdg.langid.scripts import letters_of, scripts_of, shares_of_new

LANGS = pytest.mark.parametrize("lang", ["am", "sw", "sr", "ja", "zh", "hi"])
# Letters of several scripts, marks, digits, and what has no script of its own.
PARTS = [
    "abc ",
    "Où, ",
    "ዓለም ",
    "Мир ",
    "水",
    "ひらがな",
    "हिन्दी ",
    "e\u0301",
    "\u0640",
    "12. ",
    "\ud800",
]
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=90)), max_size=30).map("".join)
LETTER = regex.compile(r"[[\p{L}\p{M}]--[\p{Script=Common}\p{Script=Inherited}]]", regex.V1)


def foreign_letters(known: Policy) -> regex.Pattern[str]:
    """Runs of letters in scripts that are not the language's."""
    listed = "".join(rf"\p{{Script={script}}}" for script in known.scripts)
    rest = r"\p{Script=Common}\p{Script=Inherited}"
    return regex.compile(rf"[[\p{{L}}\p{{M}}]--[{listed}{rest}]]+", regex.V1)


def plain_is_foreign(text: str, known: Policy) -> bool:
    strange = "".join(foreign_letters(known).findall(text))
    letters = len(LETTER.findall(text))
    latin = len(regex.findall(r"\p{Script=Latin}", strange))
    own = letters - len(strange)
    if not strange:
        return False
    if not known.latin and 2 * latin > len(strange):
        return letters > 10 and own / letters < 0.25
    return own / letters < 0.5


@LANGS
@given(texts=st.lists(TEXTS, max_size=5))
def test_foreign_windows_of_many_texts(lang: str, texts: list[str]) -> None:
    known = policy(lang)
    windows = [
        [text[start : start + 160] for start in range(0, max(1, len(text) - 80), 160)]
        for text in texts
    ]
    found = scripts_of(texts, [known], [0, len(texts)])
    assert found.strange_B.tolist() == [bool(foreign_letters(known).search(text)) for text in texts]
    assert found.foreign_B.tolist() == [
        any(plain_is_foreign(window, known) for window in of_text) for of_text in windows
    ]


@given(st.lists(st.tuples(st.sampled_from(["am", "sw", "zh"]), TEXTS), max_size=6))
def test_texts_of_several_languages_side_by_side(given: list[tuple[str, str]]) -> None:
    given.sort(key=lambda pair: pair[0])
    texts = [text for _, text in given]
    found = scripts_of(texts, [policy(lang) for lang, _ in given], range(len(given) + 1))
    alone = [scripts_of([text], [policy(lang)], [0, 1]) for lang, text in given]
    assert found.strange_B.tolist() == [bool(one.strange_B[0]) for one in alone]
    assert found.foreign_B.tolist() == [bool(one.foreign_B[0]) for one in alone]


@LANGS
@given(texts=st.lists(TEXTS, max_size=5))
def test_strange_letters_leave_a_space(lang: str, texts: list[str]) -> None:
    known = policy(lang)
    foreign = foreign_letters(known)
    wanted = [foreign.sub(" ", text) for text in texts if foreign.search(text)]
    assert scripts_of(texts, [known], [0, len(texts)]).without_strange() == wanted


@given(st.lists(st.lists(st.sampled_from(PARTS), max_size=9).map("".join), max_size=5))
def test_share_of_letters_that_are_new(texts: list[str]) -> None:
    old = "abcoùм水हि"
    letters = [letters_of(text) for text in texts]
    wanted = [sum(one not in old for one in some) / max(1, len(some)) for some in letters]
    assert shares_of_new(texts, old).tolist() == wanted


@given(TEXTS)
def test_letters_are_all_letters_and_marks(text: str) -> None:
    assert letters_of(text) == "".join(regex.findall(r"[\p{L}\p{M}]", text)).lower()


def test_capitals_are_known_by_their_small_letters() -> None:
    # Some are small letters of two characters, or those of another capital too.
    letters = letters_of("istanbul ili İstanbul kelvin große")
    assert shares_of_new(["İSTANBUL İLİ", "\u212aELVIN", "GRO\u1e9eE"], letters).tolist() == [
        0,
        0,
        0,
    ]
    assert shares_of_new(["Ж", "İ"], "abc").tolist() == [1, 1]

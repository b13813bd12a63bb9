"""What scripts texts are in, a batch at a time by tables, against patterns and plain counting."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from sdg.langid.policy import Policy, policy
from sdg.langid.scripts import letters_of, scripts_of

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


def plain_is_foreign(text: str, known: Policy) -> bool:
    strange = "".join(known.foreign.findall(text))
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
    found = scripts_of(texts, known)
    assert found.strange_B.tolist() == [bool(known.foreign.search(text)) for text in texts]
    assert found.foreign_B.tolist() == [
        any(plain_is_foreign(window, known) for window in of_text) for of_text in windows
    ]


@given(TEXTS)
def test_letters_are_all_letters_and_marks(text: str) -> None:
    assert letters_of(text) == "".join(regex.findall(r"[\p{L}\p{M}]", text)).lower()

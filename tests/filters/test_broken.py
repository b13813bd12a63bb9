"""Texts that are broken, and genuine ones that come near."""

import pytest

from sdg.filters import FILTERS, candidates, fit_for_rows
from sdg.schema import Pair, to_table
from tests.rows import bundled_seeds, make_pair

TEXT = bundled_seeds("sw")[0].text


def asking(query: str) -> Pair:
    return make_pair(query, TEXT)


def about(positive: str) -> Pair:
    return make_pair("maana ya neno hili", positive)


def found(name: str, row: Pair) -> str | None:
    """The reason that one filter gives."""
    (candidate,) = candidates(to_table([row], Pair), None)
    return FILTERS[name].check(candidate, FILTERS[name].config())


NAMES = "IFNβ TNFα IFNγ NFκB PPARγ IκBα TGFβ1 αSMA TCRαβ FcγRIIb RORγt pNFκB CaMKIIα وIFNα"


@pytest.mark.parametrize("name", NAMES.split())
def test_names_of_science_have_greek_letters(name):
    assert found("mixed_script", asking(f"maana ya {name}")) is None
    assert found("mixed_script", about(f"{TEXT} {name}.")) is None
    assert fit_for_rows([f"{TEXT} {name}."], ["sw"]) == [True]


LOOK_ALIKE = (
    "pαris Pαris mαlαria cοvid wаter",  # a Greek or Cyrillic letter among small Latin ones
    "MΟSCOW COVΙD PΑΡA",  # Greek capitals
    "COVοD",  # omicron
    "IFNа COVIDв IFNγа",  # Cyrillic
    "бoльшим cредние ελλάδa Aθήνα стандартαх",  # Latin and Greek in other words
    "TNFαβγ",  # more than a name has
)


@pytest.mark.parametrize("word", " ".join(LOOK_ALIKE).split())
def test_look_alike_letters_are_mixed(word):
    assert found("mixed_script", asking(f"maana ya {word}")) == "mixed_script"
    assert found("mixed_script", about(f"{TEXT} {word}.")) == "mixed_script"


@pytest.mark.parametrize(
    "markdown",
    [
        "| a | b | |---|---| | 1 | 2 |",
        "| a | b | | --- | --- | | 1 | 2 |",
        "| a | b | |:--|--:| | 1 | 2 |",
        "| a | b | | :---: | ---: | | 1 | 2 |",
        "| a | |---| | 1 |",
        "a | b --- | --- 1 | 2",
        "a | b :-- | --: 1 | 2",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "| a | |---|",
        "## Maji safi",
        "#### 1. Maji",
    ],
)
def test_markdown_is_found_in_a_positive(markdown):
    for positive in (f"{markdown} {TEXT}", f"{TEXT} {markdown}"):
        assert found("markup", about(positive)) == "markup"
        assert fit_for_rows([positive], ["sw"]) == [False]


def test_a_title_in_markdown_is_found_where_a_positive_begins():
    assert found("markup", about(f"# Maji safi {TEXT}")) == "markup"


@pytest.mark.parametrize(
    "text",
    [
        "p-adic | - | p",
        "|−|p na |x - y|",
        "P(A | B) -- au P(B | A)",
        "maji | chumvi | sukari",
        "OS|2 --- na Windows",
        "toleo # 1860 na # 2",
        "#MajiSafi ##maji C# F# #1",
    ],
)
def test_pipes_and_hashes_are_no_markdown(text):
    for positive in (f"{text} {TEXT}", f"{TEXT} {text}"):
        assert found("markup", about(positive)) is None

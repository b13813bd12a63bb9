"""Language codes: what is known of each, and what a mistyped one is answered with."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from language_data.population_data import LANGUAGE_SPEAKING_POPULATION

from sdg.errors import UserError
from sdg.languages import language

SPOKEN = sorted(c for c in LANGUAGE_SPEAKING_POPULATION if "_" not in c and "-" not in c)


@pytest.mark.parametrize(
    ("code", "standard", "name", "autonym", "scripts", "direction"),
    [
        ("sw", "sw", "Swahili", "Kiswahili", ("Latn",), "ltr"),
        ("ha", "ha", "Hausa", "Hausa", ("Latn", "Arab"), "ltr"),
        ("am", "am", "Amharic", "አማርኛ", ("Ethi",), "ltr"),
        ("ar", "ar", "Arabic", "العربية", ("Arab",), "rtl"),
        ("he", "he", "Hebrew", "עברית", ("Hebr",), "rtl"),
        ("zh", "zh", "Chinese", "中文", ("Hani", "Bopo"), "ltr"),
        ("ja", "ja", "Japanese", "日本語", ("Hani", "Hira", "Kana"), "ltr"),
        ("ko", "ko", "Korean", "한국어", ("Hang", "Hani"), "ltr"),
        ("no", "no", "Norwegian", "norsk", ("Latn",), "ltr"),
        ("ff-Adlm", "ff-Adlm", "Fula (Adlam)", "𞤆𞤵𞤤𞤢𞤪 (𞤀𞤁𞤂𞤢𞤃)", ("Adlm",), "rtl"),
        ("pa-Arab", "pa-Arab", "Punjabi (Arabic)", "پنجابی (عربی)", ("Arab",), "rtl"),
    ],
)
def test_what_is_known(code, standard, name, autonym, scripts, direction):
    found = language(code)
    assert (found.code, found.name, found.autonym) == (standard, name, autonym)
    assert (found.scripts, found.direction) == (scripts, direction)


@pytest.mark.parametrize(
    ("code", "standard"),
    [
        ("SW", "sw"),
        (" sw\n", "sw"),
        ("swa", "sw"),
        ("hau", "ha"),
        ("iw", "he"),
        ("tl", "fil"),
        ("ZH_CN", "zh-CN"),
        ("pt_br", "pt-BR"),
        ("sr-latn", "sr-Latn"),
    ],
)
def test_one_standard_code(code, standard):
    assert language(code).code == standard
    assert language(standard) == language(code)


def test_base_is_without_script_and_region():
    assert language("zh-Hant-TW").base == "zh"
    assert language("sw-KE").base == "sw"


def test_a_script_in_the_code_is_the_only_one():
    assert language("sr").scripts == ("Cyrl", "Latn")
    assert language("sr-Latn").scripts == ("Latn",)


@pytest.mark.parametrize(("code", "script"), [("ur-Aran", "Arab"), ("de-Latf", "Latn")])
def test_a_style_counts_as_its_script(code, script):
    assert language(code).scripts == (script,)


@pytest.mark.parametrize("code", ["sw-Zxxx", "sw-Zyyy", "en-Zsym"])
def test_no_script_is_refused(code):
    with pytest.raises(UserError, match="script"):
        language(code)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("swahili", r"LANG=sw \(Swahili\)"),
        ("Kiswahili", r"LANG=sw \(Swahili\)"),
        ("français", r"LANG=fr \(French\)"),
        ("日本語", r"LANG=ja \(Japanese\)"),
        ("Swahilli", r"near ones: sw \(Swahili\)"),
        ("xx", r"near ones: .*xh \(Xhosa\)"),
        ("", "BCP 47"),
        ("   ", "BCP 47"),
        ("en_US.UTF-8", "unknown language 'en_US.UTF-8'"),
        ("C", "unknown language 'C'"),
        ("und", "unknown language"),
        ("mul", "unknown language"),
        ("qaa", "unknown language"),
        ("x-mine", "unknown language"),
        ("sw ha", "unknown language"),
    ],
)
def test_unknown_codes_name_near_ones(code, message):
    with pytest.raises(UserError, match=message):
        language(code)


@given(st.text(max_size=12))
def test_any_text_is_a_language_or_a_user_error(code):
    try:
        found = language(code)
    except UserError:
        return
    assert all([found.name, found.autonym, found.scripts])


def test_every_spoken_language_has_a_name_and_letters():
    for code in SPOKEN:
        found = language(code)
        assert all([found.name, found.autonym]), code
        for script in found.scripts:
            assert regex.compile(rf"\p{{Script={script}}}"), code

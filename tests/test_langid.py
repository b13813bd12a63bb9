"""Verification of a text's language: genuine texts pass, others don't, and nobody guesses."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sdg.corpora import bundled_languages
from sdg.langid import (
    can_verify,
    check_script,
    detectors_for,
    dominant_other,
    is_verifiable,
    verify,
)
from tests.rows import bundled_seeds

BUNDLED = bundled_languages()
OTHERS = [lang for lang in BUNDLED if lang != "en"]
TEXTS = {lang: [seed.text for seed in bundled_seeds(lang)] for lang in BUNDLED}
TITLES = {lang: [seed.title for seed in bundled_seeds(lang)] for lang in BUNDLED}

ENGLISH = "The farmers bring their maize to the market before the rains begin in April."
SWAHILI = "Wakulima hupeleka mahindi yao sokoni kabla ya mvua kuanza mwezi wa Aprili."
FRENCH = "Les paysans apportent leur maïs au marché avant que les pluies ne commencent en avril."
# Letters and word shapes of Nuer, which no detector knows; no sentence.
NUER = "Cäŋɛ kɛ wec min te kɛ naath ti ŋuan kä kuïc kɛ ruac kɛl"
PIDGIN = "Di farmers dem dey carry dia corn go market before rain go start to fall for April"


@pytest.mark.parametrize("lang", BUNDLED)
def test_genuine_passages_and_titles_pass(lang):
    refused = [text for text in TEXTS[lang] if verify(text, lang)]
    assert len(refused) <= 0.02 * len(TEXTS[lang]), refused
    refused = [title for title in TITLES[lang] if verify(title, lang)]
    assert len(refused) <= 0.02 * len(TITLES[lang]), refused


@pytest.mark.parametrize("lang", OTHERS)
def test_english_is_refused(lang):
    reasons = {verify(text, lang) for text in TEXTS["en"]}
    assert reasons == {"wrong_language" if lang in ("sw", "ha", "es", "fr") else "wrong_script"}


@pytest.mark.parametrize("lang", BUNDLED)
def test_every_other_bundled_language_is_refused(lang):
    for other in BUNDLED:
        if other != lang:
            assert all(verify(text, lang) for text in TEXTS[other][:10]), other


@pytest.mark.parametrize("lang", ["sw", "fr", "hi", "am", "zh"])
def test_a_text_that_turns_english_half_way_is_refused(lang):
    sides = zip(TEXTS[lang], TEXTS["en"], strict=False)
    mixed = [own + " " + english for own, english in sides]
    assert sum(verify(text, lang) is not None for text in mixed) >= 0.95 * len(mixed)


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("zh", "iPhone 15 多少钱"),
        ("zh", "DECnet是什么"),
        ("zh", "Tesla"),
        ("zh", "COVID-19"),
        ("ar", "ما هي أعراض COVID-19؟"),
        ("am", "የ COVID-19 ምልክቶች"),
        ("th", "Facebook Marketplace ใช้ยังไง"),
        ("ru", "Что такое Engineering News-Record?"),
        ("hi", "WhatsApp कैसे चलाएं"),
        ("sw", "α na β katika hisabati"),
        ("sw", "2024"),
        ("sw", "?!"),
        ("sw", ""),
        ("sw", "Nairobi"),
        ("ja", "東京の天気"),
        ("ko", "서울 날씨 예보"),
        ("sr", "Gde se nalazi najveća biblioteka u Beogradu i kada radi?"),
        ("sr", "Где се налази највећа библиотека у Београду и када ради?"),
        ("fa-AF", "بزرگترین کتابخانه شهر کابل در کجا قرار دارد؟"),
        ("nus", NUER),
        ("pcm", PIDGIN),
        ("kri", "Di pikin dɛn de go na skul ɛn dɛn de lan buk wit dɛn ticha."),
    ],
)
def test_names_numbers_and_short_texts_pass(lang, text):
    assert verify(text, lang) is None


@pytest.mark.parametrize(
    ("lang", "text", "reason"),
    [
        ("zh", "malaria symptoms in children", "wrong_script"),
        ("zh", "что такое малярия", "wrong_script"),
        ("sw", "疟疾的症状是什么", "wrong_script"),
        ("ar", "मलेरिया के लक्षण", "wrong_script"),
        ("ru", "मलेरिया", "wrong_script"),
        ("sr-Latn", "Где се налази највећа библиотека?", "wrong_script"),
        ("sw", ENGLISH, "wrong_language"),
        ("sw", FRENCH, "wrong_language"),
        ("rw", SWAHILI, "wrong_language"),
        ("fr", SWAHILI, "wrong_language"),
        ("sw", "what are the symptoms of malaria in children", "wrong_language"),
        ("nus", ENGLISH, "wrong_language"),
        ("din", FRENCH, "wrong_language"),
        ("mr", TEXTS["hi"][0], "wrong_language"),
        ("ur", TEXTS["ar"][0], "wrong_language"),
        ("uk", TEXTS["ru"][0], "wrong_language"),
    ],
)
def test_other_languages_are_refused(lang, text, reason):
    assert verify(text, lang) == reason


@pytest.mark.parametrize(
    ("lang", "near"), [("ti", "am"), ("ms", "id"), ("hr", "sr-Latn"), ("xh", "zu"), ("nb", "no")]
)
def test_kin_share_detectors(lang, near):
    assert detectors_for(lang)[:1] == detectors_for(near)[:1] == ("py3langid",)


def test_near_kin_pass_for_each_other():
    assert verify(TEXTS["am"][0], "ti") is None
    assert verify("Perpustakaan negara dibuka setiap hari kecuali hari Minggu", "id") is None
    assert verify("Perpustakaan negara dibuka setiap hari kecuali hari Minggu", "ms") is None


def test_english_is_no_proof_against_a_creole():
    assert verify(ENGLISH, "pcm") is None
    assert verify(ENGLISH, "jam") is None
    assert verify(FRENCH, "jam") == "wrong_language"


@pytest.mark.parametrize("lang", ["ff", "fil", "ckb", "cmn", "swh", "pt-BR", "zh-Hant", "nb", "rn"])
def test_codes_that_detectors_spell_otherwise(lang):
    assert is_verifiable(lang)


def test_detectors_that_are_fit():
    assert detectors_for("fr") == ("py3langid", "langdetect")
    assert detectors_for("sw") == ("py3langid",)  # langdetect takes half of Africa for it
    assert detectors_for("nus") == ()
    assert not is_verifiable("nus")


def test_what_can_be_verified():
    assert can_verify(SWAHILI, "sw")
    assert not can_verify("Nairobi", "sw")
    assert not can_verify(NUER, "nus")
    assert can_verify("疟疾的症状", "zh")


def test_script_alone():
    assert check_script("maji shule daktari", "sw") is None
    assert check_script("water school doctor clinic", "am") == "wrong_script"


@pytest.mark.parametrize("lang", BUNDLED)
def test_a_corpus_is_not_another_language_than_its_own(lang):
    assert dominant_other(TEXTS[lang], lang) is None


@pytest.mark.parametrize("lang", [*OTHERS, "nus", "din", "zu"])
def test_an_english_corpus_is_named(lang):
    assert dominant_other(TEXTS["en"], lang) == "en"


def test_another_corpus_is_named():
    assert dominant_other(TEXTS["sw"], "ha") == "sw"
    assert dominant_other(TEXTS["th"], "nus") == "th"
    assert dominant_other(TEXTS["sw"], "nus") is None  # nobody can tell
    assert dominant_other(TEXTS["am"], "ti") is None
    assert dominant_other(TEXTS["en"], "pcm") is None
    assert dominant_other([], "sw") is None
    assert dominant_other(["1", "2"], "sw") is None


def test_a_mixed_corpus_is_none():
    assert dominant_other(TEXTS["sw"][:20] + TEXTS["en"][:20], "sw") is None


def test_threads_agree():
    texts = [text for lang in BUNDLED for text in TEXTS[lang][:5]]
    alone = [verify(text, "es") for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(verify, texts * 3, ["es"] * len(texts) * 3)) == alone * 3

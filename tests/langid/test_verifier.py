"""Verification of a text's language: genuine texts pass, others don't, and nobody guesses."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sdg.corpora import bundled_languages
from sdg.langid import Verifier, check_script, detectors_for, verify
from sdg.text import sentences, word_spans
from tests.rows import bundled_seeds, made_up

BUNDLED = bundled_languages()
OTHERS = [lang for lang in BUNDLED if lang != "en"]
TEXTS = {lang: [seed.text for seed in bundled_seeds(lang)] for lang in BUNDLED}
TITLES = {lang: [seed.title for seed in bundled_seeds(lang)] for lang in BUNDLED}
PLAIN = Verifier()
# Fitted on the even texts alone, so that the odd ones are news to it.
FITTED = Verifier.fit({lang: texts[::2] for lang, texts in TEXTS.items()})
EITHER = pytest.mark.parametrize("verifier", [PLAIN, FITTED], ids=["plain", "fitted"])

ENGLISH = "The farmers bring their maize to the market before the rains begin in April."
SWAHILI = "Wakulima hupeleka mahindi yao sokoni kabla ya mvua kuanza mwezi wa Aprili."
FRENCH = "Les paysans apportent leur maïs au marché avant que les pluies ne commencent en avril."
# Letters and word shapes of Nuer, which no detector knows; no sentence.
NUER = "Cäŋɛ kɛ wec min te kɛ naath ti ŋuan kä kuïc kɛ ruac kɛl"
PIDGIN = "Di farmers dem dey carry dia corn go market before rain go start to fall for April"


def refused(verifier: Verifier, texts: list[str], lang: str) -> list[str]:
    found = verifier.check(texts, lang)
    return [text for text, verdict in zip(texts, found, strict=True) if verdict.reason]


@EITHER
@pytest.mark.parametrize("lang", BUNDLED)
def test_genuine_passages_and_titles_pass(verifier: Verifier, lang: str) -> None:
    assert refused(verifier, [*TEXTS[lang][1::2], *TITLES[lang]], lang) == []


@EITHER
@pytest.mark.parametrize("lang", OTHERS)
def test_english_is_refused(verifier: Verifier, lang: str) -> None:
    reasons = {verdict.reason for verdict in verifier.check(TEXTS["en"], lang)}
    assert reasons == {"wrong_language" if lang in ("sw", "ha", "es", "fr") else "wrong_script"}


@EITHER
@pytest.mark.parametrize("lang", BUNDLED)
def test_every_other_bundled_language_is_refused(verifier: Verifier, lang: str) -> None:
    for other in BUNDLED:
        if other != lang:
            assert refused(verifier, TEXTS[other][:10], lang) == TEXTS[other][:10], other


def by_words(text: str) -> tuple[str, str]:
    """A text's first half and second half."""
    at = [start for start, _ in word_spans(text, "en")]
    middle = at[len(at) // 2]
    return text[:middle], text[middle:]


@EITHER
@pytest.mark.parametrize("lang", OTHERS)
def test_half_translated_texts_are_refused(verifier: Verifier, lang: str) -> None:
    """By half texts, and by turns of a sentence each."""
    for own, english in zip(TEXTS[lang][1::2], TEXTS["en"][1::2], strict=True):
        here, there = sentences(own, lang), sentences(english, "en")
        mixed = [
            f"{own} {by_words(english)[0]}",
            f"{by_words(english)[1]} {own}",
            " ".join(part for pair in zip(here, there, strict=False) for part in pair),
        ]
        assert refused(verifier, mixed, lang) == mixed


@pytest.mark.parametrize("lang", OTHERS)
def test_half_translated_titles_are_mostly_refused(lang: str) -> None:
    mixed = [
        f"{own} {english.lower()}" for own, english in zip(TITLES[lang], TITLES["en"], strict=True)
    ]
    assert len(refused(FITTED, mixed, lang)) >= 0.9 * len(mixed)


@pytest.mark.parametrize(
    ("lang", "pivot"), [("sw", "fr"), ("ha", "fr"), ("hi", "ar"), ("am", "ru")]
)
def test_other_pivots_are_found_too(lang: str, pivot: str) -> None:
    pairs = zip(TEXTS[lang][1::2], TEXTS[pivot][1::2], strict=True)
    mixed = [f"{own} {other[: len(own)]}" for own, other in pairs]
    assert refused(FITTED, mixed, lang) == mixed


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
    assert detectors_for(lang) == ("py3langid",)


def test_no_detector_knows_nuer():
    assert detectors_for("nus") == ()


@pytest.mark.parametrize(
    ("lang", "text", "verified"),
    [
        ("sw", SWAHILI, True),
        ("sw", "Nairobi", False),  # too short
        ("zh", "疟疾的症状", True),
        ("nus", NUER, False),
        ("ti", TEXTS["am"][0], False),  # its kin's detector cannot tell the two apart
        ("id", "Perpustakaan negara dibuka setiap hari kecuali hari Minggu", False),  # or Malay
        ("pcm", PIDGIN, True),
    ],
)
def test_what_can_be_verified(lang: str, text: str, verified: bool) -> None:
    assert PLAIN.check([text], lang) == [(None, verified)]


def test_a_corpus_makes_a_language_verifiable() -> None:
    texts = [made_up(text) for text in TEXTS["ha"]]
    verifier = Verifier.fit({"nus": texts[::2]})
    assert verifier.check(texts[1::2], "nus") == [(None, True)] * 20
    others = [*TEXTS["ha"], *TEXTS["sw"], *TEXTS["en"]]
    assert refused(verifier, others, "nus") == others
    assert refused(PLAIN, others, "nus") == TEXTS["en"]  # a pivot; of the rest it cannot tell


def test_a_corpus_tells_kin_apart() -> None:
    """Amharic passes for Tigrinya until there is a corpus of what Amharic is not."""
    assert not refused(PLAIN, TEXTS["am"], "ti")
    near = [text.translate(str.maketrans("አበገደ", "ኸቸኘዸ")) for text in TEXTS["am"]]
    verifier = Verifier.fit({"ti": near[::2]})
    assert not refused(verifier, near[1::2], "ti")
    assert refused(verifier, TEXTS["am"], "ti") == TEXTS["am"]


def test_a_corpus_in_one_orthography_says_nothing_of_another() -> None:
    """Hausa in a spelling that nobody knows, of ASCII letters alone or of others: the corpus has the
    first. But what py3langid knows is found in whatever letters."""
    ascii_only = [made_up(text) for text in TEXTS["ha"]]
    verifier = Verifier.fit({"nus": [text for text in ascii_only if text.isascii()]})
    other = [made_up(text).translate(str.maketrans("aeoun", "äɛɔʉŋ")) for text in TEXTS["ha"]]
    assert verifier.check(other, "nus") == [(None, False)] * len(other)
    assert refused(verifier, TEXTS["es"], "nus") == TEXTS["es"]


def with_english(first: int) -> list[str]:
    """Swahili, and nine words of English from the first on."""
    pairs = zip(TEXTS["sw"], TEXTS["en"], strict=True)
    return [f"{own} {' '.join(e.lower().split()[first : first + 9])}" for own, e in pairs]


def test_a_corpus_that_mixes_in_english_may_have_more_of_it() -> None:
    """Nine words are at home there, and none in a plain corpus; whole texts are in neither."""
    lenient, plain = Verifier.fit({"sw": with_english(3)}), Verifier.fit({"sw": TEXTS["sw"]})
    assert refused(lenient, with_english(16), "sw") == []
    assert len(refused(plain, with_english(16), "sw")) > 10
    assert refused(lenient, TEXTS["en"], "sw") == TEXTS["en"]


def test_english_in_a_corpus_does_not_hide_english() -> None:
    """Texts that are plainly in another language are not fitted on."""
    verifier = Verifier.fit({"sw": [*TEXTS["sw"][::2], *TEXTS["en"][::2]]})
    assert refused(verifier, TEXTS["en"], "sw") == TEXTS["en"]
    assert verifier.fitted["sw"].counts.sum() == FITTED.fitted["sw"].counts.sum()


def test_a_small_corpus_says_nothing() -> None:
    assert Verifier.fit({"sw": TEXTS["sw"][:3]}).fitted == {}


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    FITTED.save(tmp_path / "languages.npz")
    loaded = Verifier.load(tmp_path / "languages.npz")
    texts = [text for lang in BUNDLED for text in TITLES[lang]]
    for lang in ("sw", "fr", "nus"):
        assert loaded.check(texts, lang) == FITTED.check(texts, lang)


def test_texts_do_not_bear_on_each_other() -> None:
    texts = [*TEXTS["sw"][:10], "", "?!", *TITLES["ha"][:10], "\ud800", *TEXTS["en"][:5]]
    assert FITTED.check(texts, "sw") == [FITTED.check([text], "sw")[0] for text in texts]
    assert FITTED.check([], "sw") == []


@EITHER
def test_many_languages_at_once_are_as_each_text_alone(verifier: Verifier) -> None:
    """Also texts in foreign scripts, with letters of them, that turn, that are empty or too short,
    and languages that nobody knows."""
    beside = ["", "?!", "Nairobi", "疟疾 " * 20, "水 " + SWAHILI, f"{SWAHILI} {ENGLISH}", "\ud800"]
    texts = {
        lang: [*TEXTS.get(lang, [NUER])[:4], *TITLES.get(lang, [PIDGIN])[:4], *beside, ENGLISH]
        for lang in [*BUNDLED, "nus", "pcm", "ti", "sr", "cmn"]
    }
    alone = {lang: [verifier.check([text], lang)[0] for text in own] for lang, own in texts.items()}
    assert verifier.check_all(texts) == alone
    assert {verdict for own in alone.values() for verdict in own} == {
        ("wrong_script", True),
        ("wrong_language", True),
        (None, True),
        (None, False),
    }
    assert verifier.check_all({"sw": [], "nus": []}) == {"sw": [], "nus": []}
    assert verifier.check_all({}) == {}


def test_script_alone():
    assert check_script("maji shule daktari", "sw") is None
    assert check_script("water school doctor clinic", "am") == "wrong_script"


def test_threads_agree():
    texts = [text for lang in BUNDLED for text in TEXTS[lang][:5]]
    alone = [verify(text, "es") for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(verify, texts * 3, ["es"] * len(texts) * 3)) == alone * 3

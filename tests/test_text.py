"""Text functions over many scripts, against values worked out by other means."""

import hashlib
import sys
import unicodedata
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.text import (
    canonical,
    chunks,
    contains,
    digest,
    normalize,
    rng,
    sentence_parts,
    sentence_spans,
    sentences,
    weight,
    weights,
    word_spans,
)
from tests.rows import bundled_seeds

SENTENCES = {
    "sw": "Mto huu unapita katikati ya mji.",
    "am": "አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት።",
    "ar": "تقع المدينة على ضفة النهر الكبير.",
    "fa": "این شهر در کنار رودخانه می‌باشد؟",
    "he": "העיר שוכנת על גדת הנהר הגדול.",
    "hi": "यह नगर नदी के किनारे बसा हुआ है।",
    "bn": "শহরটি নদীর তীরে অবস্থিত।",
    "ta": "இந்த நகரம் ஆற்றின் கரையில் உள்ளது.",
    "ru": "Город стоит на берегу большой реки.",
    "el": "Η πόλη βρίσκεται στην όχθη του ποταμού.",
    "zh": "这座城市位于大河的岸边。",
    "ja": "この町は大きな川の岸にあります。",
    "ko": "이 도시는 큰 강의 강가에 있습니다.",
    "th": "เมืองนี้ตั้งอยู่ริมแม่น้ำสายใหญ่ ผู้คนทำการค้าขายทางเรือมานานแล้ว",
    "lo": "ເມືອງນີ້ຕັ້ງຢູ່ແຄມແມ່ນ້ຳ",
    "my": "ဤမြို့သည် မြစ်ကမ်းဘေးတွင် တည်ရှိသည်။",
    "km": "ទីក្រុងនេះស្ថិតនៅលើមាត់ទន្លេ។",
    "ka": "ქალაქი დიდი მდინარის ნაპირზე მდებარეობს.",
    "ff-Adlm": "𞤀𞤤𞤱𞤢𞤤 𞤬𞤵𞤤𞤬𞤵𞤤𞤣𞤫 𞤱𞤮𞤲𞤭.",
}
LANGS = sorted(SENTENCES)
# Text that tears: letters of all scripts among marks, spaces, newlines and sentence ends.
ROUGH = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("".join(SENTENCES.values()) + " \n.。။።।、,؟?"),
    ),
    max_size=300,
)


def without_space(text: str) -> str:
    return "".join(text.split())


def check_slices(text: str, parts: list[str]) -> None:
    """Parts are slices of the text, in order, and only white space lies between them."""
    start = 0
    for part in parts:
        found = text.find(part, start)
        assert found >= 0
        assert not text[start:found].strip()
        start = found + len(part)
    assert not text[start:].strip()


# Normalising


@given(ROUGH)
def test_normalize_is_idempotent(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()
    assert "  " not in once
    assert not any(unicodedata.category(char) in ("Cc", "Co", "Cs") for char in once)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("  a\t b\r\n\n c\u00a0d\u3000e ", "a b c d e"),
        ("e\u0301cole", "école"),
        ("a\0b\x07c\ufeffd\u200be\u00adf", "abcdef"),
        ("\u202babc\u202c \u2067x\u2069", "abc x"),
        ("می\u200cباشد", "می\u200cباشد"),  # Persian spelling needs the non-joiner
        ("क्\u200dष", "क्\u200dष"),
        ("a\ud800b\udfffc", "abc"),
        ("\ue000x\uffff", "x"),
        ("", ""),
        ("\u200b \n", ""),
    ],
)
def test_normalize(text: str, wanted: str) -> None:
    assert normalize(text) == wanted


@given(ROUGH)
def test_canonical_is_idempotent(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once
    assert canonical(normalize(text)) == once


def test_canonical_of_every_character() -> None:
    every = map(chr, range(sys.maxunicode + 1))
    for char in (char for char in every if unicodedata.category(char) not in ("Cn", "Co", "Cs")):
        for text in (f"a{char}b", f"a-{char}"):
            once = canonical(text)
            assert canonical(once) == once, ascii(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße!", "STRASSE"),
        ("ＡＢＣ　１２", "abc12"),
        ("ﬁne", "FINE"),
        ("Ki-swahili, ni \u201clugha\u201d.", "kiswahili ni lugha"),
        ("這裡，有水。", "這裡有水"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("می\u200cباشد", "میباشد"),
    ],
)
def test_canonical_folds(one: str, other: str) -> None:
    assert canonical(one) == canonical(other) != ""


@pytest.mark.parametrize(("one", "other"), [("कि", "की"), ("ก้า", "กา"), ("été", "ete"), ("1", "2")])
def test_canonical_keeps_apart(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_contains() -> None:
    assert contains("Mji wa \u201cMombasa\u201d, Kenya.", "mombasa KENYA")
    assert not contains("Mji wa Mombasa", "Nairobi")


# Hashes


def test_digest_is_blake2b_of_length_prefixed_parts() -> None:
    parts = ["seed", "Habari za asubuhi", "世界", ""]
    data = b"".join(len(part.encode()).to_bytes(8, "little") + part.encode() for part in parts)
    assert digest(*parts) == hashlib.blake2b(data, digest_size=16).hexdigest()
    assert (
        digest("a", "b") == "6a93c5780b9861cdd8d2761a748d9591"
    )  # must never change: ids of data already made
    assert digest(7) == digest("7")


@given(st.lists(ROUGH, max_size=4), st.lists(ROUGH, max_size=4))
def test_digest_tells_parts_apart(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_digest_takes_half_surrogates() -> None:
    assert len({digest("\ud800"), digest("\ud801"), digest("")}) == 3


def test_rng_is_seeded_by_its_purpose() -> None:
    draws = [rng(*parts).random() for parts in ((0, "a"), (0, "b"), (1, "a"), (0, "a"))]
    assert draws[0] == draws[3]
    assert len(set(draws)) == 3


# Weight


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", 0),
        ("... --- !? \n", 0),
        ("Habari za leo 24", 13),
        ("Город", 5),
        ("नमस्ते", 6),  # four letters and two marks
        ("长城", 6),
        ("长城 abc", 9),
        ("カナ", 4),
        ("한국", 4),
        ("ሰላም", 4),  # three and a half
        ("ሰላምታ", 6),
        ("\ud800", 0),
    ],
)
def test_weight(text: str, wanted: int) -> None:
    assert weight(text) == wanted


@given(ROUGH, ROUGH)
def test_weight_grows(one: str, other: str) -> None:
    assert 0 <= weight(one) <= weight(one + other)
    assert weight(one) <= 3 * len(one)


@given(st.lists(st.text(max_size=20), max_size=6))
def test_weights_of_many(texts: list[str]) -> None:
    assert weights(texts).tolist() == [weight(text) for text in texts]


# Sentences and words


@pytest.mark.parametrize("lang", [lang for lang in LANGS if lang not in ("th", "lo")])
def test_sentences_end_where_they_end(lang: str) -> None:
    space = "" if lang in ("zh", "ja") else " "
    assert sentences(space.join([SENTENCES[lang]] * 3), lang) == [SENTENCES[lang]] * 3


def test_lao_ends_sentences_with_spaces() -> None:
    assert sentences(f"{SENTENCES['lo']} {SENTENCES['lo']}", "lo") == [SENTENCES["lo"]] * 2


def test_thai_sentences_end_at_spaces() -> None:
    text = " ".join([SENTENCES["th"]] * 6)
    parts = sentences(text, "th")
    check_slices(text, parts)
    assert len(parts) > 1
    assert set(parts[-1]) <= set(SENTENCES["th"])


@pytest.mark.parametrize("lang", ["th", "lo", "zh", "sw"])
def test_sentences_are_made_of_their_parts(lang: str) -> None:
    texts = [seed.text for seed in bundled_seeds(lang)[:40]] if lang != "lo" else []
    texts += [f"{SENTENCES[lang]} 3.5 (a.b)?c {SENTENCES[lang]}"]
    for text in texts:
        ends, parts_ends = (
            set(accumulate(len("".join(piece.split())) for piece in pieces))
            for pieces in (sentences(text, lang), sentence_parts(text, lang))
        )
        assert ends <= parts_ends


@pytest.mark.parametrize("lang", LANGS)
@given(text=ROUGH)
def test_sentence_spans_cover_all(lang: str, text: str) -> None:
    spans = sentence_spans(text, lang)
    check_slices(text, [text[start:end] for start, end in spans])
    for start, end in spans:
        assert text[start:end].strip() == text[start:end] != ""


@pytest.mark.parametrize(
    ("lang", "text", "wanted"),
    [
        ("sw", "Ng'ombe wa 12, na mbuzi!", ["Ng'ombe", "wa", "12", "na", "mbuzi"]),
        ("th", "แม่น้ำสายใหญ่", ["แม่น้ำ", "สาย", "ใหญ่"]),
        ("my", "မြစ်ကမ်းဘေး", None),
        ("zh", "大河的岸边", None),
        ("km", "ទីក្រុងនេះ", None),
        ("ff-Adlm", "𞤢𞤤𞤱𞤢𞤤 𞤱𞤮𞤲𞤭.", ["𞤢𞤤𞤱𞤢𞤤", "𞤱𞤮𞤲𞤭"]),  # past the 16-bit plane
    ],
)
def test_words(lang: str, text: str, wanted: list[str] | None) -> None:
    words = [text[start:end] for start, end in word_spans(text, lang)]
    if wanted is None:
        assert len(words) > 1
        assert "".join(words) == text
    else:
        assert words == wanted


# Chunks


@pytest.mark.parametrize("lang", LANGS)
@given(text=ROUGH, max_chars=st.integers(1, 120))
def test_chunks_lose_nothing(lang: str, text: str, max_chars: int) -> None:
    parts = chunks(text, lang, max_chars)
    check_slices(text, parts)
    assert all(len(part) <= max_chars for part in parts)


@pytest.mark.parametrize("lang", LANGS)
@given(number=st.integers(1, 60), max_chars=st.integers(150, 600))
def test_chunks_end_where_sentences_end(lang: str, number: int, max_chars: int) -> None:
    space = "" if lang in ("zh", "ja") else " "
    text = space.join([SENTENCES[lang]] * number)
    parts = chunks(text, lang, max_chars)
    check_slices(text, parts)
    assert all(0 < len(part) <= max_chars for part in parts)
    ends = SENTENCES[lang][-1]
    if lang == "th":  # two clauses: a space after either may be a sentence's end
        assert all(part.endswith((ends, SENTENCES[lang].split()[0][-4:])) for part in parts)
    else:
        assert all(part.endswith(ends) for part in parts)
        assert all(part.startswith(SENTENCES[lang][:3]) for part in parts)


def test_a_short_text_is_one_chunk() -> None:
    assert chunks("Mji. Mto.", "sw", 9) == ["Mji. Mto."]
    assert chunks("", "sw", 9) == [""]


def test_chunks_are_of_near_length() -> None:
    text = " ".join([SENTENCES["sw"]] * 31)  # 1022 characters: just over the limit
    lengths = [len(part) for part in chunks(text, "sw", 1000)]
    assert len(lengths) == 2
    assert min(lengths) > 350


@pytest.mark.parametrize("lang", ["sw", "zh", "hi", "am", "fa"])
def test_a_sentence_longer_than_a_chunk(lang: str) -> None:
    mark = {"zh": "，", "am": "፣ ", "fa": "، "}.get(lang, ", ")
    text = ((SENTENCES[lang].rstrip(".。।።؟") + " 1,000" + mark) * 40).strip()
    parts = chunks(text, lang, 200)
    check_slices(text, parts)
    assert len(parts) > 1
    assert all(part.endswith("1,000" + mark.strip()) for part in parts)


def test_a_word_longer_than_a_chunk() -> None:
    parts = chunks("a" * 1050, "sw", 100)
    assert "".join(parts) == "a" * 1050
    assert max(map(len, parts)) <= 100


@pytest.mark.parametrize("lang", LANGS)
def test_half_surrogates_do_not_crash(lang: str) -> None:
    text = f"{SENTENCES[lang]} \ud83d {SENTENCES[lang]}"
    assert normalize(text) == normalize(f"{SENTENCES[lang]}  {SENTENCES[lang]}")
    assert canonical(text) == canonical(SENTENCES[lang] * 2)
    for function in (sentences, word_spans):
        assert function(normalize(text), lang)

"""Filters over rows written by hand, in several scripts; test_planted.py has those made in bulk."""

import pytest

from sdg.corpora import bundled_languages
from sdg.filters import FILTERS, Candidate, candidates, unverified
from sdg.langid import Verifier
from sdg.schema import Pair, to_table
from tests.rows import bundled_seeds, make_pair, make_provenance, some_said_again

BUNDLED = bundled_languages()
SEEDS = {lang: bundled_seeds(lang) for lang in BUNDLED}
CONFIGS = {name: found.config() for name, found in FILTERS.items()}


def pair(
    lang: str, query: str, positive: str = "", strategy: str = "written", **changes: object
) -> Pair:
    """A pair in one language, about a bundled document unless a positive is given."""
    positive = positive or SEEDS[lang][0].text
    values = {
        "query_lang": lang,
        "positive_lang": lang,
        "provenance": make_provenance(strategy=strategy),
    }
    return make_pair(query, positive, **{**values, **changes})


VERIFIER = Verifier.fit({lang: [seed.text for seed in seeds] for lang, seeds in SEEDS.items()})


def judged(row: Pair) -> Candidate:
    return candidates(to_table([row], Pair), VERIFIER)[0]


def first_reason(row: Pair) -> str | None:
    found = judged(row)
    return next((r for n, f in FILTERS.items() if (r := f.check(found, CONFIGS[n]))), None)


def sentence(lang: str) -> str:
    """A piece out of the middle of a document, long enough to count as copied."""
    text = SEEDS[lang][0].text
    return text[len(text) // 3 : len(text) // 3 + 70]


def altered(lang: str) -> str:
    """The same piece with one character of it left out."""
    return sentence(lang)[:30] + sentence(lang)[31:]


def looped(lang: str) -> str:
    """What a model that cannot stop says."""
    return " ".join([SEEDS[lang][0].text[:20]] * 6)


GOOD = [
    pair("sw", "wakulima huvuna mpunga lini katika mwaka"),
    pair("ha", "yaya ake noman gero a lokacin damina"),
    pair("am", "ቡና እንዴት ይዘጋጃል እና ይቀርባል"),
    pair("ar", "كيف يصنع الخبز التقليدي في القرى"),
    pair("hi", "गेहूँ की बुआई किस महीने में की जाती है"),
    pair("bn", "পাট কখন কাটা হয় এবং কোথায় পচানো হয়"),
    pair("zh", "茶叶是什么时候采摘的"),
    pair("ru", "сколько километров тянется великая русская река"),
    pair("th", "ข้าวปลูกเดือนไหนและเก็บเกี่ยวเมื่อไร"),
    pair("es", "cuándo se cosecha el café en las montañas"),
    pair("fr", "comment récolte-t-on le sel de mer"),
    pair("en", "how are walls built without mortar"),
]

# filter -> (row, the reason wanted)
BAD: dict[str, list[tuple[Pair, str]]] = {
    "length": [
        (pair("sw", "a"), "query_too_short"),
        (pair("zh", "？！"), "query_too_short"),
        (pair("th", "ๆ"), "query_too_short"),
        (pair("ar", "؟"), "query_too_short"),
        (pair("ru", "до"), "query_too_short"),
        (pair("am", SEEDS["am"][0].text * 3), "query_too_long"),
        (pair("zh", SEEDS["zh"][0].text * 3), "query_too_long"),
        (pair("sw", "maji safi ya kunywa", "Ndiyo, maji."), "positive_too_short"),
        (pair("zh", "长江有多长", "很长。"), "positive_too_short"),
        (pair("hi", "गेहूँ कब बोते हैं", SEEDS["hi"][0].text * 60), "positive_too_long"),
    ],
    "markup": [
        (pair("sw", "maji saf\ufffd ya kunywa"), "broken_text"),
        (pair("ar", "كيف يصنع الخ\ufffdبز"), "broken_text"),
        (pair("fr", "oÃ¹ se trouve la rÃ©gion"), "broken_text"),
        (pair("ru", "Ð³Ð´Ðµ Ð½Ð°Ñ…Ð¾Ð´Ð¸Ñ‚ся"), "broken_text"),
        (pair("en", "what didnâ€™t they build"), "broken_text"),
        (pair("hi", "<b>गेहूँ</b> कब बोते हैं"), "markup"),
        (pair("am", "ቡና እንዴት&nbsp;ይዘጋጃል"), "markup"),
        (pair("zh", "茶叶", '<div class="x">' + SEEDS["zh"][0].text + "</div>"), "markup"),
        (pair("th", "ข้าวปลูก", SEEDS["th"][0].text + " &amp; &lt; &gt; &#39;"), "markup"),
        (pair("sw", "https://example.org/maji?a=1"), "markup"),
        (pair("zh", "www.example.cn"), "markup"),
    ],
    "refusal": [
        (pair("en", "I cannot provide a query for this document."), "refusal"),
        (pair("en", "I\u2019m sorry, but I can\u2019t help with that."), "refusal"),
        (pair("en", "As an AI language model, I do not have opinions."), "refusal"),
        (pair("sw", "Samahani, siwezi kusaidia na ombi hili."), "refusal"),
        (pair("sw", "Kama modeli ya lugha, sina uwezo huo."), "refusal"),
        (pair("am", "ይቅርታ፣ ይህን ጥያቄ መመለስ አልችልም።"), "refusal"),
        (pair("ar", "عذرًا، لا أستطيع مساعدتك في هذا الطلب"), "refusal"),
        (pair("hi", "क्षमा करें, मैं इसमें मदद नहीं कर सकता"), "refusal"),
        (pair("bn", "দুঃখিত, আমি এটি করতে পারব না"), "refusal"),
        (pair("zh", "很抱歉，我无法完成这个请求"), "refusal"),
        (pair("zh", "作为一个人工智能语言模型，我没有看法"), "refusal"),
        (pair("th", "ขออภัย ฉันไม่สามารถช่วยเรื่องนี้ได้"), "refusal"),
        (pair("ru", "Извините, но я не могу выполнить эту просьбу"), "refusal"),
        (pair("es", "Lo siento, pero no puedo ayudar con eso"), "refusal"),
        (pair("fr", "Je suis désolé, mais je ne peux pas vous aider"), "refusal"),
    ],
    "prompt_leak": [
        (pair("en", "What does the passage say about stone walls?"), "prompt_leak"),
        (pair("en", "According to the text, how are walls built?"), "prompt_leak"),
        (pair("en", "Here is a search query in English: walls without mortar"), "prompt_leak"),
        (pair("en", 'Answer with a JSON object {"query": "walls"}'), "prompt_leak"),
        (pair("en", "how are {{ language }} walls built"), "prompt_leak"),
        (pair("sw", "<passage> mpunga huvunwa lini"), "prompt_leak"),
        (pair("sw", "Query: mpunga huvunwa lini"), "prompt_leak"),
        (pair("sw", '"Query: mpunga huvunwa lini"'), "prompt_leak"),
        (pair("sw", "Kulingana na kifungu hiki, mpunga huvunwa lini?"), "prompt_leak"),
        (pair("am", "በጽሑፉ መሠረት ቡና እንዴት ይዘጋጃል"), "prompt_leak"),
        (pair("ar", "وفقًا للنص، كيف يصنع الخبز؟"), "prompt_leak"),
        (pair("hi", "अनुच्छेद के अनुसार गेहूँ कब बोते हैं?"), "prompt_leak"),
        (pair("bn", "অনুচ্ছেদ অনুসারে পাট কখন কাটা হয়?"), "prompt_leak"),
        (pair("zh", "根据文章，茶叶什么时候采摘？"), "prompt_leak"),
        (pair("zh", "这段文字讲了什么茶叶？"), "prompt_leak"),
        (pair("th", "ตามบทความ ข้าวปลูกเดือนไหน"), "prompt_leak"),
        (pair("ru", "Согласно тексту, откуда течёт река?"), "prompt_leak"),
        (pair("es", "Según el texto, ¿dónde nace el río?"), "prompt_leak"),
        (pair("fr", "D'après le texte, comment récolte-t-on le sel ?"), "prompt_leak"),
    ],
    "copied": [
        *((pair(lang, sentence(lang)), "copied") for lang in BUNDLED),
        *((pair(lang, sentence(lang).upper() + " ?!"), "copied") for lang in ("sw", "ru", "fr")),
        *((pair(lang, altered(lang)), "copied") for lang in ("sw", "hi", "am", "ru", "th")),
        *(
            (pair(lang, sentence(lang), strategy="inverse_cloze"), "query_in_positive")
            for lang in ("sw", "am", "zh", "th", "ar")
        ),
    ],
    "same": [
        (pair(lang, text.upper() + "!", text, strategy="title"), "query_equals_positive")
        for lang, text in (
            ("sw", "Mji mkuu wa nchi ya Kenya ni Nairobi."),
            ("ru", "Столица Кении называется Найроби."),
            ("zh", "肯尼亚的首都和最大的城市是内罗毕。"),
            ("ar", "عاصمة كينيا وأكبر مدنها هي نيروبي."),
            ("am", "የኬንያ ዋና ከተማ ናይሮቢ ይባላል።"),
        )
    ],
    "repetition": [
        *((pair(lang, looped(lang)), "repetition") for lang in BUNDLED),
        *(
            (pair(lang, SEEDS[lang][0].title, SEEDS[lang][1].text * 2), "repetition")
            for lang in BUNDLED
        ),
        *(
            (
                pair(lang, SEEDS[lang][0].title, some_said_again(SEEDS[lang][2].text, lang)),
                "repetition",
            )
            for lang in BUNDLED
        ),
        (pair("sw", "habari habari habari habari habari"), "repetition"),
        (pair("zh", "疟疾疟疾疟疾疟疾疟疾疟疾疟疾"), "repetition"),
        (pair("en", "no man no cry no sun no moon no rain no joy no"), "repetition"),
    ],
    "language": [
        *((pair(lang, SEEDS["ru"][0].title), "query_wrong_script") for lang in ("sw", "zh", "am")),
        (pair("hi", "when do farmers sow wheat in the north"), "query_wrong_script"),
        (pair("th", "गेहूँ कब बोते हैं", strategy="keyphrase"), "query_wrong_script"),
        (pair("sw", "when do farmers harvest their rice in the year"), "query_wrong_language"),
        (pair("es", "wakulima huvuna mpunga lini katika mwaka huu"), "query_wrong_language"),
        (pair("fr", "cuándo se cosecha el café en las montañas altas"), "query_wrong_language"),
        (pair("ru", "де знаходиться найбільша бібліотека міста"), "query_wrong_language"),
        *(
            (pair(lang, SEEDS[lang][0].title, SEEDS["en"][0].text), "positive_wrong_script")
            for lang in ("am", "ar", "hi", "bn", "zh", "ru", "th")
        ),
        *(
            (pair(lang, SEEDS[lang][0].title, SEEDS["en"][0].text), "positive_wrong_language")
            for lang in ("sw", "ha", "es", "fr")
        ),
    ],
}

PLANTED = [(name, row, reason) for name, rows in BAD.items() for row, reason in rows]


def test_reasons_tell_filters_apart():
    reasons = [reason for found in FILTERS.values() for reason in found.reasons]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize(
    ("name", "row", "reason"), PLANTED, ids=[f"{n}-{p.query_lang}" for n, p, _ in PLANTED]
)
def test_planted_rows_are_found(name, row, reason):
    assert FILTERS[name].check(judged(row), CONFIGS[name]) == reason


@pytest.mark.parametrize("row", GOOD, ids=lambda row: row.query_lang)
def test_good_rows_pass(row):
    assert first_reason(row) is None


# Close to what a filter looks for, and yet what people ask.
@pytest.mark.parametrize(
    ("lang", "query"),
    [
        ("en", "I can't sleep what to do"),
        ("en", "I cannot log in to my email account"),
        ("en", "unfortunately named villages in Britain"),
        ("en", "sorry for your loss message"),
        ("en", "what is the passage of time"),
        ("en", "Northwest passage map"),
        ("en", "how to parse a JSON file in python"),
        ("en", "write a cover letter for a nurse"),
        ("en", "how to insert a picture in the document"),
        ("en", "how do large language models work"),
        ("en", "tom & jerry"),
        ("en", "a < b and c > d in algebra"),
        ("en", "knock knock who is there"),
        ("sw", "siwezi kulala usiku nifanye nini"),
        ("sw", "kulingana na kifungu cha 5 cha katiba"),
        ("sw", "pole pole ndio mwendo maana yake"),
        ("sw", "habari za habari"),
        ("es", "según el artículo 14 de la constitución"),
        ("es", "no puedo dormir por la noche"),
        ("es", "precio del pasaje de autobús a Lima"),
        ("fr", "je ne peux pas dormir que faire"),
        ("fr", "passage à niveau fermé que faire"),
        ("fr", "comment insérer une image dans un texte"),
        ("ru", "я не могу уснуть что делать"),
        ("ru", "в тексте песни катюша"),
        ("zh", "我不能睡觉怎么办"),
        ("zh", "中文中有多少个声调"),
        ("zh", "根据文化传统过春节"),
        ("zh", "抱歉用英语怎么说"),
        ("hi", "मुझे नींद नहीं आती क्या करूँ"),
        ("ar", "لا أستطيع النوم ماذا أفعل"),
        ("ar", "كيف أكتب نصا قصيرا"),
        ("th", "นอนไม่หลับทำอย่างไรดี"),
        ("th", "เขียนบทความภาษาอังกฤษอย่างไร"),
        ("bn", "রাতে ঘুম আসে না কী করব"),
        ("am", "ሌሊት እንቅልፍ አይወስደኝም ምን ላድርግ"),
    ],
)
def test_genuine_queries_pass(lang, query):
    assert first_reason(pair(lang, query)) is None


@pytest.mark.parametrize("lang", BUNDLED)
@pytest.mark.parametrize("strategy", ["title", "written"])
def test_bundled_titles_and_texts_pass(lang, strategy):
    rows = [pair(lang, seed.title, seed.text, strategy) for seed in SEEDS[lang]]
    dropped = [(row.query, r) for row in rows if (r := first_reason(row))]
    assert len(dropped) <= 0.02 * len(rows), dropped


@pytest.mark.parametrize("lang", [lang for lang in BUNDLED if lang != "en"])
def test_english_rows_are_dropped(lang):
    for seed in SEEDS["en"]:
        row = pair(lang, seed.title, seed.text, strategy="title")
        reason = first_reason(row)
        assert "wrong_" in (reason or ""), seed.title


@pytest.mark.parametrize("strategy", ["title", "random_crop", "keyphrase"])
def test_strategies_that_take_from_the_document_may(strategy):
    row = pair("sw", sentence("sw"), strategy=strategy)
    assert FILTERS["copied"].check(judged(row), CONFIGS["copied"]) is None


def test_a_name_in_the_document_is_no_copy():
    row = pair("sw", "Ziwa Viktoria", "Ziwa Viktoria ni ziwa kubwa kuliko yote barani Afrika.")
    assert FILTERS["copied"].check(judged(row), CONFIGS["copied"]) is None


def test_a_query_in_another_language_than_its_document_passes():
    row = pair("am", "how is coffee prepared and served", query_lang="en")
    assert first_reason(row) is None


def test_a_short_text_repeats_itself_by_shorter_pieces():
    """Nine letters and two others, ten times: of 5-grams .41 stand there before, of 8-grams .17."""
    ends = ("ab", "cd", "ef", "gh", "ij", "kl", "mo", "pq", "rt", "vw")
    row = pair("sw", " ".join(f"karibunis{end}" for end in ends))
    longer = row.model_copy(update={"query": row.query + " " * 40})
    check, config = FILTERS["repetition"].check, CONFIGS["repetition"]
    assert check(judged(row), config) == "repetition"
    assert check(judged(longer), config) is None


def test_without_a_verifier_no_language_is_known():
    (row,) = candidates(to_table([pair("sw", "what is said in English")], Pair), None)
    assert unverified(row) == ["query", "positive"]
    assert FILTERS["language"].check(row, CONFIGS["language"]) is None


def test_parameters_are_used():
    row = pair("sw", "mpunga huvunwa lini")
    strict = FILTERS["length"].config(min_query=40)
    assert FILTERS["length"].check(judged(row), strict) == "query_too_short"


def test_unverified():
    assert unverified(judged(pair("sw", "wakulima huvuna mpunga lini katika mwaka"))) == []
    assert unverified(judged(pair("sw", "mpunga"))) == ["query"]
    row = pair("sw", "wakulima huvuna mpunga lini", query_lang="nus", positive_lang="nus")
    assert unverified(judged(row)) == ["query", "positive"]


@pytest.mark.parametrize(
    "text",
    [
        "asha.juma+shule@mfano.co.tz",
        "+254 712 345678",
        "4111 1111 1111 1111",  # the card networks' own test number
        "GB82 WEST 1234 5698 7654 32",  # the registry's example
    ],
)
def test_personal_data_is_found_in_any_side(text):
    check = FILTERS["personal"].check
    config = CONFIGS["personal"]
    assert check(judged(pair("sw", f"wasiliana na {text} leo")), config) == "personal_data"
    row = pair("sw", "nani wa kupigia", f"{SEEDS['sw'][0].text} {text}.")
    assert check(judged(row), config) == "personal_data"
    assert check(judged(pair("sw", "nani", negatives=[text])), config) == "personal_data"


@pytest.mark.parametrize(
    "text",
    [
        "mwaka 2019 2020 2021",
        "wakazi 12,345,678 mwaka 2020",
        "4111 1111 1111 1112",  # fails its check digit
        "ISBN 978-3-16-148410-0",
        "kutoka 1990-2005 hadi 2010",
        "@shule",
        "pi ni 3.14159265358979",
    ],
)
def test_other_numbers_are_nobodys(text):
    row = pair("sw", f"maana ya {text}")
    assert FILTERS["personal"].check(judged(row), CONFIGS["personal"]) is None


@pytest.mark.parametrize(
    "text", ["20 μg kwa siku", "α-synuclein", "COVID-19 और SARS", "日本語のカタカナ", "АВС-система"]
)
def test_scripts_that_stand_side_by_side_are_not_mixed(text):
    row = pair("sw", f"maana ya {text}")
    assert FILTERS["mixed_script"].check(judged(row), CONFIGS["mixed_script"]) is None


def test_a_text_that_names_all_labels_leaks_none():
    row = pair("sw", "habari za michezo au siasa leo", "michezo", task="classification")
    both = row.model_copy(update={"negatives": ["siasa", "uchumi"]})
    assert FILTERS["label"].check(judged(row), CONFIGS["label"]) == "label_leak"
    assert FILTERS["label"].check(judged(both), CONFIGS["label"]) is None

"""A thousand broken rows, of every kind in five languages, and a thousand good ones.

Rows are made of the bundled corpora: a document with a piece of another one's title as its query,
and then broken in one way. Each must be caught with the right reason by all filters together.
"""

from collections.abc import Callable
from itertools import cycle, islice

from sdg.filters import FILTERS, candidates
from sdg.langid import Verifier
from sdg.schema import Pair, to_table
from sdg.text import rng, sentences
from tests.rows import bundled_seeds, make_pair, make_provenance, some_said_again

LANGS = ("sw", "am", "ar", "zh", "hi")
NUM = 1_000
SEEDS = {lang: bundled_seeds(lang) for lang in LANGS}
ENGLISH = bundled_seeds("en")
VERIFIER = Verifier.fit({lang: [s.text for s in seeds] for lang, seeds in SEEDS.items()})
CONFIGS = {name: found.config() for name, found in FILTERS.items()}
REFUSALS = {
    "sw": "Samahani, siwezi kusaidia na ombi hili.",
    "am": "ይቅርታ፣ ይህን ጥያቄ መመለስ አልችልም።",
    "ar": "عذرًا، لا أستطيع مساعدتك في هذا الطلب.",
    "zh": "很抱歉，我无法完成这个请求。",
    "hi": "क्षमा करें, मैं इसमें मदद नहीं कर सकता।",
}
LEAKS = {
    "sw": "Kulingana na kifungu hiki,",
    "am": "በጽሑፉ መሠረት",
    "ar": "وفقًا للنص،",
    "zh": "根据文章，",
    "hi": "अनुच्छेद के अनुसार",
}
BOILERPLATE = {
    "sw": "Haki zote zimehifadhiwa. Bofya hapa.",
    "am": "መብቱ በሕግ የተጠበቀ ነው። እዚህ ይጫኑ።",
    "ar": "جميع الحقوق محفوظة. اضغط هنا.",
    "zh": "版权所有。点击这里。",
    "hi": "सर्वाधिकार सुरक्षित। यहाँ क्लिक करें।",
}
PERSONAL = (
    "asha.{n}@example.org",
    "+254 712 345 {n:03d}",
    "4111 1111 1111 1111",
    "GB82 WEST 1234 5698 7654 32",
)


def good(lang: str, number: int, **changes: object) -> Pair:
    """A genuine pair: a title, and another part of the document each time."""
    seed = SEEDS[lang][number % len(SEEDS[lang])]
    parts = sentences(seed.text, lang)
    skipped = number // len(SEEDS[lang])
    document = " ".join(parts[skipped % 3 :])
    values: dict[str, object] = {"query_lang": lang, "positive_lang": lang, "document": seed.text}
    values["provenance"] = make_provenance(strategy="title" if number % 2 else "written")
    values["negatives"] = [SEEDS[lang][(number + 7) % len(SEEDS[lang])].text]
    return make_pair(seed.title, document, **{**values, **changes})


def piece(pair: Pair) -> str:
    """A stretch of a document's middle, long enough to count as copied."""
    start = len(pair.document) // 3
    return pair.document[start : start + 80]


def change(pair: Pair, **changes: object) -> Pair:
    return pair.model_copy(update=changes)


def written(pair: Pair) -> Pair:
    return change(pair, provenance=make_provenance(strategy="written"))


def half_english(text: str, lang: str, number: int) -> str:
    parts = sentences(text, lang)
    english = sentences(ENGLISH[number % len(ENGLISH)].text, "en")
    return " ".join([*parts[: len(parts) // 2], *english[len(english) // 2 :]])


def leaking(pair: Pair) -> Pair:
    """A text to be classified that ends with its label; titles alone are too short for one."""
    label = f"{pair.query} {pair.positive[:20]}"
    return change(
        pair,
        task="classification",
        query=f"{pair.positive} {label}",
        positive=label,
        document=label,
        negatives=[],
    )


Break = Callable[[Pair, str, int], Pair]
# reason -> ways of breaking a good row of a language, by its number
BREAKS: dict[str, list[Break]] = {
    "query_too_short": [
        lambda p, lang, n: change(p, query="？" if n % 2 or lang == "zh" else p.query[:1])
    ],
    "query_too_long": [lambda p, lang, n: change(written(p), query=(p.query + " ") * 120)],
    "positive_too_short": [lambda p, lang, n: change(p, positive=p.positive[:4])],
    "positive_too_long": [lambda p, lang, n: change(p, positive=(p.positive + " ") * 200)],
    "broken_text": [
        lambda p, lang, n: change(p, query=f"{p.query[:5]}\ufffd{p.query[5:]}"),
        lambda p, lang, n: change(p, positive=p.positive + "\x07\x1b"),
        lambda p, lang, n: change(
            p, positive=p.positive + " " + "été où".encode().decode("latin-1") + " rÃ©gion"
        ),
        lambda p, lang, n: change(p, query=p.query + "\u0301\u0302\u0303\u0304\u0305\u0306"),
    ],
    "markup": [
        lambda p, lang, n: change(p, query=f"<b>{p.query}</b>"),
        lambda p, lang, n: change(p, positive=f'<div class="x{n}">{p.positive}</div>'),
        lambda p, lang, n: change(p, query=f"**{p.query}**"),
        lambda p, lang, n: change(p, query=f"https://example.org/{n}"),
    ],
    "mixed_script": [
        lambda p, lang, n: change(p, positive=p.positive + " Mоsсоw"),  # Cyrillic о and с
        lambda p, lang, n: change(p, query=p.query + " привет γειά Hallo สวัสดี"),
    ],
    "boilerplate": [
        lambda p, lang, n: change(p, positive=p.positive[:150] + " " + BOILERPLATE[lang]),
        lambda p, lang, n: change(
            p, positive=p.positive[:150] + " Accept cookies. All rights reserved."
        ),
    ],
    "personal_data": [
        lambda p, lang, n: change(
            p, positive=f"{p.positive} {PERSONAL[n % 4].format(n=n % 1000)}."
        ),
        lambda p, lang, n: change(p, query=f"{p.query} {PERSONAL[n % 2].format(n=n % 1000)}"),
    ],
    "refusal": [
        lambda p, lang, n: change(written(p), query=f"{REFUSALS[lang]} {p.query}"),
        lambda p, lang, n: change(p, positive=f"{REFUSALS[lang]} {p.positive}"),
        lambda p, lang, n: change(p, negatives=[*p.negatives, REFUSALS[lang]]),
    ],
    "prompt_leak": [
        lambda p, lang, n: change(p, positive=f'{{"query": "{p.query}", "positive": "{p.positive}'),
        lambda p, lang, n: change(written(p), query=f"{LEAKS[lang]} {p.query}"),
        lambda p, lang, n: change(written(p), query=f"Query: {p.query}"),
    ],
    "copied": [lambda p, lang, n: change(written(p), query=piece(p))],
    "query_in_positive": [
        lambda p, lang, n: change(
            p,
            query=p.positive[: len(p.positive) // 3],
            provenance=make_provenance(strategy="inverse_cloze"),
        )
    ],
    "query_equals_positive": [
        lambda p, lang, n: change(
            p,
            query=p.positive[:150] + "!",
            positive=p.positive[:150],
            provenance=make_provenance(strategy="title"),
        )
    ],
    "negative_answers": [
        lambda p, lang, n: change(p, negatives=[*p.negatives, f"{n}. {p.positive}"]),
        lambda p, lang, n: change(p, negatives=[p.positive[:-1], *p.negatives]),
    ],
    "negative_equals_query": [lambda p, lang, n: change(p, negatives=[f"{p.query}?"])],
    "label_leak": [lambda p, lang, n: leaking(p)],
    "repetition": [
        lambda p, lang, n: change(written(p), query=" ".join([p.query[:14]] * 6)),
        lambda p, lang, n: change(p, positive=f"{p.positive} {p.positive}"),
        lambda p, lang, n: change(p, positive=some_said_again(p.positive, lang)),
    ],
    "query_wrong_script": [
        lambda p, lang, n: change(p, query="что такое малярия и как её лечат у детей")
    ],
    "query_wrong_language": [
        lambda p, lang, n: (
            change(p, query=ENGLISH[n % 40].title.lower() + " in the north")
            if lang == "sw"
            else change(p, query=half_english(p.document, lang, n)[:700])
        )
    ],
    "positive_wrong_script": [
        lambda p, lang, n: change(p, positive=bundled_seeds("ru")[n % 40].text, negatives=[])
    ],
    "positive_wrong_language": [
        lambda p, lang, n: change(p, positive=half_english(p.document, lang, n))
    ],
}


def first_reasons(pairs: list[Pair]) -> list[str | None]:
    return [
        next((r for name, f in FILTERS.items() if (r := f.check(row, CONFIGS[name]))), None)
        for row in candidates(to_table(pairs, Pair), VERIFIER)
    ]


def planted() -> list[tuple[str, str, Pair]]:
    """A thousand: (reason, language, row), every way of breaking in every language."""
    ways = [(reason, way) for reason, breaks in BREAKS.items() for way in breaks]
    kinds = [(reason, way, lang) for reason, way in ways for lang in LANGS]
    rows = []
    for number, (reason, way, lang) in enumerate(islice(cycle(kinds), NUM)):
        which = rng("planted", number).randrange(120)
        rows.append((reason, lang, way(good(lang, which), lang, which)))
    return rows


def test_every_reason_is_planted() -> None:
    assert set(BREAKS) == {reason for found in FILTERS.values() for reason in found.reasons}


def test_each_broken_row_is_caught_with_the_right_reason() -> None:
    rows = planted()
    found = first_reasons([row for _, _, row in rows])
    wrong = [
        (reason, lang, got, row.query[:60])
        for (reason, lang, row), got in zip(rows, found, strict=True)
        # What is half in English may be found by its letters or by its words.
        if got != reason
        and not (reason.endswith("_wrong_language") and got == reason.replace("language", "script"))
    ]
    assert wrong == []


def test_few_good_rows_are_lost() -> None:
    rows = [good(LANGS[n % 5], n // 5) for n in range(NUM)]
    lost = [(row.query, got) for row, got in zip(rows, first_reasons(rows), strict=True) if got]
    assert len(lost) <= 0.01 * NUM, lost

"""The extractive engine: every strategy over every bundled corpus."""

import json
from collections import Counter
from collections.abc import Sequence
from statistics import mean

import pytest

from sdg.corpora import bundled_languages
from sdg.engines import Reply
from sdg.engines.extractive import STRATEGIES, ExtractiveEngine
from sdg.errors import UserError
from sdg.prompting import Prompt, list_prompts, load_prompt
from sdg.schema import Call, Seed
from sdg.text import word_spans
from tests.rows import bundled_seeds, make_call, make_seed

EVERY_LANGUAGE = pytest.mark.parametrize("lang", bundled_languages())
EVERY_STRATEGY = pytest.mark.parametrize("strategy", STRATEGIES)


def answers(calls: Sequence[Call]) -> list[Reply]:
    session = ExtractiveEngine().open()
    try:
        return session.answer(calls)
    finally:
        session.close()


def ask(seed: Seed, *strategies: str, ordinal: int = 0) -> dict[str, str]:
    call = make_call(seed, ordinal, strategies=list(strategies), engine="extractive")
    (reply,) = answers([call])
    assert reply.text, reply.error
    found: dict[str, str] = json.loads(reply.text)
    return found


def asked(lang: str, strategy: str) -> list[tuple[Seed, str, str]]:
    """(seed, query, document) of one call for each document of the corpus."""
    seeds = bundled_seeds(lang)
    found = [(seed, ask(seed, strategy)) for seed in seeds]
    assert len(found) >= 20
    assert {reply["strategy"] for _, reply in found} == {strategy}
    return [(seed, reply["query"], reply["document"]) for seed, reply in found]


def letters(text: str) -> str:
    return "".join(text.split())


def words_within(text: str, part: str, lang: str) -> int:
    """How many words of the text stand in a slice of it."""
    start = text.index(part)
    spans = word_spans(text, lang)
    return sum(start <= a and b <= start + len(part) for a, b in spans)


@EVERY_LANGUAGE
def test_title_asks_for_the_text(lang: str) -> None:
    for seed, query, document in asked(lang, "title"):
        assert query == seed.title
        assert seed.text.endswith(document)
        assert letters(seed.text) in (letters(document), letters(query + document))


@EVERY_LANGUAGE
def test_random_crop_takes_two_spans_of_whole_words(lang: str) -> None:
    found = asked(lang, "random_crop")
    inside = []
    for seed, query, document in found:
        num_words = len(word_spans(seed.text, lang))
        edges = {edge for span in word_spans(seed.text, lang) for edge in span}
        start = seed.text.index(query)
        assert {start, start + len(query)} <= edges
        assert seed.text.index(document) in edges
        in_query = words_within(seed.text, query, lang)
        in_document = words_within(seed.text, document, lang)
        assert min(3, num_words) <= in_query <= 24
        assert in_query <= 0.4 * num_words + 0.5
        assert in_query >= min(24, 0.1 * num_words - 0.5)
        assert 0.5 * num_words - 0.5 <= in_document <= num_words
        inside.append(query in document)
    assert 0 < sum(inside) < len(inside)  # the spans are independent
    shares = [len(document) / len(seed.text) for seed, _, document in found]
    assert max(shares) - min(shares) > 0.3


def test_the_shares_of_a_crop_are_those_of_its_docstring() -> None:
    seed = make_seed(" ".join(f"neno{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(50)))
    replies = [ask(seed, "random_crop", ordinal=i) for i in range(400)]
    in_query = [len(reply["query"].split()) for reply in replies]
    in_document = [len(reply["document"].split()) for reply in replies]
    assert (min(in_query), max(in_query)) == (5, 20)  # 10 to 40 %
    assert (min(in_document), max(in_document)) == (25, 50)  # 50 to 100 %
    assert 11 < mean(in_query) < 14
    assert 35 < mean(in_document) < 40


def test_a_crop_keeps_the_mark_that_ends_its_sentence_and_no_other() -> None:
    text = "Watu wa hapa hunywa maji ya mto huu kila siku (bila shida) \u2013 ni baridi. Ni mazuri!"
    tails = set()
    for ordinal in range(200):
        document = ask(make_seed(text), "random_crop", ordinal=ordinal)["document"]
        tails.add(document[-1])
        assert document[-1] not in "(\u2013 "
    assert {".", "!", ")"} <= tails


@EVERY_LANGUAGE
def test_inverse_cloze_takes_the_sentence_out_of_its_document(lang: str) -> None:
    for seed, query, document in asked(lang, "inverse_cloze"):
        text, part, rest = letters(seed.text), letters(query), letters(document)
        assert query in seed.text
        assert part not in rest
        cut = text.index(part)
        assert text[:cut] + text[cut + len(part) :] == rest
        assert "  " not in document
        assert document == document.strip()
        assert 4 <= words_within(seed.text, query, lang) <= 48


def test_inverse_cloze_joins_what_is_left_as_the_text_was() -> None:
    spaced = make_seed(
        "Kwanza tulienda mjini asubuhi. Kisha tulirudi nyumbani jioni. Mwisho tulilala."
    )
    found = {ask(spaced, "inverse_cloze", ordinal=i)["document"] for i in range(20)}
    assert "Kisha tulirudi nyumbani jioni. Mwisho tulilala." in found
    assert "Kwanza tulienda mjini asubuhi. Mwisho tulilala." in found
    solid = make_seed("北京是中国的首都。上海是最大的城市。广州在南方的海边。", lang="zh")
    found = {ask(solid, "inverse_cloze", ordinal=i)["document"] for i in range(20)}
    assert "北京是中国的首都。广州在南方的海边。" in found


@EVERY_LANGUAGE
def test_keyphrase_takes_telling_words_in_their_order(lang: str) -> None:
    lengths: Counter[int] = Counter()
    chosen_lengths, all_lengths = [], []
    for seed, query, document in asked(lang, "keyphrase"):
        assert document == seed.text
        chosen = query.split(" ")
        words = [seed.text[a:b].casefold() for a, b in word_spans(seed.text, lang)]
        places = [words.index(word.casefold()) for word in chosen]  # each one is in the document
        assert places == sorted(set(places))
        assert not any(c.isdigit() for c in query)
        lengths[len(chosen)] += 1
        chosen_lengths += [len(word) for word in chosen]
        all_lengths += [len(word) for word in words]
    assert set(lengths) <= {2, 3, 4, 5}
    assert len(lengths) > 2
    assert mean(chosen_lengths) > 1.3 * mean(all_lengths)  # long words tell more


@EVERY_STRATEGY
@EVERY_LANGUAGE
def test_a_call_is_answered_alike_whenever_it_is_asked(lang: str, strategy: str) -> None:
    seeds = bundled_seeds(lang)[:10]
    calls = [make_call(seed, i, strategies=[strategy]) for seed in seeds for i in range(3)]
    forwards = answers(calls)
    assert forwards == list(reversed(answers(list(reversed(calls)))))
    assert [reply.error for reply in forwards] == [None] * len(calls)
    # Other calls of the same document: other questions, mostly (it has one title only).
    num_different = len({reply.text for reply in forwards})
    assert num_different >= (len(seeds) if strategy == "title" else 0.6 * len(calls))


@EVERY_STRATEGY
@EVERY_LANGUAGE
def test_query_and_document_are_slices_of_what_was_given(lang: str, strategy: str) -> None:
    for seed, query, document in asked(lang, strategy):
        given = letters(seed.title + seed.text)
        assert all(letters(word) in given for word in query.split())
        assert set(letters(document)) <= set(letters(seed.text))
        assert query
        assert document
        assert len(document) <= len(seed.text)


THREE = ["title", "random_crop", "inverse_cloze"]


def test_the_calls_of_a_seed_take_its_strategies_in_turn() -> None:
    for seed in bundled_seeds("en"):
        took = [ask(seed, *THREE, ordinal=i)["strategy"] for i in range(6)]
        assert took == [*THREE, *THREE]


def test_without_a_title_the_next_strategy_answers() -> None:
    seed = make_seed(bundled_seeds("en")[0].text, lang="en")
    took = Counter(ask(seed, *THREE, ordinal=i)["strategy"] for i in range(6))
    assert took == {"random_crop": 3, "inverse_cloze": 3}
    one_sentence = make_seed(" ".join(f"neno{chr(97 + i)}" for i in range(12)))
    assert {ask(one_sentence, *THREE, ordinal=i)["strategy"] for i in range(6)} == {"random_crop"}


def test_a_title_that_opens_the_text_is_taken_out_of_it() -> None:
    seed = make_seed("Mto Tana: ni mto mrefu kuliko yote nchini Kenya.", "Mto Tana")
    assert ask(seed, "title")["document"] == "ni mto mrefu kuliko yote nchini Kenya."


@pytest.mark.parametrize(
    ("title", "text", "lang"),
    [
        ("Kenya", "Kenyan runners have won many races over the years.", "en"),
        ("Mto", "Mtoto alikwenda shuleni asubuhi na mapema.", "sw"),
        ("Tana", "Mto Tana ni mrefu.", "sw"),
    ],
)
def test_a_title_is_not_cut_out_of_a_word_nor_from_the_middle(
    title: str, text: str, lang: str
) -> None:
    assert ask(make_seed(text, title, lang), "title")["document"] == text


@pytest.mark.parametrize(
    ("text", "title"), [("Habari.", ""), ("", ""), ("…", ""), ("Habari", "Habari"), ("1 2 3", "")]
)
def test_a_document_that_gives_nothing_is_an_error_reply(text: str, title: str) -> None:
    (reply,) = answers([make_call(make_seed(text, title), strategies=list(STRATEGIES))])
    assert (reply.text, reply.error) == (None, "document_too_short")


def test_no_calls_no_replies() -> None:
    assert answers([]) == []


def prompt_with(*strategies: str) -> Prompt:
    return Prompt(
        name="f/p",
        task="retrieval",
        description="",
        instruction="",
        extractive=list(strategies),
        body="",
        sha="",
    )


def test_a_prompt_that_no_strategy_can_stand_in_for_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot answer prompt f/p.*ENGINE=vllm"):
        ExtractiveEngine().check([prompt_with("title"), prompt_with()], "sw")


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"f/p: unknown.*'titel'; there are: title, random_crop"):
        ExtractiveEngine().check([prompt_with("title", "titel")], "sw")


@pytest.mark.parametrize("name", list_prompts())
def test_every_prompt_names_strategies_that_exist(name: str) -> None:
    prompt = load_prompt(name, "sw")
    assert set(prompt.extractive) <= set(STRATEGIES)
    assert not (prompt.extractive and prompt.query_lang)  # a document has no words of another


def test_strategies_are_drawn_by_weight() -> None:
    weights = {"title": 0.0, "random_crop": 3.0, "inverse_cloze": 1.0}
    engine = ExtractiveEngine(strategies=weights)
    calls = [
        make_call(seed, ordinal, strategies=list(weights), engine="extractive")
        for seed in bundled_seeds("sw")
        for ordinal in range(50)
    ]
    session = engine.open()
    texts = [reply.text for reply in session.answer(calls)]
    assert [reply.text for reply in session.answer(calls[::-1])] == texts[::-1]
    found = Counter(json.loads(text)["strategy"] for text in texts if text)
    assert found["title"] == 0 and found.total() == 2000
    # 4 standard deviations of a binomial: sqrt(2000 × 3/4 × 1/4) = 19.4
    assert found["random_crop"] == pytest.approx(1500, abs=78)
    # Those without a weight count 1; where the first gives way, the next one answers.
    (reply,) = (
        ExtractiveEngine(strategies={"title": 1e9})
        .open()
        .answer([make_call(make_seed(), strategies=["title", "inverse_cloze"])])
    )
    assert reply.text and json.loads(reply.text)["strategy"] == "inverse_cloze"


def test_weights_that_leave_a_prompt_nothing_are_refused() -> None:
    prompt = load_prompt("retrieval/keyword_query", "sw")
    with pytest.raises(UserError, match="leaves it none of its strategies"):
        ExtractiveEngine(strategies={"keyphrase": 0}).check([prompt], "sw")
    ExtractiveEngine(strategies={"title": 0}).check([prompt], "sw")
    with pytest.raises(ValueError, match="unknown strategy 'crop'"):
        ExtractiveEngine(strategies={"crop": 1})

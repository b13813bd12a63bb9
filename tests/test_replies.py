"""Replies as models write them: what is taken, what is repaired, and why the rest is refused."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from sdg.replies import REASONS, REPAIRS, Rejected, has_loop, is_loop, read_reply
from tests.rows import bundled_seeds


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=500)
    wrong: list[str] = []


GOOD = '{"query": "mji mkuu wa Kenya"}'
OTHER = '{"query": "mto mrefu"}'


def outcome(reply: str | None, finish_reason: str | None = "stop") -> str | tuple[str, str]:
    """The query and what was repaired, or the reason why there is none."""
    try:
        found, repaired = read_reply(reply, finish_reason, Answer)
    except Rejected as rejected:
        assert rejected.reason in REASONS
        return rejected.reason
    assert repaired in ("", *REPAIRS)
    return found.query, repaired


QUERY = "mji mkuu wa Kenya"


@pytest.mark.parametrize(
    ("reply", "repaired"),
    [
        (GOOD, ""),
        (f"\ufeff\n{GOOD}\n", ""),
        ('{"query": "mji mkuu wa Kenya", "wrong": []}', ""),
        (f"```json\n{GOOD}\n```", "fence"),
        (f"```JSON\r\n{GOOD}\r\n```", "fence"),
        (f"```\n{GOOD}\n```\n", "fence"),
        (f"~~~\n{GOOD}\n~~~", "fence"),
        (f"```json\n{GOOD}```", "fence"),
        (f"<think>\nNaweza kuandika {OTHER}.\n</think>\n\n{GOOD}", "reasoning"),
        (f"Okay, {OTHER} is too vague.\n</think>\n{GOOD}", "reasoning"),  # opened in the template
        (f"[THINK]让我想想 {OTHER}[/THINK]{GOOD}", "reasoning"),
        (f"<reasoning>سأكتب سؤالا</reasoning>{GOOD}", "reasoning"),
        (
            "<|channel|>analysis<|message|>We need a Swahili query. Maybe "
            f"{OTHER}<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>",
            "reasoning",
        ),
        (f"analysisThe user wants JSON {OTHER}.assistantfinal{GOOD}", "reasoning"),
        (f"<think>x</think>\n```json\n{GOOD}\n```", "fence"),
        (f"Sure! Here is the query:\n\n{GOOD}\n\nLet me know if you need more.", "chatter"),
        (f"Ga tambayar: {GOOD}", "chatter"),
        (f"以下是查询：{GOOD}。", "chatter"),
        (f"إليك السؤال:\n```json\n{GOOD}\n```\nهل تريد غيره؟", "chatter"),
        (f"{GOOD}<|im_end|>", "chatter"),
        (f'{{"note": "as asked"}}\n{GOOD}', "chatter"),  # one of the two validates
        (f"Use the form {{query}}: {GOOD}", "chatter"),
        ('Answer: {"query": "mji mkuu wa Kenya", "wrong": ["}", "\\"{", "\\\\"]}', "chatter"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_one_reading_is_taken(reply: str, repaired: str) -> None:
    assert outcome(reply) == (QUERY, repaired)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "empty_reply"),
        ("", "empty_reply"),
        (" \n\t\u200b", "empty_reply"),
        (f"{GOOD}\n{OTHER}", "several_answers"),
        (f"{GOOD}\n{GOOD}", "several_answers"),
        (f"Either {GOOD} or {OTHER}", "several_answers"),
        (f"```json\n{GOOD}\n```\nor\n```json\n{OTHER}\n```", "several_answers"),
        (f"[{GOOD}]", "wrong_schema"),
        (f'{{"answer": {GOOD}}}', "wrong_schema"),
        (f'Sure: {{"answer": {GOOD}}}', "wrong_schema"),
        ('{"query": "a", "query": "b"}', "duplicate_keys"),
        ('Here: {"query": "a", "query": "a"}', "duplicate_keys"),
        ('{"query": "a", "wrong": [{"x": 1, "x": 2}]}', "duplicate_keys"),
        ("{'query': 'x'}", "not_json"),
        ('{"query": "x",}', "not_json"),
        ("{query: x}", "not_json"),
        (GOOD[:-4], "not_json"),
        (f"Use {{ first. {GOOD}", "not_json"),  # nobody knows where that brace would end
        ("Here is your query: mji mkuu", "not_json"),
        ("```json\n```", "not_json"),
        ("1" * 40, "wrong_schema"),
        ("null", "wrong_schema"),
        ("NaN", "wrong_schema"),
        ('{"query": null}', "wrong_schema"),
        ('{"query": ["x"]}', "wrong_schema"),
        ('{"query": "a\\ud800"}', "wrong_schema"),  # half a surrogate pair
        ('{"query": ""}', "wrong_schema"),
        ('{"Query": "x"}', "wrong_schema"),
        ("<think>Natafakari bado", "reasoning_only"),
        (f"<think>Labda {GOOD}", "reasoning_only"),  # a draft is no answer
        ("<think>Tayari.</think>", "reasoning_only"),
        (f"<|channel|>analysis<|message|>Maybe {GOOD}", "reasoning_only"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_anything_else_has_its_reason(reply: str | None, reason: str) -> None:
    assert outcome(reply) == reason


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't help with that.",
        "As an AI language model, I do not write search queries.",
        "Samahani, siwezi kuandika swali hilo.",
        "Yi haƙuri, ba zan iya rubuta wannan ba.",
        "क्षमा करें, मैं यह नहीं लिख सकता।",
        "عذرًا، لا أستطيع كتابة هذا السؤال.",
        "很抱歉，我无法生成这个查询。",
        "Ẹ jọ̀wọ́, mi ò lè kọ ìbéèrè yìí.",
        "ይቅርታ፣ ይህን መጻፍ አልችልም።",
        '{"error": "I\'m sorry, but I cannot write this query."}',
        '{"refusal": "Samahani, siwezi kuandika swali hilo."}',
    ],
)
def test_a_refusal_in_place_of_the_answer(reply: str) -> None:
    assert outcome(reply) == "refusal"


LOOP = "maji ni uhai " * 60


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (GOOD[:-4], "reply_cut"),
        ('{"query": "watu wengi hufanya kazi katika viwanda na benki', "reply_cut"),
        (f"<think>Labda {GOOD} au", "reply_cut"),
        ("Sure! Here is", "reply_cut"),
        ("I'm sorry, but I can't", "reply_cut"),
        ("", "empty_reply"),
        ("{}", "wrong_schema"),  # whole: more tokens would not mend it
        # More tokens would not mend a loop either.
        ('{"query": "' + LOOP, "repetition"),
        (GOOD[:-1] + "\n" * 500, "repetition"),
        ("[" * 400, "repetition"),
        ('{"query": ' * 50, "repetition"),
        ("ฝนตก" * 100, "repetition"),
        ("很好" * 100, "repetition"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_cut_reply_is_told_from_one_that_never_was_json(reply: str, reason: str) -> None:
    assert outcome(reply, "length") == reason


def test_a_whole_answer_counts_whatever_the_finish_reason() -> None:
    assert outcome(GOOD, "length") == (QUERY, "")
    assert outcome(GOOD, None) == (QUERY, "")


def test_what_an_endpoint_withholds_has_its_own_reason() -> None:
    assert outcome("", "content_filter") == "content_filter"
    assert outcome("Watu", "content_filter") == "content_filter"


@pytest.mark.parametrize("lang", ["am", "ar", "en", "ha", "hi", "sw", "th", "zh"])
def test_genuine_texts_are_no_loops(lang: str) -> None:
    texts = [seed.text for seed in bundled_seeds(lang)]
    assert [text for text in texts if is_loop(text)] == []
    assert all(is_loop(text[:20] * 10) for text in texts)


def test_a_loop_is_found_in_any_text_of_an_answer() -> None:
    assert has_loop(Answer(query=LOOP[:400]))
    assert has_loop(Answer(query="mji", wrong=["mto", LOOP]))
    assert not has_loop(Answer(query="mji", wrong=["ha ha ha"]))


# Whatever comes

MARKS = ["{", "}", '"', "\\", "[", "]", "```", "<think>", "</think>", GOOD, "x", "\n", ":", ","]
MARKUP = st.lists(st.sampled_from(MARKS), max_size=30).map("".join)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["query", "x"]), inner),
)
FINISH = st.sampled_from(["stop", "length", "content_filter", None])


@given(st.text() | MARKUP | JSON.map(json.dumps), FINISH)
@settings(max_examples=300)
def test_no_reply_raises_anything_but_a_reason(reply: str, finish_reason: str | None) -> None:
    outcome(reply, finish_reason)


@given(JSON.map(json.dumps), st.sampled_from(["", "Sure: ", "<think>x</think>", "```\n"]))
def test_what_is_taken_stands_in_the_reply(reply: str, before: str) -> None:
    text = before + reply
    found = outcome(text)
    if isinstance(found, tuple):
        assert json.dumps(found[0]) in text  # nothing is made up


@pytest.mark.parametrize(
    "reply",
    [
        "{" * 10**6,
        "[" * 10**6,
        '{"a":' * 200_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "x" + '{"a":' * 100_000 + "1" + "}" * 100_000,
        '"\\' * 500_000,
        '{"' * 500_000,
        '{"query":"' + '\\"' * 500_000,
        "{}" * 100_000,
        "<think>" * 150_000,
        "</think>" * 150_000,
        "```" * 300_000,
        "```\n" + " " * 10**6 + "x",
        "<|end|>" * 150_000,
        " " * 10**6 + "x",
        "sorry " * 200_000,
        "9" * 10**6,
        '{"query": ' + "9" * 10**6 + "}",
    ],
    ids=lambda value: value[:12],
)
def test_a_hostile_reply_is_read_once(reply: str) -> None:
    """A megabyte that would take a quadratic reader hours ends within the test's time limit."""
    assert isinstance(outcome(reply, "length"), str)

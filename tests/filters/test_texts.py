"""The texts of a shard as filters see them."""

import pytest

from sdg.filters import fit_for_rows, texts
from sdg.filters.texts import look_at
from sdg.phrases import BOILERPLATE, PASSAGE_REFUSAL, fold
from sdg.text import canonical, weight
from tests.rows import bundled_seeds

GIVEN = ["Été", "привет", "Été", "", "Accept all cookies. ALL RIGHTS RESERVED", "ẞ" * 149]


def test_each_text_has_what_is_its_own() -> None:
    seen = look_at(GIVEN)
    assert list(seen) == list(dict.fromkeys(GIVEN))
    for text, found in seen.items():
        assert (found.text, found.weight, found.folded) == (text, weight(text), fold(text))
        assert found.canonical == canonical(text)
    assert [found.count(BOILERPLATE) for found in seen.values()] == [0, 0, 0, 2, 0]


def test_short_is_a_text_as_it_is_written() -> None:
    """However long it gets when its case is folded."""
    seen = look_at(["ẞ" * 149, "ẞ" * 150])
    assert [found.repeats.short > 0 for found in seen.values()] == [True, False]
    assert [found.repeats.num_letters for found in seen.values()] == [298, 300]


def test_all_texts_are_looked_at_once_and_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    tallies = texts.tallies
    monkeypatch.setattr(texts, "tallies", lambda given: asked.append(given) or tallies(given))
    seen = look_at(GIVEN)
    assert asked == []
    assert [seen[text].weight for text in GIVEN] == [weight(text) for text in GIVEN]
    assert asked == [list(seen)]


def test_a_text_begins_with_a_phrase_whether_all_of_it_is_folded_or_not() -> None:
    given = ["Désolé, je ne peux pas. " + "é" * 200, "x Désolé, je ne peux pas.", "désolé " * 99]
    for is_folded in (False, True):
        seen = look_at(given)
        assert not is_folded or seen[given[0]].folded
        begun = [text.begins_with(PASSAGE_REFUSAL) for text in seen.values()]
        assert begun == [True, False, False]


def test_passages_that_may_stand_in_a_row() -> None:
    good = bundled_seeds("sw")[0].text
    bad = {
        "broken": good + "\ufffd",
        "markup": f"<div>{good}</div>",
        "mixed": good + " Mоsсоw",  # Cyrillic о and с
        "boilerplate": good[:100] + " Accept cookies. All rights reserved.",
        "refused": "As an AI language model, I cannot say. " + good,
        "unopened": '{"query": "maji", "positive": "' + good,
        "personal": good + " asha.juma@mfano.co.tz",
    }
    passages = [good, *bad.values(), good]
    assert fit_for_rows(passages, ["sw"] * 9) == [True, *[False] * 7, True]

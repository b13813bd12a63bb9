"""The task list: near-copies go, in whatever order they come; the file is whole and checked."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz

from sdg.errors import UserError
from sdg.ideas import (
    GRAM,
    MAYBE,
    NEAR,
    NEAR_WORDS,
    blank_seed,
    dedupe_ideas,
    read_ideas,
    write_ideas,
)
from sdg.schema import Seed, to_table
from sdg.store import write_table
from sdg.tasks import TASKS
from tests.rows import bare, make_call, make_seed


def ideas(*texts: str, family: str = "sts", form: str = "", model: str = "m") -> list[Seed]:
    """Ideas as a model's reply gives them, one call each."""
    controls = json.dumps({"form": form} if form else {})
    calls = [
        make_call(
            blank_seed(i),
            task=family,
            model=model,
            controls=controls,
            reply=json.dumps({"ideas": [t]}),
        )
        for i, t in enumerate(texts)
    ]
    return [idea for call in calls for idea in TASKS[family].parse_ideas(call)]


def texts(found: list[Seed]) -> set[str]:
    return {idea.text for idea in found}


AID = "Given a question about first aid, retrieve advice that says what to do"
COPIES = [
    AID.upper(),
    AID + "!",
    "Given questions about first aid, retrieve advice that says what to do",
    "Given a question about first aid, retrieve the advice that says what to do",
    "retrieve advice that says what to do, given a question about first aid",
    "Given a first-aid question about what to do, retrieve advice that says what to do",
]
OTHERS = [
    "Given a question about tax law, retrieve rulings that settle it",
    "Given the name of a bird, retrieve descriptions of how it nests",
    "Given the name of a bird, retrieve recordings of the way it sings at night",
    "Given a proverb, retrieve proverbs with the same lesson",
    "Given a question, retrieve questions that ask the same in other words",
]


@pytest.mark.parametrize("copy", COPIES)
def test_a_near_copy_goes(copy: str) -> None:
    assert len(dedupe_ideas(ideas(AID, copy))) == 1


def test_other_ideas_stay() -> None:
    assert texts(dedupe_ideas(ideas(AID, *OTHERS))) == {AID, *OTHERS}


def test_families_and_forms_are_lists_of_their_own() -> None:
    found = [
        *ideas(AID, family="sts"),
        *ideas(AID, family="bitext"),
        *ideas(AID, family="retrieval", form="long-long"),
        *ideas(AID, family="retrieval", form="short-long"),
    ]
    assert len(dedupe_ideas(found)) == 4


def test_the_same_idea_of_two_models_stays_once() -> None:
    one, two = ideas(AID, model="a"), ideas(AID, model="b")
    assert dedupe_ideas([*one, *two]) == dedupe_ideas([*two, *one])
    assert len(dedupe_ideas([*one, *two])) == 1


def near(one: str, two: str) -> bool:
    """The rule as it is written, over plain sets."""
    a, b = (
        {f" {bare(w)} "[i : i + GRAM] for w in t.split() for i in range(max(1, len(bare(w)) - 1))}
        for t in (one, two)
    )
    jaccard = len(a & b) / len(a | b)
    words = fuzz.token_sort_ratio(one.casefold(), two.casefold())
    return jaccard >= NEAR or (jaccard >= MAYBE and words >= NEAR_WORDS)


WORDS = ["given", "a", "question", "retrieve", "advice", "texts", "songs", "about", "the", "farm"]
IDEA = st.lists(st.sampled_from(WORDS), min_size=3, max_size=8).map(" ".join)


@given(st.lists(IDEA, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_result_is_that_of_comparing_all_with_all(
    given: list[str], shuffler: random.Random
) -> None:
    found = ideas(*given)
    expected: list[Seed] = []
    for idea in sorted({idea.id: idea for idea in found}.values(), key=lambda idea: idea.id):
        if not any(near(idea.text, kept.text) for kept in expected):
            expected.append(idea)
    assert [i.id for i in dedupe_ideas(found)] == [i.id for i in expected]
    shuffler.shuffle(found)
    assert [i.id for i in dedupe_ideas(found)] == [i.id for i in expected]
    assert dedupe_ideas(dedupe_ideas(found)) == dedupe_ideas(found)


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "ideas.parquet"
    write_ideas(path, dedupe_ideas(ideas(AID, *OTHERS)))
    assert read_ideas(path) == dedupe_ideas(ideas(AID, *OTHERS))
    assert [file.name for file in tmp_path.iterdir()] == ["ideas.parquet"]


def test_a_file_that_is_no_task_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seeds.parquet"
    write_table(path, to_table([make_seed()], Seed))
    with pytest.raises(UserError, match="not a task list: it holds a seed of kind 'passage'"):
        read_ideas(path)
    with pytest.raises(UserError, match="no such file"):
        read_ideas(tmp_path / "none.parquet")


def test_blank_seeds_differ() -> None:
    assert len({blank_seed(number).id for number in range(100)}) == 100

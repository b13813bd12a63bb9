"""parse: whatever an engine answers becomes a pair or a reason."""

import json
from typing import Any

import pytest

from sdg.errors import UserError
from sdg.schema import Call, Pair, Provenance
from sdg.stages import ParseStage
from sdg.text import digest
from tests.rows import kept_rows, make_call, make_seed, reasons, run_stage, sharded

GOOD = '{"query": "mji mkuu wa Kenya"}'
EXTRACTED = json.dumps({"query": "mji mkuu", "document": "Nairobi ni mji.", "strategy": "title"})


def outcome(reply: str | None, **changes: Any) -> Pair | str:
    """What becomes of one reply: its pair, or the reason why there is none."""
    results = run_stage(ParseStage(), sharded([make_call(reply=reply, **changes)], Call))
    found = [*kept_rows(results, Pair), *reasons(results)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("reply", "repaired"),
    [
        (GOOD, ""),
        (f"\n {GOOD} \n", ""),
        ('{"query": " mji  mkuu wa\nKenya "}', ""),
        (f"```json\n{GOOD}\n```", "repaired_fence"),
        (f"<think>Nairobi ...</think>{GOOD}", "repaired_reasoning"),
        (f"Hili hapa swali: {GOOD}", "repaired_chatter"),
    ],
)
def test_a_good_reply_gives_its_query(reply: str, repaired: str) -> None:
    pair = outcome(reply)
    assert isinstance(pair, Pair)
    assert pair.query == "mji mkuu wa Kenya"
    results = run_stage(ParseStage(), sharded([make_call(reply=reply)], Call))
    assert results["00000"].counters == ({repaired: 1} if repaired else {})


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "empty_reply"),
        ('{"query": " \\u200b\\u0000 "}', "empty_reply"),  # nothing that can be seen
        ("Here is your query: mji mkuu", "not_json"),
        ('{"query": "x", "answer": "y"}', "wrong_schema"),
        (json.dumps({"query": "x" * 2001}), "wrong_schema"),
        (json.dumps({"query": "x", "document": "y", "strategy": "title"}), "wrong_schema"),
        (json.dumps({"query": "x", "positive": "y"}), "wrong_schema"),
        (json.dumps({"query": "ha " * 50}), "repetition"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_reply_gives_a_reason(reply: str | None, reason: str) -> None:
    assert outcome(reply) == reason


@pytest.mark.parametrize("engine", ["openai", "vllm"])
def test_a_language_model_cannot_choose_its_own_positive(engine: str) -> None:
    assert outcome(EXTRACTED, engine=engine) == "wrong_schema"


def test_a_corpus_that_repeats_itself_is_not_the_models_fault() -> None:
    text = "Maji ni uhai. " * 20
    reply = json.dumps({"query": "maji", "document": text, "strategy": "random_crop"})
    assert isinstance(outcome(reply, engine="extractive"), Pair)


def test_the_extractive_engine_gives_query_document_and_strategy() -> None:
    pair = outcome(EXTRACTED, engine="extractive")
    assert isinstance(pair, Pair)
    assert (pair.query, pair.positive) == ("mji mkuu", "Nairobi ni mji.")
    assert pair.document == make_seed().text
    assert pair.provenance.strategy == "title"
    assert outcome(GOOD, engine="extractive") == "wrong_schema"


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("a\\u0000b", "ab"),
        ("\\ud83d\\udca7 maji", "💧 maji"),
        ("e\\u0301", "é"),
        ("a\\u202eb", "ab"),
        ("<b>{{ 7*7 }}</b>", "<b>{{ 7*7 }}</b>"),
    ],
)
def test_a_query_is_normalized(written: str, query: str) -> None:
    pair = outcome(f'{{"query": "{written}"}}')
    assert isinstance(pair, Pair)
    assert pair.query == query


def test_a_pair_says_where_it_comes_from() -> None:
    seed = make_seed(lang="ha", source="news.jsonl#7", license="cc-by-4.0")
    call = make_call(seed, 3, reply=GOOD, lang="fr", controls='{"length": "long"}', engine="vllm")
    (pair,) = kept_rows(run_stage(ParseStage(), sharded([call], Call), seed=11), Pair)
    assert pair == Pair(
        id=digest(call.id, 0),
        task="retrieval",
        instruction=call.instruction,
        query="mji mkuu wa Kenya",
        query_lang="fr",
        positive=seed.text,
        positive_lang="ha",
        document=seed.text,
        negatives=[],
        provenance=Provenance(
            seed_id=seed.id,
            source="news.jsonl#7",
            license="cc-by-4.0",
            engine="vllm",
            model=call.model,
            revision=call.revision,
            prompt=call.prompt,
            prompt_sha=call.prompt_sha,
            strategy="written",
            controls='{"length": "long"}',
            seed=11,
        ),
    )


def test_dropped_calls_keep_their_replies() -> None:
    replies = [GOOD, "no", None, GOOD]
    calls = [make_call(ordinal=i, reply=reply) for i, reply in enumerate(replies)]
    results = run_stage(ParseStage(), sharded(calls, Call, 1, 0, 2))
    assert [pair.id for pair in kept_rows(results, Pair)] == [
        digest(calls[0].id, 0),
        digest(calls[3].id, 0),
    ]
    assert reasons(results) == ["not_json", "empty_reply"]
    assert results["00002"].dropped["reply"].to_pylist() == ["no", None]


def test_an_unknown_task_names_the_prompt() -> None:
    with pytest.raises(UserError, match="retrieval/short_query: unknown task 'x'; there are: retr"):
        outcome(GOOD, task="x")

"""Runs that are made from ideas and from existing pairs, by models behind a scripted endpoint."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.preflight import check_profile
from pipelines.profile import load_profile
from sdg.campaign import Campaign, Outcome
from sdg.cluster import Cluster
from sdg.errors import UserError
from sdg.ideas import read_ideas
from sdg.languages import language
from sdg.runner import Runner
from sdg.schema import Call, Example
from tests.engines.scripted_server import Handler, ScriptedServer, ok, serving
from tests.rows import NO_FILTERS
from tests.test_campaign import rows
from tests.test_runner import Silent


def text_of(name: str, rand: random.Random) -> str:
    """Some text that is like no other."""
    syllables = [f"{a}{b}" for a in "bdfgklmnprstwz" for b in "aeiou"]
    return " ".join([name, *("".join(rand.choices(syllables, k=3)) for _ in range(9))])


def instance(schema: dict[str, Any], name: str, rand: random.Random) -> Any:
    """Something that a JSON schema of strings and lists allows."""
    if schema["type"] == "object":
        properties = schema["properties"].items()
        return {key: instance(value, key, rand) for key, value in properties}
    if schema["type"] == "array":
        num = 6 if name == "ideas" else schema.get("minItems", 3)
        return [instance(schema["items"], name, rand) for _ in range(num)]
    return schema["enum"][0] if "enum" in schema else text_of(name, rand)


def answer(handler: Handler) -> None:
    """By the request alone: in which order requests come is chance."""
    body = handler.body
    rand = random.Random(f"{body['model']} {body['seed']} {body['messages']}")
    schema = body["response_format"]["json_schema"]["schema"]
    ok(json.dumps(instance(schema, "", rand)))(handler)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with serving() as server:
        server.default = answer
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(2)
    yield cluster
    cluster.close()


def profile_text(server: ScriptedServer, prompts: dict[str, float], more: str = "") -> str:
    models = "".join(
        f'  - engine: {{name: openai, model: model-{i}, base_url: "{server.url}"}}\n'
        for i in range(3)
    )
    stages = f"stages: {{filter: {{filters: {NO_FILTERS}}}, mine: {{min_negatives: 1}}}}"
    return f"prompts: {json.dumps(prompts)}\nmodels:\n{models}\n{stages}\n{more}"


def run(folder: Path, cluster: Cluster, text: str, *langs: str) -> Outcome:
    folder.mkdir(exist_ok=True)
    (folder / "profile.yaml").write_text(text, encoding="utf-8")
    # Not the checkout's own: a second run of the tests would find its replies there.
    kept = f"replies.folder={folder}/.replies"
    profile = load_profile(str(folder / "profile.yaml"), {}, [kept])
    languages = [language(code) for code in langs]
    check_profile(profile, languages)
    pipeline = profile.build(languages)
    campaign = Campaign(pipeline, Runner(folder, langs, profile.seed, Silent()))
    campaign.check()
    campaign.read_sources()
    return campaign.run(cluster, lambda number, calls: None)


FROM_IDEAS = {"classification/from_idea": 1.0, "sts/from_idea": 1.0}
IDEAS = "ideas: {prompts: {classification/ideas: 1, sts/ideas: 1}, calls: 8, models: [model-0]}"


@pytest.fixture(scope="module")
def from_ideas(
    tmp_path_factory: pytest.TempPathFactory, server: ScriptedServer, cluster: Cluster
) -> Path:
    folder = tmp_path_factory.mktemp("ideas")
    run(folder, cluster, profile_text(server, FROM_IDEAS, f"{IDEAS}\npairs: 24"), "yo", "ha")
    return folder


def test_ideas_of_one_model_are_written_by_others(from_ideas: Path) -> None:
    ideas = read_ideas(from_ideas / "ideas.parquet")
    assert 12 < len(ideas) <= 48
    assert {json.loads(idea.fields)["model"] for idea in ideas} == {"model-0"}
    calls = rows(from_ideas, "2-render", Call)
    assert {call.model for call in calls} == {"model-1", "model-2"}
    assert {call.seed.id for call in calls} <= {idea.id for idea in ideas}
    assert all(json.loads(c.seed.fields)["family"] == c.task for c in calls)
    examples = rows(from_ideas, "8-mix", Example)
    cells = Counter((row.query_lang, row.task) for row in examples)
    assert cells == {(x, task): 6 for x in ("yo", "ha") for task in ("classification", "sts")}


def test_a_list_serves_another_run_without_a_call_for_ideas(
    from_ideas: Path, tmp_path: Path, server: ScriptedServer, cluster: Cluster
) -> None:
    listed = f"ideas: {{path: {from_ideas}/ideas.parquet}}\npairs: 4"
    before = len(server.requests)
    run(tmp_path, cluster, profile_text(server, FROM_IDEAS, listed), "zu")
    asked = [
        body["response_format"]["json_schema"]["schema"] for _, body in server.requests[before:]
    ]
    assert asked
    assert not any("ideas" in schema["properties"] for schema in asked)
    assert read_ideas(tmp_path / "ideas.parquet") == read_ideas(from_ideas / "ideas.parquet")
    assert len(rows(tmp_path, "8-mix", Example)) == 4


PAIRS = [
    {"query": f"where is river {i}", "positive": f"River {i} is in the north.", "lang": "en"}
    for i in range(12)
]


def test_existing_pairs_are_translated_into_every_language_but_their_own(
    tmp_path: Path, server: ScriptedServer, cluster: Cluster
) -> None:
    bad = [
        {"query": "", "positive": "x", "lang": "en"},
        {**PAIRS[0]},
        {**PAIRS[1], "lang": "??"},
        {**PAIRS[2], "query": "One grade for two?", "negative_grades": [0.5]},
        {**PAIRS[3], "query": "Five of one?", "positive_grade": 5},
    ]
    graded = {"negatives": ["Not it.", "Nor this."], "negative_grades": [0.5, 0.25]}
    lines = [{**graded, "positive_grade": 0.75, **row} for row in [*PAIRS, *bad]]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    more = f"translate: {{path: {path}}}\nstages: {{render: {{calls_per_seed: 1}}, "
    text = profile_text(server, {"translate/pair": 1.0}).replace("stages: {", more)
    outcome = run(tmp_path / "r", cluster, text, "sw", "en")
    report = outcome.reports[0]
    assert (report.name, report.num_in, report.num_kept) == ("pairs", 17, 12)
    assert report.dropped == {
        "no_pair": 1,
        "duplicate_pair": 1,
        "no_language": 1,
        "wrong_grades": 2,
    }
    calls = rows(tmp_path / "r", "2-render", Call)
    assert {call.lang for call in calls} == {"sw"}  # English pairs are not put into English
    assert len(calls) == 12
    examples = rows(tmp_path / "r", "8-mix", Example)
    assert len(examples) == 12
    assert {row.query_lang for row in examples} == {"sw"}
    grades = {(*row.positive_grades, *row.negative_grades) for row in examples}
    assert grades == {(0.75, 0.5, 0.25)}


@pytest.mark.parametrize(
    ("prompts", "more", "said"),
    [
        ({"sts/from_idea": 1.0}, "", "ideas.prompts"),
        ({"sts/from_idea": 1.0}, "ideas: {prompts: {sts/passage: 1}}", "made from a passage"),
        ({"sts/from_idea": 1.0}, "ideas: {path: /nowhere/ideas.parquet}", "no such file"),
        ({"translate/pair": 1.0}, "", "translate.path"),
        ({"translate/pair": 1.0}, "translate: {path: /nowhere/x.jsonl}", "x.jsonl"),
    ],
)
def test_missing_sources_are_said(
    tmp_path: Path,
    server: ScriptedServer,
    cluster: Cluster,
    prompts: dict[str, float],
    more: str,
    said: str,
) -> None:
    with pytest.raises(UserError, match=said):
        run(tmp_path, cluster, profile_text(server, prompts, more), "sw")


def test_a_dataset_without_a_query_column_is_one_line(
    tmp_path: Path, server: ScriptedServer, cluster: Cluster
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"ask": "a", "positive": "b"}', encoding="utf-8")
    text = profile_text(server, {"translate/pair": 1.0}, f"translate: {{path: {path}}}")
    with pytest.raises(UserError, match=r"no query column among ask, positive; .*translate.query="):
        run(tmp_path, cluster, text, "sw")

"""Profiles: the model mix, and what is refused before anything starts."""

from pathlib import Path

import pytest

from pipelines.preflight import check_profile
from pipelines.profile import Profile, load_profile
from sdg.errors import UserError
from sdg.languages import language
from sdg.stages import InferStage, RenderStage

TWO = """
prompts: {retrieval/short_query: 1}
models:
  - engine: {name: openai, model: a, base_url: "http://localhost:9/v1", concurrency: 3}
    share: 2
    languages: {no: 3, sw: 0}
  - engine: {name: extractive}
    tasks: {sts: 0}
"""


def read(folder: Path, text: str, *sets: str) -> Profile:
    (folder / "p.yaml").write_text(text, encoding="utf-8")
    return load_profile(str(folder / "p.yaml"), {}, sets)


def test_several_models_reach_the_stages(tmp_path: Path) -> None:
    profile = read(tmp_path, TWO)
    stages = {
        stage.name: stage for stage in profile.build([language("sw")]).stages
    }  # a has no share of sw
    render, infer = stages["render"], stages["infer"]
    assert isinstance(render, RenderStage)
    assert isinstance(infer, InferStage)
    assert [engine.name for engine in infer.engines] == ["openai", "extractive"]
    assert [model.weight("sw", "retrieval") for model in render.models] == [0, 1]
    assert [model.weight("no", "retrieval") for model in render.models] == [6, 1]


def test_one_model_is_a_mix_of_one(tmp_path: Path) -> None:
    (section,) = read(tmp_path, "prompts: {retrieval/short_query: 1}").mix
    assert (section.engine.name, section.share) == ("extractive", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO + "engine: {name: extractive}", "engine: and models: are both given"),
        (TWO + "  - engine: {name: extractive}", "is there twice"),
        (
            TWO.replace("share: 2", "shares: 2"),
            r"models.0.shares: unknown key; did you mean 'share'",
        ),
        (TWO.replace("share: 2", "share: -2"), r"models.0.share: .*greater than or equal to 0"),
        (TWO.replace("concurrency", "concurency"), r"models.0.engine.concurency: .*'concurrency'"),
    ],
)
def test_a_wrong_mix_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(tmp_path, text)


def test_a_task_that_no_model_has_a_share_of_is_refused(tmp_path: Path) -> None:
    profile = read(tmp_path, TWO, "models=[{engine: {name: extractive}, tasks: {retrieval: 0}}]")
    with pytest.raises(UserError, match=r"none has a share of retrieval in Swahili \(sw\)"):
        check_profile(profile, [language("sw")])


def test_there_is_a_stage_for_evaluation_sets_where_some_are_named(tmp_path: Path) -> None:
    plain = "prompts: {retrieval/short_query: 1}"
    sets = "stages.decontaminate.against=[evaluation/xquad-sw]"
    for given, there in [((), ["dedupe", "mine"]), ((sets,), ["dedupe", "decontaminate", "mine"])]:
        pipeline = read(tmp_path, plain, *given).build([language("sw")])
        assert [stage.name for stage in pipeline.rounds][4:] == there
    with pytest.raises(UserError, match="stages.decontaminate.against"):
        read(tmp_path, plain, "stages.decontaminate.words=9")


SECRET = "hunter2-of-mine"


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([f"engine.base_url=https://me:{SECRET}@h.example/v1"], "must hold no user, password"),
        ([f"engine.base_url=https://h.example/v1?key={SECRET}"], "must hold no user, password"),
        (["engine.concurrency=much"], r"--set engine.concurrency: .*\(given: 'much'\)"),
        (["stages={seed: {limit: -1}}"], r"--set stages: stages.seed.limit: .*\(given: -1\)"),
        (["x=" + "[" * 3000], "too deeply nested"),
        (
            ["stages.filter.filters.length.min_query=abc"],
            r"--set stages.filter.filters.length.min_query: Input should be a valid integer",
        ),
        (
            ["stages.filter.filters.language.foo=1"],
            r"--set stages.filter.filters.language.foo: unknown key; allowed: none",
        ),
        (
            ["stages.filter.filters.lenght.min_query=1"],
            r"--set stages.filter.filters.lenght.min_query: stages.filter.filters.lenght: "
            r"unknown key; did you mean 'length'\?",
        ),
        (["stages.filter.filters.length="], r"length: give false to switch the filter off"),
        (["stages.mine.num_negatives=2"], r"num_negatives: 2 are fewer than min_negatives"),
        (["stages.miner.pool_size=3"], r"--set stages.miner.pool_size: stages.miner: unknown key"),
    ],
)
def test_a_wrong_flag_is_named_and_no_secret_said_back(
    tmp_path: Path, sets: list[str], said: str
) -> None:
    text = "engine: {name: openai, model: a}\nprompts: {retrieval/short_query: 1}"
    with pytest.raises(UserError, match=said) as error:
        read(tmp_path, text, *sets)
    assert SECRET not in str(error.value)
    assert ": :" not in str(error.value)


def test_what_is_wrong_is_told_before_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"p.yaml: pares: unknown key; did you mean 'pairs'"):
        read(tmp_path, "pares: 5")
    with pytest.raises(UserError, match=r"p.yaml: prompts: Field required"):
        read(tmp_path, "pairs: 5")

"""What is refused before anything starts, all of it at once."""

import re
from pathlib import Path

import pytest

from pipelines.preflight import check_profile, weights_gb
from pipelines.profile import load_profile
from pipelines.settings import config_names
from sdg.engines import VLLMEngine
from sdg.errors import UserError
from sdg.languages import language

pytest.importorskip("vllm")

MODEL = """
gpus: {gpus}
gpu_memory_gb: 80
models:
  - engine: {{name: vllm, model: {model}, tensor_parallel_size: {num}, max_model_len: {context}}}
    {more}
prompts: {{retrieval/short_query: 1}}
"""


@pytest.fixture(autouse=True)
def hub_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a model that is not in the cache is a problem of its own; nothing asks the hub."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def problem(folder: Path, text: str, *langs: str) -> str:
    (folder / "p.yaml").write_text(text, encoding="utf-8")
    profile = load_profile(str(folder / "p.yaml"), {}, [])
    try:
        check_profile(profile, [language(code) for code in langs or ["sw"]])
    except UserError as error:
        return str(error)
    return ""


def one_model(
    model: str, num: int = 1, gpus: int = 8, context: int = 8192, more: str = "share: 1"
) -> str:
    return MODEL.format(model=model, num=num, gpus=gpus, context=context, more=more)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (one_model("org/Some-8B"), ""),
        (one_model("org/Some-32B"), ""),  # 64 of 69 GB
        (
            one_model("org/Some-70B"),
            "about 140 GB, 140 GB on each of 1 GPUs.*tensor_parallel_size: 4",
        ),
        (one_model("org/Some-70B", 2), "70 GB on each of 2 GPUs.*tensor_parallel_size: 4"),
        (one_model("org/Some-70B", 4), ""),
        (one_model("org/Some-70B-FP8", 2), ""),
        (one_model("org/Some-70B", 4, gpus=2), "tensor_parallel_size 4, but there are 2 GPUs"),
        (one_model("org/odd", more="weights_gb: 90"), "about 90 GB"),
        (one_model("org/Some-8B", context=512), "max_model_len 512, but prompt retrieval/short"),
    ],
)
def test_gpus_memory_and_context(tmp_path: Path, text: str, said: str) -> None:
    found = problem(tmp_path, text)
    assert bool(found) == bool(said), found
    assert re.search(said, found)
    assert "\n" not in found


def test_a_language_of_many_tokens_needs_more_context(tmp_path: Path) -> None:
    text = one_model("org/Some-8B", context=2048)
    assert problem(tmp_path, text, "en") == ""
    assert "in Amharic" in problem(tmp_path, text, "en", "am")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = (
        one_model("org/Some-70B", context=512)
        .replace("prompts: {", "prompts: {retrieval/nothing: 1, sts/ideas: 1, sts/passage: 1, ")
        .replace("share: 1", "tasks: {sts: 0}")
    )
    found = problem(tmp_path, text).splitlines()
    assert found[0] == "5 problems:"
    for said in ("retrieval/nothing", "sts/ideas asks for ideas", "none has a share of sts"):
        assert sum(said in line for line in found) == 1, found
    assert sum("org/Some-70B: " in line for line in found) == 2


@pytest.mark.parametrize(
    ("name", "quantization", "size"),
    [
        ("Qwen/Qwen3-32B", None, 64),
        ("Qwen/Qwen3-0.6B", None, 1.2),
        ("org/m-70b-AWQ", None, 38.5),
        ("org/m-7B", "fp8", 7),
        ("mistralai/Mixtral-8x7B-v0.1", None, 112),
        ("org/base-model", None, None),
        ("/data/models/mine-3B-instruct", None, 6),
    ],
)
def test_size_by_name(name: str, quantization: str | None, size: float | None) -> None:
    assert weights_gb(name, quantization) == pytest.approx(size)


@pytest.mark.parametrize("name", config_names())
def test_profiles_that_come_along_are_sound(name: str, tmp_path: Path) -> None:
    profile = load_profile(name, {}, ["engine.model=m"] if name == "laptop" else [])
    if name != "laptop":  # no endpoint is here to ask
        check_profile(profile, [language(code) for code in ("sw", "ha", "am", "zh", "yo")])
    pipeline = profile.build([language("sw")])
    quotas = pipeline.render.quotas(["sw"])
    if name == "nemotron8b":  # arXiv 2511.07025, section 3
        assert quotas == {
            "sw/classification": 1_044_212,
            "sw/sts": 239_997,
            "sw/retrieval": 182_814,
            "sw/bitext": 169_534,
        }
        models = [s.engine.model for s in profile.mix if isinstance(s.engine, VLLMEngine)]
        assert len(models) == len(set(models)) == 6
        assert {section.share for section in profile.mix} == {1.0}

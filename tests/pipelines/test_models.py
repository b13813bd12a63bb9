"""The whole road with a language model: a real vLLM engine, and a real endpoint.

The model is tiny and random: its replies follow the JSON schema and mean nothing, so nearly all of
them are dropped by the filters. What is tested is that each arrives, is parsed and accounted for.
"""

import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.samples import sample_seeds
from sdg.account import run_lang
from sdg.ideas import write_ideas
from sdg.prompting import load_prompt
from sdg.replies import REASONS
from sdg.schema import Call, Pair, read_rows, rows_of
from sdg.tasks import TASKS
from sdg.tasks.retrieval import QueryReply
from sdg.text import normalize
from tests.pipelines.test_generate import ROOT, generate
from tests.rows import NO_FILTERS, bundled_seeds

pytestmark = pytest.mark.timeout(1500)  # a start of vLLM takes a minute, or five on a busy machine

PROFILE = """
prompts: {retrieval/short_query: 1, retrieval/crosslingual_query: 1}
stages:
  seed: {shard_rows: 4}
  render: {calls_per_seed: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small corpus and a profile."""
    lines = (ROOT / "sdg/corpus/sw.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:8]]
    short = [{"text": row["text"][:300], "title": row["title"]} for row in rows]
    text = "\n".join(json.dumps(row) for row in short)
    (tmp_path / "corpus.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "profile.yaml").write_text(PROFILE, encoding="utf-8")
    return tmp_path


def check_run(run: Path, model: str) -> None:
    """Sixteen calls went out; every reply came back, was parsed or dropped with its reason."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    stages = {stage["name"]: stage for stage in summary["stages"]}
    assert summary["calls"] == stages["infer"]["num_in"] == 16
    assert stages["infer"]["num_kept"] == 16, stages["infer"]
    calls = rows_of(read_rows(sorted(run.glob("stages/3-infer/kept/*.parquet")), Call), Call)
    assert len({call.id for call in calls}) == 16
    assert {call.model for call in calls} == {model}
    assert {call.lang for call in calls} > {"sw"}, "some queries were wanted in other languages"
    stopped = [call for call in calls if call.finish_reason == "stop"]
    for call in stopped:
        QueryReply.model_validate(json.loads(call.reply or "", strict=False))
    cut = stages["parse"]["dropped"].get("reply_cut", 0)
    assert len(stopped) + cut == 16
    assert stages["parse"]["num_kept"] <= len(stopped)
    assert summary["tokens_out"] == sum(call.tokens_out or 0 for call in calls) > 0
    assert summary["tokens_in"] == sum(call.tokens_in or 0 for call in calls) > 16 * 300
    for stage in summary["stages"]:
        assert stage["num_in"] == stage["num_kept"] + sum(stage["dropped"].values())
    dropped = [pq.read_table(path) for path in run.glob("stages/5-filter/dropped/*.parquet")]
    assert sum(t.num_rows for t in dropped) == sum(stages["filter"]["dropped"].values())


ARGUMENTS = ["--lang", "sw", "--corpus", "corpus.jsonl", "--config", "profile.yaml"]


FAMILIES = ("bitext", "classification", "retrieval", "sts", "translate")
LANGS = ("am", "sw", "zh")
PROMPTS = (
    *("retrieval/short_query", "retrieval/from_idea", "classification/passage"),
    *("classification/from_idea", "sts/passage", "sts/from_idea", "bitext/passage"),
    *("bitext/from_idea", "translate/pair"),
)


def write_sources(folder: Path, model: Path) -> Path:
    """Passages, a task list and pairs to translate, in `folder`; the profile that uses them."""
    docs = [
        {"text": normalize(seed.text)[:200], "lang": lang}
        for lang in LANGS
        for seed in bundled_seeds(lang)[:3]
    ]
    (folder / "passages.jsonl").write_text("\n".join(map(json.dumps, docs)), encoding="utf-8")
    pair = {"query": "why do bees dance", "positive": "Bees dance to show the way.", "lang": "en"}
    (folder / "pairs.jsonl").write_text(json.dumps(pair), encoding="utf-8")
    ideas = [load_prompt(name, "en") for name in PROMPTS if name.endswith("from_idea")]
    write_ideas(folder / "ideas.parquet", [sample_seeds(idea, "en", 1)[0] for idea in ideas])
    engine = {"name": "vllm", "model": str(model), "cpu_kv_cache_gb": 0.25}
    profile = {
        "corpus": {"path": str(folder / "passages.jsonl")},
        "ideas": {"path": str(folder / "ideas.parquet")},
        "translate": {"path": str(folder / "pairs.jsonl")},
        "models": [{"engine": engine, "sampling": {"max_tokens": 300}}],
        "prompts": dict.fromkeys(PROMPTS, 1),
        "stages": {"seed": {"shard_rows": 4}, "render": {"calls_per_seed": 4}},
    }
    (folder / "families.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    return folder / "families.yaml"


def test_all_families_through_a_vllm_engine_in_a_ray_actor(tmp_path: Path, tiny_llm: Path) -> None:
    pytest.importorskip("vllm")
    command = ["--lang", ",".join(LANGS), "--config", str(write_sources(tmp_path, tiny_llm))]
    done = generate(tmp_path, *command, "--run", "all")
    assert "Traceback" not in done.stderr
    assert "dropped, by reason" in done.stdout, done.stderr
    run = tmp_path / "runs/all"
    calls: list[Call] = rows_of(
        read_rows(sorted(run.glob("stages/3-infer/kept/*.parquet")), Call), Call
    )
    rendered = read_rows(sorted(run.glob("stages/2-render/kept/*.parquet")), Call)
    assert len(calls) == rendered.num_rows
    cells = Counter((call.task, run_lang(call.positive_lang, call.controls)) for call in calls)
    assert set(cells) == {(family, lang) for family in FAMILIES for lang in LANGS}
    assert min(cells.values()) >= 3
    whole = [call for call in calls if call.finish_reason == "stop"]
    assert {call.task for call in whole} >= {"retrieval", "classification"}
    for call in whole:
        reply = json.loads(call.reply or "", strict=False)
        TASKS[call.task].model_of(call).model_validate(reply)
    dropped = pq.read_table(run / "stages/4-parse/dropped")
    assert set(dropped["reason"].to_pylist()) <= {*REASONS, "negative_equals_positive"}
    pairs = read_rows(sorted(run.glob("stages/4-parse/kept/*.parquet")), Pair)
    assert pairs.num_rows + dropped.num_rows == len(calls)
    # Another run with another filter: no call, and no engine either.
    again = generate(
        tmp_path, *command, "--run", "again", "--set", f"stages.filter.filters={NO_FILTERS}"
    )
    assert re.search(rf"\W0\W+{len(calls)}\W+0\W+0\W", again.stdout), again.stdout + again.stderr
    for path in run.glob("stages/3-infer/kept/*.parquet"):
        fresh = pq.read_table(tmp_path / "runs/again/stages/3-infer/kept" / path.name)
        assert fresh["reply"].equals(pq.read_table(path)["reply"])
    logs = [tmp_path / "runs" / name / "logs/run.log" for name in ("all", "again")]
    # But for what folders are called.
    first, second = (log.read_text("utf-8").replace(str(tmp_path), "").lower() for log in logs)
    assert "vllm" in first
    assert "vllm" not in second


def test_an_openai_endpoint(folder: Path, vllm_url: str) -> None:
    done = generate(
        folder, *ARGUMENTS, "--engine", "openai", "--model", "tiny", OPENAI_BASE_URL=vllm_url
    )
    assert "Traceback" not in done.stderr
    assert "dropped, by reason" in done.stdout, done.stderr
    check_run(folder / "runs/sw", "tiny")


def test_an_endpoint_that_is_down_is_said_within_seconds(folder: Path) -> None:
    done = generate(
        folder,
        *(*ARGUMENTS, "--engine", "openai", "--model", "tiny"),
        OPENAI_BASE_URL="http://127.0.0.1:9/v1",
    )
    assert done.returncode == 2
    assert "http://127.0.0.1:9/v1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_model_is_said_with_what_the_endpoint_has(folder: Path, vllm_url: str) -> None:
    done = generate(
        folder, *ARGUMENTS, "--engine", "openai", "--model", "huge", OPENAI_BASE_URL=vllm_url
    )
    assert done.returncode == 2
    assert "huge" in done.stderr
    assert "tiny" in done.stderr

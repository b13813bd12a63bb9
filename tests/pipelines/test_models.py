"""The whole road with a language model: a real vLLM engine, and a real endpoint.

The model is tiny and random: its replies follow the JSON schema and mean nothing, so nearly all of
them are dropped by the filters. What is tested is that each arrives, is parsed and accounted for.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sdg.schema import Call, read_rows, rows_of
from sdg.tasks.retrieval import QueryReply
from tests.pipelines.test_generate import ROOT, generate

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


def test_a_vllm_engine_in_a_ray_actor(folder: Path, tiny_llm: Path) -> None:
    pytest.importorskip("vllm")
    done = generate(
        folder,
        *ARGUMENTS,
        *("--engine", "vllm", "--model", str(tiny_llm), "--set", "engine.cpu_kv_cache_gb=0.25"),
    )
    assert "Traceback" not in done.stderr
    assert "dropped, by reason" in done.stdout, done.stderr
    check_run(folder / "runs/sw", str(tiny_llm))


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

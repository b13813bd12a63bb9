"""`--dry-run` tells what a run would ask, and asks nothing."""

import json
from pathlib import Path

import pytest

from pipelines.dry_run import Tally, add_judged
from sdg.engines.openai import OpenAIEngine
from sdg.prompting import load_prompt
from sdg.schema import Call, to_table
from sdg.stage import Context
from sdg.stages import JudgeStage
from tests.engines.scripted_server import serving
from tests.pipelines.test_generate import generate
from tests.rows import make_seed
from tests.stages.test_render import render

PROFILE = """
prompts: {retrieval/short_query: 1, sts/from_idea: 1}
ideas: {prompts: {sts/ideas: 1}, calls: 7, models: [model-1]}
models:
  - engine: {name: extractive}
    tasks: {sts: 0}
    price_in: 1000
  - engine: {name: openai, model: model-1, base_url: "URL"}
    tasks: {retrieval: 0}
    price_out: 2000
"""


def test_calls_are_counted_by_model_and_language(tmp_path: Path) -> None:
    with serving() as server:
        text = PROFILE.replace("URL", server.url)
        (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
        done = generate(
            tmp_path, "--lang", "sw,am", "--pairs", "40", "--config", "p.yaml", "--dry-run", "1"
        )
        assert done.returncode == 0, done.stderr
        assert server.requests == []  # not one call
    assert not (tmp_path / "runs").exists()
    lines = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    cells = {(line[0], line[1]): line[2:] for line in lines if len(line) > 3}
    assert cells["extractive", "sw"][:2] == cells["extractive", "am"][:2] == ["15", "0"]
    assert cells["model-1", "en"][0] == "7"  # for ideas
    assert cells["all", ""][0] == "37"
    most_out = int(cells["model-1", "en"][3].replace(",", ""))
    assert most_out % 7 == 0
    assert float(cells["model-1", "en"][4].replace(",", "")) == round(2000 * most_out / 1e6, 2)
    assert "ideas are not there yet" in done.stdout


def test_a_dry_run_counts_what_the_run_then_asks(tmp_path: Path) -> None:
    arguments = ("--lang", "sw", "--pairs", "20")
    told = generate(tmp_path, *arguments, "--dry-run")
    assert generate(tmp_path, *arguments).returncode == 0
    summary = json.loads((tmp_path / "runs/sw/summary.json").read_text(encoding="utf-8"))
    assert f" {summary['rounds'][0]['stages'][1]['num_in']} " in told.stdout
    assert summary["models"]["extractive"]["calls"] == summary["calls"]
    assert summary["quota"]["sw/retrieval"]["quota"] == 20


def test_a_judges_calls_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One a call, and what its prompt comes to with the passage as each of its texts."""
    monkeypatch.setattr("pipelines.dry_run.COUNTED", 20)
    judge = JudgeStage(engine=OpenAIEngine(model="j"), num_others=2)
    seeds = [make_seed(f"Maandishi {'marefu ' * (i % 3)}{i}.") for i in range(10)]
    calls = render(seeds, lang="sw", prompts={"retrieval/short_query": 1})
    tallies: dict[tuple[str, str], Tally] = {}
    add_judged(tallies, judge, to_table(calls, Call), Context(("sw",), 0, Path()))
    ((key, tally),) = tallies.items()
    assert key == ("j (judge)", "sw")
    assert (tally.calls, tally.counted) == (len(calls), 20) and len(calls) > 20
    prompt = load_prompt("judge/pair", "sw")
    assert tally.most_out == len(calls) * prompt.sampling.max_tokens
    # Three texts and the prompt itself, in tokens of three characters or so.
    characters = len(prompt.body) + 3 * sum(len(seed.text) for seed in seeds) / len(seeds)
    assert characters / 6 < tally.tokens / 20 < characters / 2

"""`--dry-run` tells what a run would ask, and asks nothing."""

import json
from pathlib import Path

from tests.engines.scripted_server import serving
from tests.pipelines.test_generate import generate

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

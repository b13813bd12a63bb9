"""`python -m pipelines.generate` as a user runs it: the whole road, on a real Ray."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from sdg.schema import Example, read_rows, rows_of
from sdg.storage import path_of, put, read_table
from sdg.text import canonical
from tests.object_store import bucket

pytestmark = pytest.mark.timeout(1500)  # some start Ray seven times, on a machine that may be busy

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600  # with one run


def generate(
    folder: Path, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run it in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines.generate", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def examples_of(run: Path) -> list[Example]:
    return rows_of(read_rows(sorted(run.glob("examples/*.parquet")), Example), Example)


@pytest.fixture(scope="module")
def swahili(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run on the bundled Swahili corpus: its folder, and what the user saw."""
    folder = tmp_path_factory.mktemp("swahili")
    done = generate(folder, "--lang", "sw")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs" / "sw", done.stdout


def test_every_passage_gives_good_examples(swahili: tuple[Path, str]) -> None:
    rows = examples_of(swahili[0])
    corpus = (ROOT / "sdg/corpus/sw.jsonl").read_text(encoding="utf-8").splitlines()
    assert {row.provenance.source.split("#")[1] for row in rows} >= {
        json.loads(line)["id"] for line in corpus
    }
    titles = {json.loads(line)["title"] for line in corpus}
    assert titles <= {row.query for row in rows}
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        positive, query = canonical(row.positives[0]), canonical(row.query)
        negatives = [canonical(negative) for negative in row.negatives]
        assert 4 <= len(set(negatives)) == len(negatives) <= 8
        assert not any(positive in negative or query in negative for negative in negatives)
        assert row.instruction and row.provenance.license == "CC0-1.0"
        assert max(row.negative_scores) < 0.95 * row.positive_scores[0]


def test_a_release_of_it_is_made_again(swahili: tuple[Path, str]) -> None:
    folder = swahili[0].parents[1]
    for module, arguments in (
        ("release", ["--run", "sw"]),
        ("reproduce", ["--release", "releases/sw"]),
    ):
        done = subprocess.run(
            [sys.executable, "-m", f"pipelines.{module}", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"rows: all {len(examples_of(swahili[0])):,} are equal\nreproduced" in done.stdout


def test_the_summary_accounts_for_every_row(swahili: tuple[Path, str]) -> None:
    run, _ = swahili
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    stages = summary["stages"]
    names = [stage["name"] for stage in stages]
    assert names == ["seed", "render", "infer", "parse", "filter", "dedupe", "mine", "mix"]
    for stage in stages:
        assert stage["num_in"] == stage["num_kept"] + sum(stage["dropped"].values())
        folder = next((run / "stages").glob(f"*-{stage['name']}"))
        dropped = [pq.read_table(path).num_rows for path in folder.glob("dropped/*.parquet")]
        assert sum(dropped) == sum(stage["dropped"].values())
    for before, after in itertools.pairwise(stages):
        assert after["num_in"] == before["num_out"]
    assert summary["examples"] == len(examples_of(run)) == stages[-1]["num_out"]


def test_the_account_by_slice_adds_up_to_the_stages(swahili: tuple[Path, str]) -> None:
    summary = json.loads((swahili[0] / "summary.json").read_text(encoding="utf-8"))
    for stage in summary["stages"]:
        mine = [row["stages"].get(stage["name"], {}) for row in summary["account"]]
        for number in ("num_in", "num_kept", "num_out"):
            assert sum(count.get(number, 0) for count in mine) == stage[number]
    for row in summary["account"]:
        assert row["lang"] == "sw"
        for before, after in itertools.pairwise(row["stages"].values()):
            if row["task"]:
                assert after["num_in"] == before["num_out"]
    written = Counter(e.provenance.prompt for e in examples_of(swahili[0]))
    kept = {row["prompt"]: row["kept"] for row in summary["account"] if row["task"]}
    assert kept == written
    assert summary["warnings"] == []


def test_the_screen_shows_the_table_samples_files_and_the_way_on(swahili: tuple[Path, str]) -> None:
    screen = swahili[1]
    for shown in (
        "Swahili (Kiswahili)",
        "dropped, by reason",
        "Example 3",
        "runs/sw/examples/*.parquet",
        "runs/sw/summary.json",
        "runs/sw/report.html",
        "load_dataset",
    ):
        assert shown in screen
    assert "Ray" not in screen.replace("starting Ray", "")
    assert "WARNING" not in screen
    assert (swahili[0] / "logs" / "run.log").stat().st_size > 0


def test_datasets_reads_it_and_the_card_is_a_card(
    swahili: tuple[Path, str], tmp_path: Path
) -> None:
    from datasets import load_dataset

    run, _ = swahili
    folder = str(run / "examples")
    data = load_dataset("parquet", data_dir=folder, split="train", cache_dir=str(tmp_path))
    assert len(data) == len(examples_of(run))
    front = yaml.safe_load((run / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["language"] == ["sw"]
    assert front["license"] == "cc0-1.0"


def test_one_step_of_sentence_transformers(swahili: tuple[Path, str], tmp_path: Path) -> None:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.training_args import (
        SentenceTransformerTrainingArguments,
    )

    from tests.minilm_gain import minilm_path

    rows = examples_of(swahili[0])[:8]
    data = Dataset.from_dict(
        {
            "anchor": [row.query for row in rows],
            "positive": [row.positives[0] for row in rows],
            "negative": [row.negatives[0] for row in rows],
        }
    )
    model = SentenceTransformer(str(minilm_path()), device="cpu")
    before = torch.cat([p.detach().clone().ravel() for p in model.parameters()])
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), max_steps=1, use_cpu=True, report_to=[], save_strategy="no"
    )
    loss = MultipleNegativesRankingLoss(model)
    trained = SentenceTransformerTrainer(model, arguments, train_dataset=data, loss=loss).train()
    after = torch.cat([p.detach().ravel() for p in model.parameters()])
    assert 0 < trained.training_loss < 20
    assert not torch.equal(before, after)


def test_the_same_seed_gives_the_same_rows_and_another_does_not(
    swahili: tuple[Path, str], tmp_path: Path
) -> None:
    again = generate(tmp_path, "--lang", "sw", "--run", "again", "--set", "workers=1")
    other = generate(tmp_path, "--lang", "sw", "--run", "other", "--seed", "1", "--pairs", "20")
    assert again.returncode == other.returncode == 0, again.stderr + other.stderr
    assert examples_of(tmp_path / "runs/again") == examples_of(swahili[0])
    asked = examples_of(tmp_path / "runs/other")
    assert len(asked) == 20
    assert not {row.id for row in asked} & {row.id for row in examples_of(swahili[0])}


def test_a_finished_run_is_not_done_again_and_other_settings_are_refused(
    swahili: tuple[Path, str],
) -> None:
    run, screen = swahili
    stages = {p: p.stat().st_mtime_ns for p in run.glob("stages/*/*/*.parquet")}
    again = generate(run.parents[1], "--lang", "sw")
    assert again.returncode == 0, again.stderr
    first = [line for line in screen.splitlines() if " rows" in line and ":" in line]
    assert first[0].startswith("seed: ")
    for line in first:
        assert line.startswith("sketch: ") or f"{line} (done before)" in again.stdout
    assert ", 0 rows" not in again.stdout
    assert {p: p.stat().st_mtime_ns for p in run.glob("stages/*/*/*.parquet")} == stages
    refused = generate(run.parents[1], "--lang", "sw", "--set", "stages.mine.max_share=0.9")
    assert refused.returncode == 2
    assert "max_share was 0.95, now 0.9" in refused.stderr
    assert "RUN=<name>" in refused.stderr


def test_kill_9_and_resume_give_the_same_rows(tmp_path: Path) -> None:
    from tests.kill_campaign import campaign

    assert campaign(["--lang", "sw"], tmp_path, kills=3, seed=20) == 0


def test_a_run_in_an_object_store_that_is_killed_gives_the_same_rows(
    swahili: tuple[Path, str], tmp_path: Path
) -> None:
    pytest.importorskip("s3fs")
    with bucket() as url:
        put(ROOT / "sdg/corpus/sw.jsonl", path_of(f"{url}/corpora/sw.jsonl"))
        arguments = ["--lang", "sw", "--corpus", f"{url}/corpora/*.jsonl"]
        arguments += ["--set", f"runs={url}/runs", "--set", "stages.seed.shard_rows=16"]
        run = path_of(f"{url}/runs/sw")
        command = [sys.executable, "-m", "pipelines.generate", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=-3) as driver:
            while driver.poll() is None and not list(run.glob("stages/4-parse/kept/*")):
                time.sleep(0.1)
            driver.kill()
        assert not (run / "summary.json").exists()
        (run / "lock").unlink()  # which would count as left behind a little later
        before = {path.name for path in run.glob("stages/3-infer/kept/*")}
        done = generate(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert before
        parts = [read_table(path) for path in sorted(run.glob("examples/*.parquet"))]
        rows = [row for part in parts for row in rows_of(part, Example)]
        assert sorted(rows, key=lambda row: row.id) == sorted(
            examples_of(swahili[0]), key=lambda row: row.id
        )
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        assert summary["examples"] == len(rows)
        assert sorted(path.name for path in run.iterdir()) == [
            *("README.md", "examples", "logs", "profile.json", "report.html", "stages"),
            "summary.json",
        ]
    assert list(tmp_path.iterdir()) == []  # nothing of it is here


def test_more_pairs_than_the_corpus_gives_is_said(tmp_path: Path) -> None:
    documents = [
        json.loads(line)["text"]
        for line in (ROOT / "sdg/corpus/sw.jsonl").read_text(encoding="utf-8").splitlines()[:12]
    ]
    (tmp_path / "small.txt").write_text("\n\n".join(documents), encoding="utf-8")
    done = generate(tmp_path, "--lang", "sw", "--corpus", "small.txt", "--pairs", "5000")
    assert done.returncode == 0, done.stderr
    assert "PAIRS=5,000 wanted" in done.stdout


def run_bad(folder: Path, *arguments: str, **environment: str) -> str:
    """A run that must fail; its one line."""
    done = generate(folder, *arguments, **environment)
    assert done.returncode in (1, 2), done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    return lines[0]


def corpus_bytes(kind: str) -> bytes:
    english = (ROOT / "sdg/corpus/en.jsonl").read_bytes()
    return {
        "empty.jsonl": b"",
        "cut.parquet": b"PAR1" + b"\0" * 40,
        "english.jsonl": english,
        "columns.csv": b"a,b\n1,2\n",
        "latin1.txt": "caf\xe9 \xe0 la cr\xe8me".encode("latin-1") * 20,
    }[kind]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lang", "sx"], "near ones: sw (Swahili)"),
        (["--lang", "swahili"], "did you mean LANG=sw"),
        (["--lang", "sw", "--run", "../out"], "RUN=../out"),
        (["--lang", "yo"], "CORPUS="),
        (["--lang", "sw", "--corpus", "missing.parquet"], "missing.parquet"),
        (["--lang", "sw", "--config", "nothing"], "embedded"),
        (["--lang", "sw", "--set", "stages.mine.negatives=3"], "num_negatives"),
        (["--lang", "sw", "--set", "pairs=many"], "--set pairs"),
        (["--lang", "sw", "--set", "engine.name=gpt"], "engine"),
        (["--lang", "sw", "--set", "workers=4000"], "processors"),
        (["--lang", "sw", "--set", "memory_gb=4000"], "4000.0 GB"),
        (["--lang", "sw", "--model", "m"], "ENGINE="),
        (["--lang", "sw", "--set", "prompts={retrieval/none: 1}"], "retrieval/short_query"),
        (["--lang", "sw", "--set", "prompts={retrieval/long_question: 1}"], "cannot answer prompt"),
        (["--lang", "sw", "--set", "prompts={retrieval/crosslingual_query: 1}"], "ENGINE=vllm"),
        (["--lang", "sw", "--engine", "openai"], "MODEL"),
    ],
)
def test_a_wrong_argument_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in run_bad(tmp_path, *arguments, OPENAI_BASE_URL="http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.jsonl", "empty"),
        ("cut.parquet", "Parquet"),
        ("english.jsonl", "LANG=en"),
        ("columns.csv", "corpus.text="),
        ("latin1.txt", "UTF-8"),
    ],
)
def test_a_bad_corpus_is_one_line(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(corpus_bytes(name))
    line = run_bad(tmp_path, "--lang", "sw", "--corpus", name)
    assert name in line
    assert said in line


def test_a_profile_with_a_wrong_key_names_file_key_and_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("prompts: {retrieval/short_query: 1}\nstages: {filtr: {}}\n")
    line = run_bad(tmp_path, "--lang", "sw", "--config", "p.yaml")
    for said in ("p.yaml", "stages.filtr", "did you mean 'filter'", "dedupe"):
        assert said in line


def test_corpus_text_is_data(tmp_path: Path) -> None:
    """Template code, path tricks and control characters in a corpus change nothing outside it."""
    base = [json.loads(x) for x in (ROOT / "sdg/corpus/sw.jsonl").read_text("utf-8").splitlines()]
    for number, row in enumerate(base):
        row["id"] = "../../escaped/" + row["id"]
        row["license"] = "x\n---\nevil: 1"
        row["text"] = (
            "{{ 7 * 7 }} {% raw %} \u0000\u202e" + row["text"] if number % 2 else row["text"]
        )
    text = "\n".join(json.dumps(row) for row in base)
    (tmp_path / "evil.jsonl").write_text(text, encoding="utf-8")
    done = generate(tmp_path, "--lang", "sw", "--corpus", "evil.jsonl")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.jsonl", "runs"]
    rows = examples_of(tmp_path / "runs/sw")
    assert any("{{ 7 * 7 }}" in row.positives[0] for row in rows)
    front = yaml.safe_load((tmp_path / "runs/sw/README.md").read_text("utf-8").split("---\n")[1])
    assert front["license"] == "other"
    assert "evil" not in front

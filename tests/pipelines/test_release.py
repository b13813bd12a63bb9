"""`make release`: what is in the folder, its sums, and what is refused. That a release is made again
is tested where there is a run: see test_generate.py."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from embedtrain.train import train
from pipelines import release, reproduce
from pipelines.e2e import bundled, write_titles
from pipelines.profile import load_profile
from sdg.errors import UserError
from sdg.prompting import PROMPTS_DIR, load_prompt
from sdg.schema import Example, to_table
from sdg.store import write_json, write_table
from tests import tiny_training
from tests.finished_run import examples_of, finished_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run on a corpus of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "news.jsonl").write_text('{"text": "Maji ni uhai."}\n')
    folder = tmp_path / "runs" / "r"
    finished_run(folder, ("sw",))
    profile = load_profile("", {"corpus.path": "news.jsonl"}, [])
    write_json(folder / "profile.json", profile.model_dump(mode="json"))
    return folder


def make(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", "-s", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_is_released_with_sums_that_check(run_dir: Path, tmp_path: Path) -> None:
    assert release.main(["--run", "r"]) == 0
    out = tmp_path / "releases" / "r"
    assert load_profile(str(out / "profile.json"), {}, []).corpus.path == "news.jsonl"
    names = {path.relative_to(PROMPTS_DIR).as_posix() for path in PROMPTS_DIR.rglob("*_query*.md")}
    prompts = {path.relative_to(out / "prompts").as_posix() for path in out.rglob("prompts/*/*")}
    assert prompts == {n for n in names if n.split("/")[1].startswith(("short_", "keyword_"))}
    about = json.loads((out / "release.json").read_text())
    done = subprocess.run(["sha256sum", "news.jsonl"], capture_output=True, text=True, check=True)
    assert about["corpus"] == {"news.jsonl": done.stdout.split()[0]}
    assert not list(out.rglob("news.jsonl"))  # it may be another's
    assert pq.read_table(out / "data" / "examples").num_rows == about["examples"] == 8
    assert make(out, "check").returncode == 0
    sums = (out / "SHA256SUMS").read_text().splitlines()
    assert len(sums) == len([path for path in out.rglob("*") if path.is_file()]) - 1
    assert "make reproduce MBEGU=" in (out / "README.md").read_text()
    again = make(out, "reproduce", "--dry-run", f"MBEGU={ROOT}", "CORPUS=here.jsonl")
    assert again.returncode == 0, again.stderr
    assert "pipelines.reproduce" in again.stdout
    assert make(out, "reproduce").returncode == 2


def test_the_same_again_is_well_and_other_content_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "releases" / "r"
    assert release.main(["--run", "r"]) == release.main(["--run", "r"]) == 0
    assert "there already, the same" in capsys.readouterr().out
    finished_run(run_dir, ("sw", "ha"))
    assert release.main(["--run", "r"]) == 2
    assert "there already, with other content" in capsys.readouterr().err
    assert make(out, "check").returncode == 0  # and left as it was
    assert [path.name for path in out.parent.iterdir()] == ["r"]


def test_whatever_was_changed_in_a_release_is_named(run_dir: Path, tmp_path: Path) -> None:
    release.main(["--run", "r"])
    out = tmp_path / "releases" / "r"
    assert release.changed(out) == []
    for path, text in (("added.txt", "x"), ("data/summary.json", "{}")):
        (out / path).unlink(missing_ok=True)  # a file of its own, not the run's
        (out / path).write_text(text)
    (out / "Makefile").unlink()
    assert release.changed(out) == ["Makefile", "added.txt", "data/summary.json"]
    assert reproduce.main(["--release", str(out)]) == 2
    with pytest.raises(UserError, match="no release"):
        release.changed(tmp_path)


def test_a_corpus_of_other_content_is_not_taken_for_the_same(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release.main(["--run", "r"])
    (tmp_path / "news.jsonl").write_text('{"text": "Moto."}\n')
    assert reproduce.main(["--release", "releases/r"]) == 2
    assert "news.jsonl: not the documents of the release" in capsys.readouterr().err


def test_rows_are_compared_by_all_they_hold(tmp_path: Path) -> None:
    rows = examples_of("sw", 6)

    def written(name: str, some: list[Example]) -> Path:
        write_table(tmp_path / name / "00000.parquet", to_table(some, Example))
        return tmp_path / name

    first = written("a", rows)
    assert reproduce.differences(first, written("b", rows[::-1])) == []
    other = rows[1].model_copy(update={"negative_scores": [0.4, 0.2]})
    found = reproduce.differences(first, written("c", [*rows[2:], other]))
    assert found == ["1 missing (sw-0)", "1 other (sw-1)"]
    assert reproduce.differences(written("d", rows[1:]), first) == ["1 new (sw-0)"]


def test_scores_are_compared_within_the_tolerance() -> None:
    def scored(score: float) -> dict[str, Any]:
        return {"task": {"metric": "ndcg", "score": score}}

    assert reproduce.compare_scores(scored(0.5), scored(0.509), 0.01) == []
    (line,) = reproduce.compare_scores(scored(0.5), scored(0.489), 0.01)
    assert line == "task: ndcg 0.5000 released, 0.4890 now"


def test_a_model_goes_along_with_what_it_reaches_and_is_trained_again(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_training.make(
        tmp_path, "bert", steps=2, data={"sources": [{"path": str(run_dir)}]}
    )
    train(config, tmp_path / "trainings" / "t", print)
    write_titles(tmp_path / "titles.sw", bundled("sw")[20:], [])
    assert release.main(["--run", "r", "--training", "t", "--data", "titles.sw"]) == 0
    out = tmp_path / "releases" / "r"
    assert make(out, "check").returncode == 0
    assert (out / "model" / "model.safetensors").is_file()
    results = json.loads((out / "evaluation" / "results.json").read_text())
    model = reproduce.make_model(out, "again", run_dir, None)
    again = release.measure(model, [out / "evaluation" / "titles.sw"])
    assert again["titles_sw"]["score"] == pytest.approx(results["titles_sw"]["score"], abs=1e-6)
    assert reproduce.compare_scores(results, again, 0.01) == []

    finished_run(tmp_path / "runs" / "other", ("sw",))
    write_json(tmp_path / "runs" / "other" / "profile.json", {})
    assert release.main(["--run", "other", "--training", "t"]) == 2
    assert "it cannot be made again from this release" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--run", "nothing"], "the run is not finished"),
        (["--run", "../r"], "letters, digits"),
        (["--run", "r", "--training", "none"], "no finished training"),
        (["--run", "r", "--data", "titles.sw"], "give TRAINING="),
    ],
)
def test_wrong_use_is_refused(
    run_dir: Path, capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    assert release.main(command) == 2
    assert message in capsys.readouterr().err


def test_a_prompt_that_was_edited_since_is_refused(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "retrieval/short_query"
    for sha, status in ((load_prompt(name, "sw").sha, 0), ("another", 2)):
        path = run_dir / "stages" / "2-render" / "stage.json"
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"made_of": {"shas": {name: {"sw": sha}}}})
        assert release.main(["--run", "r"]) == status
    assert "short_query.md was edited since" in capsys.readouterr().err

"""`make probe`: what is kept out of trainings, the ranking, and the profile that follows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedtrain.evaluate import Measured
from pipelines import probe
from pipelines.cells import Result
from pipelines.profile import load_profile
from sdg.engines import ExtractiveEngine
from sdg.schema import Example, to_table
from sdg.store import write_table
from sdg.text import canonical
from tests import tiny_embedders
from tests.finished_run import examples_of
from tests.rows import make_provenance

PROMPTS = ("retrieval/short_query", "retrieval/keyword_query")


def rows(num: int = 120) -> list[Example]:
    """Of 40 passages in two languages, by two prompts and three strategies in turn."""

    def made(i: int, lang: str) -> Any:
        strategy = ("title", "random_crop", "keyphrase")[i % 3]
        return make_provenance(
            seed_id=f"{lang}-{i % 40}",
            prompt=PROMPTS[i // 40 % 2],
            strategy=strategy,
            engine="extractive",
            model="",
        )

    return [
        row.model_copy(update={"provenance": made(i, lang)})
        for lang in ("sw", "ha")
        for i, row in enumerate(examples_of(lang, num))
    ]


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "r"
    write_table(folder / "examples" / "00000.parquet", to_table(rows(), Example))
    tiny_embedders.build(tmp_path / "bert", "bert")
    return folder


def test_passages_kept_out_are_in_no_training(run_dir: Path, tmp_path: Path) -> None:
    split = probe.Split(run_dir, tmp_path / "p")
    sets = split.write()
    assert [folder.name for folder in sets] == ["asked-ha", "asked-sw"]
    trained = pq.read_table(tmp_path / "p" / "train" / "examples").to_pylist()
    assert len(trained) == 2 * 32 * 3
    for folder in sets:
        lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"] for line in lines]
        assert len(texts) == 40  # each passage once
        asked = {canonical(text) for text in texts[:8]}
        assert len(asked) == 8
        for row in trained:
            assert not asked & {canonical(t) for t in row["positives"] + row["negatives"]}
            assert len(row["negatives"]) == len(row["negative_scores"])
    before = {row.id: row for row in rows()}
    assert any(len(row["negatives"]) < len(before[row["id"]].negatives) for row in trained)


def result(cell: str, scores: np.ndarray) -> Result:
    by_query = {f"q{i}": float(score) for i, score in enumerate(scores)}
    measured = Measured("t", "Retrieval", ["swa"], "ndcg", float(scores.mean()), {}, {}, by_query)
    return Result(cell, 0, 100, 1.0, (measured,))


def test_the_better_kind_gets_the_larger_share() -> None:
    random = np.random.default_rng(0)
    base = random.random(50)
    found = probe.rank(
        [
            result("baseline", base),
            result("strategy=good", base + 0.2),
            result("strategy=bad", base),
            result("strategy=worse", base - 0.2),
            result("prompt=a", base + 1e-9),
            result("prompt=b", base),
        ],
        {"strategy": {"bad": 64, "good": 64, "worse": 64}, "prompt": {"a": 64, "b": 64}},
    )
    assert list(found["strategy"]) == ["good", "bad", "worse"]
    good, bad = found["strategy"]["good"], found["strategy"]["bad"]
    # The differences are the same for every query, so the bootstrap cannot doubt them.
    assert (good["difference"], good["low"], good["high"]) == pytest.approx((0.3, 0.3, 0.3))
    assert bad["difference"] == pytest.approx(0.0, abs=1e-9)
    assert (good["best"], good["share"]) == pytest.approx((1.0, 0.5 + 0.5 / 3))
    assert (bad["best"], bad["share"]) == pytest.approx((0.0, 0.5 / 3))
    for ranked in found.values():
        assert sum(one["share"] for one in ranked.values()) == pytest.approx(1)


def test_a_run_is_probed(run_dir: Path, tmp_path: Path) -> None:
    small = "training.set={steps: 2, batch_size: 4, max_tokens: 32, forward_tokens: 400}"
    command = [
        "--run",
        "r",
        "--model",
        "bert",
        "--pairs",
        "64",
        "--set",
        small,
        "--set",
        "seeds=[0]",
    ]
    assert probe.main(command) == 0
    out = tmp_path / "probes" / "r"
    ranking = json.loads((out / "ranking.json").read_text())
    assert {axis: set(ranked) for axis, ranked in ranking.items()} == {
        "prompt": set(PROMPTS),
        "strategy": {"title", "random_crop", "keyphrase"},
    }
    assert "| retrieval/short_query |" in (out / "ranking.md").read_text()
    profile = load_profile(str(out / "profile.yaml"), {}, [])
    assert profile.prompts == pytest.approx(
        {name: ranking["prompt"][name]["share"] for name in PROMPTS}, abs=1e-3
    )
    engine = profile.mix[0].engine
    assert isinstance(engine, ExtractiveEngine)
    assert engine.strategies == pytest.approx(
        {name: one["share"] for name, one in ranking["strategy"].items()}, abs=1e-3
    )


def test_shares_of_models_are_a_profile_too(run_dir: Path, tmp_path: Path) -> None:
    both = [
        row.model_copy(
            update={
                "provenance": row.provenance.model_copy(
                    update={"engine": "openai", "model": ("small", "large")[i % 2]}
                )
            }
        )
        for i, row in enumerate(rows())
    ]
    write_table(run_dir / "examples" / "00000.parquet", to_table(both, Example))
    ranking = {"model": {"large": {"share": 0.7}, "small": {"share": 0.3}}}
    found = probe.profile_of(run_dir, ranking)
    assert found["models"] == [
        {"engine": {"name": "openai", "model": "large"}, "share": 0.7},
        {"engine": {"name": "openai", "model": "small"}, "share": 0.3},
    ]
    # Not ranked: as often as in the run's rows (80 of 120 a language by the first prompt).
    assert found["prompts"] == pytest.approx(
        dict(zip(PROMPTS, (2 / 3, 1 / 3), strict=True)), abs=1e-3
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--run", "../r"], "a name is letters"),
        (["--run", "r", "--pairs", "3"], "give 64 or more"),
        (["--run", "nothing"], "no examples"),
    ],
)
def test_wrong_use_is_refused(
    run_dir: Path, capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    assert probe.main(command) == 2
    assert message in capsys.readouterr().err


def test_a_run_of_one_kind_is_refused(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(run_dir / "examples" / "00000.parquet", to_table(rows(30), Example))
    assert probe.main(["--run", "r"]) == 2
    said = capsys.readouterr()
    assert "nothing to compare" in said.err
    assert "strategy title: left out, 1" in said.out

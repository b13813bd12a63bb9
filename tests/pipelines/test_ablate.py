"""Ablations: the matrix, the rows of cells, and a whole small table from data that is there."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
import yaml

from pipelines import ablate
from pipelines.e2e import bundled, write_titles
from pipelines.matrix import Ablation, Draw, read_ablation
from pipelines.settings import config_names
from pipelines.subsets import choose, write_subset
from sdg.errors import UserError
from tests import tiny_embedders
from tests.finished_run import finished_run

TINY: dict[str, Any] = {
    "runs": {"made": {"path": "run"}},
    "pairs": 16,
    "seeds": [0, 1],
    "training": {
        "config": "train_tiny",
        "set": {"steps": 2, "batch_size": 4, "max_tokens": 32, "forward_tokens": 400},
    },
    "axes": {
        "loss": {"in_batch": {}, "hard": {"train": {"loss.name": "hard_negatives"}}},
        "strategy": {"all": {}, "cloze": {"data": [{"run": "made", "where": {"strategy": ["x"]}}]}},
    },
    "merges": {"soup": {"cells": ["baseline", "loss=hard"], "seeds": "together"}},
    "evaluation": {"data": ["titles.sw", "titles.ha"]},
}


def ablation(**changes: Any) -> Ablation:
    return Ablation.model_validate({**TINY, **changes})


# The matrix


def test_one_axis_changes_at_a_time_or_all() -> None:
    axes = {"a": {"1": {}, "2": {}, "3": {}}, "b": {"x": {}, "y": {"negatives": "none"}}}
    names = [cell.name for cell in ablation(axes=axes, merges={}).cells()]
    assert names == ["baseline", "a=2", "a=3", "b=y"]
    crossed = ablation(axes=axes, merges={}, crossed=True).cells()
    assert len(crossed) == 3 * 2
    assert {cell.name for cell in crossed} > {"a=3 b=y", "b=y"}
    assert [c.negatives for c in crossed if "b=y" in c.name] == ["none"] * 3


def test_a_cells_settings_come_from_all_its_choices() -> None:
    axes = {
        "loss": {"a": {"train": {"loss.name": "gecko"}}},
        "rate": {"b": {"train": {"optim.learning_rate": 1.0}}},
        "negatives": {"c": {"negatives": "none"}},
    }
    matrix = ablation(axes=axes, merges={})
    (cell,) = matrix.cells()
    config = cell.config(matrix, "some-model", 7)
    assert (config.loss.name, config.optim.learning_rate, config.seed) == ("gecko", 1.0, 7)
    assert (config.data.negatives, config.steps, config.model) == (0, 2, "some-model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"loss": {"a": {"negatvies": "none"}}}}, "did you mean 'negatives'"),
        ({"axes": {"x": {"a": {"data": [{"run": "other"}]}}}}, "no run 'other'; runs: made"),
        ({"merges": {"m": {"cells": ["loss=none"]}}}, "no cell 'loss=none'; cells: baseline"),
        ({"merges": {"m": {"cells": ["baseline"]}}}, "two models or more"),
        ({"seeds": [1, 1]}, "one is there twice"),
        ({"evaluation": {}}, "nothing to measure on"),
        ({"runs": {"made": {}}}, "run 'made' is to be made, of which"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))
    with pytest.raises(UserError, match=re.escape(message)):
        read_ablation(str(path), {})


@pytest.mark.parametrize("name", config_names("ablate_"))
def test_those_that_come_along_are_right(name: str) -> None:
    found = read_ablation(name, {})
    for cell in found.cells():
        cell.config(found, "some-model", 0)


# The rows of a cell


def test_rows_are_shared_out_over_languages_and_draws(tmp_path: Path) -> None:
    finished_run(tmp_path / "run", ("sw", "ha"), num=20)
    runs = {"made": tmp_path / "run"}
    draws = [
        Draw(run="made", where={"strategy": ("title",)}, weight=3),
        Draw(run="made", where={"strategy": ("written",)}),
    ]
    rows = [row for _, row in choose(draws, runs, 16, seed=1)]
    assert Counter((r["query_lang"], r["provenance"]["strategy"]) for r in rows) == {
        ("sw", "title"): 6,
        ("ha", "title"): 6,
        ("sw", "written"): 2,
        ("ha", "written"): 2,
    }
    assert len(choose(draws, runs, 1000, seed=1)) == 40  # all there are
    again, other = (choose(draws, runs, 16, seed=seed) for seed in (1, 2))
    assert [row["id"] for _, row in again] == [row["id"] for row in rows]
    assert [row["id"] for _, row in other] != [row["id"] for row in rows]


def test_negatives_are_mined_random_or_none(tmp_path: Path) -> None:
    finished_run(tmp_path / "run", ("sw", "ha"), num=20)
    runs, draws = {"made": tmp_path / "run"}, [Draw(run="made")]
    found = {}
    for kind in ("mined", "random", "none"):
        path, num_rows = write_subset(tmp_path / "rows", draws, runs, 12, kind, seed=0)
        found[kind] = pq.read_table(path).to_pylist()
        assert num_rows == len(found[kind]) == 12
    assert [row["id"] for row in found["random"]] == [row["id"] for row in found["mined"]]
    assert all(row["negatives"] == [] for row in found["none"])
    assert all(len(row["negatives"]) == 2 for row in found["mined"])  # as finished_run makes them
    texts = {lang: {d["text"] for d in bundled(lang)} for lang in ("sw", "ha")}
    for row in found["random"]:
        assert len(set(row["negatives"])) == 8
        assert set(row["negatives"]) <= texts[row["query_lang"]] - set(row["positives"])
    differ = [set(row["negatives"]) for row in found["random"]]
    assert len({frozenset(one) for one in differ}) == 12


def test_what_no_row_has_is_said(tmp_path: Path) -> None:
    finished_run(tmp_path / "run", ("sw",))
    runs = {"made": tmp_path / "run"}
    with pytest.raises(UserError, match=r"no example with strategy in \['nope'\]"):
        choose([Draw(run="made", where={"strategy": ("nope",)})], runs, 4, 0)
    with pytest.raises(UserError, match="unknown column 'stratgy'; allowed: task, query_lang"):
        choose([Draw(run="made", where={"stratgy": ("x",)})], runs, 4, 0)


# A whole table


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ablation of a tiny model, made."""
    folder = tmp_path_factory.mktemp("ablate")
    finished_run(folder / "run", ("sw", "ha"), num=20)
    for lang in ("sw", "ha"):
        write_titles(folder / f"titles.{lang}", bundled(lang)[30:], [])
    tiny_embedders.build(folder / "bert", "bert")
    (folder / "matrix.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    return folder


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.chdir(folder)
    return ablate.main(["--config", "matrix.yaml", "--model", "bert", "--run", "t", *more])


def test_a_table_is_made_and_finished_cells_are_not_redone(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(table, monkeypatch) == 1  # one cell has no rows
    out = table / "ablations" / "t"
    found = json.loads((out / "results.json").read_text())
    assert list(found["cells"]) == ["before", "baseline", "loss=hard", "soup"]
    assert set(found["failed"]) == {"strategy=cloze, seed 0", "strategy=cloze, seed 1"}
    assert "no example with strategy in ['x']" in (out / "failures.log").read_text()
    for name, cell in found["cells"].items():
        assert cell["mean"]["low"] <= cell["mean"]["value"] <= cell["mean"]["high"]
        assert cell["tasks"].keys() == {"titles_sw", "titles_ha"}
        assert cell["mean"]["value"] == pytest.approx(sum(cell["tasks"].values()) / 2)
        assert cell["types"]["Retrieval"] == cell["mean"]
        assert ("difference" in cell) == (name != "baseline")
    assert sum(cell["borda"] for cell in found["cells"].values()) == 2 * (4 * 3 / 2)
    assert found["cells"]["baseline"]["seeds"] == [0, 1]
    text = (out / "results.md").read_text()
    assert text in capsys.readouterr().out
    assert "| loss=hard | 16 |" in text and "- strategy=cloze, seed 1: " in text
    for name in ("scores", "differences"):
        assert "soup" in list(ElementTree.parse(out / f"{name}.svg").getroot().itertext())

    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")}
    assert len(kept) == 6
    assert not list(out.glob("cells/*/training"))
    assert run(table, monkeypatch) == 1
    assert {path: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")} == kept
    assert json.loads((out / "results.json").read_text()) == found

    # Stopped at a new cell, it writes what it has.
    def stop(text: str) -> None:
        if "strategy=cloze" in text:
            raise KeyboardInterrupt

    axes = {**TINY["axes"], "strategy": {"all": {}, "cloze": {"negatives": "none"}}}
    changed = read_ablation("matrix.yaml", {"axes": axes, "model": "bert"})
    with pytest.raises(KeyboardInterrupt):
        ablate.measure(changed, out, stop)
    assert list(json.loads((out / "results.json").read_text())["cells"]) == [
        "before",
        "baseline",
        "loss=hard",
    ]

    # Another choice makes its own cells alone.
    good = ["--set", "axes.strategy.cloze={negatives: none}"]
    assert run(table, monkeypatch, *good) == 0
    now = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")}
    assert len(now) == 8 and now.items() > kept.items()


def test_nothing_is_spent_on_a_training_that_cannot_be(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["--set", "axes.loss.hard.train={loss.nmae: gecko}"]
    assert run(table, monkeypatch, *wrong) == 2
    assert "did you mean 'name'?" in capsys.readouterr().err

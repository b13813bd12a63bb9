"""What a report says of a run: counts as the summary's, samples of everything, bounded in size."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sdg.errors import UserError
from sdg.report import report_of
from sdg.samples import PER_REASON, dropped_samples, spread
from tests.finished_run import LANGS, examples_of, finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("report") / "twelve"
    summary = finished_run(folder)
    return folder, summary, report_of(folder)


def test_counts_are_those_of_the_summary(run: Any) -> None:
    _, summary, report = run
    assert report["examples"] == summary["examples"] == 12 * 8
    assert report["stages"] == summary["stages"]
    assert report["asked"] == list(LANGS)
    for reason in report["reasons"]:
        assert sum(reason["by_lang"].values()) == reason["num"] == 12
        assert set(reason["by_lang"]) == set(LANGS)
    assert {(r["stage"], r["reason"]) for r in report["reasons"]} == {
        ("filter", name) for name in ("query_wrong_language", "refusal", "copied")
    }


def test_every_reason_in_every_language_has_samples(run: Any) -> None:
    _, _, report = run
    for reason in report["reasons"]:
        found = Counter(sample["lang"] for sample in reason["samples"])
        assert found == dict.fromkeys(LANGS, 1)
        assert all(sample["query"] and sample["positive"] for sample in reason["samples"])


def test_lengths_scores_and_hardness_are_counted(run: Any) -> None:
    _, _, report = run
    for lang in LANGS:
        assert {name: sum(bins.values()) for name, bins in report["lengths"][lang].items()} == {
            "query": 8,
            "positive": 8,
            "negative": 16,
        }
        assert report["hardness"][lang] == {
            16: 8,
            10: 8,
        }  # 0.4 / 0.5 and 0.25 / 0.5, in bins of .05
    assert report["scores"] == {"positive": {10: 96}, "negative": {8: 96, 5: 96}}
    assert report["max_share"] == 0.95


def report_of_one(folder: Path, rows: list[Any]) -> dict[str, Any]:
    finished_run(folder, langs=("sw",), num=0, extra=rows)
    return report_of(folder)


@pytest.mark.parametrize(("chars", "bin_"), [(1, 0), (2, 2), (3, 3), (8, 6), (1024, 20)])
def test_bins_of_lengths_are_half_octaves(chars: int, bin_: int, tmp_path: Path) -> None:
    (row,) = examples_of("sw", 1)
    report = report_of_one(tmp_path / "r", [row.model_copy(update={"query": "x" * chars})])
    assert report["lengths"]["sw"]["query"] == {bin_: 1}


def test_costs_are_tokens_by_price(run: Any) -> None:
    (model,) = run[2]["models"].values()
    assert model["cost"] == pytest.approx((5_000 * 2 + 900 * 10) / 1e6)
    assert model["gpu_hours"] == pytest.approx(0.01)


def test_the_language_map_adds_up_and_finds_a_stranger(tmp_path: Path) -> None:
    english = "How do the bees of this village find their way back home in the evening?"
    rows = examples_of("sw", 4) + [
        row.model_copy(update={"query": english, "id": f"e{i}"})
        for i, row in enumerate(examples_of("sw", 4))
    ]
    (row,) = report_of_one(tmp_path / "r", rows)["map"]
    assert row["came"]["en"] == 4
    assert sum(row["came"].values()) == 8 + 1  # and one that was dropped for its language


def test_examples_shown_are_of_every_kind_and_fit(run: Any) -> None:
    folder, _, report = run
    kinds = {(row["lang"], row["strategy"]) for row in report["rows"]}
    assert kinds == {(lang, strategy) for lang in LANGS for strategy in ("written", "title")}
    assert len({row["id"] for row in report["rows"]}) == len(report["rows"]) == 96
    few = report_of(folder, text_bytes=60_000)["rows"]
    assert 24 <= len(few) < 96
    assert {row["lang"] for row in few} == set(LANGS)
    assert len(json.dumps(few, ensure_ascii=False).encode()) < 70_000
    assert report_of(folder) == report  # the same again


def test_samples_are_few_and_of_every_kind(run: Any) -> None:
    kinds = Counter((s["stage"], s["reason"], s["lang"]) for s in dropped_samples(run[0]))
    assert len(kinds) == 3 * 12
    assert max(kinds.values()) <= PER_REASON


def test_spread_is_even() -> None:
    assert spread(range(10), 20) == list(range(10))
    assert spread(range(100), 4) == [0, 25, 50, 75]


def test_what_is_no_finished_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"summary\.json: no such file"):
        report_of(tmp_path)
    (tmp_path / "summary.json").write_text('{"run": "old"}')
    with pytest.raises(UserError, match="older Mbegu"):
        report_of(tmp_path)
    (tmp_path / "summary.json").write_text('{"run"')
    with pytest.raises(UserError, match="not JSON"):
        report_of(tmp_path)

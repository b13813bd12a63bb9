"""Rounds on a real Ray cluster: quotas are filled, accounts are true, a cut run goes on the same."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.profile import load_profile
from sdg.campaign import Campaign, Outcome
from sdg.cluster import Cluster
from sdg.errors import UserError
from sdg.languages import language
from sdg.runner import Runner
from sdg.schema import Call, Example, Pair, read_rows, rows_of
from tests import test_runner
from tests.rows import bundled_seeds
from tests.test_runner import CountStage, EvenStage, Silent, SurveyedStage

LANGS = ["sw", "zh"]
SETS = [
    "pairs=400",
    "languages={sw: 3, zh: 1}",
    "stages.seed.shard_rows=16",
    "stages.render.oversample=1",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(2)
    yield cluster
    cluster.close()


def run(folder: Path, cluster: Cluster, *sets: str, langs: Sequence[str] = LANGS) -> Outcome:
    profile = load_profile("", {}, [*SETS, *sets])
    pipeline = profile.build([language(code) for code in langs])
    campaign = Campaign(pipeline, Runner(folder, langs, profile.seed, Silent()))
    campaign.check()
    campaign.read_sources()
    return campaign.run(cluster, lambda number, calls: None)


def test_evaluation_sets_are_read_before_any_model_is_asked(tmp_path: Path) -> None:
    """And before Ray starts."""
    there = tmp_path / "set.jsonl"
    there.write_text('{"text": "Mji mkuu wa Kenya ni upi hasa?"}\n', "utf-8")
    for name in (str(there), "nobody/nothing"):
        profile = load_profile("", {}, [*SETS, f"stages.decontaminate.against=[{name}]"])
        pipeline = profile.build([language(code) for code in LANGS])
        campaign = Campaign(pipeline, Runner(tmp_path / "r" / name[-7:], LANGS, 0, Silent()))
        campaign.check()
        if name == str(there):
            campaign.read_sources()
            assert len(list(tmp_path.glob("r/*/stages/*-decontaminate/prepared.json"))) == 1
        else:
            with pytest.raises(UserError, match="nobody/nothing: cannot be loaded"):
                campaign.read_sources()


def rows(folder: Path, pattern: str, model: Any) -> list[Any]:
    return rows_of(read_rows(sorted(folder.glob(f"stages/{pattern}/kept/*.parquet")), model), model)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("campaign") / "r"
    return folder, run(folder, cluster)


def test_quotas_are_filled_over_rounds(done: tuple[Path, Outcome]) -> None:
    folder, outcome = done
    assert len(outcome.rounds) >= 2
    examples = rows(folder, "8-mix", Example)
    assert Counter(row.query_lang for row in examples) == {"sw": 300, "zh": 100}
    assert len({row.id for row in examples}) == len({(r.query, r.positives[0]) for r in examples})
    assert {cell.short for cell in outcome.cells.values()} == {""}


def test_the_verifier_is_fitted_once_a_run(done: tuple[Path, Outcome]) -> None:
    folder, outcome = done
    later = list(folder.glob("stages/*-filter.*"))
    assert len(later) == len(outcome.rounds) - 1
    assert [path.parent.name for path in folder.glob("stages/*-filter*/prepared.json")] == [
        "5-filter"
    ]


def test_a_round_is_as_large_as_the_yield_so_far_asks(done: tuple[Path, Outcome]) -> None:
    folder, outcome = done
    first = Counter(call.lang for call in rows(folder, "2-render", Call))
    assert first == {"sw": 300, "zh": 100}
    accepted = Counter(row.query_lang for row in rows(folder, "7-mine", Example))
    second = Counter(call.lang for call in rows(folder, "2-render.2", Call))
    for lang, quota in first.items():
        short = quota - accepted[lang]
        assert short / (accepted[lang] / quota) <= second[lang] <= 4 * short
    cells = {"sw/retrieval": "sw", "zh/retrieval": "zh"}
    for name, lang in cells.items():
        made = [c for r in folder.glob("stages/2-render*/kept/*") for c in rows_at(r, Call)]
        got = [e for m in folder.glob("stages/7-mine*/kept/*") for e in rows_at(m, Example)]
        assert outcome.cells[name].calls == sum(call.lang == lang for call in made)
        assert outcome.cells[name].accepted == sum(e.query_lang == lang for e in got)


def rows_at(path: Path, model: Any) -> list[Any]:
    return rows_of(read_rows(path, model), model)


def test_a_later_round_asks_seeds_anew_and_those_asked_least_first(
    done: tuple[Path, Outcome],
) -> None:
    folder, _ = done
    first, second = rows(folder, "2-render", Call), rows(folder, "2-render.2", Call)
    assert not {call.id for call in first} & {call.id for call in second}
    asked = Counter(call.seed.id for call in first if call.lang == "sw")
    after = Counter(call.seed.id for call in [*first, *second] if call.lang == "sw")
    assert max(asked.values()) - min(asked.values()) <= 1
    assert max(after.values()) - min(after.values()) <= 1


def test_every_round_accounts_for_its_rows(done: tuple[Path, Outcome]) -> None:
    folder, outcome = done
    for number, finished in enumerate(outcome.rounds, 1):
        for name, stage in finished.items():
            report = stage.report
            assert report.num_in == report.num_kept + sum(report.dropped.values())
            suffix = f".{number}" if number > 1 else ""
            (place,) = folder.glob(f"stages/?-{name}{suffix}")
            dropped = [pq.read_table(path).num_rows for path in place.glob("dropped/*.parquet")]
            assert sum(dropped) == sum(report.dropped.values())
    by_name = {report.name: report for report in outcome.reports}
    assert by_name["infer"].num_in == sum(r["infer"].report.num_in for r in outcome.rounds)
    assert by_name["mix"].num_in == by_name["mine"].num_out


def test_the_account_by_slice_is_that_of_the_rows(done: tuple[Path, Outcome]) -> None:
    folder, outcome = done
    reports = {report.name: report for report in outcome.reports}
    for name, model in (("filter", Pair), ("dedupe", Pair), ("mine", Example)):
        kept = Counter(map(slice_of, rows(folder, f"?-{name}*", model)))
        lost = Counter[tuple[Any, ...]]()
        for path in folder.glob(f"stages/?-{name}*/dropped/*.parquet"):
            table = pq.read_table(path)
            pairs = zip(rows_of(table, Pair), table["reason"].to_pylist(), strict=True)
            lost.update((*slice_of(pair), reason) for pair, reason in pairs)
        found = reports[name].slices
        assert {c.slice: c.num_out for c in found} == kept
        assert Counter({(*c.slice, r): n for c in found for r, n in c.dropped.items()}) == lost
        assert all(c.num_in == c.num_kept + sum(c.dropped.values()) for c in found)


def slice_of(row: Any) -> tuple[str, ...]:
    made = row.provenance
    return row.positive_lang, row.task, made.model or made.engine, made.prompt


@pytest.mark.parametrize("cut", ["3-infer.2", "7-mine", "2-render.2"])
def test_a_run_cut_anywhere_plans_the_same_rounds_again(
    done: tuple[Path, Outcome], tmp_path: Path, cluster: Cluster, cut: str
) -> None:
    """Cut as a kill leaves it: a stage in the middle, nothing after it."""
    folder, outcome = done
    shutil.copytree(folder, tmp_path / "r")
    stages = sorted((tmp_path / "r/stages").iterdir(), key=_age)
    for stage in stages[[stage.name for stage in stages].index(cut) + 1 :]:
        shutil.rmtree(stage)
    manifest = tmp_path / "r/stages" / cut / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    again = run(tmp_path / "r", cluster)
    assert again.cells == outcome.cells
    assert rows(tmp_path / "r", "8-mix", Example) == rows(folder, "8-mix", Example)


def _age(folder: Path) -> tuple[int, int]:
    index, _, rest = folder.name.partition("-")
    number = int(rest.partition(".")[2] or 1)
    return (99, 0) if rest == "mix" else (number if index != "1" else 0, int(index))


def test_a_corpus_that_is_used_up_is_said(tmp_path: Path, cluster: Cluster) -> None:
    outcome = run(tmp_path / "r", cluster, "stages.render.max_calls_per_seed=5", langs=["sw"])
    (cell,) = outcome.cells.values()
    assert (cell.short, cell.calls, cell.capacity) == ("seeds", 200, 0)  # 40 seeds
    assert cell.accepted == len(rows(tmp_path / "r", "8-mix", Example)) < 200


def test_a_budget_is_never_passed(tmp_path: Path, cluster: Cluster) -> None:
    outcome = run(tmp_path / "r", cluster, "budget.calls=300")
    assert sum(cell.calls for cell in outcome.cells.values()) == 300
    assert {cell.short for cell in outcome.cells.values()} == {"budget"}
    assert rows(tmp_path / "r", "8-mix", Example)


def test_a_yield_that_is_too_low_is_given_up(tmp_path: Path, cluster: Cluster) -> None:
    strict = "stages.filter.filters={length: {min_query: 60}}"
    outcome = run(
        tmp_path / "r", cluster, strict, "pairs=100", "stages.render.min_yield=0.9", langs=["sw"]
    )
    (cell,) = outcome.cells.values()
    assert cell.short == "yield"
    assert cell.calls >= 100
    assert cell.accepted < 0.9 * cell.calls


def test_other_settings_are_refused_and_the_way_on_is_free(
    done: tuple[Path, Outcome], cluster: Cluster
) -> None:
    with pytest.raises(UserError, match=r"max_share was 0.95, now 0.9.*RUN=.*every reply"):
        run(done[0], cluster, "stages.mine.max_share=0.9")


def test_what_evaluation_sets_hold_is_in_no_row(tmp_path: Path, cluster: Cluster) -> None:
    """Of any round, as positive or negative."""
    held = {seed.text for seed in bundled_seeds("sw")[:15]}
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in held), "utf-8")
    sets = f"stages.decontaminate.against=[{path}]"
    outcome = run(tmp_path / "r", cluster, sets, "pairs=100", "languages={sw: 1}", langs=["sw"])
    assert len(outcome.rounds) > 1
    examples = rows(tmp_path / "r", "*-mix", Example)
    assert len(examples) > 40
    assert not held & {text for e in examples for text in (*e.positives, *e.negatives)}


def test_a_shard_without_rows_goes_no_further(tmp_path: Path, cluster: Cluster) -> None:
    marks = tmp_path / "marks"
    (marks / "survey").mkdir(parents=True)
    first = SurveyedStage(marks=str(marks / "survey"))  # leaves rows of the last shard alone
    values = test_runner.run(
        tmp_path / "r", cluster, CountStage(), first, EvenStage(marks=str(marks))
    )
    assert values == [38]
    assert [path.name.split(".")[0] for path in marks.glob("0*")] == ["00003"]

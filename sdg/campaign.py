"""One run from end to end: sources, then rounds until the quotas are full, then the mix.

    stages/1-seed                     passages of the corpus
    stages/1-pairs                    pairs of a dataset, to be translated
    stages/ideas-1-brainstorm …       the task list, where prompts are made from ideas
    ideas.parquet                     the list itself, for other runs
    stages/2-render … 7-mine          the first round
    stages/2-render.2 … 7-mine.2      the second, over the same seeds, and so on
    stages/8-mix                      over all rounds

A round is planned by its render stage from what the rounds before have committed, so a run that is
killed plans the same rounds again. Without a number of pairs wanted there is one round.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sdg.cluster import Cluster, Need
from sdg.pipeline import Pipeline
from sdg.planning import CellState
from sdg.runner import Finished, Placed, Runner, StageReport, check_fingerprints, placed
from sdg.schema import Seed, arrow_schema
from sdg.stage import ACCEPTED, NO_INPUT, Inputs, join_inputs
from sdg.stages.decontaminate import DecontaminateStage
from sdg.stages.infer import InferStage
from sdg.stages.judge import JudgeStage
from sdg.stages.render import EXAMPLES, IDEA_CALLS, PLAN
from sdg.storage import write_atomically
from sdg.text import digest

IDEAS_FILE = "ideas.parquet"


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    reports: list[StageReport]  # a stage's rounds as one
    rounds: list[dict[str, Finished]]
    cells: dict[str, CellState]  # as the last plan left them; empty without a number of pairs
    models: dict[str, dict[str, float]]  # model -> what its calls came to


@dataclass(frozen=True)
class Rehearsal:
    """What a run would ask first: infer stages, each with the calls that would come to it."""

    calls: list[tuple[Placed, Inputs]]
    cells: dict[str, CellState]


class Campaign:
    """Runs a pipeline in a run's folder."""

    def __init__(self, pipeline: Pipeline, runner: Runner) -> None:
        self.pipeline = pipeline
        self.runner = runner
        self._seed = placed([pipeline.seed]) if pipeline.seed else []
        self._pairs = [Placed(pipeline.pairs, "1-pairs")] if pipeline.pairs else []
        listed, select = pipeline.listed_ideas, pipeline.select_ideas
        self._listed = [Placed(listed, "ideas-0-read")] if listed else []
        self._ideas = [
            Placed(stage, f"ideas-{i}-{stage.name.removesuffix('_ideas')}")
            for i, stage in enumerate(pipeline.ideas, 1)
        ]
        self._select = [Placed(select, "ideas-4-select")] if select else []
        self._mix = Placed(pipeline.mix, f"{len(pipeline.rounds) + 2}-{pipeline.mix.name}")
        self._parent = ""

    @property
    def last(self) -> Placed:
        """The stage whose output is the run's."""
        return self._mix

    def check(self) -> None:
        """Refuse a folder made with other settings; in a new one, write the settings down."""
        made = [self._check(chain, "") for chain in (self._listed, self._ideas) if chain]
        sources = [self._check(self._select, digest(*made))] if self._select else []
        sources += [self._check(chain, "") for chain in (self._seed, self._pairs) if chain]
        self._parent = self._check(self._round(1), digest(*sources))
        self._check([self._mix], self._parent)

    def read_sources(self) -> None:
        """Read the corpus, lists and pairs that are there, and evaluation sets, in this process and
        before Ray starts: what cannot be read is said before any model is asked."""
        sets = [place for place in self._round(1) if isinstance(place.stage, DecontaminateStage)]
        alone = [place for place in sets if place.stage.prepares_once]  # wants nothing of the run
        for place in [*self._seed, *self._pairs, *self._listed, *alone]:
            self.runner.prepare(place, NO_INPUT, None)

    def run(self, cluster: Cluster, announce: Callable[[int, int], None]) -> Outcome:
        """All stages. `announce` is told each later round's number and its calls."""
        cluster.check(self._needs())
        sources, inputs = self._run_sources(cluster)
        rounds: list[dict[str, Finished]] = []
        parent, cells = self._parent, dict[str, CellState]()
        while True:
            stages = self._round(len(rounds) + 1)
            round_inputs = self._inputs(inputs, rounds)
            if rounds:
                parent = self._check(stages[:1], parent)
            plan = self._plan(stages[0], round_inputs, cluster)
            cells = {name: CellState(**cell) for name, cell in plan["cells"].items()}
            calls = sum(plan["calls"].values())
            if rounds and not calls:
                break
            if rounds:
                parent = self._check(stages[1:], parent)
                announce(len(rounds) + 1, calls)
            rounds.append(self.runner.run(stages, round_inputs, cluster))
            if self.pipeline.render.pairs is None:
                cells = {}
                break
        examples = {
            f"r{number}-" if number > 1 else "": done[EXAMPLES].output
            for number, done in enumerate(rounds, 1)
        }
        mixed = self.runner.run([self._mix], join_inputs(examples), cluster)
        usage = self._usage([*sources, *rounds])
        return Outcome(_merged([*sources, *rounds, mixed]), rounds, cells, usage)

    def rehearse(self, cluster: Cluster) -> Rehearsal:
        """The first round up to its calls, as they would be made; none is. Ideas that are not there
        yet are none: only the calls that ask for them are told."""
        run, made = self.runner.run, dict[str, Finished]()
        if self._ideas:
            made = run(self._ideas[:1], NO_INPUT, cluster)
        _, inputs = self._run_sources(cluster, ask_for_ideas=False)
        render, infer = self._round(1)[:2]
        plan = self._plan(render, inputs, cluster)
        rendered = run([render], inputs, cluster)[render.stage.name].output
        calls = [(infer, rendered)]
        if made:
            calls.append((self._ideas[1], made[self._ideas[0].stage.name].output))
        return Rehearsal(calls, {name: CellState(**cell) for name, cell in plan["cells"].items()})

    def _needs(self) -> list[Need]:
        """What the stages want whose workers are no ordinary ones."""
        needs = []
        for stage in self.pipeline.stages:
            engines = stage.by_group() if isinstance(stage, InferStage) else {}
            for group in stage.groups([]):
                model = engines[group.name].model if group.name in engines else ""
                if group.resources:
                    what = f"stage {stage.name}" + f" ({model})" * bool(model)
                    needs.append(Need(what, group.resources))
        return needs

    def _usage(self, parts: Sequence[Mapping[str, Finished]]) -> dict[str, dict[str, float]]:
        """What came to each model, over the task list and all rounds."""
        usage: dict[str, Counter[str]] = {}
        judges = [stage for stage in self.pipeline.rounds if isinstance(stage, JudgeStage)]
        asked = {
            "infer": self.pipeline.rounds,
            IDEA_CALLS: self.pipeline.ideas,
            JudgeStage.name: [stage.asks for stage in judges],
        }
        for name, stages in asked.items():
            engines = [stage.by_group() for stage in stages if isinstance(stage, InferStage)]
            for group, engine in (pair for found in engines for pair in found.items()):
                total = usage.setdefault(engine.model or engine.name, Counter())
                for part in parts:
                    if name in part:
                        total.update(part[name].output.counters.get(group, {}))
        return {model: dict(total) for model, total in usage.items()}

    def _run_sources(
        self, cluster: Cluster, *, ask_for_ideas: bool = True
    ) -> tuple[list[dict[str, Finished]], Inputs]:
        """What the seeds come from: the stages' reports, and all seeds as the rounds' input."""
        run = self.runner.run
        listed = run(self._listed, NO_INPUT, cluster)
        made = run(self._ideas, NO_INPUT, cluster) if ask_for_ideas else {}
        parts = {"list-": listed.get("read_ideas"), "new-": made.get("parse_ideas")}
        found = {prefix: done.output for prefix, done in parts.items() if done}
        selected = run(self._select, join_inputs(found), cluster) if found else {}
        if selected:
            _write_list(self.runner.run_dir / IDEAS_FILE, selected["select_ideas"].output)
        passages, pairs = run(self._seed, NO_INPUT, cluster), run(self._pairs, NO_INPUT, cluster)
        seeds = {"": passages.get("seed"), "ideas-": selected.get("select_ideas")}
        seeds["pairs-"] = pairs.get("pairs")
        joined = join_inputs({prefix: done.output for prefix, done in seeds.items() if done})
        earlier = {"seed": passages["seed"].output if passages else replace(NO_INPUT, num_rows=0)}
        if made:
            earlier[IDEA_CALLS] = made["infer"].output  # their cost counts against the budget
        reports = [listed, _renamed(made), selected, passages, pairs]
        return reports, replace(joined, earlier=earlier)

    def _check(self, stages: Sequence[Placed], parent: str) -> str:
        runner = self.runner
        return check_fingerprints(stages, runner.run_dir, runner.langs, runner.seed, parent)

    def _round(self, number: int) -> list[Placed]:
        first = placed(self.pipeline.rounds, 2)
        if number == 1:
            return first
        return [
            Placed(
                place.stage,
                f"{place.folder}.{number}",
                prepared_in=place.folder if place.stage.prepares_once else "",
            )
            for place in first
        ]

    def _inputs(self, seeds: Inputs, rounds: Sequence[Mapping[str, Finished]]) -> Inputs:
        """What a round is made from: the seeds, and what the rounds before gave."""
        outputs = [{name: done.output for name, done in before.items()} for before in rounds]
        if not outputs:
            return seeds
        parts = {f"r{i}-": before["dedupe"] for i, before in enumerate(outputs, 1)}
        earlier = {**seeds.earlier, ACCEPTED: join_inputs(parts)}
        return replace(seeds, earlier=earlier, rounds=tuple(outputs))

    def _plan(self, render: Placed, inputs: Inputs, cluster: Cluster) -> dict[str, Any]:
        path: Path = self.runner.prepare(render, inputs, cluster) / PLAN
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return plan


def _merged(parts: Sequence[Mapping[str, Finished]]) -> list[StageReport]:
    """One report a stage, in the order that rows take, its rounds added up."""
    reports: dict[str, list[StageReport]] = {}
    for part in parts:
        for name, done in part.items():
            reports.setdefault(name, []).append(done.report)
    return [StageReport.sum(found, name) for name, found in reports.items()]


def _renamed(done: Mapping[str, Finished]) -> dict[str, Finished]:
    """The task list's own infer stage under a name of its own, beside the rounds'."""
    return {IDEA_CALLS if name == "infer" else name: finished for name, finished in done.items()}


def _write_list(path: Path, ideas: Inputs) -> None:
    """The task list as one file, which other runs may use."""

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, arrow_schema(Seed), compression="zstd") as writer:
            for table in ideas.tables():
                writer.write_table(table)

    write_atomically(path, write)

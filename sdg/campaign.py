"""One run from end to end: sources, then rounds until the quotas are full, then the mix.

    stages/1-seed                     passages of the corpus
    stages/2-render … 7-mine          the first round
    stages/2-render.2 … 7-mine.2      the second, over the same seeds, and so on
    stages/8-mix                      over all rounds

A round is planned by its render stage from what the rounds before have committed, so a run that is
killed plans the same rounds again. Without a number of pairs wanted there is one round.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdg.cluster import Cluster
from sdg.pipeline import Pipeline
from sdg.planning import CellState
from sdg.runner import Finished, Placed, Runner, StageReport, check_fingerprints, placed
from sdg.stage import ACCEPTED, NO_INPUT, Inputs, join_inputs
from sdg.stages.render import EXAMPLES, PLAN


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    reports: list[StageReport]  # a stage's rounds as one
    rounds: list[dict[str, Finished]]
    cells: dict[str, CellState]  # as the last plan left them; empty without a number of pairs


class Campaign:
    """Runs a pipeline in a run's folder."""

    def __init__(self, pipeline: Pipeline, runner: Runner) -> None:
        self.pipeline = pipeline
        self.runner = runner
        (self._seed,) = placed([pipeline.seed])
        self._mix = Placed(pipeline.mix, f"{len(pipeline.stages)}-{pipeline.mix.name}")
        self._parent = ""

    @property
    def last(self) -> Placed:
        """The stage whose output is the run's."""
        return self._mix

    def check(self) -> None:
        """Refuse a folder made with other settings; in a new one, write the settings down."""
        self._parent = self._check([self._seed, *self._round(1)], "")
        self._check([self._mix], self._parent)

    def read_corpus(self) -> None:
        """Read the sources, in this process and before Ray starts."""
        self.runner.prepare(self._seed, NO_INPUT, None)

    def run(self, cluster: Cluster, announce: Callable[[int, int], None]) -> Outcome:
        """All stages. `announce` is told each later round's number and its calls."""
        for stage in self.pipeline.stages:
            for group in stage.groups([]):
                if group.resources:
                    cluster.check(group.resources)
        seeds = self.runner.run([self._seed], NO_INPUT, cluster)
        rounds: list[dict[str, Finished]] = []
        parent, cells = self._parent, dict[str, CellState]()
        while True:
            stages = self._round(len(rounds) + 1)
            inputs = self._inputs(seeds, rounds)
            if rounds:
                parent = self._check(stages[:1], parent)
            plan = self._plan(stages[0], inputs, cluster)
            cells = {name: CellState(**cell) for name, cell in plan["cells"].items()}
            calls = sum(plan["calls"].values())
            if rounds and not calls:
                break
            if rounds:
                parent = self._check(stages[1:], parent)
                announce(len(rounds) + 1, calls)
            rounds.append(self.runner.run(stages, inputs, cluster))
            if self.pipeline.render.pairs is None:
                cells = {}
                break
        examples = {
            f"r{number}-" if number > 1 else "": done[EXAMPLES].output
            for number, done in enumerate(rounds, 1)
        }
        mixed = self.runner.run([self._mix], join_inputs(examples), cluster)
        return Outcome(_merged([seeds, *rounds, mixed]), rounds, cells)

    def _check(self, stages: Sequence[Placed], parent: str) -> str:
        runner = self.runner
        return check_fingerprints(stages, runner.run_dir, runner.langs, runner.seed, parent)

    def _round(self, number: int) -> list[Placed]:
        return placed(self.pipeline.rounds, 2, f".{number}" if number > 1 else "")

    def _inputs(
        self, seeds: Mapping[str, Finished], rounds: Sequence[Mapping[str, Finished]]
    ) -> Inputs:
        """What a round is made from: the seeds, and what the rounds before gave."""
        outputs = [{name: done.output for name, done in before.items()} for before in rounds]
        passages = seeds[self.pipeline.seed.name].output
        earlier = {self.pipeline.seed.name: passages}
        if outputs:
            parts = {f"r{i}-": before["dedupe"] for i, before in enumerate(outputs, 1)}
            earlier[ACCEPTED] = join_inputs(parts)
        return replace(passages, earlier=earlier, rounds=tuple(outputs))

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

"""The settings of an ablation (`pipelines/configs/ablate_*.yaml`) and the cells they span.

The first choice of every axis makes the baseline. The other cells change one axis each; with
`crossed`, there is a cell for every combination. Choices say what they change: the rows (`data`),
their negatives, the training.
"""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedtrain.config import TrainConfig
from pipelines.settings import find_config, read_settings
from sdg.errors import UserError

BASELINE = "baseline"
Negatives = Literal["none", "random", "mined"]
Name = Annotated[str, Field(pattern=r"^\w[\w.+-]{0,60}$")]
Chosen = Annotated[str, Field(pattern=r"^[^\s=]{1,120}$")]  # a choice; no folder is named by it
Values = Annotated[tuple[str, ...], Field(min_length=1)]


class Section(BaseModel):
    """A part of the settings; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DocumentsSection(Section):
    """Documents that the runs are made from, and those that are kept out to ask."""

    path: str = ""  # as `corpus.path` of a profile; CORPUS= goes before
    bundled: bool = False  # add the bundled corpora of the languages
    limit: int = Field(500, ge=10)  # documents of a language, of either corpus, at most
    kept_out: float = Field(0.2, gt=0, lt=1)  # of each corpus and language
    among: int = Field(300, ge=1)  # documents of training that are searched as well, at most


class RunSection(Section):
    """A run of `generate`: made here, or there already."""

    path: str = ""  # the folder of a finished run; else one is made of what follows
    config: str = "embedded"  # profile
    set: dict[str, Any] = {}  # dotted key of the profile -> value


class Draw(Section):
    """Rows of a run, those whose columns or provenance have one of the values named."""

    run: Name
    where: dict[str, Values] = {}  # "task", "query_lang" or a field of provenance -> values
    weight: float = Field(1.0, gt=0)  # share of the cell's pairs


class Choice(Section):
    """What one choice of an axis changes."""

    data: tuple[Draw, ...] = ()
    negatives: Negatives | None = None
    train: dict[str, Any] = {}  # dotted key of the training's settings -> value


class MergeSection(Section):
    """An average of trained cells, as a cell of its own."""

    cells: tuple[str, ...] = Field(min_length=1)
    seeds: Literal["each", "together"] = "each"  # a merge a seed, or one of all


class TrainingSection(Section):
    """What all trainings share."""

    config: str = "train_tiny"
    set: dict[str, Any] = {}


class EvaluationSection(Section):
    """What cells are measured on beside the documents kept out."""

    data: tuple[str, ...] = ()  # evaluation folders
    tasks: tuple[str, ...] = ()  # mteb's names
    bundled: tuple[str, ...] = ()  # languages whose bundled titles ask among all other bundled ones


class Ablation(Section):
    """All that decides a table."""

    languages: tuple[str, ...] = ()
    documents: DocumentsSection | None = None
    runs: dict[Name, RunSection] = Field(min_length=1)
    model: str = ""  # folder or hub id; MODEL= goes before; else all-MiniLM-L6-v2
    pairs: int = Field(1000, ge=1)  # rows a cell trains on
    seeds: tuple[int, ...] = Field((0, 1), min_length=1)
    training: TrainingSection = TrainingSection()
    axes: dict[Name, dict[Chosen, Choice]] = {}
    crossed: bool = False
    merges: dict[Name, MergeSection] = {}
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _names_exist(self) -> "Ablation":
        for axis, choices in self.axes.items():
            if not choices:
                raise ValueError(f"axes.{axis}: give at least one choice")
            for draw in (draw for choice in choices.values() for draw in choice.data):
                if draw.run not in self.runs:
                    raise ValueError(
                        f"axes.{axis}: no run '{draw.run}'; runs: {', '.join(self.runs)}"
                    )
        names = [cell.name for cell in self.cells()]
        for merge, section in self.merges.items():
            odd = [name for name in section.cells if name not in names]
            if odd:
                raise ValueError(f"merges.{merge}: no cell '{odd[0]}'; cells: {', '.join(names)}")
            if len(section.cells) * (len(self.seeds) if section.seeds == "together" else 1) < 2:
                raise ValueError(f"merges.{merge}: merging takes two models or more")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is there twice")
        return self

    def cells(self) -> list["Cell"]:
        """The baseline, then the other cells, in the order of the file."""
        first = {axis: next(iter(choices)) for axis, choices in self.axes.items()}
        found = [self._cell(BASELINE, first)]
        for chosen in self._others(first):
            changed = [f"{axis}={name}" for axis, name in chosen.items() if name != first[axis]]
            found.append(self._cell(" ".join(changed), chosen))
        return found

    def _others(self, first: dict[str, str]) -> Iterator[dict[str, str]]:
        if self.crossed:
            for names in itertools.product(*self.axes.values()):
                chosen = dict(zip(self.axes, names, strict=True))
                if chosen != first:
                    yield chosen
            return
        for axis, choices in self.axes.items():
            for name in list(choices)[1:]:
                yield {**first, axis: name}

    def _cell(self, name: str, chosen: dict[str, str]) -> "Cell":
        choices = [self.axes[axis][choice] for axis, choice in chosen.items()]
        data: tuple[Draw, ...] = tuple(Draw(run=run) for run in self.runs)
        negatives: Negatives = "mined"
        train: dict[str, Any] = {}
        for choice in choices:
            data, negatives = choice.data or data, choice.negatives or negatives
            train |= choice.train
        return Cell(name=name, chosen=chosen, data=data, negatives=negatives, train=train)


class Cell(Section):
    """One cell of the matrix."""

    name: str
    chosen: dict[str, str]  # axis -> choice
    data: tuple[Draw, ...]
    negatives: Negatives
    train: dict[str, Any]

    def config(self, ablation: Ablation, model: str, seed: int) -> TrainConfig:
        """The training's settings, without its rows.

        Raises:
            UserError: a key or value is wrong.
        """
        shared = ablation.training
        changes = {**shared.set, **self.train, "model": model, "seed": seed}
        if self.negatives == "none":
            changes["data.negatives"] = 0
        if any(key.startswith("data.sources") for key in changes):
            raise UserError("training: data.sources is the cells' own: give `data` to a choice")
        return read_settings(TrainConfig, find_config(shared.config, "train_"), changes)


def read_ablation(path: str, changes: dict[str, Any]) -> Ablation:
    """An ablation's settings.

    Raises:
        UserError: the file, the key, what is wrong and what is allowed there.
    """
    ablation = read_settings(Ablation, find_config(path, "ablate_"), changes)
    made = [name for name, run in ablation.runs.items() if not run.path]
    if made and not ablation.languages:
        raise UserError(f"CONFIG={path}: languages: run '{made[0]}' is to be made, of which ones?")
    if not ablation.documents and not any(ablation.evaluation.model_dump().values()):
        raise UserError(f"CONFIG={path}: nothing to measure on: give evaluation: or documents:")
    return ablation

"""Training and measuring the cells of an ablation; what is finished is kept and not done again.

A trial is a cell with one seed. Its folder is named by a hash of all that its result depends on:
the rows as a training sees them, the settings, the model it begins with, and what it is measured
on. `result.json` in it is written last.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedtrain.config import TrainConfig
from embedtrain.evaluate import Measured, evaluate, find_tasks, model_fingerprint
from embedtrain.export import Card, export
from embedtrain.merge import merge
from embedtrain.model import Embedder
from embedtrain.train import train
from pipelines.matrix import Ablation, Cell, MergeSection
from pipelines.subsets import write_subset
from sdg.errors import UserError
from sdg.fingerprints import files_fingerprint
from sdg.store import write_json
from sdg.text import digest

VERSION = 1  # raise it when the same settings give other results
BEFORE = "before"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What a trial reached."""

    cell: str
    seed: int | None  # of the training; None: no training, or a merge of all seeds
    num_rows: int  # that it trained on
    seconds: float
    measured: tuple[Measured, ...]


class Workbench:
    """Where the trials of one ablation are made."""

    def __init__(
        self,
        ablation: Ablation,
        model: Path,
        runs: dict[str, Path],
        sets: Sequence[Path],
        folder: Path,
        say: Say,
    ) -> None:
        """
        Args:
            model: folder of the model that all trainings begin with.
            runs: folders of the runs by name; those that could not be made are left out.
            sets: evaluation folders beside those that the settings name.
            folder: of the ablation.
        """
        self.ablation, self.model, self.runs, self.say = ablation, model, runs, say
        self.folder = folder / "cells"
        named = ablation.evaluation
        folders = [*sets, *map(Path, named.data)]
        self._tasks = find_tasks(folders, named.tasks)
        self._base = digest(
            VERSION, model_fingerprint(model), *map(_content, folders), *named.tasks
        )
        self._merged = {name for merged in ablation.merges.values() for name in merged.cells}

    def before(self) -> Result:
        """The model as it is, reading as many tokens as the trained ones."""
        config = self.ablation.cells()[0].config(self.ablation, str(self.model), 0)
        mark = digest("before", self._base, config.max_tokens)

        def make(folder: Path) -> tuple[Path, int]:
            shutil.rmtree(folder / "model", ignore_errors=True)
            card = Card(base=self.model.name, max_tokens=config.max_tokens)
            export(Embedder.load(str(self.model)), folder / "model", card)
            return folder / "model", 0

        return self._finish(BEFORE, None, mark, make)

    def trial(self, cell: Cell, seed: int) -> Result:
        """A cell trained with one seed.

        Raises:
            UserError: its run is missing, it has no rows, or the training cannot go on.
        """
        config, rows, num_rows, mark = self._prepared(cell, seed)

        def make(folder: Path) -> tuple[Path, int]:
            return _trained(config, rows, folder), num_rows

        return self._finish(cell.name, seed, mark, make, keep_model=cell.name in self._merged)

    def merged(self, name: str, section: MergeSection, seeds: Sequence[int]) -> Result:
        """The average of some cells' models, of one seed or several.

        Raises:
            UserError: one of the cells cannot be trained.
        """
        by_name = {cell.name: cell for cell in self.ablation.cells()}
        parts = [(by_name[cell], seed) for cell in section.cells for seed in seeds]
        prepared = [self._prepared(cell, seed) for cell, seed in parts]
        mark = digest("merge", *(one[3] for one in prepared))

        def make(folder: Path) -> tuple[Path, int]:
            models = []
            for config, rows, _, own in prepared:
                models.append(_trained(config, rows, self.folder / own[:16]))
            shutil.rmtree(folder / "model", ignore_errors=True)
            merge(models, folder / "model")
            return folder / "model", sum(one[2] for one in prepared)

        return self._finish(name, seeds[0] if len(seeds) == 1 else None, mark, make)

    def _prepared(self, cell: Cell, seed: int) -> tuple[TrainConfig, Path, int, str]:
        """A trial's settings, rows, their number, and its mark."""
        missing = [draw.run for draw in cell.data if draw.run not in self.runs]
        if missing:
            raise UserError(f"run {missing[0]} could not be made; see its own reason")
        config = cell.config(self.ablation, str(self.model), seed)
        folder = self.folder.parent / "rows"
        rows, num_rows = write_subset(
            folder, cell.data, self.runs, self.ablation.pairs, cell.negatives, seed
        )
        settings = config.model_copy(update={"model": ""}).fingerprint()
        return config, rows, num_rows, digest("trial", self._base, settings, rows.stem)

    def _finish(
        self,
        cell: str,
        seed: int | None,
        mark: str,
        make: Callable[[Path], tuple[Path, int]],
        keep_model: bool = False,
    ) -> Result:
        """Make and measure a model, unless its result is there."""
        folder = self.folder / mark[:16]
        kept = folder / "result.json"
        if kept.exists():
            return _result(cell, seed, json.loads(kept.read_text(encoding="utf-8")))
        self.say(f"\n{cell}" + (f", seed {seed}" if seed is not None else ""))
        started = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        model, num_rows = make(folder)
        measured = evaluate(model, self._tasks, self.say)
        content = {
            "num_rows": num_rows,
            "seconds": round(time.monotonic() - started, 1),
            "measured": [asdict(one) for one in measured],
        }
        write_json(kept, content)
        for name in ("training", *(() if keep_model else ("model",))):
            shutil.rmtree(folder / name, ignore_errors=True)
        return _result(cell, seed, content)


def _trained(config: TrainConfig, rows: Path, folder: Path) -> Path:
    """The folder of the trained model, which is trained if it is not there."""
    model = folder / "model"
    if not model.is_dir():
        data = {**config.data.model_dump(), "sources": [{"path": rows}]}
        whole = config.model_copy(update={"data": config.data.model_validate(data)})
        fresh = train(whole, folder / "training", _quiet)
        if fresh is None:
            raise KeyboardInterrupt
        fresh.rename(model)
    return model


def _quiet(text: str) -> None:
    """A training's progress, which many trainings would fill the screen with."""


def _content(folder: Path) -> str:
    """Hash of an evaluation folder's name and files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    return digest(folder.name, *names, files_fingerprint(files))


def _result(cell: str, seed: int | None, content: dict[str, Any]) -> Result:
    measured = tuple(Measured(**one) for one in content["measured"])
    return Result(cell, seed, content["num_rows"], content["seconds"], measured)

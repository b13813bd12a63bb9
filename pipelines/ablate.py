"""Which losses, data and merges help? `make ablate CONFIG=<matrix> [CORPUS=] [MODEL=] [RUN=]`.

    python -m pipelines.ablate --config ablate_strategies --corpus <documents> [--set key=value …]

Each cell of the matrix (see `pipelines/matrix.py`) is trained with several seeds and measured; runs
of `generate` are made once for all cells that need them. In `ablations/<RUN>/` are then

    results.md, results.json    means, means by task type, Borda votes, differences from the
                                baseline, all with intervals
    scores.svg, differences.svg the same to look at
    failures.log                what went wrong where

A cell that fails is named with its reason, and the others go on. A command that is stopped writes
the tables of what it has; the same command goes on from there. What is finished is not done again.
"""

import argparse
import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.e2e import minilm
from pipelines.matrix import Ablation, RunSection, read_ablation
from pipelines.settings import checked_name, parse_sets
from sdg.errors import UserError, entry_point
from sdg.fingerprints import files_fingerprint
from sdg.lock import run_lock
from sdg.text import digest

if TYPE_CHECKING:
    from pipelines.cells import Result, Workbench

ABLATIONS_DIR = Path("ablations")


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="ablate", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--config", required=True, help="a matrix: a name in pipelines/configs, or a YAML file")
    add("--corpus", help="documents to make runs from and to ask for; instead of documents.path")
    add("--model", help="folder of the model to begin with; default: all-MiniLM-L6-v2")
    add("--run", help="name of the ablation; default: the config's")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the matrix")
    return parser.parse_args(argv)


def settings_of(args: argparse.Namespace) -> Ablation:
    """The matrix, with the flags on top."""
    given = {"documents.path": args.corpus, "model": args.model}
    flags = {key: value for key, value in given.items() if value is not None}
    return read_ablation(args.config, {**flags, **parse_sets(args.set)})


def folder_of(args: argparse.Namespace) -> Path:
    """The folder of an ablation; a name cannot lead out of `ablations/`."""
    return ABLATIONS_DIR / checked_name(args.run or Path(args.config).stem)


class Failures:
    """What failed, by whose name; the rest goes on."""

    def __init__(self, log: Path, say: Callable[[str], None]) -> None:
        self.reasons: dict[str, str] = {}
        self._log, self._say = log, say

    @contextlib.contextmanager
    def caught(self, name: str) -> Iterator[None]:
        """Go on after an error, which is written down."""
        try:
            yield
        except Exception as error:  # of one cell, and all kinds of trainings can fail
            reason = str(error) or type(error).__name__
            self.reasons[name] = reason
            self._say(f"{name}: failed: {reason}")
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as file:
                details = "" if isinstance(error, UserError) else traceback.format_exc()
                file.write(f"{name}: {reason}\n{details}")


def make_run(
    name: str, section: RunSection, ablation: Ablation, documents: Path | None, prefix: str
) -> Path:
    """The folder of a run, which is made if it is not there.

    Raises:
        UserError: its settings are wrong, or nothing came out.
    """
    if section.path:
        return Path(section.path)
    from pipelines.generate import generate, run_dir_of
    from pipelines.profile import load_profile

    corpus = {"corpus.path": str(documents)} if documents else {}
    profile = load_profile(section.config, {**corpus, **section.set}, [])
    content = files_fingerprint([documents] if documents else [])
    settings = profile.model_dump_json(exclude={"corpus": {"path"}, "workers": True})
    mark = digest(settings, content, *ablation.languages)
    run_dir = run_dir_of(f"{prefix}-{name}-{mark[:8]}")
    if not (run_dir / "summary.json").exists():
        generate(profile, profile.languages_of(",".join(ablation.languages)), run_dir)
    return run_dir


def measure(
    ablation: Ablation, folder: Path, say: Callable[[str], None]
) -> tuple[list["Result"], dict[str, str]]:
    """Make, train and measure all; returns what came out, and why the rest did not.

    Raises:
        UserError: the settings or the corpus are wrong: found before anything is spent.
    """
    model = Path(ablation.model) if ablation.model else minilm()
    for cell in ablation.cells():
        for seed in ablation.seeds:
            cell.config(ablation, str(model), seed)
    from pipelines.cells import Workbench
    from pipelines.heldout import bundled_titles, split_documents
    from pipelines.results import write_results

    sets, documents = [], None
    if ablation.documents:
        sets = split_documents(ablation.documents, ablation.languages, folder / "documents")
        documents = folder / "documents" / "documents.jsonl"
    sets += bundled_titles(ablation.evaluation.bundled, folder / "documents")
    failures = Failures(folder / "failures.log", say)
    runs = {}
    for name, section in ablation.runs.items():
        with failures.caught(f"run {name}"):
            runs[name] = make_run(name, section, ablation, documents, folder.name)
    _hush()
    bench = Workbench(ablation, model, runs, sets, folder, say)
    results: list[Result] = []
    try:
        _fill(results, bench, ablation, failures, folder)
    except KeyboardInterrupt:
        if results:
            write_results(folder, ablation, results, failures.reasons)
        raise
    if not results:
        raise UserError(f"every cell failed; {folder}/failures.log says why")
    return results, failures.reasons


def _fill(
    results: list["Result"],
    bench: "Workbench",
    ablation: Ablation,
    failures: Failures,
    folder: Path,
) -> None:
    """Add the results of all cells, seed by seed: there is a whole table after the first."""
    from pipelines.cells import BEFORE
    from pipelines.results import write_results

    with failures.caught(BEFORE):
        results.append(bench.before())
    for number, seed in enumerate(ablation.seeds, 1):
        last = number == len(ablation.seeds)
        for cell in ablation.cells():
            with failures.caught(f"{cell.name}, seed {seed}"):
                results.append(bench.trial(cell, seed))
        for name, merge in ablation.merges.items():
            if merge.seeds == "each" or last:
                seeds = [seed] if merge.seeds == "each" else ablation.seeds
                with failures.caught(f"{name}, seed {', '.join(map(str, seeds))}"):
                    results.append(bench.merged(name, merge, seeds))
        if results and not last:
            write_results(folder, ablation, results, failures.reasons)


def _hush() -> None:
    """Bars and notes of mteb and transformers would bury the progress."""
    from transformers.utils import logging as transformers_logging

    logging.getLogger().setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


def finish(work: Callable[[], dict[str, str]], folder: Path) -> int:
    """Exit status of a command whose `work` returns what failed: 0 done, 1 a cell failed."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore")
    with run_lock(folder):
        failed = work()
    say(f"tables and plots: {folder}")
    if failed:
        print(f"{len(failed)} failed; {folder}/failures.log says why", file=sys.stderr)
    return 1 if failed else 0


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: see `finish` and `entry_point`."""
    args = parse_args(argv)
    folder, ablation = folder_of(args), settings_of(args)

    def work() -> dict[str, str]:
        results, failed = measure(ablation, folder, say)
        from pipelines.results import write_results

        say("\n" + write_results(folder, ablation, results, failed))
        return failed

    return finish(work, folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

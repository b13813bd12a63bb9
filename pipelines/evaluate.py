"""Measure models: `make evaluate MODEL=<folder> [DATA=<folder>] [TASKS=<mteb names>]`.

MODEL, DATA and TASKS take several, with commas between; see `embedtrain.evaluate`. All results go
into a JSON file as well: into the first model's folder, `evaluation/results/<models>.json`, unless
`--out` names another.
"""

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from embedtrain.evaluate import Measured, compare, evaluate, find_tasks, keep
from sdg.errors import entry_point

BESIDE = ("recall_at_10", "recall_at_100", "mrr_at_10")  # shown beside a task's main metric


def _several(value: str) -> list[str]:
    """The parts between commas; a comma before a space is part of a name, as mteb's are."""
    return [part for part in re.split(r",(?!\s)", value) if part]


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names where these tell them apart, else their paths."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _file_name(names: Sequence[str]) -> str:
    """Of the file with the results of these models."""
    return "+".join(re.sub(r"[^\w.-]+", "_", name) for name in names)[:100]


def print_results(
    console: Console, results: dict[str, list[Measured]], summary: dict[str, Any]
) -> None:
    """A row a task, a column a model; then means, votes, languages and the bootstrap."""
    table = Table(show_edge=False, pad_edge=False)
    for title in ("task", "type", "language", "metric"):
        table.add_column(title)
    for model in results:
        table.add_column(model, justify="right")
    for row in zip(*results.values(), strict=True):
        one = row[0]
        languages = ", ".join(one.languages[:3]) + (" …" if len(one.languages) > 3 else "")
        table.add_row(one.task, one.type, languages, one.metric, *(f"{m.score:.4f}" for m in row))
        for metric in BESIDE:
            if all(metric in m.metrics for m in row):
                values = (f"{m.metrics[metric]:.4f}" for m in row)
                table.add_row("", "", "", metric, *values, style="dim")
    table.add_section()
    for kind in next(iter(summary["mean_type"].values())):
        means = (f"{by_type[kind]:.4f}" for by_type in summary["mean_type"].values())
        table.add_row("mean", kind, "", "", *means)
    table.add_row(
        "mean over tasks", "", "", "", *(f"{m:.4f}" for m in summary["mean_task"].values())
    )
    if len(results) > 1:
        table.add_row("Borda votes", "", "", "", *(f"{v:g}" for v in summary["borda"].values()))
    table.add_section()
    for lang in next(iter(summary["mean_language"].values())):
        means = (f"{by_lang[lang]:.4f}" for by_lang in summary["mean_language"].values())
        table.add_row("mean", "", lang, "", *means)
    console.print(table)
    for task, found in summary["bootstrap"].items():
        console.print(
            f"{task}: nDCG@10 of the second minus the first {found['difference']:+.4f}, 95 % "
            f"between {found['low']:+.4f} and {found['high']:+.4f}, p = {found['p_value']:.4f}",
            highlight=False,
        )


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 measured, 1 the system refused (a full disk), 2 wrong use."""
    parser = argparse.ArgumentParser(prog="evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=_several, required=True, help="folder of a model, or more")
    parser.add_argument("--data", type=_several, default=[], help="folders of evaluation sets")
    parser.add_argument("--tasks", type=_several, default=[], help="mteb's tasks or benchmarks")
    parser.add_argument("--out", type=Path, help="JSON file of all results and the comparison")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    args = parser.parse_args(argv)
    console = Console()
    # mteb's bars and its notes on other packages' changes would bury the table.
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.simplefilter("ignore")

    def say(text: str) -> None:
        console.print(text, highlight=False)

    models = [Path(folder) for folder in args.model]
    tasks = find_tasks([Path(folder) for folder in args.data], args.tasks)
    names = _short_names(models)
    results = {name: evaluate(model, tasks, say) for name, model in zip(names, models, strict=True)}
    summary = compare(results, args.seed)
    print_results(console, results, summary)
    found = {model: [asdict(m) for m in measured] for model, measured in results.items()}
    out = args.out or models[0] / "evaluation" / "results" / f"{_file_name(names)}.json"
    keep(out, {"results": found, **summary})
    console.print(f"all of it: {out}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

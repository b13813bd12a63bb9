"""The tables of an ablation: Markdown, JSON and plots.

Scores are means over tasks of means over queries (where a task has them by query) and seeds.
Intervals are of a bootstrap over queries and seeds (`embedtrain.compare.resampled_means`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from embedtrain.compare import borda, interval, p_value, resampled_means
from pipelines.cells import BEFORE, Result
from pipelines.matrix import BASELINE, Ablation
from sdg.storage import write_text
from sdg.store import write_json

Table = dict[str, Any]
WIDTH, ROW, LEFT = 760, 22, 280  # of a plot, in pixels


def by_system(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of one cell together, in the order that they came."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.cell, []).append(result)
    return found


def scores_of(trials: Sequence[Result]) -> dict[str, np.ndarray]:
    """Task -> (S, Q) scores, (S, 1) where a task has none by query."""
    scores: dict[str, np.ndarray] = {}
    for number, measured in enumerate(trials[0].measured):
        same = [trial.measured[number] for trial in trials]
        queries = sorted(measured.by_query)
        scores[measured.task] = np.array(
            [[m.by_query[q] for q in queries] if queries else [m.score] for m in same]
        )
    return scores


def tabulate(results: Sequence[Result], baseline: str = BASELINE, seed: int = 0) -> Table:
    """All figures of the table, as plain data: cell -> figures, and task -> type."""
    systems = by_system(results)
    types = {one.task: one.type for one in results[0].measured}
    scores = {name: scores_of(trials) for name, trials in systems.items()}
    means = {
        name: {task: float(values.mean()) for task, values in of_tasks.items()}
        for name, of_tasks in scores.items()
    }
    votes = borda(means)
    drawn = {
        name: resampled_means(list(of_tasks.values()), number, seed)
        for number, (name, of_tasks) in enumerate(scores.items())
    }
    cells = {}
    for number, (name, trials) in enumerate(systems.items()):
        cell: Table = {
            "rows": sorted({trial.num_rows for trial in trials}),
            "seeds": [trial.seed for trial in trials],
            "seconds": sum(trial.seconds for trial in trials),
            "mean": _figure(float(np.mean(list(means[name].values()))), drawn[name]),
            "types": {
                kind: _of_type(kind, types, scores[name], number, seed)
                for kind in sorted(set(types.values()))
            },
            "tasks": means[name],
            "borda": votes[name],
        }
        if name != baseline and baseline in drawn:
            differences_R = drawn[name] - drawn[baseline]
            other = float(np.mean(list(means[baseline].values())))
            cell["difference"] = _figure(cell["mean"]["value"] - other, differences_R)
            cell["difference"]["p_value"] = p_value(differences_R)
        cells[name] = cell
    return {"cells": cells, "types": types}


def _of_type(
    kind: str, types: dict[str, str], scores: dict[str, np.ndarray], number: int, seed: int
) -> dict[str, float]:
    of_kind = [values for task, values in scores.items() if types[task] == kind]
    mean = float(np.mean([values.mean() for values in of_kind]))
    return _figure(mean, resampled_means(of_kind, number, seed))


def _figure(value: float, drawn_R: np.ndarray) -> dict[str, float]:
    low, high = interval(drawn_R)
    return {"value": value, "low": low, "high": high}


def _plain(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _signed(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "–"
    low, high = figure["low"], figure["high"]
    return f"{figure['value']:+.3f} [{low:+.3f}, {high:+.3f}], p = {figure['p_value']:.3f}"


def markdown(table: Table, failed: dict[str, str], baseline: str = BASELINE) -> str:
    """The tables as Markdown."""
    cells = table["cells"]
    kinds = sorted(set(table["types"].values()))
    titles = ["cell", "rows", "mean over tasks", *kinds, "Borda", f"difference from {baseline}"]
    rows = [
        [
            name,
            "–".join(map(str, cell["rows"])),
            _plain(cell["mean"]),
            *(_plain(cell["types"][kind]) for kind in kinds),
            f"{cell['borda']:g}",
            _signed(cell.get("difference")),
        ]
        for name, cell in cells.items()
    ]
    text = markdown_table(titles, rows) + "\nBy task, mean over seeds:\n\n"
    tasks = list(table["types"])
    by_task = [[n, *(f"{c['tasks'][task]:.3f}" for task in tasks)] for n, c in cells.items()]
    text += markdown_table(["cell", *tasks], by_task)
    if failed:
        text += "\nFailed:\n\n" + "".join(
            f"- {name}: {_cell(reason)}\n" for name, reason in failed.items()
        )
    return text


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown; numbers to the right."""
    rule = ["---", *["---:"] * (len(titles) - 1)]
    lines = [titles, rule, *rows]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def plot(
    title: str, rows: Sequence[tuple[str, dict[str, float]]], line: float | None = None
) -> str:
    """Values with their intervals, a row each, as SVG; `line` is an upright one."""
    marks = [value for _, figure in rows for value in (figure["low"], figure["high"])]
    marks += [] if line is None else [line]
    low, high = min(marks), max(marks)
    low, high = low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1)

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - 20), 1)

    height = ROW * (len(rows) + 3)
    bottom = height - 1.5 * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
        f'<text x="8" y="16" font-weight="bold">{escape(title)}</text>'
    ]
    for value in np.linspace(low, high, 6)[1:-1]:
        parts.append(
            f'<path d="M{x(value)} {1.5 * ROW}V{bottom}" stroke="#ddd"/>'
            f'<text x="{x(value)}" y="{bottom + 16}" text-anchor="middle">{value:.3f}</text>'
        )
    if line is not None:
        parts.append(f'<path d="M{x(line)} {1.5 * ROW}V{bottom}" stroke="#888"/>')
    for number, (name, figure) in enumerate(rows):
        y = ROW * (number + 2)
        parts.append(
            f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
            f'<path d="M{x(figure["low"])} {y}H{x(figure["high"])}" stroke="#1f5f8b" '
            f'stroke-width="2"/><circle cx="{x(figure["value"])}" cy="{y}" r="4" fill="#1f5f8b"/>'
        )
    return "".join(parts) + "</svg>\n"


def write_results(
    folder: Path, ablation: Ablation, results: Sequence[Result], failed: dict[str, str]
) -> str:
    """Write tables and plots into the folder; returns the tables."""
    table = tabulate(results)
    text = markdown(table, failed)
    settings = ablation.model_dump(mode="json")
    write_json(folder / "results.json", {**table, "failed": failed, "settings": settings})
    means = [(name, cell["mean"]) for name, cell in table["cells"].items()]
    before = table["cells"].get(BEFORE)
    pages = {
        "results.md": text,
        "scores.svg": plot(
            "mean over tasks, 95 % intervals", means, before and before["mean"]["value"]
        ),
    }
    differences = [(n, c["difference"]) for n, c in table["cells"].items() if "difference" in c]
    if differences:
        title = f"difference from {BASELINE}, 95 % intervals"
        pages["differences.svg"] = plot(title, differences, 0.0)
    for name, content in pages.items():
        write_text(folder / name, content)
    return text

"""What the user sees of a run: a bar a stage, a table of where rows went, samples, the way on."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from sdg.account import Stages, losses, warnings
from sdg.languages import language
from sdg.planning import CellState
from sdg.runner import StageReport
from sdg.store import Done
from sdg.summary import USAGE, Unverified, say, say_unverified, total_usage

# Unicode isolates: right-to-left text keeps its own order beside left-to-right labels.
_ISOLATE, _END = "\u2068", "\u2069"
_UNITS = {"seed": "documents", "render": "seeds", "infer": "calls", "parse": "replies"}


def counted(num: int, thing: str) -> str:
    """A number of things: 1 shard, 2 shards."""
    return f"{num:,} {thing}{'s' * (num != 1)}"


def size_of(num_bytes: int) -> str:
    """The size of a file or several, in the unit that fits."""
    if num_bytes < 2**20:
        return f"{max(1, round(num_bytes / 2**10)):,} KB"
    return f"{num_bytes / 2**20:,.1f} MB"


class StageBars:
    """The runner's `Progress`: bars on a terminal, one line a stage elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description:<7}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("shards"),
            TextColumn("{task.fields[rows]:>9,} rows", justify="right"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[before]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._before: dict[str, str] = {}  # what an earlier attempt has done of a stage

    def __enter__(self) -> "StageBars":
        if self.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """One line between the bars and what was printed before."""
        if self.console.is_terminal:
            self._bars.console.print(f"[dim]{text}[/dim]")

    def round_started(self, number: int, num_calls: int) -> None:
        """A later round, for what the ones before left short."""
        self.console.print(f"round {number}: {num_calls:,} calls more", highlight=False)

    def stage_started(self, stage: str, num_shards: int | None, before: Sequence[Done]) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=None, rows=0, before="")
        num, rows = len(before), sum(done.num_out for done in before)
        said = "" if not num else "before" if num == num_shards else f"{num} before"
        self._bars.update(
            self._tasks[stage], total=num_shards, completed=num, rows=rows, before=said
        )
        self._before[stage] = ""
        if num:
            part = "" if num == num_shards else f"{num} of them with {counted(rows, 'row')} "
            self._before[stage] = f" ({part}done before)"

    def shard_done(self, stage: str, done: Done) -> None:
        task = self._tasks[stage]
        rows = self._bars.tasks[task].fields["rows"] + done.num_out
        self._bars.update(task, advance=1, rows=rows)

    def stage_finished(self, stage: str) -> None:
        if not self.console.is_terminal:
            task = self._bars.tasks[self._tasks[stage]]
            self.console.print(
                f"{stage}: {counted(int(task.completed), 'shard')}, "
                f"{counted(task.fields['rows'], 'row')}"
                f"{self._before[stage]}",
                soft_wrap=True,
            )


def stage_table(reports: Sequence[StageReport]) -> Table:
    """Rows in, kept and out of every stage, and what was dropped for which reason."""
    table = Table(
        title="Where every row went", title_justify="left", show_edge=False, pad_edge=False
    )
    table.add_column("stage")
    table.add_column("rows in", justify="right")
    table.add_column("kept", justify="right")
    table.add_column("gave", justify="right")
    table.add_column("dropped, by reason", overflow="fold")
    for report in reports:
        unit = _UNITS.get(report.name, "pairs")
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.dropped.items())
        table.add_row(
            report.name,
            f"{report.num_in:,} {unit}",
            f"{report.num_kept:,}",
            f"{report.num_out:,}",
            escape(reasons) or "[dim]none[/dim]",
        )
    return table


def print_calls(console: Console, models: Mapping[str, Mapping[str, float]]) -> None:
    """What was asked of each writer and judge, and what kept replies answered in its place; nothing
    where no model took part."""
    if list(models) == ["extractive"]:
        return
    table = Table(title="Calls", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("model", overflow="fold")
    for name in ("made", "reused", "tokens in", "tokens out"):
        table.add_column(name, justify="right", no_wrap=True)
    for model, usage in models.items():
        table.add_row(escape(model), *(f"{usage.get(name, 0):,.0f}" for name in USAGE))
    if len(models) > 1:
        table.add_section()
        table.add_row("all", *(f"{num:,}" for num in total_usage(models).values()))
    console.print()
    console.print(table)


# Why a cell stays short of its quota, and what to do about it.
_SHORT = {
    "seeds": (
        "its seeds have been asked max_calls_per_seed times",
        "give a larger CORPUS, or --set stages.render.max_calls_per_seed=32",
    ),
    "yield": (
        "too few of its calls give an example",
        "see what is dropped and why above; mend the prompt, take a better model, or loosen the "
        "filter; --set stages.render.min_yield=0 goes on regardless",
    ),
    "budget": ("the budget is spent", "raise budget: in the profile under another RUN"),
    "rounds": (
        "the last round is done",
        "raise --set stages.render.max_rounds under another RUN",
    ),
}
_MOST_SHORT = 12  # cells listed; summary.json has them all


_MOST_LOSSES = 8  # lines; summary.json has them all


def print_unverified(console: Console, found: Sequence[Unverified]) -> None:
    """Languages of which texts were kept though nobody could verify them."""
    for one in sorted(found, key=lambda one: -one.num_unverified)[:_MOST_LOSSES]:
        console.print(f"[yellow]warning: {escape(say_unverified(one))}[/yellow]", highlight=False)
    if len(found) > _MOST_LOSSES:
        console.print(f"[yellow]  and {len(found) - _MOST_LOSSES} more, in summary.json[/yellow]")


def print_losses(console: Console, stages: Stages, langs: Sequence[str]) -> None:
    """Languages of which much was lost, and in a run of several those that lost most, and why."""
    found = warnings(stages, langs)
    for loss in found[:_MOST_LOSSES]:
        console.print(f"[yellow]warning: {escape(say(loss))}[/yellow]", highlight=False)
    if len(found) > _MOST_LOSSES:
        console.print(f"[yellow]  and {len(found) - _MOST_LOSSES} more, in summary.json[/yellow]")
    warned = {loss.lang for loss in found}
    others = [
        max(mine, key=lambda loss: loss.share)
        for lang, mine in losses(stages).items()
        if lang in langs and lang not in warned
    ]
    lost = sorted((loss for loss in others if loss.num_lost), key=lambda loss: -loss.share)
    if len(langs) > 1 and lost:
        console.print("The stage where each language lost most (all are in summary.json, account):")
        for loss in lost[:_MOST_LOSSES]:
            console.print(f"  {escape(say(loss))}", highlight=False)
        if len(lost) > _MOST_LOSSES:
            console.print(f"  and {len(lost) - _MOST_LOSSES} more", highlight=False)


def print_quotas(console: Console, cells: Mapping[str, CellState], num_examples: int) -> None:
    """Which quotas are not full, why, and what to do; nothing where all are."""
    short = {name: cell for name, cell in cells.items() if cell.short}
    if not short:
        return
    wanted = sum(cell.quota for cell in cells.values())
    console.print(
        f"[yellow]PAIRS={wanted:,} wanted, {num_examples:,} accepted. Short of its quota:[/yellow]",
        highlight=False,
    )
    for name, cell in list(short.items())[:_MOST_SHORT]:
        share = f", {100 * cell.accepted / cell.calls:.1f} %" if cell.calls else ""
        why, _ = _SHORT[cell.short]
        console.print(
            f"[yellow]  {name}: {cell.accepted:,} of {cell.quota:,} from {cell.calls:,} calls"
            f"{share}: {why}[/yellow]",
            highlight=False,
        )
    if len(short) > _MOST_SHORT:
        console.print(f"[yellow]  and {len(short) - _MOST_SHORT} more, in summary.json[/yellow]")
    for reason in dict.fromkeys(cell.short for cell in short.values()):
        why, advice = _SHORT[reason]
        console.print(f"[yellow]  Where {why}: {advice}[/yellow]", highlight=False)


def print_samples(console: Console, examples: Sequence[dict[str, Any]]) -> None:
    """A few examples, each with its query, positive and hardest negative."""
    for number, row in enumerate(examples, 1):
        strategy = row["provenance"]["strategy"]
        console.print()
        console.print(
            f"[bold]Example {number}[/bold] [dim]{row['provenance']['prompt']}, {strategy}, "
            f"{len(row['negatives'])} negatives[/dim]"
        )
        for label, text, lang in (
            ("query   ", row["query"], row["query_lang"]),
            ("positive", row["positives"][0], row["positive_lang"]),
            ("negative", row["negatives"][0], row["positive_lang"]),
        ):
            console.print(_line(label, text, lang, console.width))


def _line(label: str, text: str, lang: str, width: int) -> Text:
    """One labelled line of a text, cut to the screen by cells, since wide characters take two."""
    body = Text(text)
    body.truncate(max(20, width - len(label) - 6), overflow="ellipsis")
    if language(lang).direction == "rtl":
        body = Text(f"{_ISOLATE}{body.plain}{_END}")
    return Text.assemble("  ", (label, "dim"), "  ", body)

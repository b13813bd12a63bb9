"""What a run would ask before it asks: `make generate LANG=sw DRY_RUN=1`.

The first round is planned and rendered in a folder that is thrown away, and its calls are looked up
among the kept replies. Nothing of the run itself is written or read, but for its task list.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from pipelines.profile import ModelSection, Profile
from sdg.account import run_lang
from sdg.campaign import IDEAS_FILE, Campaign, Rehearsal
from sdg.cluster import Cluster
from sdg.languages import Language, language
from sdg.pipeline import Pipeline
from sdg.planning import CellState
from sdg.prompting import load_prompt
from sdg.runner import Runner
from sdg.schema import Call, rows_of
from sdg.stage import Context, Inputs, Shard
from sdg.stages import InferStage, JudgeStage, ReadIdeasStage
from sdg.store import Done
from sdg.tasks import get_task
from sdg.tokens import token_counter

COUNTED = 500  # calls of a model and language whose tokens are counted; the rest is reckoned
MOST_LINES = 40


class _Quiet:
    """A display that shows nothing."""

    def stage_started(self, stage: str, num_shards: int | None, before: Sequence[Done]) -> None: ...
    def shard_done(self, stage: str, done: Done) -> None: ...
    def stage_finished(self, stage: str) -> None: ...


@dataclass
class Tally:
    """Calls of one model in one language."""

    calls: int = 0
    reused: int = 0
    counted: int = 0  # of `calls`, those whose tokens were counted
    tokens: int = 0  # of the prompts of those
    most_out: int = 0  # tokens that all replies may have: the prompts' max_tokens

    @property
    def tokens_in(self) -> int:
        return round(self.tokens * self.calls / self.counted) if self.counted else 0


def dry_run(
    profile: Profile, langs: Sequence[Language], pipeline: Pipeline, run_dir: Path, workers: int
) -> tuple[Rehearsal, dict[tuple[str, str], Tally]]:
    """Plan and render the first round; the calls by model and language."""
    listed = run_dir / IDEAS_FILE
    if pipeline.ideas and listed.is_file():
        read = ReadIdeasStage(path=str(listed))
        pipeline = replace(pipeline, ideas=(), listed_ideas=read)
    codes = tuple(lang.code for lang in langs)
    with tempfile.TemporaryDirectory(prefix="mbegu-dry-run-") as folder:
        runner = Runner(Path(folder), codes, profile.seed, _Quiet())
        campaign = Campaign(pipeline, runner)
        campaign.check()
        campaign.read_sources()
        cluster = Cluster(workers)
        try:
            rehearsal = campaign.rehearse(cluster)
        finally:
            cluster.close()
        tallies: dict[tuple[str, str], Tally] = {}
        for place, inputs in rehearsal.calls:
            assert isinstance(place.stage, InferStage)
            ctx = Context(codes, profile.seed, runner.prepare(place, inputs, None))
            for shard in _shards(place.stage, inputs, ctx):
                _add(tallies, place.stage, *shard)
        if profile.stages.judge:
            _, written = rehearsal.calls[0]
            for table in written.tables():
                add_judged(tallies, profile.stages.judge, table, Context(codes, 0, Path(folder)))
    return rehearsal, tallies


def _shards(stage: InferStage, inputs: Inputs, ctx: Context) -> Iterator[tuple[Shard, Context]]:
    for group in stage.groups(stage.shards(inputs, ctx)):
        there = replace(ctx, group=group.name)
        for name in group.shards:
            yield Shard(name, stage.load(name, inputs, there)), there


def _add(
    tallies: dict[tuple[str, str], Tally], stage: InferStage, shard: Shard, ctx: Context
) -> None:
    engine = stage.by_group()[ctx.group]
    count = token_counter(engine.model).count
    undone = stage.undone(shard, ctx)
    asked = shard.table.take(pa.array(undone, pa.int64()))
    kept = shard.table.num_rows - len(undone)
    columns = ["positive_lang", "controls", "messages", "sampling"]
    for row in asked.select(columns).to_pylist():
        tally = _tally(tallies, engine.model or engine.name, row)
        tally.calls += 1
        tally.most_out += json.loads(row["sampling"])["max_tokens"]
        if tally.counted < COUNTED:
            tally.counted += 1
            tally.tokens += sum(count(message["content"]) for message in row["messages"])
    if kept:
        there = set(undone)
        for i, row in enumerate(shard.table.select(columns[:2]).to_pylist()):
            if i not in there:
                _tally(tallies, engine.model or engine.name, row).reused += 1


def add_judged(
    tallies: dict[tuple[str, str], Tally], judge: JudgeStage, calls: pa.Table, ctx: Context
) -> None:
    """A call to the judge about each call's pair, whose positive is taken to be as long as the
    passage."""
    count, name = token_counter(judge.engine.model).count, judge_name(judge)
    for call in rows_of(calls, Call):
        tally = tallies.setdefault((name, run_lang(call.positive_lang, call.controls)), Tally())
        tally.calls += 1
        tally.most_out += load_prompt(judge.prompt, language(call.lang).base).sampling.max_tokens
        if tally.counted >= COUNTED:
            continue
        task = get_task(call.task, call.prompt)
        pair = task.make_pair(call, ctx.seed, query="?", positive=call.seed.text)
        asked = judge.call(pair, [call.seed.text] * judge.num_others, ctx)
        tally.counted += 1
        tally.tokens += sum(count(message.content) for message in asked.messages)


def judge_name(judge: JudgeStage) -> str:
    """What the table calls a judge, which may be a writer, too."""
    return f"{judge.engine.model or judge.engine.name} (judge)"


def _tally(tallies: dict[tuple[str, str], Tally], model: str, row: Mapping[str, str]) -> Tally:
    lang = run_lang(row["positive_lang"], row["controls"])
    return tallies.setdefault((model, lang), Tally())


def print_tallies(
    console: Console,
    profile: Profile,
    cells: Mapping[str, CellState],
    tallies: Mapping[tuple[str, str], Tally],
) -> None:
    """The table, and what it leaves out."""
    sections = {section.engine.model or section.engine.name: section for section in profile.mix}
    if judge := profile.stages.judge:
        sections[judge_name(judge)] = ModelSection(engine=judge.engine)
    table = Table(
        title="Calls of the first round (kept: answered by kept replies)",
        title_justify="left",
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("model", overflow="fold", min_width=10)
    table.add_column("language", no_wrap=True)
    for name in ("calls", "kept", "tokens in", "out ≤", "cost ≤", "GPU h ≤"):
        table.add_column(name, justify="right", no_wrap=True)
    lines = sorted(tallies.items())
    for (model, lang), tally in lines[:MOST_LINES]:
        table.add_row(model, lang, *_cells([(sections[model], tally)]))
    if len(lines) > MOST_LINES:
        table.add_row("…", f"{len(lines) - MOST_LINES} more", *[""] * 6)
    table.add_section()
    table.add_row("all", "", *_cells([(sections[model], tally) for (model, _), tally in lines]))
    console.print(table)
    ideas = [name for name, cell in cells.items() if cell.short == "seeds"]
    if ideas and profile.ideas.prompts:
        console.print(
            f"Not counted: {', '.join(ideas)}, whose ideas are not there yet.", highlight=False
        )
    if profile.stages.judge:
        console.print("The judge is asked only about pairs that come to it, so less.")
    if profile.pairs:
        console.print(
            "Later rounds fill what the first leaves short, by its yield.", highlight=False
        )


def _cells(lines: Sequence[tuple[ModelSection, Tally]]) -> list[str]:
    cost = sum(
        section.price_in * tally.tokens_in / 1e6 + section.price_out * tally.most_out / 1e6
        for section, tally in lines
    )
    priced = any(section.price_in or section.price_out for section, _ in lines)
    hours = [
        tally.most_out / section.tokens_per_s / 3600 * section.engine.resources().num_gpus
        for section, tally in lines
        if section.tokens_per_s
    ]
    return [
        *(f"{sum(getattr(t, key) for _, t in lines):,}" for key in ("calls", "reused")),
        *(f"{sum(getattr(t, key) for _, t in lines):,}" for key in ("tokens_in", "most_out")),
        f"{cost:,.2f}" if priced else "",
        f"{sum(hours):,.2f}" if hours else "",
    ]

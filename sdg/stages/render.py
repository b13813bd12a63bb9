"""render: seeds -> calls. Plans a round, chooses each call's prompt and model, renders it in full.

`prepare` leaves the round's plan in `prepared/plan.json`: how far each cell (language × task) is
and what this round does for it; and in `places.json` where each shard's seeds stand among all. See
sdg/planning.py.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from sdg.account import RUN_LANG, slices_of
from sdg.languages import language
from sdg.models import ModelShare, choose
from sdg.planning import (
    GOLDEN,
    Budget,
    CellState,
    Spent,
    Stream,
    Walk,
    apportion,
    apportion_within,
    cell_of,
    plan_cells,
    streams_by_cell,
)
from sdg.prompting import Prompt, load_prompt
from sdg.schema import Call, Message, Seed, rows_of, to_table
from sdg.stage import Context, Inputs, Result, Shard, Stage, dropped_rows
from sdg.store import write_json
from sdg.tasks import JUDGE, get_task
from sdg.tasks.compose import compose
from sdg.text import digest

PLAN, PLACES = "plan.json", "places.json"
EXAMPLES = "mine"  # the stage whose output counts as accepted
IDEA_CALLS = "infer_ideas"  # the answers that the task list was made from


@dataclass(frozen=True)
class Planned:
    """A stream's part of the round."""

    stream: Stream
    prompts: tuple[Prompt, ...]
    weights: tuple[float, ...]
    bases: dict[str, int]  # class of seeds -> place of its first among the stream's
    walk: Walk
    done: int  # calls in the rounds before
    num: int


class RenderStage(Stage):
    """Plans how many calls each seed gets and writes them out in full, ready for an engine."""

    name: ClassVar[str] = "render"
    version: ClassVar[int] = 2
    takes = Seed
    gives = Call

    prompts: dict[str, float] = Field(default_factory=dict)  # prompt -> weight
    shas: dict[str, dict[str, str]] = Field(default_factory=dict)  # prompt -> language -> hash
    languages: dict[str, float] = Field(default_factory=dict)  # weights of quotas; else 1
    models: tuple[ModelShare, ...] = (ModelShare(),)  # that the calls are shared among
    pairs: int | None = None  # accepted examples wanted; None: as many as the corpus gives
    budget: Budget = Budget()
    judged: bool = False  # the budget pays for a judge of what is written, too
    calls_per_seed: int = Field(4, ge=1)  # without `pairs`
    max_calls_per_seed: int = Field(16, ge=1)  # of one task, with `pairs`: oftener, it repeats
    oversample: float = Field(1.5, ge=1)  # calls a pair wanted in the first round, for the dropped
    max_rounds: int = Field(12, ge=1)
    min_yield: float = Field(0.02, ge=0, le=1)  # examples a call below which a cell is given up

    def load_prompts(self, lang: str) -> dict[str, Prompt]:
        """The prompts of this run, resolved for a language, by name; names in order."""
        return {name: load_prompt(name, language(lang).base) for name in sorted(self.prompts)}

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Plan the round: from the seeds there are, and what the rounds before gave."""
        sizes: Counter[str] = Counter()
        first: dict[str, dict[str, int]] = {}
        for name in inputs.shards:
            table = inputs.read(name, ["kind", "lang", "fields"])
            counts = Counter(map(_class_of, table.to_pylist()))
            first[name] = {seeds: sizes[seeds] for seeds in sorted(counts)}
            sizes += counts
        cells, calls = self._plan(self._streams(ctx.langs), sizes, inputs, ctx)
        write_json(
            ctx.dir / PLAN,
            {
                "cells": {name: cell.model_dump() for name, cell in cells.items()},
                "calls": calls,  # of this round, by stream
                "done": {key: _calls_before(key, inputs) for key in calls},
                "seeds": dict(sorted(sizes.items())),
            },
        )
        write_json(ctx.dir / PLACES, first)

    def quotas(self, langs: Sequence[str]) -> dict[str, int]:
        """Accepted examples wanted by cell: languages' weights times those of their prompts."""
        shares: dict[str, float] = {}
        for stream, prompts in self._streams(langs).values():
            shares[stream.cell] = shares.get(stream.cell, 0.0) + self._weight(stream, prompts)
        return apportion(self.pairs or 0, shares)

    def _streams(self, langs: Sequence[str]) -> dict[str, tuple[Stream, list[Prompt]]]:
        """Each stream with its prompts, by its key."""
        found: dict[str, tuple[Stream, list[Prompt]]] = {}
        for lang in langs:
            for prompt in self.load_prompts(lang).values():
                stream = _stream_of(prompt, lang)
                found.setdefault(stream.key, (stream, []))[1].append(prompt)
        return found

    def _weight(self, stream: Stream, prompts: Sequence[Prompt]) -> float:
        """Of a stream: its language's weight times its prompts'."""
        own = self.languages.get(stream.lang, 1.0)
        return own * sum(self.prompts[prompt.name] for prompt in prompts)

    def _plan(
        self,
        found: dict[str, tuple[Stream, list[Prompt]]],
        sizes: Counter[str],
        inputs: Inputs,
        ctx: Context,
    ) -> tuple[dict[str, CellState], dict[str, int]]:
        """The cells, and the round's calls by stream."""
        streams = {key: stream for key, (stream, _) in found.items()}
        weights = {key: self._weight(*pair) for key, pair in found.items()}
        size = {
            key: sum(num for seeds, num in sizes.items() if stream.takes(seeds))
            for key, stream in streams.items()
        }
        done = {key: _calls_before(key, inputs) for key in streams}
        left = _spent(inputs).calls_left(
            self.budget, self._tokens_per_call(ctx, inputs), judged=self.judged
        )
        by_cell = streams_by_cell(list(streams.values()))
        if self.pairs is None:
            calls = self._even_calls(streams, size, weights)
            if left is not None and sum(calls.values()) > left:
                calls = apportion(left, calls)
            return {
                cell: CellState(quota=0, planned=sum(calls[stream.key] for stream in mine))
                for cell, mine in by_cell.items()
            }, calls
        room = {key: size[key] * self.max_calls_per_seed - done[key] for key in streams}
        accepted = _accepted(inputs, ctx)
        quotas = self.quotas(ctx.langs)
        cells = plan_cells(
            {
                cell: CellState(
                    quota=quotas[cell],
                    accepted=accepted[cell],
                    calls=sum(done[stream.key] for stream in mine),
                    capacity=sum(room[stream.key] for stream in mine),
                )
                for cell, mine in by_cell.items()
            },
            oversample=self.oversample,
            min_yield=self.min_yield,
            calls_left=left,
            last_round=len(inputs.rounds) >= self.max_rounds,
        )
        calls = {}
        for cell, mine in by_cell.items():
            keys = [stream.key for stream in mine]
            calls |= apportion_within(cells[cell].planned, {k: weights[k] for k in keys}, room)
        return cells, calls

    def _even_calls(
        self, streams: dict[str, Stream], size: dict[str, int], weights: dict[str, float]
    ) -> dict[str, int]:
        """Without a quota: `calls_per_seed` calls of every seed, shared among what may use it."""

        def rivals(stream: Stream) -> tuple[str, str, str]:
            return stream.lang, stream.kind, stream.task if stream.kind == "idea" else ""

        shared: dict[tuple[str, str, str], float] = {}
        for key, stream in streams.items():
            shared[rivals(stream)] = shared.get(rivals(stream), 0.0) + weights[key]
        return {
            key: round(self.calls_per_seed * size[key] * weights[key] / shared[rivals(stream)])
            for key, stream in streams.items()
        }

    def _tokens_per_call(self, ctx: Context, inputs: Inputs) -> float:
        """A guess, for a budget of tokens before the first call: three characters a token."""
        if self.budget.tokens is None:
            return 0.0
        prompts = [p for lang in ctx.langs for p in self.load_prompts(lang).values()]
        lengths = [len(p.body) / 3 + p.sampling.max_tokens for p in prompts]
        sample = inputs.read(inputs.shards[0], ["text"]) if inputs.shards else None
        texts: list[str] = sample["text"].to_pylist() if sample else []
        seed = sum(map(len, texts)) / max(1, len(texts)) / 3
        return sum(lengths) / max(1, len(lengths)) + seed

    def open(self, ctx: Context) -> Any:
        plan = json.loads((ctx.dir / PLAN).read_text(encoding="utf-8"))
        planned = []
        for key, (stream, prompts) in self._streams(ctx.langs).items():
            if not plan["calls"][key]:
                continue
            bases, size = {}, 0
            for seeds, num in plan["seeds"].items():
                if stream.takes(seeds):
                    bases[seeds] = size
                    size += num
            planned.append(
                Planned(
                    stream=stream,
                    prompts=tuple(prompts),
                    weights=tuple(self.prompts[p.name] for p in prompts),
                    bases=bases,
                    walk=Walk.of(size, ctx.seed, key),
                    done=plan["done"][key],
                    num=plan["calls"][key],
                )
            )
        return json.loads((ctx.dir / PLACES).read_text(encoding="utf-8")), planned

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        first, planned = state
        rank = Counter(first[shard.name])
        calls: list[Call] = []
        reasons: list[str | None] = []
        counters: Counter[str] = Counter()
        for seed in rows_of(shard.table, Seed):
            seeds, before = _class_of(seed.model_dump()), len(calls)
            for part in planned:
                if seeds in part.bases:
                    made = self._calls(part, seed, part.bases[seeds] + rank[seeds], ctx)
                    counters[f"calls/{part.stream.key}"] += len(made)
                    calls += made
            rank[seeds] += 1
            reasons.append(None if len(calls) > before else "over_quota")
        return Result(
            kept=to_table(calls, Call),
            dropped=dropped_rows(shard.table, reasons),
            num_kept=reasons.count(None),
            counters={key: num for key, num in sorted(counters.items()) if num},
        )

    def _calls(self, part: Planned, seed: Seed, index: int, ctx: Context) -> list[Call]:
        """The calls of one seed in one stream."""
        calls: list[Call] = []
        asked: Counter[str] = Counter()
        times = part.walk.times(index, part.done, part.num)
        for time in range(times.stop):
            prompt = _choose(seed, time, part, ctx)
            if time >= times.start:
                calls.append(
                    make_call(seed, part.stream.lang, asked[prompt.name], prompt, self.models, ctx)
                )
            asked[prompt.name] += 1
        return calls


def make_call(
    seed: Seed,
    lang: str,
    ordinal: int,
    prompt: Prompt,
    models: tuple[ModelShare, ...],
    ctx: Context,
) -> Call:
    """A call in full, for a language of the run."""
    # Not of the prompt's text: an edited prompt keeps its calls' controls and request seeds.
    call_id = digest("call", ctx.seed, seed.id, prompt.name, lang, ordinal)
    made = compose(get_task(prompt.task, prompt.name), prompt, seed, lang, call_id)
    own = {RUN_LANG: lang} if made.positive_lang != lang else {}
    model = choose(_others(models, seed), call_id, lang, prompt.task)
    model = model or choose(models, call_id, lang, prompt.task)
    assert model, f"no model for {prompt.task} in {lang}"  # the profile's check sees to it
    return Call(
        id=call_id,
        seed=seed,
        ordinal=ordinal,
        task=prompt.task,
        lang=made.lang,
        positive_lang=made.positive_lang,
        controls=json.dumps({**made.controls, **own}, ensure_ascii=False, sort_keys=True),
        prompt=prompt.name,
        prompt_sha=prompt.sha,
        instruction=made.instruction,
        strategies=_turned(prompt, seed, ctx),
        messages=[Message(role="user", content=made.text)],
        sampling=model.sampling.over(prompt.sampling).model_dump_json(),
        engine=model.engine,
        model=model.model,
        revision=model.revision,
    )


def _others(models: tuple[ModelShare, ...], seed: Seed) -> tuple[ModelShare, ...]:
    """The models without the author of an idea: ideas and samples come from two (cross-model)."""
    if seed.kind != "idea":
        return models
    author = json.loads(seed.fields)
    wrote = tuple(author.get(key, "") for key in ("engine", "model", "revision"))
    return tuple(model for model in models if model.id != wrote)


def _turned(prompt: Prompt, seed: Seed, ctx: Context) -> list[str]:
    """The strategies that may stand in for a model, from a starting point of the seed's own; the
    title first, which is nearest to what people type."""
    names = [name for name in prompt.extractive if name != "title"]
    turn = int(digest("turn", ctx.seed, seed.id, prompt.name), 16) % max(1, len(names))
    title = ["title"] if "title" in prompt.extractive else []
    return title + names[turn:] + names[:turn]


def _choose(seed: Seed, time: int, part: Planned, ctx: Context) -> Prompt:
    """By weight, and spread over the calls of one seed: they step through [0, 1) evenly."""
    start = int(digest("prompt", ctx.seed, seed.id)[:8], 16) / 2**32
    point = (start + time * GOLDEN) % 1 * sum(part.weights)
    for prompt, weight in zip(part.prompts, part.weights, strict=True):
        point -= weight
        if point < 0:
            return prompt
    return part.prompts[-1]


def _stream_of(prompt: Prompt, lang: str) -> Stream:
    return Stream(lang, prompt.task, prompt.seed, prompt.form if prompt.seed == "idea" else "")


def _class_of(seed: dict[str, Any]) -> str:
    """What decides which streams may use a seed; see `Stream.takes`."""
    if seed["kind"] != "idea":
        return f"{seed['kind']}/{seed['lang']}"
    fields = json.loads(seed["fields"])
    return f"idea/{fields['family']}/{fields['form']}"


def _calls_before(stream: str, inputs: Inputs) -> int:
    counter = f"calls/{stream}"
    return sum(int(before["render"].total(counter)) for before in inputs.rounds)


def _accepted(inputs: Inputs, ctx: Context) -> Counter[str]:
    """Examples of the rounds so far, by cell."""
    counts: Counter[str] = Counter()
    for before in inputs.rounds:
        for table in before[EXAMPLES].tables(["task", "positive_lang", "provenance"]):
            counts.update(example_cells(table))
    return counts


def example_cells(table: pa.Table) -> list[str]:
    """The cell of each example, by columns `task`, `positive_lang` and `provenance`."""
    slices = slices_of(table)
    columns = slices["lang"].to_pylist(), slices["task"].to_pylist()
    return list(map(cell_of, *columns))


def _spent(inputs: Inputs) -> Spent:
    asking = ("infer", JUDGE.name)
    answered = [before[name] for before in inputs.rounds for name in asking if name in before]
    answered += [inputs.earlier[IDEA_CALLS]] if IDEA_CALLS in inputs.earlier else []
    tokens = sum(part.total("tokens_in") + part.total("tokens_out") for part in answered)
    return Spent(
        calls=int(sum(part.total("calls") for part in answered)),
        tokens=int(tokens),
        gpu_hours=sum(part.total("gpu_seconds") for part in answered) / 3600,
    )

"""The task list: brainstorm -> infer -> parse_ideas -> select_ideas, before the rounds of a run.

From scratch in two steps (E5-mistral, arXiv 2401.00368, 3.1): here models list ideas for tasks,
about 20 a call; in the rounds other models write samples of them. See sdg/ideas.py.
"""

import json
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from sdg.errors import UserError
from sdg.fingerprints import files_fingerprint
from sdg.ideas import blank_seed, dedupe_ideas, read_ideas
from sdg.models import ModelShare
from sdg.prompting import load_prompt
from sdg.schema import Call, Seed, rows_of, to_table
from sdg.stage import Context, Inputs, Result, Shard, Stage, dropped_rows, split
from sdg.stages.render import make_call
from sdg.store import write_json
from sdg.tasks import Rejected, get_task
from sdg.text import rng

IDEAS_LANG = "en"  # ideas are in English and serve every language


class ReadIdeasStage(Stage):
    """Ideas of a list that an earlier run has made."""

    name: ClassVar[str] = "read_ideas"
    takes = Seed
    gives = Seed

    path: str = Field(min_length=1)  # a task list: a Parquet file of ideas

    def shards(self, inputs: Inputs, ctx: Context) -> list[str]:
        return ["list"]

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        return to_table(read_ideas(Path(self.path).expanduser()), Seed)

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        read_ideas(Path(self.path).expanduser())

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        return split(shard.table, [None] * shard.table.num_rows)

    def fingerprint(self) -> dict[str, Any]:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise UserError(f"ideas.path: {self.path}: no such file; give a run's ideas.parquet")
        return {**super().fingerprint(), "file": files_fingerprint([path])}


class BrainstormStage(Stage):
    """Renders the calls that ask for ideas."""

    name: ClassVar[str] = "brainstorm"
    takes = Seed
    gives = Call

    prompts: dict[str, float] = Field(min_length=1)  # prompt -> weight
    shas: dict[str, str] = Field(default_factory=dict)  # prompt -> hash of its text
    models: tuple[ModelShare, ...] = (ModelShare(),)
    calls: int = Field(ge=1)
    shard_rows: int = Field(64, ge=1)

    def shards(self, inputs: Inputs, ctx: Context) -> list[str]:
        return [f"{i:05d}" for i in range(-(-self.calls // self.shard_rows))]

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        first = int(name) * self.shard_rows
        numbers = range(first, min(first + self.shard_rows, self.calls))
        return to_table([blank_seed(number) for number in numbers], Seed)

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        names = sorted(self.prompts)
        prompts = [load_prompt(name, IDEAS_LANG) for name in names]
        weights = [self.prompts[name] for name in names]
        calls = []
        for seed in rows_of(shard.table, Seed):
            (prompt,) = rng(ctx.seed, seed.id, "brainstorm").choices(prompts, weights)
            calls.append(make_call(seed, IDEAS_LANG, 0, prompt, self.models, ctx))
        none_dropped = dropped_rows(shard.table, [None] * len(calls))
        return Result(to_table(calls, Call), none_dropped, len(calls))


class ParseIdeasStage(Stage):
    """Reads replies into ideas."""

    name: ClassVar[str] = "parse_ideas"
    takes = Call
    gives = Seed

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        ideas: list[Seed] = []
        reasons: list[str | None] = []
        for call in rows_of(shard.table, Call):
            try:
                ideas += get_task(call.task, call.prompt).parse_ideas(call)
                reasons.append(None)
            except Rejected as rejected:
                reasons.append(rejected.reason)
        dropped = dropped_rows(shard.table, reasons)
        return Result(to_table(ideas, Seed), dropped, reasons.count(None))


class SelectIdeasStage(Stage):
    """Drops ideas that are near to another of their family and form."""

    name: ClassVar[str] = "select_ideas"
    takes = Seed
    gives = Seed

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        ideas = [idea for table in inputs.tables() for idea in rows_of(table, Seed)]
        wanted = {(idea.id, idea.fields) for idea in dedupe_ideas(ideas)}
        for name in inputs.shards:
            places = []
            for place, row in enumerate(inputs.read(name, ["id", "fields"]).to_pylist()):
                key = (row["id"], row["fields"])
                if key in wanted:
                    places.append(place)
                    wanted.discard(key)  # a second copy of it is one too many
            write_json(ctx.dir / f"{name}.json", places)

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        places = set(json.loads((ctx.dir / f"{shard.name}.json").read_text(encoding="utf-8")))
        rows = range(shard.table.num_rows)
        return split(shard.table, [None if i in places else "near_duplicate" for i in rows])

"""infer: calls -> answered calls. The engines' replies are kept as they came.

Calls that a kept reply answers, of whatever run, are not made (`sdg.kept`): their `attempts` are 0.
With several models, each has its part of every shard, a shard of its own: shard 00007's calls to
the second model are shard 00007.m1. The models work one after another, each on the whole cluster.
"""

import json
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from sdg.engines import AnyEngine, Engine, ExtractiveEngine, Session
from sdg.engines.serving import sampling_of
from sdg.kept import RepliesConfig, ReplyStore, ReusingSession, content_ids, storable
from sdg.schema import Call, rows_of, to_table
from sdg.stage import Context, Group, Inputs, Result, Shard, Stage, dropped_rows
from sdg.stages.again import answer
from sdg.store import write_json

RUN = "run.json"  # names this stage of this run, so that a run knows its own replies again


class InferStage(Stage):
    """Hands each call to the engine of its model."""

    name: ClassVar[str] = "infer"
    takes = Call
    gives = Call
    speed_only: ClassVar[frozenset[str]] = frozenset({"replies"})

    engines: tuple[AnyEngine, ...] = Field((ExtractiveEngine(),), min_length=1)
    replies: RepliesConfig = RepliesConfig(keep=False)
    reply_attempts: int = Field(1, ge=1, le=9)  # of a call whose reply is of no use: see again.py

    def by_group(self) -> dict[str, Engine]:
        """The engines by group: "" for the only one; of several, the end of their shards' names."""
        if len(self.engines) == 1:
            return {"": self.engines[0]}
        return {f".m{i}": engine for i, engine in enumerate(self.engines)}

    def shards(self, inputs: Inputs, ctx: Context) -> list[str]:
        return [f"{name}{group}" for name in inputs.shards for group in self.by_group()]

    def groups(self, shards: Sequence[str]) -> list[Group]:
        return [
            Group(
                name=group,
                shards=tuple(name for name in shards if name.endswith(group)),
                resources=None if isinstance(engine, ExtractiveEngine) else engine.resources(),
            )
            for group, engine in self.by_group().items()
        ]

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        """The calls of an input shard that are one engine's."""
        table = inputs.read(name.removesuffix(ctx.group), None)
        engine = self.by_group()[ctx.group]
        wanted = {"engine": engine.name, "model": engine.model, "revision": engine.revision}
        for column, value in wanted.items():
            table = table.filter(pc.equal(table[column], value))
        return table

    def fingerprint(self) -> dict[str, Any]:
        settings = [
            engine.model_dump(mode="json", exclude=set(engine.speed_only))
            for engine in self.engines
        ]
        return {**super().fingerprint(), "engines": settings}

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        write_json(ctx.dir / RUN, {"id": uuid.uuid4().hex})

    def open(self, ctx: Context) -> Session:
        engine = self.by_group()[ctx.group]
        if not self._keeps(engine):
            return engine.open()
        run: str = json.loads((ctx.dir / RUN).read_text(encoding="utf-8"))["id"]
        return ReusingSession(engine, ReplyStore(self.replies), run)

    def _keeps(self, engine: Engine) -> bool:
        return self.replies.keep and engine.keeps_replies

    def undone(self, shard: Shard, ctx: Context) -> list[int]:
        engine = self.by_group()[ctx.group]
        if not self._keeps(engine):
            return super().undone(shard, ctx)
        calls = rows_of(shard.table, Call)
        limits = [sampling_of(call).max_tokens for call in calls]
        wanted = list(zip(content_ids(engine, calls), limits, strict=True))
        found = _reader(self.replies).find(wanted)
        return [place for place, reply in enumerate(found) if reply is None]

    def close(self, state: Session) -> None:
        state.close()

    def run(self, shard: Shard, ctx: Context, state: Session) -> Result:
        calls = rows_of(shard.table, Call)
        answered, reasons = [], []
        replies = answer(state, calls, self.reply_attempts)
        for call, reply in zip(calls, replies, strict=True):
            answered.append(
                call.model_copy(
                    update={
                        "reply": storable(reply.text),
                        "finish_reason": reply.finish_reason,
                        "tokens_in": reply.tokens_in,
                        "tokens_out": reply.tokens_out,
                        "error": storable(reply.error),
                        "attempts": reply.attempts,
                    }
                )
            )
            # An error reads "kind: detail"; the kind is the counter, the row keeps the whole.
            reasons.append(reply.error.split(":")[0] if reply.error else None)
        table = to_table(answered, Call)
        kept = table.filter(table["error"].is_null())
        paid = [reply for reply in replies if reply.attempts]
        counters = {
            "calls": sum(reply.attempts for reply in paid),
            "reused": len(replies) - len(paid),
            "tokens_in": sum(reply.tokens_in or 0 for reply in paid),
            "tokens_out": sum(reply.tokens_out or 0 for reply in paid),
        }
        return Result(kept, dropped_rows(table, reasons), kept.num_rows, counters)


@lru_cache(maxsize=1)
def _reader(replies: RepliesConfig) -> ReplyStore:
    return ReplyStore(replies)

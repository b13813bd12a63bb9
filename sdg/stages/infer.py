"""infer: calls -> answered calls. The engines' replies are kept as they came.

With several models, each has its part of every shard, a shard of its own: shard 00007's calls to
the second model are shard 00007.m1. The models work one after another, each on the whole cluster.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from sdg.engines import AnyEngine, Engine, ExtractiveEngine, Session
from sdg.schema import Call, rows_of, to_table
from sdg.stage import Context, Group, Inputs, Result, Shard, Stage, dropped_rows


class InferStage(Stage):
    """Hands each call to the engine of its model."""

    name: ClassVar[str] = "infer"
    takes = Call
    gives = Call

    engines: tuple[AnyEngine, ...] = Field((ExtractiveEngine(),), min_length=1)

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

    def open(self, ctx: Context) -> Session:
        return self.by_group()[ctx.group].open()

    def close(self, state: Session) -> None:
        state.close()

    def run(self, shard: Shard, ctx: Context, state: Session) -> Result:
        calls = rows_of(shard.table, Call)
        answered, reasons = [], []
        replies = state.answer(calls) if calls else []
        for call, reply in zip(calls, replies, strict=True):
            answered.append(
                call.model_copy(
                    update={
                        "reply": _storable(reply.text),
                        "finish_reason": reply.finish_reason,
                        "tokens_in": reply.tokens_in,
                        "tokens_out": reply.tokens_out,
                        "error": _storable(reply.error),
                        "attempts": reply.attempts,
                    }
                )
            )
            # An error reads "kind: detail"; the kind is the counter, the row keeps the whole.
            reasons.append(reply.error.split(":")[0] if reply.error else None)
        table = to_table(answered, Call)
        kept = table.filter(table["error"].is_null())
        counters = {
            "calls": sum(reply.attempts for reply in replies),
            "tokens_in": sum(reply.tokens_in or 0 for reply in replies),
            "tokens_out": sum(reply.tokens_out or 0 for reply in replies),
        }
        return Result(kept, dropped_rows(table, reasons), kept.num_rows, counters)


def _storable(text: str | None) -> str | None:
    """The text as it came, but for half surrogate pairs, which neither Arrow nor UTF-8 can hold."""
    if text is None:
        return None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

"""infer: calls -> answered calls. The engine's replies are kept as they came."""

from typing import Any, ClassVar

from sdg.engines import AnyEngine, ExtractiveEngine, Session
from sdg.schema import Call, rows_of, to_table
from sdg.stage import Context, Resources, Result, Shard, Stage, dropped_rows


class InferStage(Stage):
    """Hands each shard's calls to the engine."""

    name: ClassVar[str] = "infer"
    takes = Call
    gives = Call

    engine: AnyEngine = ExtractiveEngine()

    def resources(self) -> Resources | None:
        return None if isinstance(self.engine, ExtractiveEngine) else self.engine.resources()

    def fingerprint(self) -> dict[str, Any]:
        settings = self.engine.model_dump(mode="json", exclude=set(self.engine.speed_only))
        return {**super().fingerprint(), "engine": settings}

    def open(self, ctx: Context) -> Session:
        return self.engine.open()

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

"""parse: answered calls -> pairs, by the task family that wrote the prompt."""

from typing import Any, ClassVar

from sdg.schema import Call, Pair, rows_of, to_table
from sdg.stage import Context, Result, Shard, Stage, dropped_rows
from sdg.tasks import Rejected, get_task


class ParseStage(Stage):
    """Reads replies; one that gives no pair is dropped with the reason."""

    name: ClassVar[str] = "parse"
    takes = Call
    gives = Pair

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        pairs: list[Pair] = []
        reasons: list[str | None] = []
        for call in rows_of(shard.table, Call):
            try:
                pairs.append(get_task(call.task, call.prompt).parse(call, ctx.seed))
                reasons.append(None)
            except Rejected as rejected:
                reasons.append(rejected.reason)
        return Result(to_table(pairs, Pair), dropped_rows(shard.table, reasons), len(pairs))

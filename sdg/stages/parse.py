"""parse: answered calls -> pairs, by the task family that wrote the prompt."""

from collections import Counter
from typing import Any, ClassVar

from sdg.schema import Call, Pair, rows_of, to_table
from sdg.stage import Context, Result, Shard, Stage, dropped_rows
from sdg.tasks import Rejected, get_task


class ParseStage(Stage):
    """Reads replies; one that gives no pair is dropped with the reason.

    `num_kept` counts calls that gave a pair; one call may give several. The counters `repaired_*`
    are of kept replies that needed a safe repair: see sdg/replies.py.
    """

    name: ClassVar[str] = "parse"
    version: ClassVar[int] = 2
    takes = Call
    gives = Pair

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        pairs: list[Pair] = []
        reasons: list[str | None] = []
        counters: Counter[str] = Counter()
        for call in rows_of(shard.table, Call):
            task = get_task(call.task, call.prompt)
            try:
                answer = task.read(call)
                pairs += task.pairs(call, answer.reply, ctx.seed)
            except Rejected as rejected:
                reasons.append(rejected.reason)
                continue
            reasons.append(None)
            if answer.repaired:
                counters[f"repaired_{answer.repaired}"] += 1
        dropped = dropped_rows(shard.table, reasons)
        return Result(to_table(pairs, Pair), dropped, reasons.count(None), dict(counters))

"""judge: a model grades every pair, blind, and those below a grade are dropped. Off by default.

In a profile, `stages: {judge: {engine: {name: openai, model: some-judge}}}`. The judge sees neither
the model nor the prompt or strategy that a pair was made with, and the positive stands among other
texts in random order (the pair's own negatives, or positives of other pairs), so that it cannot be
praised for its place. A pair whose query suits another text as well is as useless as one whose
query suits none. Grades are kept in the pair's provenance (`judged`).
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from sdg.engines import AnyEngine, Session
from sdg.kept import RepliesConfig
from sdg.languages import language
from sdg.prompting import load_prompt
from sdg.schema import Call, Message, Pair, Seed, rows_of, to_table
from sdg.stage import Context, Group, Inputs, Result, Shard, Stage, dropped_rows
from sdg.stages.infer import InferStage
from sdg.tasks import JUDGE, Rejected
from sdg.tasks.base import JUDGED, MAX_GRADE
from sdg.tasks.judge import Verdict
from sdg.text import canonical, digest, rng

REASONS = ("judged_irrelevant", "judged_ambiguous", "judged_bad_language", "judged_unanswerable")
FAILED = "judge_"  # before the reason why a call to the judge gave no grades


class JudgeStage(Stage):
    """Drops what a judge grades low. A pair that the judge gave no grades for is dropped, too."""

    name: ClassVar[str] = "judge"
    takes = Pair
    gives = Pair
    speed_only: ClassVar[frozenset[str]] = frozenset({"allow_own", "replies"})

    engine: AnyEngine
    prompt: str = "judge/pair"
    shas: dict[str, str] = Field(default_factory=dict)  # language -> hash of the prompt
    num_others: int = Field(1, ge=0, le=7)  # texts that the positive stands among
    min_relevance: float = Field(3.0, ge=0, le=MAX_GRADE)  # of the positive
    min_language: float = Field(3.0, ge=0, le=MAX_GRADE)
    min_answerable: float = Field(3.0, ge=0, le=MAX_GRADE)
    allow_own: bool = False  # let the judge be a model that writes in the same run
    replies: RepliesConfig = RepliesConfig(keep=False)

    @property
    def asks(self) -> InferStage:
        """What carries the calls to the judge."""
        return InferStage(engines=(self.engine,), replies=self.replies)

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        self.asks.prepare(inputs, ctx)

    def groups(self, shards: Sequence[str]) -> list[Group]:
        return self.asks.groups(shards)

    def open(self, ctx: Context) -> Session:
        return self.asks.open(ctx)

    def close(self, state: Session) -> None:
        self.asks.close(state)

    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), "engine": self.asks.fingerprint()["engines"][0]}

    def run(self, shard: Shard, ctx: Context, state: Session) -> Result:
        pairs: list[Pair] = rows_of(shard.table, Pair)
        calls = [self.call(pair, self._others(pair, pairs, ctx), ctx) for pair in pairs]
        asked = self.asks.run(Shard(shard.name, to_table(calls, Call)), ctx, state)
        failed = dict(
            zip(*(asked.dropped[key].to_pylist() for key in ("id", "reason")), strict=True)
        )
        reasons: dict[str, str | None] = {key: f"{FAILED}{why}" for key, why in failed.items()}
        verdicts: dict[str, Verdict] = {}
        for call in rows_of(asked.kept, Call):
            try:
                verdicts[call.id] = JUDGE.verdict(call)
                reasons[call.id] = self.reason(verdicts[call.id])
            except Rejected as rejected:
                reasons[call.id] = f"{FAILED}{rejected.reason}"
        judged = [
            self._judged(pair, verdicts.get(call.id))
            for call, pair in zip(calls, pairs, strict=True)
        ]
        found = [reasons[call.id] for call in calls]
        kept = [pair for pair, reason in zip(judged, found, strict=True) if reason is None]
        dropped = dropped_rows(to_table(judged, Pair), found)
        counters = Counter({**asked.counters, "judged": len(verdicts)})
        return Result(to_table(kept, Pair), dropped, len(kept), dict(counters))

    def reason(self, verdict: Verdict) -> str | None:
        """Why a pair with these grades is dropped."""
        irrelevant, ambiguous, bad_language, unanswerable = REASONS
        if verdict.relevance < self.min_relevance:
            return irrelevant
        if verdict.rival is not None and verdict.rival >= verdict.relevance:
            return ambiguous
        if verdict.language < self.min_language:
            return bad_language
        return unanswerable if verdict.answerable < self.min_answerable else None

    def _others(self, pair: Pair, pairs: Sequence[Pair], ctx: Context) -> list[str]:
        """Texts to stand beside the positive: the pair's own negatives, or else positives that
        other passages of the shard gave in the same language."""
        found = list(pair.negatives)
        if not found:
            seen = {canonical(pair.positive), canonical(pair.document)}
            for other in pairs:
                strange = other.provenance.seed_id != pair.provenance.seed_id
                same = (other.positive_lang, other.task) == (pair.positive_lang, pair.task)
                if strange and same and canonical(other.positive) not in seen:
                    seen.add(canonical(other.positive))
                    found.append(other.positive)
        num = min(self.num_others, len(found))
        return rng(ctx.seed, pair.id, "others").sample(found, num)

    def call(self, pair: Pair, others: Sequence[str], ctx: Context) -> Call:
        """What the judge is asked about a pair."""
        fields = {
            "instruction": pair.instruction,
            "query": pair.query,
            "others": list(others),
            "place": rng(ctx.seed, pair.id, "place").randrange(len(others) + 1),
        }
        seed = Seed(
            id=pair.id,
            text=pair.positive,
            title="",
            lang=pair.positive_lang,
            source=pair.provenance.source,
            license=pair.provenance.license,
            kind=JUDGED,
            fields=json.dumps(fields, ensure_ascii=False, sort_keys=True),
        )
        prompt = load_prompt(self.prompt, language(pair.query_lang).base)
        names = JUDGE.prompt_variables(seed, pair.query_lang, pair.positive_lang)
        return Call(
            id=digest("judge", ctx.seed, pair.id, prompt.name),
            seed=seed,
            ordinal=0,
            task=JUDGE.name,
            lang=pair.query_lang,
            positive_lang=pair.positive_lang,
            controls="{}",
            prompt=prompt.name,
            prompt_sha=prompt.sha,
            instruction=pair.instruction,
            strategies=[],
            messages=[Message(role="user", content=prompt.render(names))],
            sampling=prompt.sampling.model_dump_json(),
            engine=self.engine.name,
            model=self.engine.model,
            revision=self.engine.revision,
        )

    def _judged(self, pair: Pair, verdict: Verdict | None) -> Pair:
        if verdict is None:
            return pair
        grades = {"model": self.engine.model, "prompt": self.prompt, **verdict._asdict()}
        provenance = pair.provenance.model_copy(update={"judged": json.dumps(grades)})
        return pair.model_copy(update={"provenance": provenance})

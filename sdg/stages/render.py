"""render: seeds -> calls. Chooses each seed's prompts, samples their controls, renders them."""

import json
from collections import Counter
from typing import Any, ClassVar

from pydantic import Field

from sdg.languages import language
from sdg.prompting import Prompt, load_prompt
from sdg.schema import Call, Message, Seed, rows_of, to_table
from sdg.stage import Context, Inputs, Result, Shard, Stage, dropped_rows
from sdg.store import write_json
from sdg.tasks import get_task
from sdg.text import digest

_GOLDEN = 0.6180339887498949  # steps by it spread evenly over [0, 1)


class RenderStage(Stage):
    """Plans how many calls each seed gets and writes them out in full, ready for an engine."""

    name: ClassVar[str] = "render"
    takes = Seed
    gives = Call

    prompts: dict[str, float] = Field(default_factory=dict)  # prompt -> weight
    shas: dict[str, str] = Field(default_factory=dict)  # prompt -> hash of its text
    engine: str = ""  # of the calls; the three are the profile's engine
    model: str = ""
    revision: str = ""
    pairs: int | None = None  # accepted examples wanted; None: as many as the corpus gives
    calls_per_seed: int = Field(4, ge=1)  # without `pairs`
    max_calls_per_seed: int = Field(16, ge=1)  # with `pairs`: asked oftener, it repeats itself
    oversample: float = Field(1.5, ge=1)  # calls a pair wanted, for what is dropped later

    def load_prompts(self, lang: str) -> list[Prompt]:
        """The prompts of this run, resolved for its language."""
        return [load_prompt(name, language(lang).base) for name in self.prompts]

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Count the seeds: a seed's share of the calls follows from its place among all."""
        sizes = [table.num_rows for table in inputs.tables(["id"])]
        firsts = [sum(sizes[:i]) for i in range(len(sizes))]
        write_json(
            ctx.dir / "plan.json",
            {"num_seeds": sum(sizes), "first": dict(zip(inputs.shards, firsts, strict=True))},
        )

    def open(self, ctx: Context) -> Any:
        plan = json.loads((ctx.dir / "plan.json").read_text(encoding="utf-8"))
        return plan, self.load_prompts(ctx.lang)

    def num_calls(self, index: int, num_seeds: int) -> int:
        """Calls of the seed at `index`; over all seeds they add up to the calls wanted."""
        if self.pairs is None:
            return self.calls_per_seed
        wanted = -(-self.pairs * round(100 * self.oversample) // 100)
        wanted = min(wanted, num_seeds * self.max_calls_per_seed)
        return (index + 1) * wanted // num_seeds - index * wanted // num_seeds

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        plan, prompts = state
        first, num_seeds = plan["first"][shard.name], plan["num_seeds"]
        calls: list[Call] = []
        reasons: list[str | None] = []
        for offset, seed in enumerate(rows_of(shard.table, Seed)):
            num_calls = self.num_calls(first + offset, num_seeds)
            asked: Counter[str] = Counter()
            for place in range(num_calls):
                prompt = self._choose(seed, place, prompts)
                calls.append(self._call(seed, asked[prompt.name], prompt, ctx))
                asked[prompt.name] += 1
            reasons.append(None if num_calls else "over_quota")
        num_kept = reasons.count(None)
        return Result(to_table(calls, Call), dropped_rows(shard.table, reasons), num_kept)

    def _call(self, seed: Seed, ordinal: int, prompt: Prompt, ctx: Context) -> Call:
        call_id = digest("call", ctx.seed, seed.id, prompt.name, prompt.sha, ordinal)
        controls = prompt.sample_controls(call_id)
        lang, positive_lang = prompt.sample_languages(ctx.lang, call_id)
        task = get_task(prompt.task, prompt.name)
        variables = {**task.prompt_variables(seed, lang, positive_lang), **controls}
        controls |= prompt.record(lang, positive_lang)
        return Call(
            id=call_id,
            seed=seed,
            ordinal=ordinal,
            task=prompt.task,
            lang=lang,
            positive_lang=positive_lang,
            controls=json.dumps(controls, ensure_ascii=False, sort_keys=True),
            prompt=prompt.name,
            prompt_sha=prompt.sha,
            instruction=prompt.render_instruction(variables),
            strategies=prompt.extractive,
            messages=[Message(role="user", content=prompt.render(variables))],
            sampling=prompt.sampling.model_dump_json(),
            engine=self.engine,
            model=self.model,
            revision=self.revision,
        )

    def _choose(self, seed: Seed, place: int, prompts: list[Prompt]) -> Prompt:
        """By weight, and spread over the calls of one seed: they step through [0, 1) evenly."""
        start = int(digest("prompt", seed.id)[:8], 16) / 2**32
        point = (start + place * _GOLDEN) % 1 * sum(self.prompts.values())
        for prompt in prompts:
            point -= self.prompts[prompt.name]
            if point < 0:
                return prompt
        return prompts[-1]

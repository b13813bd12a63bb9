"""filter: pairs that a filter has a reason against go; the reasons are those of sdg/filters/.

The language filter's verifier is fitted on the run's own passages, once, before the shards.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import pyarrow as pa

from sdg.filters import (
    FILTERS,
    Candidate,
    FilterConfig,
    Filters,
    candidates,
    masked,
    unverified,
)
from sdg.filters.base import Check
from sdg.filters.language import KEYWORDS
from sdg.filters.texts import look_at
from sdg.langid import Verifier
from sdg.langid.features import background
from sdg.schema import Pair
from sdg.stage import NO_INPUT, Context, Inputs, Result, Shard, Stage, split

VERIFIER = "languages.npz"
SAMPLED_SHARDS = 16  # of the corpus, that the verifier is fitted on
SAMPLED_CHARACTERS = 400_000  # a language


class FilterStage(Stage):
    """Ask the filters about every pair, in the order of `FILTERS`; the first reason counts.

    In YAML, `filters: {length: {min_query: 5}, markup: false}`: those left out are asked with their
    defaults, false switches one off. Sides whose language nobody could tell are kept and marked in
    `unverified`; the counters `unverified_query:<language>` and `unverified_positive:<language>`
    are of those, beside `verified_...`.
    """

    name: ClassVar[str] = "filter"
    version: ClassVar[int] = 6
    takes: ClassVar[type[Pair]] = Pair
    gives: ClassVar[type[Pair]] = Pair

    filters: Filters = Filters()

    @property
    def prepares_once(self) -> bool:
        return True

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Fit the verifier of languages on the run's passages."""
        if self._verifies:
            Verifier.fit(_samples(inputs.earlier)).save(ctx.dir / VERIFIER)

    def warm(self) -> None:
        """The model of languages and the tables of characters, a second's work."""
        if self._verifies:
            background()
        any_text = look_at(["a"])["a"]
        _ = any_text.tally, any_text.repeats, any_text.canonical

    def open(self, ctx: Context) -> Verifier | None:
        return Verifier.load(ctx.dir / VERIFIER) if self._verifies else None

    def run(self, shard: Shard, ctx: Context, state: Verifier | None) -> Result:
        table, num_masked = masked(shard.table) if self._masks else (shard.table, 0)
        rows = candidates(table, state)
        checks = [(FILTERS[name].check, config) for name, config in self.filters if config]
        reasons = [_first_reason(row, checks) for row in rows]
        marks = [unverified(row) if state else row.pair.unverified for row in rows]
        counters = {**(_counters(rows, reasons, marks) if state else {}), "masked": num_masked}
        return split(_with_unverified(table, marks), reasons, counters)

    @property
    def _verifies(self) -> bool:
        return self._config("language") is not None

    @property
    def _masks(self) -> bool:
        """True where personal data is to be masked, before any filter is asked."""
        return getattr(self._config("personal"), "action", "") == "mask"

    def _config(self, name: str) -> FilterConfig | None:
        """A filter's settings; None where it is switched off."""
        found: FilterConfig | None = getattr(self.filters, name)
        return found


def _first_reason(row: Candidate, checks: Sequence[tuple[Check, FilterConfig]]) -> str | None:
    for check, config in checks:
        if reason := check(row, config):
            return reason
    return None


def _samples(earlier: Mapping[str, Inputs]) -> dict[str, list[str]]:
    """Passages by language, enough to fit on, from shards all over the corpus."""
    samples: dict[str, list[str]] = {}
    sizes: Counter[str] = Counter()
    seeds = earlier.get("seed", NO_INPUT)
    for name in seeds.shards[:: max(1, len(seeds.shards) // SAMPLED_SHARDS)]:
        for row in seeds.read(name, ["text", "lang"]).to_pylist():
            if sizes[row["lang"]] < SAMPLED_CHARACTERS:
                samples.setdefault(row["lang"], []).append(row["text"])
                sizes[row["lang"]] += len(row["text"])
    return samples


def _with_unverified(table: pa.Table, marks: list[list[str]]) -> pa.Table:
    field = table.schema.field("unverified")
    at = table.schema.get_field_index("unverified")
    return table.set_column(at, field, pa.array(marks, field.type))


def _counters(
    rows: Sequence[Candidate], reasons: Sequence[str | None], marks: Sequence[Sequence[str]]
) -> dict[str, int]:
    """Kept pairs by each side's language, and by whether anybody could verify it; of keywords, that
    nobody does, how many there are."""
    found: Counter[str] = Counter()
    for row, reason, sides in zip(rows, reasons, marks, strict=True):
        if reason is None:
            for side, lang in (
                ("query", row.pair.query_lang),
                ("positive", row.pair.positive_lang),
            ):
                found[f"{'un' * (side in sides)}verified_{side}:{lang}"] += 1
            if row.pair.strategy in KEYWORDS:
                found[f"keywords_query:{row.pair.query_lang}"] += 1
    return dict(found)

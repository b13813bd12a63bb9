"""Drop the pairs that a filter has a reason against; the reasons are those of sdg/filters.py."""

from typing import Any, ClassVar

from pydantic import Field, SerializeAsAny, field_validator

from sdg.filters import FILTERS, FilterConfig, is_unverified
from sdg.schema import Pair
from sdg.stage import Context, Result, Shard, Stage, split


def _all_filters() -> dict[str, FilterConfig]:
    return {name: found.config() for name, found in FILTERS.items()}


class FilterStage(Stage):
    """Ask the enabled filters about every pair, in the order given; the first reason counts.

    In YAML, `filters: {length: {min_query: 5}, language: , ...}`; left out, all with their
    defaults. The counter `unverified` is of kept pairs whose query's language nobody could check.
    """

    name: ClassVar[str] = "filter"
    takes: ClassVar[type[Pair]] = Pair
    gives: ClassVar[type[Pair]] = Pair

    filters: dict[str, SerializeAsAny[FilterConfig]] = Field(default_factory=_all_filters)

    @field_validator("filters", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """Each section as its filter's own config; nothing after a name means its defaults."""
        if not isinstance(given, dict):
            raise ValueError("give filters as a map of filter name to its settings")
        unknown = [name for name in given if name not in FILTERS]
        if unknown:
            raise ValueError(f"no filter '{unknown[0]}'; there are: {', '.join(FILTERS)}")
        return {
            name: FILTERS[name].config.model_validate({} if section is None else section)
            for name, section in given.items()
        }

    def fingerprint(self) -> dict[str, Any]:
        """With the filters' order, which decides what a pair with two faults is counted under."""
        return {**super().fingerprint(), "order": list(self.filters)}

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        pairs = [Pair.model_validate(row) for row in shard.table.to_pylist()]
        reasons = [self._reason(pair) for pair in pairs]
        unverified = sum(
            reason is None and is_unverified(pair)
            for pair, reason in zip(pairs, reasons, strict=True)
        )
        return split(shard.table, reasons, {"unverified": unverified})

    def _reason(self, pair: Pair) -> str | None:
        for name, config in self.filters.items():
            reason = FILTERS[name].check(pair, config)
            if reason:
                return reason
        return None

"""What every filter is made of: its registry, its settings, and the pair it looks at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from sdg.filters.texts import Text
from sdg.langid import Verdict

WRITTEN = "written"  # provenance.strategy of what a language model wrote


class FilterConfig(BaseModel):
    """Parameters of one filter: its section in a profile's YAML. The base has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sides(NamedTuple):
    """The fields of a `Pair` that filters look at."""

    query: str
    query_lang: str
    positive: str
    positive_lang: str
    document: str
    negatives: list[str]
    task: str
    unverified: list[str]
    strategy: str  # of its provenance


def sides_of(table: pa.Table) -> list[Sides]:
    """The rows of a table of pairs, from its columns: to make whole `Pair`s takes four times as
    long, and nobody asks for the rest."""
    columns = [table[name].to_pylist() for name in Sides._fields[:-1]]
    strategies = pc.struct_field(table["provenance"], "strategy").to_pylist()
    return list(map(Sides, *columns, strategies))


class Candidate(NamedTuple):
    """A pair to be judged, with what is found out for a whole shard at once."""

    pair: Sides
    query: Text
    positive: Text
    document: Text
    negatives: tuple[Text, ...]
    query_language: Verdict
    positive_language: Verdict

    @property
    def is_written(self) -> bool:
        """True where a language model wrote the query."""
        return self.pair.strategy == WRITTEN


Check = Callable[[Candidate, Any], str | None]


@dataclass(frozen=True)
class Filter:
    """A filter with its settings' model and all that it may answer."""

    name: str
    check: Check
    config: type[FilterConfig]
    reasons: tuple[str, ...]


def reasons(*names: str, config: type[FilterConfig] = FilterConfig) -> Callable[[Check], Filter]:
    """Make a filter of a function, by its name: the reasons it may give, and its settings."""

    def make(check: Check) -> Filter:
        return Filter(check.__name__, check, config, names)

    return make

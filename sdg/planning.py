"""How many calls a round makes, and of which seeds.

A **cell** is a language of the run and a task family: what a quota of accepted examples is set for.
A **stream** is the part of a cell whose prompts are made from the same seeds (passages of the
language, ideas of the family, pairs to translate). Call number t of a stream goes to the seed at
`index_of(t)`: a walk over all seeds in an order of the run's own, again and again. So a seed that
was asked least comes next, whatever round it is, and each shard finds its own part of a round by
arithmetic, with no list of calls anywhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from sdg.languages import language
from sdg.text import rng

GOLDEN = 0.6180339887498949  # steps by it spread evenly over [0, 1)
GROWTH = 4  # a round makes at most so many times the calls that the cell has seen
FIRST_MEASURE = 1000  # calls of a round that has to find out how fast the models are
TRIED = 100  # calls of a cell before its yield is believed


class Budget(BaseModel):
    """What the rounds of a run may spend in all; None is without limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)  # in and out
    gpu_hours: float | None = Field(None, gt=0)


@dataclass(frozen=True)
class Spent:
    """What the rounds so far have spent, writers and judge together."""

    calls: int = 0
    tokens: int = 0
    gpu_hours: float = 0.0

    def calls_left(
        self, budget: Budget, tokens_per_call: float, *, judged: bool = False
    ) -> int | None:
        """Calls to writers that the budget has room for; None for any number.

        Args:
            tokens_per_call: expected of a call, where none was made yet.
            judged: room for a judge's call about each is to be left.
        """
        room: list[float] = []
        if budget.calls is not None:
            room.append(budget.calls - self.calls)
        if budget.tokens is not None:
            each = self.tokens / self.calls if self.calls and self.tokens else tokens_per_call
            room.append((budget.tokens - self.tokens) / max(1.0, each))
        if budget.gpu_hours is not None:
            each = self.gpu_hours / self.calls if self.calls else 0.0
            left = budget.gpu_hours - self.gpu_hours
            room.append(left / each if each else FIRST_MEASURE)
        return max(0, math.floor(min(room) / (1 + judged))) if room else None


def apportion(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in the proportion of the weights that add up to `total` (largest remainder)."""
    whole = sum(weights.values())
    if not whole:
        return dict.fromkeys(weights, 0)
    exact = {key: total * weight / whole for key, weight in weights.items()}
    shares = {key: math.floor(value) for key, value in exact.items()}
    by_rest = sorted(exact, key=lambda key: (shares[key] - exact[key], key))
    for key in by_rest[: total - sum(shares.values())]:
        shares[key] += 1
    return shares


def apportion_within(
    total: int, weights: Mapping[str, float], most: Mapping[str, int]
) -> dict[str, int]:
    """The same, none above its `most`: what one cannot take goes to the others."""
    given = dict.fromkeys(weights, 0)
    while total > 0:
        open_ = {key: w for key, w in weights.items() if w > 0 and given[key] < most[key]}
        if not open_:
            break
        for key, share in apportion(total, open_).items():
            taken = min(share, most[key] - given[key])
            given[key] += taken
            total -= taken
    return given


@dataclass(frozen=True)
class Walk:
    """The order in which a stream's calls go over its seeds."""

    start: int
    step: int
    size: int

    @classmethod
    def of(cls, size: int, *key: object) -> "Walk":
        """A walk over `size` seeds from a place of the key's own; any stretch of it is spread
        evenly over them all."""
        step = max(1, round(size * GOLDEN))
        while math.gcd(step, size) != 1:
            step += 1
        return cls(rng("walk", *key).randrange(max(1, size)), step, size)

    def index_of(self, call: int) -> int:
        """The seed that call number `call` goes to."""
        return (self.start + self.step * call) % self.size

    def times(self, index: int, done: int, num: int) -> range:
        """Which times a seed is asked by the calls from `done` to `done + num`: 0 is its first."""
        first = (index - self.start) * pow(self.step, -1, self.size) % self.size
        return range(
            max(0, -((first - done) // self.size)), max(0, -((first - done - num) // self.size))
        )


@dataclass(frozen=True)
class Stream:
    """Prompts of one cell that are made from the same seeds."""

    lang: str
    task: str
    kind: str  # of seeds
    form: str = ""  # of ideas; "": any

    @property
    def cell(self) -> str:
        return cell_of(self.lang, self.task)

    @property
    def key(self) -> str:
        return "/".join([self.lang, self.task, self.kind, *([self.form] if self.form else [])])

    def takes(self, seeds: str) -> bool:
        """Whether it is made from seeds of a class, as `seed_class` names them."""
        kind, *rest = seeds.split("/")
        if kind != self.kind:
            return False
        if kind == "idea":
            return rest[0] == self.task and self.form in ("", rest[1])
        same = language(rest[0]).base == language(self.lang).base
        return not same if kind == "pair" else rest[0] == self.lang


def cell_of(lang: str, task: str) -> str:
    """The name of a cell."""
    return f"{lang}/{task}"


class CellState(BaseModel):
    """How far a cell is, and what the next round does for it."""

    model_config = ConfigDict(frozen=True)

    quota: int
    accepted: int = 0
    calls: int = 0  # in the rounds before
    capacity: int = 0  # calls that its seeds are still good for
    planned: int = 0
    short: str = ""  # why nothing more is planned though the quota is not full


def plan_cells(
    cells: Mapping[str, CellState],
    *,
    oversample: float,
    min_yield: float,
    calls_left: int | None,
    last_round: bool,
) -> dict[str, CellState]:
    """The cells with the calls of the next round, or with why they get none.

    A cell's first round makes `oversample` calls a pair wanted; later ones as many as its yield so
    far asks for, and one standard deviation more. Where the budget has not room for all, each gets
    its part.
    """
    planned, short = {}, {}
    for name, cell in cells.items():
        need = cell.quota - cell.accepted
        if need <= 0:
            continue
        if not cell.capacity:
            short[name] = "seeds"
        elif cell.calls >= TRIED and cell.accepted < min_yield * cell.calls:
            short[name] = "yield"
        elif last_round:
            short[name] = "rounds"
        elif calls_left == 0:
            short[name] = "budget"
        else:
            planned[name] = min(cell.capacity, _wanted(cell, need, oversample))
    if calls_left is not None and sum(planned.values()) > calls_left:
        planned = apportion(calls_left, planned)
        short |= {name: "budget" for name, num in planned.items() if not num}
    return {
        name: cell.model_copy(
            update={"planned": planned.get(name, 0), "short": short.get(name, "")}
        )
        for name, cell in cells.items()
    }


def _wanted(cell: CellState, need: int, oversample: float) -> int:
    if not cell.calls:
        return -(-need * round(100 * oversample) // 100)
    # Half an example where none came yet: then the growth decides.
    share = max(0.5, cell.accepted) / cell.calls
    return min(math.ceil((need + math.sqrt(need)) / share), max(32, GROWTH * cell.calls))


def streams_by_cell(streams: Sequence[Stream]) -> dict[str, list[Stream]]:
    """Streams under the cell that they belong to, cells in the order of their names."""
    cells: dict[str, list[Stream]] = {}
    for stream in sorted(streams, key=lambda stream: stream.key):
        cells.setdefault(stream.cell, []).append(stream)
    return cells

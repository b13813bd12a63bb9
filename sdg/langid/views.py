"""What the texts of each language are scored with, and texts of several languages side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from sdg.langid.features import Features, background, column
from sdg.langid.fitted import MAX_TURN_EACH, Fitted
from sdg.langid.policy import Policy, policy

BACKGROUND_SHARE = 0.3  # of the mix in what a language is taken to write: names are everywhere


@dataclass(frozen=True)
class View:
    """What a language's texts are scored with; made once a language.

    A process has one for each of its languages: what they share is not kept here.
    """

    policy: Policy
    own: list[int]  # columns of the language itself, or else of its kin
    kin: list[int]
    exact: bool  # own columns are of the language itself
    known: bool  # ... and one of them is py3langid's
    gains_OF: np.ndarray  # over the mix, a row for each of `own`
    written_F: np.ndarray  # log P(n-gram) in what the language is taken to write
    pivots: list[int]  # columns
    most_F: np.ndarray  # the greatest gain of any pivot over the language, or 0
    fitted: Fitted | None

    @property
    def turn_each(self) -> float:
        """By how much each n-gram raises the limit on turns into a pivot."""
        return self.fitted.turn_each if self.fitted else MAX_TURN_EACH


def view_of(lang: str, fitted: Mapping[str, Fitted], fitted_FK: np.ndarray) -> View:
    """The view of a language, by what was fitted, and log P(n-gram) of that, (F, K)."""
    model, found = background(), policy(lang)
    codes = [policy(one).code for one in fitted]
    first = len(model.labels)
    own = model.columns(found.own)
    own += [first + i for i, code in enumerate(codes) if code == found.code]
    kin = model.columns(found.kin)
    kin += [first + i for i, code in enumerate(codes) if code in found.kin]
    exact = bool(own)
    if not own:
        own, kin = kin, []
    logs = [model.log_FC[:, i] if i < first else fitted_FK[:, i - first] for i in own]
    gains_OF = np.array([log_F - model.log_mix_F for log_F in logs], dtype=np.float32)
    shares_F = np.exp(gains_OF).mean(axis=0) if own else np.ones_like(model.log_mix_F)
    written_F = model.log_mix_F + np.log(BACKGROUND_SHARE + (1 - BACKGROUND_SHARE) * shares_F)
    pivots = model.columns(frozenset(found.pivots))
    return View(
        policy=found,
        own=own,
        kin=kin,
        exact=exact,
        known=bool(model.columns(found.own)),
        gains_OF=gains_OF,
        written_F=written_F,
        pivots=pivots,
        most_F=np.maximum(_greatest_F(tuple(pivots)) - written_F, 0),
        fitted=fitted[list(fitted)[codes.index(found.code)]] if found.code in codes else None,
    )


@lru_cache(maxsize=16)
def _greatest_F(columns: tuple[int, ...]) -> np.ndarray:
    """The greatest log P(n-gram) of some columns, (F,)."""
    lowest_F = np.full(background().num_features, -np.inf, dtype=np.float32)
    return np.max([lowest_F, *map(column, columns)], axis=0)


@dataclass(frozen=True)
class Runs:
    """Which of B texts are of what language: one language's stand after another's."""

    views: Sequence[View]  # of the languages
    bounds: Sequence[int]  # where the texts of each begin, and the end of the last's

    def parts(self) -> list[tuple[View, slice]]:
        """Each language, and where its texts are."""
        slices = [slice(first, last) for first, last in pairwise(self.bounds)]
        return list(zip(self.views, slices, strict=True))

    def of(self, places: np.ndarray) -> "Runs":
        """Those of some of the texts, by their places, in order."""
        return Runs(self.views, np.searchsorted(places, self.bounds).tolist())

    def and_some_again(self, places: np.ndarray) -> "Runs":
        """Those of all the texts, and after them of some, by their places, in order."""
        again = [self.bounds[-1] + bound for bound in self.of(places).bounds[1:]]
        return Runs([*self.views, *self.views], [*self.bounds, *again])

    def each(self, values: Sequence[float]) -> np.ndarray:
        """For each text its language's value, (B,)."""
        return np.repeat(values, np.diff(self.bounds))

    def take(self, tables: Sequence[np.ndarray], found: Features) -> np.ndarray:
        """What its language's table, (F,) float32, has for each n-gram of the texts, (N,)."""
        values_N = np.empty(len(found.ids_N), dtype=np.float32)
        bounds_N = found.starts_B.take(self.bounds).tolist()
        for table_F, (start, end) in zip(tables, pairwise(bounds_N), strict=True):
            # "clip" spares numpy the check, and a copy of what it writes.
            table_F.take(found.ids_N[start:end], out=values_N[start:end], mode="clip")
        return values_N

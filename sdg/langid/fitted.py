"""What a language's own corpus says of it: counts of n-grams, and how like it its texts are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sdg.characters import codes_of, text_of
from sdg.langid.features import Background, Features, background
from sdg.langid.scripts import letters_of

PRIOR = 2_000.0  # n-grams of the mix of all languages, that smooth a corpus's counts
MIN_NGRAMS = 8_000  # a corpus of fewer says too little
SPAN = 32  # n-grams: about a question
RARE = 2  # times in a corpus: a letter of a foreign name
FEW = 0.005  # of the corpus's own spans may be less like it than `likeness - spread`
SPARE = 0.6  # for texts of another kind than the corpus
# What each n-gram adds to the limit on turns into a pivot: most of a corpus stays below it, and one
# that mixes in English (a Tagalog one) has more of it.
MOST, MIN_TURN_EACH, MAX_TURN_EACH = 0.99, 0.15, 0.28
LEAST_NOISE = 0.6  # of a long text, of the spread: its subject does not average out


@dataclass(frozen=True)
class Fitted:
    """A language, as its corpus has it."""

    ids: np.ndarray  # n-grams that are in the corpus
    counts: np.ndarray
    likeness: float  # mean gain of an n-gram over the mix of all languages
    spread: float  # by how much less most spans of the corpus have at worst
    turn_each: float = MAX_TURN_EACH
    letters: str = ""  # all that the corpus is written in

    def floor_B(self, num_B: np.ndarray) -> np.ndarray:
        """The least likeness of texts of so many n-grams; the shorter, the noisier."""
        noise_B = np.sqrt(SPAN / np.maximum(num_B, SPAN))
        floor: np.ndarray = self.likeness - SPARE - self.spread * np.maximum(noise_B, LEAST_NOISE)
        return floor

    def log_F(self, model: Background) -> np.ndarray:
        """log P(n-gram | language), (F,) float32."""
        return _log_probabilities(self.ids, self.counts, model)


def fit(texts: Sequence[str], found: Features) -> Fitted | None:
    """What a corpus says, by its texts and their n-grams; None where these are too few."""
    if (one := count(found)) is None:
        return None
    likeness, spread = _likeness(found, background())
    letters, nums = np.unique(codes_of(letters_of("".join(texts))), return_counts=True)
    common = text_of(letters[nums > RARE])
    return replace(one, likeness=likeness, spread=spread, letters=common)


def count(found: Features) -> Fitted | None:
    """A corpus's n-grams, and nothing else of it; None where there are too few of them."""
    if len(found.ids_N) < MIN_NGRAMS:
        return None
    return Fitted(*_counts(found.ids_N), likeness=0.0, spread=np.inf)


def _counts(ids_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The n-grams that there are, in order, and how many times."""
    counts_F = np.bincount(ids_N)
    ids = np.flatnonzero(counts_F)
    return ids.astype(np.int32), counts_F[ids]


def _likeness(found: Features, model: Background) -> tuple[float, float]:
    """`likeness` and `spread`: one half of the texts as the other half sees it."""
    first_N = found.rows_N() % 2 == 0
    ids, counts = _counts(found.ids_N[first_N])
    gains_F = _log_probabilities(ids, counts, model) - model.log_mix_F
    gains_N = gains_F[found.ids_N[~first_N]]
    if len(gains_N) < SPAN:
        return 0.0, np.inf
    spans = gains_N[: len(gains_N) // SPAN * SPAN].reshape(-1, SPAN).mean(axis=1)
    return float(spans.mean()), float(spans.mean() - np.quantile(spans, FEW))


def _log_probabilities(ids: np.ndarray, counts: np.ndarray, model: Background) -> np.ndarray:
    weights = PRIOR * model.mix_F
    weights[ids] += counts
    logs: np.ndarray = np.log(weights / weights.sum()).astype(np.float32)
    return logs


def save(path: Path, fitted: Mapping[str, Fitted]) -> None:
    """Write what was fitted, by language, as one .npz file."""
    arrays: dict[str, np.ndarray] = {}
    for lang, one in fitted.items():
        arrays |= {
            f"{lang}.ids": one.ids,
            f"{lang}.counts": one.counts,
            f"{lang}.likeness": np.array([one.likeness, one.spread, one.turn_each]),
            f"{lang}.letters": np.array(one.letters),
        }
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load(path: Path) -> dict[str, Fitted]:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        langs = [name.removesuffix(".ids") for name in file.files if name.endswith(".ids")]
        return {lang: _read(file, lang) for lang in langs}


def _read(file: Mapping[str, np.ndarray], lang: str) -> Fitted:
    likeness, spread, turn_each = file[f"{lang}.likeness"].tolist()
    return Fitted(
        ids=file[f"{lang}.ids"],
        counts=file[f"{lang}.counts"],
        likeness=likeness,
        spread=spread,
        turn_each=turn_each,
        letters=str(file[f"{lang}.letters"]),
    )

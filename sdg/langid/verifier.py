"""Is this text in the language it should be in? For any language, also those no detector knows.

This is verification, not identification: the wanted language is given, and a text is refused only
on good evidence of another. The evidence, in turn:

1. Script: most letters are of a script that the language is not written in.
2. A turn into a pivot (English, French ..., what models fall back to): a stretch of the text that
   the pivot explains so much better than the language that no name or quotation would. Off for
   pivots that the language is near to, as creoles are.
3. A stranger: another language explains the text better. All of py3langid's 140 compete, and those
   fitted on the run's own corpus; the wanted language stands by its own corpus and by py3langid's
   column for it, where there is one.
4. Unlikeness: the text is less like the language than any of its own corpus is. It finds what is in
   a language that nobody here knows.

A corpus in one orthography says nothing of texts in another: where a text has letters that the
corpus lacks, py3langid doesn't know the language, and no stranger explains the text, nobody can
tell.

Kin (Indonesian and Malay, Amharic and Tigrinya) are no strangers: a text that is more like the kin
is kept and called unverified, unless the run's own corpus tells the two plainly apart. So is a text
that is too short, and one in a language of which nothing is known. Thresholds were set on TICO-19
passages and sentences in 36 languages and on XQuAD and AfriQA questions in 11, of documents other
than those that tests/bench/verify.py reports on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sdg.langid.features import Counts, Features, background, joined, log_counts
from sdg.langid.fitted import Fitted, count, fit, load, save
from sdg.langid.scripts import is_unusual, scripts_of, shares_of_new
from sdg.langid.turns import turn_each, turned
from sdg.langid.views import Runs, View, view_of
from sdg.text import weights

WRONG_SCRIPT = "wrong_script"
WRONG_LANGUAGE = "wrong_language"

MIN_WEIGHT = 12  # below it a text is accepted unverified; in letters, as `sdg.text.weight` has it
ENOUGH = 160  # characters, in which a text that is long enough has shown it
BATCH_BYTES = 600_000  # of text scored at once: some 70 MB of working memory at most
# A stranger's lead, over the square root of the text's bytes; more by so much over its n-grams, for
# of a few the sisters of the language (Venetian, Bulgarian) may explain all.
STRANGER, STRANGER_SHORT = 0.65, 28.0
NEW_LETTERS = 0.1  # of a text, that the corpus lacks: another orthography
EXPLAINED = 0.6  # gain of an n-gram over the mix of all languages, where a language explains a text
KIN = 3.0  # a kin's lead, from which it is the run's own corpus that tells them apart
UNLIKE = 0.0  # gain of an n-gram over the mix of all languages, where no corpus says better


class _Leads(NamedTuple):
    """How well others explain each of B texts."""

    stranger_B: np.ndarray  # by how much better the best stranger does than the language
    kin_B: np.ndarray  # and the best of its kin
    counts_BF: Counts  # of n-grams ...
    best_B: np.ndarray  # ... and their score by the best stranger

    def gains_B(self) -> np.ndarray:
        """Of an n-gram by the best stranger, over the mix of all languages."""
        weights_B = np.maximum(self.counts_BF.totals(), 1)
        gains_B: np.ndarray = (self.best_B - self.counts_BF @ background().log_mix_F) / weights_B
        return gains_B


class Verdict(NamedTuple):
    """What was found of a text."""

    reason: str | None  # `WRONG_SCRIPT`, `WRONG_LANGUAGE`, or None
    verified: bool  # False where nobody could tell; such a text has no reason


_VERDICTS = (
    Verdict(None, False),
    Verdict(None, True),
    Verdict(WRONG_SCRIPT, True),
    Verdict(WRONG_LANGUAGE, True),
)
_UNVERIFIED, _VERIFIED, _FOREIGN, _WRONG = range(len(_VERDICTS))


class _Looked(NamedTuple):
    """What was found of B texts."""

    verdicts: list[Verdict]
    found: Features  # n-grams of these texts, among others ...
    places_B: np.ndarray  # ... where each has its place


class Verifier:
    """Verifies texts, with what was fitted on a run's corpus; without, by what py3langid knows."""

    def __init__(self, fitted: Mapping[str, Fitted] | None = None) -> None:
        self.fitted = dict(fitted or {})
        model = background()
        self._fitted_FK = np.empty((model.num_features, len(self.fitted)), dtype=np.float32)
        for k, one in enumerate(self.fitted.values()):
            self._fitted_FK[:, k] = one.log_F(model)
        self._views: dict[str, View] = {}

    @classmethod
    def fit(cls, samples: Mapping[str, Sequence[str]]) -> "Verifier":
        """Fit on texts of a corpus by language, without those that are plainly in another."""
        plain = cls()
        fitted = {lang: plain._fitted(lang, texts) for lang, texts in samples.items()}
        return cls({lang: one for lang, one in fitted.items() if one})

    def _fitted(self, lang: str, texts: Sequence[str]) -> Fitted | None:
        """What texts of a language say of it; None where these are too few."""
        clean: list[str] = []
        parts: list[Features] = []
        for batch in _batches({lang: texts}):
            looked = self._look(batch)
            kept_B = np.array([not verdict.reason for verdict in looked.verdicts])
            clean += [text for text, kept in zip(batch[lang], kept_B.tolist(), strict=True) if kept]
            parts.append(looked.found.of(looked.places_B[kept_B]))
        if not (parts and (one := fit(clean, found := joined(parts)))):
            return None
        # One half of the texts as the other half sees it.
        even, odd = (found.of(np.arange(first, len(clean), 2)) for first in (0, 1))
        half = Verifier({lang: count(even) or one})
        bounds = _bounds(batch[lang] for batch in _batches({lang: clean[1::2]}))
        others = [odd.part(first, last) for first, last in pairwise(bounds)]
        return replace(one, turn_each=turn_each(others, half._view(lang)))

    def save(self, path: Path) -> None:
        """Write what was fitted as one .npz file."""
        save(path, self.fitted)

    @classmethod
    def load(cls, path: Path) -> "Verifier":
        """Read what `save` wrote."""
        return cls(load(path))

    def check(self, texts: Sequence[str], lang: str) -> list[Verdict]:
        """A verdict for each text, of which all should be in one language."""
        return self.check_all({lang: texts})[lang]

    def check_all(self, texts: Mapping[str, Sequence[str]]) -> dict[str, list[Verdict]]:
        """A verdict for each text, by the language that it should be in.

        Most of the work is done for texts of many languages at once.
        """
        verdicts: dict[str, list[Verdict]] = {lang: [] for lang in texts}
        # Apart, for there is less to look at where nobody knows the language.
        for known in (True, False):
            some = {lang: own for lang, own in texts.items() if bool(self._view(lang).own) == known}
            for batch in _batches(some):
                found = iter(self._look(batch).verdicts)
                for lang, own in batch.items():
                    verdicts[lang] += islice(found, len(own))
        return verdicts

    def _look(self, batch: Mapping[str, Sequence[str]]) -> _Looked:
        """At texts by language; of all the languages something is known, or of none."""
        texts = [text for own in batch.values() for text in own]
        runs = Runs(list(map(self._view, batch)), _bounds(batch.values()))
        scripts = scripts_of(texts, [view.policy for view in runs.views], runs.bounds)
        # Letters of foreign scripts, names for the most part, say nothing for or against; only a
        # turn may begin with them. Of texts that have some there are thus two forms.
        strange = np.flatnonzero(scripts.strange_B)
        plain = list(texts)
        for i, text in zip(strange.tolist(), scripts.without_strange(), strict=True):
            plain[i] = text
        found = background().find(plain + [texts[i] for i in strange.tolist()])
        places_B = np.arange(len(texts))
        places_B[strange] = np.arange(len(texts), len(texts) + len(strange))
        turned_B = turned(found, runs.and_some_again(strange))[places_B]
        wrong_B, verified_B = self._scored(found.part(0, len(texts)), texts, plain, runs)
        short_B = weights([text[:ENOUGH] for text in texts]) < MIN_WEIGHT
        verdicts_B = np.select(
            [scripts.foreign_B, short_B, turned_B | wrong_B, verified_B],
            [_FOREIGN, _UNVERIFIED, _WRONG, _VERIFIED],
            _UNVERIFIED,
        )
        return _Looked([_VERDICTS[i] for i in verdicts_B.tolist()], found, places_B)

    def _scored(
        self, found: Features, texts: Sequence[str], plain: Sequence[str], runs: Runs
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which texts are in another language, and which in their own, (B,) bool.

        Args:
            found: n-grams of `plain`.
            texts: as they are.
            plain: without letters of foreign scripts.
            runs: of all the languages something is known, or of none.
        """
        if not runs.views[0].own:
            nobody_B = np.zeros(len(texts), dtype=bool)
            return nobody_B, nobody_B
        leads = self._leads(found, runs)
        unusual_B, new_B = np.zeros((2, len(texts)), dtype=bool)
        floor_B = np.full(len(texts), UNLIKE)
        for view, where in runs.parts():
            if view.policy.unusual:
                unusual_B[where] = [is_unusual(text, view.policy) for text in texts[where]]
            if view.fitted:
                floor_B[where] = view.fitted.floor_B(found.num_B[where])
                if not view.known:
                    new_B[where] = shares_of_new(plain[where], view.fitted.letters) > NEW_LETTERS
        if new_B.any():
            unusual_B |= new_B & (leads.gains_B() < EXPLAINED)
        exact_B = runs.each([view.exact for view in runs.views])
        least_B = STRANGER + STRANGER_SHORT / np.maximum(found.num_B, 1)
        strange_B = (leads.stranger_B > least_B) | ((_likeness(found, runs) < floor_B) & exact_B)
        wrong_B = strange_B & ~unusual_B
        wrong_B |= (leads.kin_B > KIN) & runs.each([bool(view.fitted) for view in runs.views])
        doubtful_B = unusual_B | (leads.kin_B > 0) | (found.num_B == 0) | ~exact_B
        return wrong_B, ~doubtful_B

    def _leads(self, found: Features, runs: Runs) -> _Leads:
        model = background()
        counts_BF = log_counts(found, model.num_features)
        scores_BC = np.concatenate([counts_BF @ model.log_FC, counts_BF @ self._fitted_FK], axis=1)
        own_B, kin_B = np.full((2, len(scores_BC)), -np.inf, dtype=np.float32)
        for view, where in runs.parts():
            own_B[where] = scores_BC[where, view.own].max(axis=1)
            if view.kin:
                kin_B[where] = scores_BC[where, view.kin].max(axis=1)
            scores_BC[where, view.own + view.kin] = -np.inf
        stranger_B = scores_BC.max(axis=1)
        scale_B = np.sqrt(np.maximum(found.num_bytes_B, 1))
        return _Leads(
            stranger_B=(stranger_B - np.maximum(own_B, kin_B)) / scale_B,
            kin_B=(kin_B - own_B) / scale_B,
            counts_BF=counts_BF,
            best_B=stranger_B,
        )

    def _view(self, lang: str) -> View:
        if lang not in self._views:
            self._views[lang] = view_of(lang, self.fitted, self._fitted_FK)
        return self._views[lang]


def _likeness(found: Features, runs: Runs) -> np.ndarray:
    """Mean gain of a text's n-grams over the mix of all languages, (B,)."""
    most = max(len(view.own) for view in runs.views)
    # A language of fewer columns has its last one again.
    tables = [
        [view.gains_OF[min(i, len(view.own) - 1)] for view in runs.views] for i in range(most)
    ]
    sums = [found.sums(runs.take(some, found)) for some in tables]
    likeness: np.ndarray = np.max(sums, axis=0) / np.maximum(found.num_B, 1)
    return likeness


def _bounds(parts: Iterable[Sequence[str]]) -> list[int]:
    """Where each of some parts of a whole begins, and the end of the last."""
    return list(accumulate(map(len, parts), initial=0))


def _batches(texts: Mapping[str, Sequence[str]]) -> Iterator[dict[str, list[str]]]:
    """Texts by language, in batches of about `BATCH_BYTES`."""
    batch: dict[str, list[str]] = {}
    size = 0
    for lang, own in texts.items():
        for text in own:
            batch.setdefault(lang, []).append(text)
            size += 3 * len(text)
            if size >= BATCH_BYTES:
                yield batch
                batch, size = {}, 0
    if batch:
        yield batch

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sdg.langid.features import Features, background, column, log_counts, strongest_segment
from sdg.langid.fitted import MAX_TURN_EACH, MIN_TURN_EACH, MOST, Fitted, count, fit, load, save
from sdg.langid.policy import Policy, policy
from sdg.langid.scripts import is_unusual, scripts_of, share_of_new
from sdg.text import weights

WRONG_SCRIPT = "wrong_script"
WRONG_LANGUAGE = "wrong_language"

MIN_WEIGHT = 12  # below it a text is accepted unverified; in letters, as `sdg.text.weight` has it
ENOUGH = 160  # characters, in which a text that is long enough has shown it
BATCH_BYTES = 400_000  # of text scored at once: 60 MB of working memory
# Natural logarithms of likelihood ratios. A stretch in a pivot must gain so much, in a text of no
# n-grams, and more for each n-gram (see `Fitted.turn_each`): a longer text has more names and
# quotations in it.
TURN, MAX_TURN = 12.0, 200.0
SLACK = 1.0001  # for the rounding of a bound
SENTENCE = 100  # n-grams: about one
IN_NAME = 0.3  # of its gain counts, where an n-gram is in a word that begins with a capital
# A stranger's lead, over the square root of the text's bytes; more by so much over its n-grams, for
# of a few the sisters of the language (Venetian, Bulgarian) may explain all.
STRANGER, STRANGER_SHORT = 0.65, 28.0
NEW_LETTERS = 0.1  # of a text, that the corpus lacks: another orthography
EXPLAINED = 0.6  # gain of an n-gram over the mix of all languages, where a language explains a text
KIN = 3.0  # a kin's lead, from which it is the run's own corpus that tells them apart
UNLIKE = 0.0  # gain of an n-gram over the mix of all languages, where no corpus says better
BACKGROUND_SHARE = 0.3  # of the mix in what a language is taken to write: names are everywhere


class _Leads(NamedTuple):
    """How well others explain each of B texts."""

    stranger_B: np.ndarray  # by how much better the best stranger does than the language
    kin_B: np.ndarray  # and the best of its kin
    gain_B: np.ndarray  # of an n-gram, by the best stranger, over the mix of all languages


class Verdict(NamedTuple):
    """What was found of a text."""

    reason: str | None  # `WRONG_SCRIPT`, `WRONG_LANGUAGE`, or None
    verified: bool  # False where nobody could tell; such a text has no reason


_UNVERIFIED, _VERIFIED = Verdict(None, False), Verdict(None, True)


@dataclass(frozen=True)
class _View:
    """What a language's texts are scored with; made once a language."""

    policy: Policy
    own: list[int]  # columns of the language itself, or else of its kin
    kin: list[int]
    others: list[int]
    exact: bool  # own columns are of the language itself
    known: bool  # ... and one of them is py3langid's
    gains_OF: np.ndarray  # over the mix, a row for each of `own`
    turns_PF: np.ndarray  # gain of each pivot over the language
    most_F: np.ndarray  # the greatest of them, or 0
    fitted: Fitted | None


class Verifier:
    """Verifies texts, with what was fitted on a run's corpus; without, by what py3langid knows."""

    def __init__(self, fitted: Mapping[str, Fitted] | None = None) -> None:
        self.fitted = dict(fitted or {})
        model = background()
        columns = [one.log_F(model) for one in self.fitted.values()]
        self._fitted_FK = np.stack(columns, axis=1) if columns else None
        self._views: dict[str, _View] = {}

    @classmethod
    def fit(cls, samples: Mapping[str, Sequence[str]]) -> "Verifier":
        """Fit on texts of a corpus by language, without those that are plainly in another."""
        plain, fitted = cls(), {}
        for lang, texts in samples.items():
            verdicts = plain.check(texts, lang)
            clean = [t for t, verdict in zip(texts, verdicts, strict=True) if not verdict.reason]
            found = background().find(clean)
            if one := fit(clean, found):
                # One half of the texts as the other half sees it.
                is_even_B = np.arange(len(clean)) % 2 == 0
                half = cls({lang: count(found.of(is_even_B)) or one})
                turn_each = half._turn_each(clean[1::2], found.of(~is_even_B), lang)
                fitted[lang] = replace(one, turn_each=turn_each)
        return cls(fitted)

    def save(self, path: Path) -> None:
        """Write what was fitted as one .npz file."""
        save(path, self.fitted)

    @classmethod
    def load(cls, path: Path) -> "Verifier":
        """Read what `save` wrote."""
        return cls(load(path))

    def check(self, texts: Sequence[str], lang: str) -> list[Verdict]:
        """A verdict for each text, of which all should be in one language."""
        view = self._view(lang)
        return [found for batch in _batches(texts) for found in self._check(batch, view)]

    def _check(self, texts: Sequence[str], view: _View) -> list[Verdict]:
        scripts = scripts_of(texts, view.policy)
        asked_B = ~scripts.foreign_B & (weights([text[:ENOUGH] for text in texts]) >= MIN_WEIGHT)
        wrong = Verdict(WRONG_SCRIPT, True)
        verdicts = [wrong if foreign else _UNVERIFIED for foreign in scripts.foreign_B.tolist()]
        if asked := np.flatnonzero(asked_B).tolist():
            found = self._scored([texts[i] for i in asked], scripts.strange_B[asked_B], view)
            for i, verdict in zip(asked, found, strict=True):
                verdicts[i] = verdict
        return verdicts

    def _scored(self, texts: Sequence[str], strange_B: np.ndarray, view: _View) -> list[Verdict]:
        """Verdicts on texts in the language's scripts; `strange_B`: with letters of others too."""
        found = background().find(texts)
        turned_B = self._turned(found, view)
        if not view.own:
            return [Verdict(WRONG_LANGUAGE, True) if turned else _UNVERIFIED for turned in turned_B]
        unusual_B = np.array([is_unusual(text, view.policy) for text in texts])
        # Letters of foreign scripts, names for the most part, say nothing for or against.
        plain = list(texts)
        if changed := np.flatnonzero(strange_B).tolist():
            for i in changed:
                plain[i] = view.policy.foreign.sub(" ", texts[i])
            found = found.replaced(changed, background().find([plain[i] for i in changed]))
        leads = self._leads(found, view)
        likeness_B = _likeness(found, view)
        floor_B = view.fitted.floor_B(found.num_B) if view.fitted else UNLIKE
        least_B = STRANGER + STRANGER_SHORT / np.maximum(found.num_B, 1)
        strange_B = (leads.stranger_B > least_B) | ((likeness_B < floor_B) & view.exact)
        unusual_B |= _in_new_letters(plain, view) & (leads.gain_B < EXPLAINED)
        wrong_B = turned_B | (strange_B & ~unusual_B)
        doubtful_B = unusual_B | (leads.kin_B > 0) | (found.num_B == 0) | (not view.exact)
        if view.fitted:
            wrong_B |= leads.kin_B > KIN
        return [
            Verdict(WRONG_LANGUAGE, True) if wrong else _UNVERIFIED if doubtful else _VERIFIED
            for wrong, doubtful in zip(wrong_B.tolist(), doubtful_B.tolist(), strict=True)
        ]

    def _turned(self, found: Features, view: _View) -> np.ndarray:
        """Which texts turn into a pivot, (B,) bool."""
        each = view.fitted.turn_each if view.fitted else MAX_TURN_EACH
        limit_B = np.minimum(TURN + each * found.num_B, MAX_TURN)
        # No stretch gains more than all rises do together. Of most texts, that shows that they turn
        # into no pivot: first by the pivot that gains most at each n-gram, then by each pivot.
        near_B = _may_gain(_of_names(view.most_F, found), found, limit_B)
        turned_B = np.zeros(len(limit_B), dtype=bool)
        if near_B.any():
            near, limit_B = found.of(near_B), limit_B[near_B]
            turns = [_turns_into(gains_F, near, limit_B) for gains_F in view.turns_PF]
            turned_B[near_B] = np.any(turns, axis=0)
        return turned_B

    def _turn_each(self, texts: Sequence[str], found: Features, lang: str) -> float:
        """By how much each n-gram raises the limit on turns into a pivot, so that most sentences of
        a corpus stay below."""
        view, each = self._view(lang), [np.zeros(1)]
        ends = np.cumsum([0, *map(len, _batches(texts))])
        for first, last in pairwise(found.starts_B[ends].tolist()):
            starts = np.arange(0, last - first, SENTENCE)
            if len(starts) > 1:
                ids_N, in_name_N = found.ids_N[first:last], found.in_name_N[first:last]
                starts_B = np.append(starts, last - first)
                parts = replace(found, ids_N=ids_N, starts_B=starts_B, in_name_N=in_name_N)
                each.append((_turns(parts, view) - TURN) / SENTENCE)
        return float(np.clip(np.quantile(np.concatenate(each), MOST), MIN_TURN_EACH, MAX_TURN_EACH))

    def _leads(self, found: Features, view: _View) -> _Leads:
        model = background()
        counts_BF = log_counts(found, model.num_features)
        scores_BC = counts_BF @ model.log_FC
        if self._fitted_FK is not None:
            scores_BC = np.hstack([scores_BC, counts_BF @ self._fitted_FK])
        own_B = scores_BC[:, view.own].max(axis=1)
        scale_B = np.sqrt(np.maximum(found.num_bytes_B, 1))
        stranger_B = scores_BC[:, view.others].max(axis=1)
        weights_B = np.maximum(counts_BF.totals(), 1)
        gain_B = (stranger_B - counts_BF @ model.log_mix_F) / weights_B
        if not view.kin:
            nobody_B = np.full(len(own_B), -np.inf)
            return _Leads((stranger_B - own_B) / scale_B, nobody_B, gain_B)
        kin_B = scores_BC[:, view.kin].max(axis=1)
        best_B = np.maximum(own_B, kin_B)
        return _Leads((stranger_B - best_B) / scale_B, (kin_B - own_B) / scale_B, gain_B)

    def _view(self, lang: str) -> _View:
        if lang not in self._views:
            self._views[lang] = self._make_view(lang)
        return self._views[lang]

    def _make_view(self, lang: str) -> _View:
        model, found = background(), policy(lang)
        codes = [policy(one).code for one in self.fitted]
        first = len(model.labels)
        own = model.columns(found.own)
        own += [first + i for i, code in enumerate(codes) if code == found.code]
        kin = model.columns(found.kin)
        kin += [first + i for i, code in enumerate(codes) if code in found.kin]
        exact = bool(own)
        if not own:
            own, kin = kin, []
        gains = [self._column(i) - model.log_mix_F for i in own]
        shares = [np.exp(gain) for gain in gains] or [np.ones(model.num_features)]
        log_written_F = model.log_mix_F + np.log(
            BACKGROUND_SHARE + (1 - BACKGROUND_SHARE) * np.mean(shares, axis=0)
        )
        pivots = model.columns(frozenset(found.pivots))
        turns_PF = np.array([column(i) - log_written_F for i in pivots], dtype=np.float32)
        return _View(
            policy=found,
            own=own,
            kin=kin,
            others=[i for i in range(first + len(codes)) if i not in own and i not in kin],
            exact=exact,
            known=bool(model.columns(found.own)),
            gains_OF=np.array(gains, dtype=np.float32),
            turns_PF=turns_PF,
            most_F=turns_PF.max(axis=0, initial=0.0),
            fitted=self.fitted[list(self.fitted)[codes.index(found.code)]]
            if found.code in codes
            else None,
        )

    def _column(self, index: int) -> np.ndarray:
        """log P(n-gram) of a column of py3langid's, or of one that was fitted, (F,)."""
        num = len(background().labels)
        if index < num:
            return column(index)
        assert self._fitted_FK is not None
        fitted_F: np.ndarray = self._fitted_FK[:, index - num]
        return fitted_F


def _turns(found: Features, view: _View) -> np.ndarray:
    """The gain of the strongest stretch of each text in a pivot, (B,)."""
    strongest_B = np.zeros(len(found.num_B))
    for gains_F in view.turns_PF:
        gains_N = _of_names(gains_F, found)
        strongest_B = np.maximum(strongest_B, strongest_segment(gains_N, found))
    return strongest_B


def _turns_into(gains_F: np.ndarray, found: Features, limit_B: np.ndarray) -> np.ndarray:
    """In which texts a stretch gains more by these than the limit, (B,) bool."""
    gains_N = _of_names(gains_F, found)
    turns_B = _may_gain(np.maximum(gains_N, 0), found, limit_B)
    if turns_B.any():
        gains_N = gains_N[np.repeat(turns_B, found.num_B)]
        turns_B[turns_B] = strongest_segment(gains_N, found.of(turns_B)) > limit_B[turns_B]
    return turns_B


def _may_gain(rises_N: np.ndarray, found: Features, limit_B: np.ndarray) -> np.ndarray:
    """Which texts' gains, without what they lose, come to more than the limit, (B,) bool."""
    may_B: np.ndarray = SLACK * found.sums(rises_N) > limit_B
    return may_B


def _of_names(gains_F: np.ndarray, found: Features) -> np.ndarray:
    """Gains of what was found (N,), of which a name's count less."""
    gains_N = gains_F.take(found.ids_N, mode="clip")
    shares_N = np.where(found.in_name_N, np.float32(IN_NAME), np.float32(1))
    return np.minimum(gains_N, gains_N * shares_N)  # what it loses counts in full


def _in_new_letters(texts: Sequence[str], view: _View) -> np.ndarray:
    """Which texts are in another orthography than the corpus that alone knows the language, (B,)
    bool."""
    if view.known or not view.fitted:
        return np.zeros(len(texts), dtype=bool)
    letters = view.fitted.letters
    return np.array([share_of_new(text, letters) > NEW_LETTERS for text in texts])


def _likeness(found: Features, view: _View) -> np.ndarray:
    """Mean gain of a text's n-grams over the mix of all languages, (B,)."""
    sums = [found.sums(gains_F.take(found.ids_N, mode="clip")) for gains_F in view.gains_OF]
    likeness: np.ndarray = np.max(sums, axis=0) / np.maximum(found.num_B, 1)
    return likeness


def _batches(texts: Sequence[str]) -> list[list[str]]:
    """Texts in runs of about `BATCH_BYTES`."""
    batches: list[list[str]] = []
    size = BATCH_BYTES
    for text in texts:
        if size >= BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(text)
        size += 3 * len(text)
    return batches

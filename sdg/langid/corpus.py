"""Is a corpus in another language than it was given as?"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sdg.langid.features import background, log_counts
from sdg.langid.policy import code_of, policy
from sdg.langid.scripts import is_foreign, is_unusual
from sdg.langid.verifier import MIN_WEIGHT
from sdg.text import weight

PLAINLY = 0.8  # probability of the other language, a text


def dominant_other(texts: Sequence[str], lang: str) -> str | None:
    """Code of another language that most of a sample is plainly in, or None.

    A language that py3langid doesn't know can only be found to be a pivot, or in a script of
    others.
    """
    asked = [text for text in texts if weight(text) >= MIN_WEIGHT]
    found = Counter(filter(None, _plain_others(asked, lang)))
    if not found:
        return None
    label, count = found.most_common(1)[0]
    return code_of(label) if 2 * count > len(texts) else None


def _plain_others(texts: Sequence[str], lang: str) -> list[str | None]:
    """The other language that each text is plainly in."""
    model, wanted = background(), policy(lang)
    related = wanted.own | wanted.kin
    known = bool(model.columns(related))
    others: list[str | None] = []
    for text, row in zip(texts, _probabilities(texts), strict=True):
        label = model.labels[int(row.argmax())]
        plain = row.max() >= PLAINLY and label not in related
        fit = known and not is_unusual(text, wanted)
        plain = plain and (fit or label in wanted.pivots or is_foreign(text, wanted))
        others.append(label if plain else None)
    return others


def _probabilities(texts: Sequence[str]) -> np.ndarray:
    """Of py3langid's languages, for each text, as it reckons them itself, (B, C).

    The logarithms are divided by the square root of the text's bytes, since its n-grams overlap:
    naive Bayes would be too sure of itself, the more so the longer the text.
    """
    model = background()
    found = model.find(texts)
    logs_BC = (log_counts(found, model.num_features) @ model.log_FC).astype(np.float64)
    logs_BC /= np.sqrt(np.maximum(found.num_bytes_B, 1))[:, None]
    odds_BC = np.exp(logs_BC - logs_BC.max(axis=1, keepdims=True))
    shares: np.ndarray = odds_BC / odds_BC.sum(axis=1, keepdims=True)
    return shares

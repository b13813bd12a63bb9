"""Each side in the language it should be in."""

from collections.abc import Sequence

import pyarrow as pa

from sdg.filters.base import Candidate, FilterConfig, Sides, reasons, sides_of
from sdg.filters.texts import look_at
from sdg.langid import WRONG_SCRIPT, Verdict, Verifier, check_script

# Strategies whose query is a bag of words: those are verified by script alone.
KEYWORDS = frozenset({"keyphrase"})
UNCHECKED = Verdict(None, False)


@reasons(
    "query_wrong_script",
    "query_wrong_language",
    "positive_wrong_script",
    "positive_wrong_language",
)
def language(row: Candidate, config: FilterConfig) -> str | None:
    """Each side in the language it should be in, as far as anyone can tell: see sdg/langid.

    Models fall back to English, and name a neighbour's language as the one asked for; corpora mix.
    """
    if row.query_language.reason:
        return f"query_{row.query_language.reason}"
    return f"positive_{row.positive_language.reason}" if row.positive_language.reason else None


def candidates(table: pa.Table, verifier: Verifier | None) -> list[Candidate]:
    """A table of pairs as filters see them, with their sides' languages verified; without a
    verifier, nobody looks."""
    pairs = sides_of(table)
    # Apart, for what is asked of one of them is found out for all.
    sides = look_at(pair.positive for pair in pairs) | look_at(pair.query for pair in pairs)
    beside = (text for pair in pairs for text in (pair.document, *pair.negatives))
    texts = sides | look_at(text for text in beside if text not in sides)
    verdicts = _verdicts(pairs, verifier) if verifier else [(UNCHECKED, UNCHECKED)] * len(pairs)
    return [
        Candidate(
            pair,
            texts[pair.query],
            texts[pair.positive],
            texts[pair.document],
            tuple(texts[text] for text in pair.negatives),
            *languages,
        )
        for pair, languages in zip(pairs, verdicts, strict=True)
    ]


def _verdicts(pairs: Sequence[Sides], verifier: Verifier) -> list[tuple[Verdict, Verdict]]:
    """Of each pair's query and positive, all texts at once."""
    texts: dict[str, dict[str, Verdict]] = {}
    for pair in pairs:
        if pair.strategy not in KEYWORDS:
            texts.setdefault(pair.query_lang, {})[pair.query] = UNCHECKED
        texts.setdefault(pair.positive_lang, {})[pair.positive] = UNCHECKED
    verdicts = verifier.check_all({lang: list(found) for lang, found in texts.items()})
    for lang, found in texts.items():
        found.update(zip(found, verdicts[lang], strict=True))
    return [
        (
            _keywords(pair) if pair.strategy in KEYWORDS else texts[pair.query_lang][pair.query],
            texts[pair.positive_lang][pair.positive],
        )
        for pair in pairs
    ]


def _keywords(pair: Sides) -> Verdict:
    wrong = check_script(pair.query, pair.query_lang)
    return Verdict(WRONG_SCRIPT, True) if wrong else UNCHECKED


def unverified(row: Candidate) -> list[str]:
    """The sides whose language nobody could tell."""
    sides = {"query": row.query_language, "positive": row.positive_language}
    return [name for name, verdict in sides.items() if not verdict.verified]

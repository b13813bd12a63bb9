"""Filters of pairs: each a small pure function that gives the reason to drop a pair, or None.

To add one, write a function under `@reasons(...)` in the file of its kind, with its parameters (if
any) as a `FilterConfig` of its own, enter it below, and plant rows for it in tests/filters/, which
fails until every filter and reason has some.

Sizes are in `sdg.text.weight`, so that one bound suits Chinese and Swahili alike, and comparisons
in canonical characters, so that no filter leans on spaces that half of the scripts don't write.
"""

from sdg.filters.base import Candidate, Filter, FilterConfig
from sdg.filters.broken import boilerplate, is_spoilt, markup, mixed_script
from sdg.filters.copies import copied, same
from sdg.filters.language import candidates, language, unverified
from sdg.filters.negatives import label, negatives
from sdg.filters.personal import is_personal, masked, personal
from sdg.filters.shape import length, repetition
from sdg.filters.talk import prompt_leak, refusal

# In the order that they are asked; the first reason counts.
FILTERS: dict[str, Filter] = {
    found.name: found
    for found in (
        *(length, markup, mixed_script, boilerplate, personal, refusal, prompt_leak),
        *(copied, same, negatives, label, repetition, language),
    )
}

__all__ = [
    "FILTERS",
    "Candidate",
    "Filter",
    "FilterConfig",
    "candidates",
    "fit_for_rows",
    "masked",
    "unverified",
]


def fit_for_rows(passage: str, lang: str) -> bool:
    """Whether a passage of the corpus that no pair has brought through the filters may stand in a
    training row, as a negative: not if it is broken, a page's boilerplate or somebody's data.

    Its language is not verified: the seed stage refuses a corpus, or a language of it, that is
    plainly in another, and a stray text in another language is an easy negative, never a false one.
    """
    return not (is_spoilt(passage) or is_personal(passage, lang))

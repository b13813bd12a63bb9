"""Filters of pairs: each a small pure function that gives the reason to drop a pair, or None.

To add one, write a function under `@reasons(...)` in the file of its kind, with its parameters (if
any) as a `FilterConfig` of its own, enter it below, and plant rows for it in tests/filters/, which
fails until every filter and reason has some.

Sizes are in `sdg.text.weight`, so that one bound suits Chinese and Swahili alike, and comparisons
in canonical characters, so that no filter leans on spaces that half of the scripts don't write.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WrapSerializer, create_model

from sdg.filters.base import Candidate, Filter, FilterConfig
from sdg.filters.broken import boilerplate, is_spoilt, markup, mixed_script
from sdg.filters.copies import copied, same
from sdg.filters.language import candidates, language, unverified
from sdg.filters.negatives import label, negatives
from sdg.filters.personal import is_personal, masked, personal
from sdg.filters.shape import length, repetition
from sdg.filters.talk import is_reply, prompt_leak, refusal
from sdg.filters.texts import look_at

# In the order that they are asked; the first reason counts.
FILTERS: dict[str, Filter] = {
    found.name: found
    for found in (
        *(length, markup, mixed_script, boilerplate, personal, refusal, prompt_leak),
        *(copied, same, negatives, label, repetition, language),
    )
}


def _given(value: Any) -> Any:
    """A section, or None for `false`."""
    if value is None or value is True:
        raise ValueError("give false to switch the filter off, {} for its defaults, or its keys")
    return None if value is False else value


def _as_given(config: Any, dump: Callable[[Any], Any]) -> Any:
    return False if config is None else dump(config)


if TYPE_CHECKING:

    class Filters(BaseModel):
        """The settings of every filter, by its name."""
else:
    Filters = create_model(
        "Filters",
        __module__=__name__,
        __config__=ConfigDict(frozen=True, extra="forbid"),
        __doc__="The settings of every filter, by its name; None for one that is switched off.",
        **{
            name: (
                Annotated[found.config | None, BeforeValidator(_given), WrapSerializer(_as_given)],
                found.config(),
            )
            for name, found in FILTERS.items()
        },
    )

__all__ = [
    "FILTERS",
    "Candidate",
    "Filter",
    "FilterConfig",
    "Filters",
    "candidates",
    "fit_for_rows",
    "masked",
    "unverified",
]


def fit_for_rows(passages: Sequence[str], langs: Sequence[str]) -> list[bool]:
    """Which passages of the corpus that no pair has brought through the filters may stand in a
    training row, as a negative: none that is broken, a page's boilerplate, a model's reply or
    somebody's data.

    Their languages are not verified: the seed stage refuses a corpus, or a language of it, that is
    plainly in another, and a stray text in another language is an easy negative, never a false one.
    """
    texts = look_at(passages)
    return [
        not (is_spoilt(text) or is_reply(text) or is_personal(text, lang))
        for text, lang in zip(map(texts.__getitem__, passages), langs, strict=True)
    ]

"""Models that decline, speak of themselves, or repeat what they were asked."""

from sdg import phrases
from sdg.filters.base import Candidate, FilterConfig, reasons
from sdg.filters.texts import Text


@reasons("refusal")
def refusal(row: Candidate, config: FilterConfig) -> str | None:
    """A language model that declines, or speaks of itself, in place of a query or a passage.

    Anchored at the start, with an apology before the inability or an object that only a model
    speaks of: people too type "I can't sleep". Passages are looked at whoever wrote them: the web
    that corpora are made of has what models wrote.
    """
    if row.is_written and row.query.count(phrases.REFUSAL):
        return "refusal"
    return "refusal" if any(map(_declines, (row.positive, *row.negatives))) else None


@reasons("prompt_leak")
def prompt_leak(row: Candidate, config: FilterConfig) -> str | None:
    """A query that repeats the prompt: its tags, its answer's shape, or talk of "the passage"; or a
    passage that is the answer's JSON, unopened.

    Such a query makes sense to nobody who has not seen the document (InPars-v2, arXiv 2301.01820,
    and Promptagator, arXiv 2209.11755, filter by a retrieval round trip for want of this). Genuine
    passages say "in this article".
    """
    if row.is_written and row.query.count(phrases.LEAK):
        return "prompt_leak"
    return "prompt_leak" if any(map(_is_answer, (row.positive, *row.negatives))) else None


def is_reply(passage: Text) -> bool:
    """Whether a filter of this file drops every pair that has this passage as its positive."""
    return _declines(passage) or _is_answer(passage)


def _declines(passage: Text) -> bool:
    return passage.begins_with(phrases.PASSAGE_REFUSAL)


def _is_answer(passage: Text) -> bool:
    begins = passage.text[:1]  # mostly with a letter
    return not begins.isalpha() and phrases.ANSWER.match(passage.text) is not None

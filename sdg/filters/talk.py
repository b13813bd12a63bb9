"""Models that decline, speak of themselves, or repeat what they were asked."""

from sdg import phrases
from sdg.filters.base import Candidate, FilterConfig, reasons


@reasons("refusal")
def refusal(row: Candidate, config: FilterConfig) -> str | None:
    """A language model that declines, or speaks of itself, in place of a query.

    Anchored at the start, with an apology before the inability or an object that only a model
    speaks of: people too type "I can't sleep".
    """
    if not row.is_written:
        return None
    return "refusal" if row.query.count(phrases.REFUSAL) else None


@reasons("prompt_leak")
def prompt_leak(row: Candidate, config: FilterConfig) -> str | None:
    """A query that repeats the prompt: its tags, its answer's shape, or talk of "the passage".

    Such a query makes sense to nobody who has not seen the document (InPars-v2, arXiv 2301.01820,
    and Promptagator, arXiv 2209.11755, filter by a retrieval round trip for want of this).
    """
    if not row.is_written:
        return None
    return "prompt_leak" if row.query.count(phrases.LEAK) else None

"""Queries taken from their document, and queries that are it."""

from pydantic import Field
from rapidfuzz import fuzz

from sdg.filters.base import Candidate, FilterConfig, reasons

LONGEST_FORM = 4  # times a text's weight that its canonical form may have


class CopiedConfig(FilterConfig):
    """When a written query counts as lifted from its document."""

    min_weight: int = Field(25, ge=1)  # shorter ones may be a name, or the only way to say it
    fuzzy_min_weight: int = Field(40, ge=1)
    fuzzy_score: float = Field(92.0, ge=50, le=100)  # rapidfuzz's partial ratio, 0 to 100


@reasons("copied", "query_in_positive", config=CopiedConfig)
def copied(row: Candidate, config: CopiedConfig) -> str | None:
    """A query lifted from its document where that was not meant: it teaches string matching.

    What a model wrote may not stand in the document, nor nearly so; an inverse cloze (arXiv
    1906.00300) may not have its sentence left in the positive. Titles, crops and keyphrases are
    taken from the document by design.
    """
    if row.pair.strategy == "inverse_cloze":
        is_left = row.query.canonical in row.positive.canonical
        return "query_in_positive" if is_left else None
    size = row.query.weight
    if not row.is_written or size < config.min_weight:
        return None
    query, document = row.query.canonical, row.document.canonical
    if query in document:
        return "copied"
    if size < config.fuzzy_min_weight or len(query) > len(document):
        return None
    found = fuzz.partial_ratio_alignment(query, document, score_cutoff=config.fuzzy_score)
    return "copied" if found else None


@reasons("query_equals_positive")
def same(row: Candidate, config: FilterConfig) -> str | None:
    """A query that is its own positive, but for case, punctuation or width: nothing to learn."""
    if row.query.weight * LONGEST_FORM < row.positive.weight:
        return None
    equal = row.query.canonical == row.positive.canonical
    return "query_equals_positive" if equal else None

"""Negatives that answer, and texts that tell their label."""

from rapidfuzz import fuzz

from sdg.filters.base import Candidate, FilterConfig, reasons

NEAR = 95.0  # rapidfuzz's ratio, from which two texts are the same but for a slip
LEAST = 20  # weight of a positive that may be looked for inside a negative: shorter ones are words
LEAST_LABEL = 5  # weight of a label; "war" is in "warm"


@reasons("negative_answers", "negative_equals_query")
def negatives(row: Candidate, config: FilterConfig) -> str | None:
    """A negative that is the positive or holds it answers the query: training on it teaches wrong.

    False negatives are what RLHN (arXiv 2505.16967) finds in every public set; those that an LLM
    writes into the pair itself need no model to be found.
    """
    if not row.negatives:
        return None
    query, positive = row.query.canonical, row.positive.canonical
    long = row.positive.weight >= LEAST
    for text in row.negatives:
        negative = text.canonical
        if negative == query:
            return "negative_equals_query"
        if negative == positive or (long and positive in negative):
            return "negative_answers"
        if long and fuzz.ratio(negative, positive, score_cutoff=NEAR):
            return "negative_answers"
    return None


@reasons("label_leak")
def label(row: Candidate, config: FilterConfig) -> str | None:
    """A text to be classified that has its label in it, word for word, and none of the others.

    A model then learns to find the word, not to classify.
    """
    if row.pair.task != "classification" or row.positive.weight < LEAST_LABEL:
        return None
    query = row.query.canonical
    if row.positive.canonical not in query or any(t.canonical in query for t in row.negatives):
        return None
    return "label_leak"

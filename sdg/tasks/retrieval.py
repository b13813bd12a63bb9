"""Retrieval: a query and the text that answers it.

From a passage (recipe, strategy B; llama-embed-nemotron-8b, arXiv 2511.07025, and Qwen3-Embedding):
the model writes a query under sampled controls, the passage is the positive, negatives are mined
in the same corpus. From an idea (strategy A; E5-mistral, arXiv 2401.00368): the model writes the
query, the positive and a hard negative for a task that another model thought of.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, Field

from sdg.schema import Call, Pair
from sdg.tasks.base import EXTRACTIVE, IDEA, NONE, PASSAGE, IdeasReply, ReplyModel, Task

SHORT_LONG, LONG_LONG, SHORT_SHORT = "short-long", "long-long", "short-short"
FORMS = (SHORT_LONG, LONG_LONG, SHORT_SHORT)


class QueryReply(ReplyModel):
    """A query for a passage."""

    query: str = Field(min_length=1, max_length=2000)


class ExtractedReply(QueryReply):
    """What the extractive engine answers: it may also take the query out of the document."""

    document: str = Field(min_length=1)
    strategy: str


class LongQueryReply(ReplyModel):
    """A text that asks for a passage."""

    query: str = Field(min_length=1, max_length=12_000)


class TripleReply(ReplyModel):
    """A query, the text that answers it, and one that nearly does."""

    query: str = Field(min_length=1, max_length=12_000)
    positive: str = Field(min_length=1, max_length=12_000)
    negative: str = Field(min_length=1, max_length=12_000)


class Retrieval(Task):
    """Query for a document."""

    name = "retrieval"
    mined = True
    replies: ClassVar[dict[tuple[str, str], type[BaseModel]]] = {
        (PASSAGE, SHORT_LONG): QueryReply,
        (PASSAGE, LONG_LONG): LongQueryReply,
        (PASSAGE, SHORT_SHORT): TripleReply,
        **{(IDEA, form): TripleReply for form in FORMS},
        **{(NONE, form): IdeasReply for form in FORMS},
    }

    def model_of(self, call: Call) -> type[BaseModel]:
        return ExtractedReply if call.engine == EXTRACTIVE else super().model_of(call)

    def pairs(self, call: Call, reply: Any, run_seed: int) -> list[Pair]:
        document = call.seed.text if call.seed.kind == PASSAGE else None
        texts: dict[str, Any] = {"positive": call.seed.text}
        if isinstance(reply, ExtractedReply):
            texts = {"positive": reply.document, "strategy": reply.strategy}
        elif isinstance(reply, TripleReply):
            texts = {"positive": reply.positive, "negatives": [reply.negative]}
        return [self.make_pair(call, run_seed, query=reply.query, document=document, **texts)]

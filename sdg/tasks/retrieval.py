"""Retrieval from a seed document: the model writes a query, the document is the positive.

Recipe, strategy B (llama-embed-nemotron-8b, arXiv 2511.07025, and Qwen3-Embedding): sample a
document, write a query for it under sampled controls, mine the negatives in the same corpus.
"""

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sdg.languages import language
from sdg.schema import Call, Pair, Provenance, Seed
from sdg.tasks.base import Rejected, Task
from sdg.text import normalize

_FENCED = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


class QueryReply(BaseModel):
    """What an LLM answers."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=2000)


class ExtractedReply(QueryReply):
    """What the extractive engine answers: it may also take the query out of the document."""

    document: str = Field(min_length=1)
    strategy: str


class Retrieval(Task):
    """Query for a document."""

    name = "retrieval"
    variables = frozenset({"document", "title", "language", "autonym", "document_language"})
    reply = QueryReply

    def prompt_variables(self, seed: Seed, lang: str) -> dict[str, Any]:
        wanted, written = language(lang), language(seed.lang)
        return {
            "document": seed.text,
            "title": seed.title,
            "language": wanted.name,
            "autonym": wanted.autonym,
            "document_language": written.name,
        }

    def parse(self, call: Call, run_seed: int) -> Pair:
        reply = self._validated(call)
        query = normalize(reply.query)
        document, strategy = call.seed.text, "written"
        if isinstance(reply, ExtractedReply):
            document, strategy = normalize(reply.document), reply.strategy
        if not query or not document:
            raise Rejected("empty_reply")
        return Pair(
            id=call.id,
            task=call.task,
            instruction=call.instruction,
            query=query,
            query_lang=call.lang,
            positive=document,
            positive_lang=call.positive_lang,
            document=call.seed.text,
            negatives=[],
            provenance=Provenance(
                seed_id=call.seed.id,
                source=call.seed.source,
                license=call.seed.license,
                engine=call.engine,
                model=call.model,
                revision=call.revision,
                prompt=call.prompt,
                prompt_sha=call.prompt_sha,
                strategy=strategy,
                controls=call.controls,
                seed=run_seed,
            ),
        )

    def _validated(self, call: Call) -> QueryReply:
        text = (call.reply or "").strip()
        if not text:
            raise Rejected("empty_reply")
        if fenced := _FENCED.match(text):
            text = fenced[1]
        model = ExtractedReply if call.engine == "extractive" else QueryReply
        try:
            return model.model_validate(json.loads(text, strict=False))
        except ValidationError:
            raise Rejected("wrong_schema") from None
        except (ValueError, RecursionError):  # also numbers of thousands of digits
            # A cut reply is told apart from one that never was JSON: the user mends them otherwise.
            raise Rejected("reply_cut" if call.finish_reason == "length" else "not_json") from None

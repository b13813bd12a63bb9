"""Translate: an existing pair, with its negatives, into the language that the run asks for.

Recipe, strategy C: good datasets exist in a few languages; their pairs, translated, serve the
others. The instruction stays in English, grades stay what they are. A seed of kind "pair" has the
positive as its text, and in `fields` `query`, `instruction`, `negatives`, and grades where the
dataset has them (`positive_grade`, `negative_grades`, in [0, 1]).
"""

import json
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from sdg.replies import Rejected
from sdg.schema import Call, Pair
from sdg.tasks.base import PAIR as PAIR_KIND
from sdg.tasks.base import ReplyModel, Task

Text = Annotated[str, Field(min_length=1, max_length=12_000)]


class TranslatedReply(ReplyModel):
    """Every text of a pair, in the target language, negatives in their order."""

    query: Text
    positive: Text
    negatives: list[Text] = Field(max_length=32)


class Translate(Task):
    """A pair in another language."""

    name = "translate"
    mined = True
    replies: ClassVar[dict[tuple[str, str], type[BaseModel]]] = {(PAIR_KIND, ""): TranslatedReply}

    def json_schema(self, call: Call) -> dict[str, Any]:
        schema = super().json_schema(call)
        num = len(json.loads(call.seed.fields).get("negatives", []))
        schema["properties"]["negatives"] |= {"minItems": num, "maxItems": num}
        return schema

    def pairs(self, call: Call, reply: Any, run_seed: int) -> list[Pair]:
        given = json.loads(call.seed.fields)
        if len(reply.negatives) != len(given.get("negatives", [])):
            raise Rejected("negatives_missing")
        return [
            self.make_pair(
                call,
                run_seed,
                query=reply.query,
                positive=reply.positive,
                negatives=reply.negatives,
                positive_grade=given.get("positive_grade"),
                negative_grades=given.get("negative_grades"),
            )
        ]

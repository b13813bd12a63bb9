"""Judge: a pair is graded by a model that knows neither its writer nor which text is its positive.

The model sees the instruction, the query and a few texts in random order, one of them the positive
and the others the pair's own negatives or texts of other pairs, and grades on a scale from 0 to 5:
each text's relevance, the query's language, and whether the query can be understood, and answered,
by somebody who sees nothing else. A seed of kind "judged" has the positive as its text and the
rest in its `fields`.
"""

import json
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BaseModel, Field

from sdg.replies import Rejected
from sdg.schema import Call, Seed
from sdg.tasks.base import JUDGED, MAX_GRADE, Family, ReplyModel

Grade = Annotated[float, Field(ge=0, le=MAX_GRADE)]


class JudgedReply(ReplyModel):
    """Grades from 0 to 5."""

    relevance: list[Grade] = Field(min_length=1, max_length=32)  # of each text, in their order
    language: Grade
    answerable: Grade


class Verdict(NamedTuple):
    """A pair's grades, from 0 to 5."""

    relevance: float  # of the positive
    rival: float | None  # of the most relevant of the other texts; None where there were none
    language: float
    answerable: float


class Judge(Family):
    """Grades of a pair. It writes none, so it is no task."""

    name = "judge"
    replies: ClassVar[dict[tuple[str, str], type[BaseModel]]] = {(JUDGED, ""): JudgedReply}

    def prompt_variables(self, seed: Seed, lang: str, positive_lang: str) -> dict[str, Any]:
        given = json.loads(seed.fields)
        names = self.language_variables(lang, positive_lang)
        texts = list(given["others"])
        texts.insert(given["place"], seed.text)
        return {
            **names,
            "instruction": given["instruction"],
            "query": given["query"],
            "texts": texts,
        }

    def json_schema(self, call: Call) -> dict[str, Any]:
        schema = super().json_schema(call)
        num = len(json.loads(call.seed.fields)["others"]) + 1
        schema["properties"]["relevance"] |= {"minItems": num, "maxItems": num}
        return schema

    def verdict(self, call: Call) -> Verdict:
        """The grades in an answered call's reply; raises `Rejected` with the reason."""
        given, reply = json.loads(call.seed.fields), self.read(call).reply
        assert isinstance(reply, JudgedReply)
        grades = list(reply.relevance)
        if len(grades) != len(given["others"]) + 1:
            raise Rejected("grades_missing")
        own = grades.pop(given["place"])
        return Verdict(own, max(grades, default=None), reply.language, reply.answerable)

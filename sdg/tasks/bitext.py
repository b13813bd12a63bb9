"""Bitext: a text, its translation, and a near-miss that a poor translator would give.

After E5-mistral's bitext prompts (arXiv 2401.00368, appendix C): source and target languages
differ, and the third text, in the target language, shares words and subject but not the meaning.
The near-miss is graded by the control `low`, 0 to 5; the translation counts as 5.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, Field

from sdg.schema import Call, Pair
from sdg.tasks.base import IDEA, NONE, PASSAGE, IdeasReply, ReplyModel, Task, grade_of


class BitextReply(ReplyModel):
    """A text in the query's language; its translation and a near-miss in the positive's."""

    source: str = Field(min_length=1, max_length=6000)
    translation: str = Field(min_length=1, max_length=6000)
    near_miss: str = Field(min_length=1, max_length=6000)


class Bitext(Task):
    """Translation for a text."""

    name = "bitext"
    mined = False
    grades = ("low",)
    replies: ClassVar[dict[tuple[str, str], type[BaseModel]]] = {
        (PASSAGE, ""): BitextReply,
        (IDEA, ""): BitextReply,
        (NONE, ""): IdeasReply,
    }

    def pairs(self, call: Call, reply: Any, run_seed: int) -> list[Pair]:
        return [
            self.make_pair(
                call,
                run_seed,
                query=reply.source,
                positive=reply.translation,
                negatives=[reply.near_miss],
                positive_grade=1.0,
                negative_grades=[grade_of(call, "low")],
            )
        ]

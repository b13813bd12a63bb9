"""STS: a text, one that says nearly the same, and one that says something near to it.

E5-mistral's STS prompts (arXiv 2401.00368, appendix C): the two similarity scores are asked for, 0
to 5, by the controls `high` and `low`; grades are scaled into [0, 1]. The recipe puts one fixed
instruction, "Retrieve semantically similar text.", on all texts.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, Field

from sdg.schema import Call, Pair
from sdg.tasks.base import IDEA, NONE, PASSAGE, IdeasReply, ReplyModel, Task, grade_of


class GradedReply(ReplyModel):
    """Three texts: the second is as near to the first as `high` says, the third as `low` says."""

    text: str = Field(min_length=1, max_length=6000)
    similar: str = Field(min_length=1, max_length=6000)
    less_similar: str = Field(min_length=1, max_length=6000)


class Sts(Task):
    """Graded similarity."""

    name = "sts"
    mined = False
    grades = ("high", "low")
    replies: ClassVar[dict[tuple[str, str], type[BaseModel]]] = {
        (PASSAGE, ""): GradedReply,
        (IDEA, ""): GradedReply,
        (NONE, ""): IdeasReply,
    }

    def pairs(self, call: Call, reply: Any, run_seed: int) -> list[Pair]:
        return [
            self.make_pair(
                call,
                run_seed,
                query=reply.text,
                positive=reply.similar,
                negatives=[reply.less_similar],
                positive_grade=grade_of(call, "high"),
                negative_grades=[grade_of(call, "low")],
            )
        ]

"""STS: a text, one that says nearly the same, and one that says something near to it.

E5-mistral's STS prompts (arXiv 2401.00368, appendix C): the two similarity scores are asked for, 0
to 5, by the controls `high` and `low`; grades are scaled into [0, 1]. The recipe puts one fixed
instruction, "Retrieve semantically similar text.", on all texts.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, Field

from sdg.schema import Call, Pair
from sdg.tasks.base import IDEA, NONE, PASSAGE, IdeasReply, ReplyModel, Task, controls_of

MAX_GRADE = 5.0  # of the scale that prompts speak in
GRADES = ("high", "low")  # controls that every STS prompt must have


class GradedReply(ReplyModel):
    """Three texts: the second is as near to the first as `high` says, the third as `low` says."""

    text: str = Field(min_length=1, max_length=6000)
    similar: str = Field(min_length=1, max_length=6000)
    less_similar: str = Field(min_length=1, max_length=6000)


class Sts(Task):
    """Graded similarity."""

    name = "sts"
    mined = False
    replies: ClassVar[dict[tuple[str, str], type[BaseModel]]] = {
        (PASSAGE, ""): GradedReply,
        (IDEA, ""): GradedReply,
        (NONE, ""): IdeasReply,
    }

    def pairs(self, call: Call, reply: Any, run_seed: int) -> list[Pair]:
        high, low = (float(controls_of(call)[name]) / MAX_GRADE for name in GRADES)
        return [
            self.make_pair(
                call,
                run_seed,
                query=reply.text,
                positive=reply.similar,
                negatives=[reply.less_similar],
                positive_grade=high,
                negative_grades=[low],
            )
        ]

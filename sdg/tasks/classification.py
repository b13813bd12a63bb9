"""Classification: a text, its label, and labels that a careless reader would take.

As in the recipe (llama-embed-nemotron-8b, arXiv 2511.07025): the text is the query and carries the
instruction, the label's name is the positive, misleading labels are the negatives. From a passage,
the passage is the text; from an idea, the model writes one, short or long.
"""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from sdg.schema import Call, Pair
from sdg.tasks.base import IDEA, NONE, PASSAGE, IdeasReply, ReplyModel, Task
from sdg.text import canonical

Label = Annotated[str, Field(min_length=1, max_length=200)]


class LabelsReply(ReplyModel):
    """The label of a passage, and wrong ones."""

    label: Label
    misleading_labels: list[Label] = Field(min_length=1, max_length=10)


class LabelledReply(ReplyModel):
    """A text with its label, and wrong ones."""

    text: str = Field(min_length=1, max_length=12_000)
    label: Label
    misleading_labels: list[Label] = Field(min_length=1, max_length=10)


class Classification(Task):
    """Label for a text."""

    name = "classification"
    mined = False
    replies: ClassVar[dict[tuple[str, str], type[BaseModel]]] = {
        (PASSAGE, ""): LabelsReply,
        (IDEA, ""): LabelledReply,
        (NONE, ""): IdeasReply,
    }

    def pairs(self, call: Call, reply: Any, run_seed: int) -> list[Pair]:
        text = call.seed.text if isinstance(reply, LabelsReply) else reply.text
        wrong: dict[str, str] = {}
        for label in reply.misleading_labels:
            wrong.setdefault(canonical(label), label)
        return [
            self.make_pair(
                call,
                run_seed,
                query=text,
                positive=reply.label,
                negatives=list(wrong.values()),
            )
        ]

"""Which model writes which call, where a run has several.

The models' weights for a call's language and task are its odds, drawn by weighted rendezvous
hashing: each model gets -log(u) / weight with a u of the call's and its own, and the lowest wins.
So the draw depends neither on the models' order nor on other calls, and a model that joins, leaves
or changes its share moves no more calls than it must: the others keep the replies that they have.
"""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sdg.languages import language
from sdg.prompting import Sampling
from sdg.text import digest

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SamplingOverride(BaseModel):
    """Decoding parameters that a model wants otherwise than the prompts say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, gt=0)

    def over(self, sampling: Sampling) -> Sampling:
        """The prompt's parameters with those that are given here in their place."""
        return sampling.model_copy(update=self.model_dump(exclude_none=True))


class ModelShare(BaseModel):
    """One model's part in the calls of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str = ""
    model: str = ""
    revision: str = ""
    share: Weight = 1.0
    languages: dict[str, Weight] = {}  # language -> factor on the share, where it is not 1
    tasks: dict[str, Weight] = {}  # task family -> factor on the share, where it is not 1
    sampling: SamplingOverride = SamplingOverride()

    @property
    def id(self) -> tuple[str, str, str]:
        """What calls name it by."""
        return self.engine, self.model, self.revision

    def weight(self, lang: str, task: str) -> float:
        """Its weight among the models for calls in a language and of a task family."""
        factor = 1.0
        for code, value in self.languages.items():
            if language(code).code in (language(lang).code, language(lang).base):
                factor = value
        return self.share * factor * self.tasks.get(task, 1.0)


def choose(models: Sequence[ModelShare], call_id: str, lang: str, task: str) -> ModelShare | None:
    """The model that writes a call; None where none has a weight for it."""
    scores = []
    for model in models:
        weight = model.weight(lang, task)
        if weight > 0:
            number = int(digest("model", call_id, *model.id)[:13], 16)
            scores.append((-math.log((number + 1) / (16**13 + 1)) / weight, model.id, model))
    return min(scores)[2] if scores else None

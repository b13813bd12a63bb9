"""What a task family owes the pipeline: prompt variables, reply models, and reply -> pairs.

A prompt says what its calls are made from (`seed:` in its front matter): a passage of the corpus,
an idea out of the task list, an existing pair, or nothing: so ideas themselves are asked for.
What the model must answer follows from the family, that kind, and the prompt's `form`.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from sdg.errors import UserError
from sdg.languages import Language, language
from sdg.replies import Rejected, has_loop, read_reply
from sdg.schema import Call, Pair, Provenance, Seed
from sdg.text import canonical, digest, normalize

PASSAGE, IDEA, PAIR, NONE = "passage", "idea", "pair", "none"  # of `Seed.kind`
JUDGED = "judged"  # the same, of calls that judge a pair instead of writing one
EXTRACTIVE = "extractive"  # the engine that is no language model
WRITTEN = "written"  # a pair's strategy where a language model wrote it

MAX_GRADE = 5.0  # prompts speak of likeness on a scale from 0; rows have it in [0, 1]

# Names that the body of a prompt may use beside its controls, by the kind of its seeds.
LANGUAGES = frozenset(
    {"language", "autonym", "script", "positive_language", "positive_autonym", "positive_script"}
)
VARIABLES: dict[str, frozenset[str]] = {
    PASSAGE: LANGUAGES | {"document", "title", "document_language"},
    IDEA: LANGUAGES | {"idea"},
    PAIR: LANGUAGES | {"instruction", "query", "positive", "negatives", "source_language"},
    JUDGED: LANGUAGES | {"instruction", "query", "texts"},
    NONE: frozenset(),  # ideas are in English and serve every language
}


class ReplyModel(BaseModel):
    """What an LLM answers; nothing beside the fields asked for is taken."""

    model_config = ConfigDict(extra="forbid")


class IdeasReply(ReplyModel):
    """A piece of the task list."""

    ideas: list[Annotated[str, Field(min_length=8, max_length=500)]] = Field(
        min_length=1, max_length=50
    )


@dataclass(frozen=True)
class Answer:
    """A reply that was read, and what had to be repaired for it ("" for nothing)."""

    reply: BaseModel
    repaired: str


class Family(ABC):
    """What models are asked for: the variables of its prompts, and what is replied. Stateless."""

    name: ClassVar[str]
    # Controls that must be there, with the grades that the prompt asks for.
    grades: ClassVar[tuple[str, ...]] = ()
    # What an LLM must answer, by the seed's kind and the prompt's form ("" where there is one).
    replies: ClassVar[dict[tuple[str, str], type[BaseModel]]]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of seeds that its prompts may be made from."""
        return tuple(dict.fromkeys(kind for kind, _ in self.replies))

    def forms(self, kind: str) -> tuple[str, ...]:
        """Forms that a prompt for seeds of this kind may have."""
        return tuple(form for k, form in self.replies if k == kind)

    def variables(self, kind: str) -> frozenset[str]:
        """Names that a prompt's body may use beside its controls."""
        return VARIABLES[kind]

    def prompt_variables(self, seed: Seed, lang: str, positive_lang: str) -> dict[str, Any]:
        """Values for `variables`, for a query and a positive in these languages."""
        if seed.kind == NONE:
            return {}
        named = self.language_variables(lang, positive_lang)
        if seed.kind == IDEA:
            return {**named, "idea": seed.text}
        own = language(seed.lang).name
        if seed.kind == PASSAGE:
            return {**named, "document": seed.text, "title": seed.title, "document_language": own}
        given = json.loads(seed.fields)
        return {
            **named,
            "instruction": given.get("instruction", ""),
            "query": given["query"],
            "positive": seed.text,
            "negatives": given.get("negatives", []),
            "source_language": own,
        }

    def language_variables(self, lang: str, positive_lang: str) -> dict[str, str]:
        """The names of the query's and of the positive's language."""
        return {
            **_named("", language(lang)),
            **_named("positive_", language(positive_lang)),
        }

    def reply_model(self, kind: str, form: str) -> type[BaseModel]:
        """What must be answered to a prompt of this form ("": the first), for such a seed.

        Raises:
            UserError: the family has no such prompts.
        """
        found = [m for (k, f), m in self.replies.items() if k == kind and form in ("", f)]
        if not found:
            raise UserError(f"task {self.name}: no reply of form '{form}' for a seed '{kind}'")
        return found[0]

    def model_of(self, call: Call) -> type[BaseModel]:
        """The model that a call's reply is held to."""
        return self.reply_model(call.seed.kind, controls_of(call).get("form", ""))

    def json_schema(self, call: Call) -> dict[str, Any]:
        """JSON schema of the reply to a call; vLLM and endpoints are held to it."""
        schema: dict[str, Any] = json.loads(_schema_of(self.model_of(call)))
        return schema

    def read(self, call: Call) -> Answer:
        """The reply of an answered call; raises `Rejected` with the reason."""
        reply, repaired = read_reply(call.reply, call.finish_reason, self.model_of(call))
        if call.engine != EXTRACTIVE and has_loop(reply):  # a corpus's own loops: sdg/filters/
            raise Rejected("repetition")
        return Answer(reply, repaired)


class Task(Family):
    """A family of training pairs."""

    mined: ClassVar[bool]  # whether hard negatives are mined; else it brings its own

    @abstractmethod
    def pairs(self, call: Call, reply: Any, run_seed: int) -> list[Pair]:
        """The pairs that a reply stands for, one at least; raises `Rejected` with the reason."""

    def parse(self, call: Call, run_seed: int) -> list[Pair]:
        """The pairs of an answered call, one at least; raises `Rejected` with the reason."""
        return self.pairs(call, self.read(call).reply, run_seed)

    def ideas(self, call: Call, reply: Any) -> list[Seed]:
        """The ideas that a reply to a brainstorming prompt holds; see `parse_ideas`."""
        texts = [normalize(text).rstrip(" .") for text in reply.ideas]  # as instructions end
        form = controls_of(call).get("form") or self.forms(NONE)[0]
        fields = {
            "family": self.name,
            "form": form,
            "engine": call.engine,
            "model": call.model,
            "revision": call.revision,
            "prompt": call.prompt,
            "prompt_sha": call.prompt_sha,
            "controls": controls_of(call),
        }
        found: dict[str, str] = {}
        for text in texts:
            found.setdefault(digest("idea", self.name, form, canonical(text)), text)
        return [
            Seed(
                id=key,
                text=text,
                title="",
                lang="en",
                source=f"idea of {call.model or call.engine}",
                license="unknown",
                kind=IDEA,
                fields=json.dumps(fields, ensure_ascii=False, sort_keys=True),
            )
            for key, text in found.items()
            if canonical(text)
        ]

    def parse_ideas(self, call: Call) -> list[Seed]:
        """Seeds of kind "idea" of an answered call of a brainstorming prompt (`seed: none`).

        `text` is the idea, in English: the task that becomes the training instruction, or a subject
        where the family's instruction is fixed. `fields` has its family and form, and its author.
        Raises `Rejected` with the reason.
        """
        found = self.ideas(call, self.read(call).reply)
        if not found:
            raise Rejected("empty_reply")
        return found

    def make_pair(
        self,
        call: Call,
        run_seed: int,
        index: int = 0,
        *,
        query: str,
        positive: str,
        document: str | None = None,
        negatives: list[str] | None = None,
        positive_grade: float | None = None,
        negative_grades: list[float] | None = None,
        strategy: str = WRITTEN,
    ) -> Pair:
        """A call's pair number `index`, its texts normalized.

        Raises:
            Rejected: a text with nothing in it, or a negative that says what the positive says.
        """
        query, positive = normalize(query), normalize(positive)
        wrong = [normalize(text) for text in negatives or []]
        if not all((query, positive, *wrong)):
            raise Rejected("empty_reply")
        if canonical(positive) in {canonical(text) for text in wrong}:
            raise Rejected("negative_equals_positive")
        return Pair(
            id=digest(call.id, index),
            task=call.task,
            instruction=call.instruction,
            query=query,
            query_lang=call.lang,
            positive=positive,
            positive_lang=call.positive_lang,
            document=positive if document is None else document,
            negatives=wrong,
            positive_grade=positive_grade,
            negative_grades=negative_grades or [],
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


@lru_cache(maxsize=64)
def _schema_of(model: type[BaseModel]) -> str:
    """As text, so that a change to one copy changes no other; pydantic makes it anew each time."""
    return json.dumps(model.model_json_schema())


def controls_of(call: Call) -> dict[str, Any]:
    """What was drawn for a call: its controls, languages, and its prompt's form."""
    return json.loads(call.controls)


def grade_of(call: Call, name: str) -> float:
    """The grade that a control asked for, in [0, 1]."""
    return float(controls_of(call)[name]) / MAX_GRADE


def is_grade(text: str) -> bool:
    """True for a number on the scale of grades."""
    try:
        return 0 <= float(text) <= MAX_GRADE
    except ValueError:
        return False


def _named(prefix: str, lang: Language) -> dict[str, str]:
    return {
        f"{prefix}language": lang.name,
        f"{prefix}autonym": lang.autonym,
        f"{prefix}script": lang.script,
    }

"""What a task family owes the pipeline: prompt variables, a reply model, and reply -> pair."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import BaseModel

from sdg.schema import Call, Pair, Seed


class Rejected(Exception):
    """A reply that gives no pair; `reason` is the counter it is dropped under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Task(ABC):
    """One family of training pairs. Stateless."""

    name: ClassVar[str]
    variables: ClassVar[frozenset[str]]  # names a prompt's body may use beside its controls
    reply: ClassVar[type[BaseModel]]  # what an LLM must answer; its JSON schema constrains vLLM

    @abstractmethod
    def prompt_variables(self, seed: Seed, lang: str) -> dict[str, Any]:
        """Values for `variables`, for a query in language `lang`."""

    @abstractmethod
    def parse(self, call: Call, run_seed: int) -> Pair:
        """The pair that a finished reply stands for; raises `Rejected` with the reason."""

    def json_schema(self) -> dict[str, Any]:
        """JSON schema of `reply`."""
        return self.reply.model_json_schema()

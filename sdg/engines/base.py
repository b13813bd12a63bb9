"""The one interface to whatever answers calls: an embedded extractor, a vLLM engine, an endpoint.

An `Engine` is configuration: it is checked in the driver before anything runs and travels to the
workers, where `open()` makes a `Session` that answers calls, from several threads at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from sdg.prompting import Prompt
from sdg.schema import Call
from sdg.stage import Resources
from sdg.tasks import ASKED


@dataclass(frozen=True)
class Reply:
    """One engine's answer to one call: `text` as it came, or the `error` that took its place."""

    text: str | None
    finish_reason: str | None = None  # "stop", "length", ... as the server says it
    tokens_in: int | None = None
    tokens_out: int | None = None
    error: str | None = None
    attempts: int = 1


Hear = Callable[[Call, Reply], None]  # is told each reply as soon as it is there


def hear_nothing(call: Call, reply: Reply) -> None:
    """For who waits for all replies anyway."""


class Session(ABC):
    """A started engine. `answer` is called from several threads at once."""

    @abstractmethod
    def answer(self, calls: Sequence[Call], hear: Hear = hear_nothing) -> list[Reply]:
        """One reply a call, in the order of the calls. A call that fails is a reply with `error`;
        what no call can succeed with (endpoint gone, wrong key) raises `UserError`. `hear` is told
        each reply when it comes, in any order and from any thread, and is quick about it."""

    def close(self) -> None:  # noqa: B027 - an engine that holds nothing has nothing to free
        """Free what the engine holds."""


class Engine(BaseModel, ABC):
    """Settings of one engine; the `engine:` section of a profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writes_any_language: ClassVar[bool] = True
    # Settings that change how fast, not what: left out of the run's fingerprint.
    speed_only: ClassVar[frozenset[str]] = frozenset()
    # Whether a reply costs anything, and so is kept for whoever makes the same call again.
    keeps_replies: ClassVar[bool] = True

    name: str
    model: str = ""
    revision: str = ""

    @abstractmethod
    def check(self, prompts: Sequence[Prompt], lang: str) -> None:
        """Raise `UserError`, within seconds, if this engine cannot answer these prompts here."""

    def shaping(self) -> dict[str, Any]:
        """What replies depend on beside the call, the model's name and its revision: settings that
        reach the model. A part of what replies are kept by, so nothing that changes speed alone."""
        return {}

    def reply_schema(self, call: Call) -> dict[str, Any] | None:
        """The JSON schema that the reply to a call is held to; None where the engine tells none."""
        return ASKED[call.task].json_schema(call)

    @abstractmethod
    def resources(self) -> Resources:
        """What one replica needs."""

    @abstractmethod
    def open(self) -> Session:
        """Start the engine; called once in each worker."""


__all__ = ["Engine", "Hear", "Reply", "Resources", "Session", "hear_nothing"]

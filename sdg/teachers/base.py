"""What a teacher owes the pipeline: texts -> unit vectors, queries and documents apart."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from sdg.stage import Resources
from sdg.vectors import Matrix


class Encoder(ABC):
    """A loaded teacher. Rows are float32 unit vectors, or zeros for a text that has nothing."""

    # Whether a text's vector is near its translation's. Where it is not, a query in another
    # language than its passage says nothing about passages.
    crosses_languages: ClassVar[bool] = True

    @abstractmethod
    def queries(self, texts: Sequence[str], instructions: Sequence[str]) -> Matrix:
        """Vectors of queries (B, D), each with its task's instruction if the teacher takes one."""

    @abstractmethod
    def documents(self, texts: Sequence[str]) -> Matrix:
        """Vectors of documents (B, D)."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Free what it holds."""


class Teacher(BaseModel):
    """A teacher's settings; the section of a profile's `stages.mine.teachers`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    # Fields that change how fast, not what: left out of the fingerprint.
    speed_only: ClassVar[frozenset[str]] = frozenset()

    def check(self) -> None:
        """Raise `UserError` if it cannot be opened here, before anything starts."""

    def resources(self) -> Resources | None:
        """What a worker needs that opens it; None for an ordinary one."""
        return None

    def fit(self, batches: Iterable[Sequence[str]], path: Path) -> None:
        """Optional: learn from the passages that it is to rank, once, into a file."""

    def open(self, path: Path) -> Encoder:
        """Load it; `path` is what `fit` wrote, if it wrote."""
        raise NotImplementedError

"""What a teacher owes the pipeline: texts -> unit vectors, queries and documents apart."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sdg.errors import UserError
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

    def searched(self, queries_BD: Matrix, documents_BD: Matrix) -> Matrix:
        """The queries as passages are searched and scored with them: without what says little,
        where that makes a search faster and the query's own document is found without it, too."""
        return queries_BD

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Free what it holds."""


class Teacher(BaseModel, ABC):
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

    @abstractmethod
    def open(self, path: Path) -> Encoder:
        """Load it; `path` is what `fit` wrote, if it wrote."""


class PromptedTeacher(Teacher):
    """A teacher that is a neural model: where it is, and what goes before texts."""

    model: str = Field(min_length=1)  # hub id or folder
    revision: str = ""
    query_prompt: str | None = None  # None: the model's own; {instruction} is the task's
    document_prompt: str | None = None
    max_length: int | None = Field(None, ge=1)  # tokens; None: the model's own limit

    def check_model(self) -> None:
        """Refuse a folder that is not there; a hub's model is seen when it is loaded."""
        check_folder(self.model, "stages.mine.teachers")

    def query_prompts(self, instructions: Sequence[str]) -> list[str | None]:
        """What goes before each query; None where it is up to the model."""
        if self.query_prompt is None:
            return [None] * len(instructions)
        return [self.query_prompt.replace("{instruction}", text) for text in instructions]


def check_folder(model: str, where: str) -> None:
    """Refuse what can only be a folder, and is not there."""
    looks_local = model.startswith(("/", ".", "~")) or model.count("/") > 1
    if looks_local and not Path(model).expanduser().is_dir():
        raise UserError(
            f"{where}: {model}: no such folder; give a hub id (org/name) or a folder that every "
            f"machine of the run can read"
        )


def by_prompt(
    texts: Sequence[str],
    prompts: Sequence[str | None],
    encode: Callable[[list[str], str | None], np.ndarray],
) -> np.ndarray:
    """Vectors of texts that are encoded with one prompt a call, in their order."""
    if not texts:
        return encode([], None)
    places: dict[str | None, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt, []).append(place)
    parts = {p: encode([texts[i] for i in found], p) for p, found in places.items()}
    vectors_BD = np.empty((len(texts), next(iter(parts.values())).shape[1]), dtype=np.float32)
    for prompt, found in places.items():
        vectors_BD[found] = parts[prompt]
    return vectors_BD

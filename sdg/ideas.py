"""The task list: ideas that one model brainstorms and others write samples for.

From scratch in two steps (E5-mistral, arXiv 2401.00368, 3.1): an LLM lists tasks, about 20 a call;
an LLM writes the samples of a task. The recipe (arXiv 2511.07025) has different models do the two
steps. The list is a product of its own: Parquet of seeds of kind "idea", near-copies left out, and
any later run may use it.
"""

from collections.abc import Sequence
from pathlib import Path

from sdg.errors import UserError
from sdg.schema import Seed, read_rows, rows_of
from sdg.tasks.base import IDEA, NONE
from sdg.text import digest


def blank_seed(number: int) -> Seed:
    """What a brainstorming call is made from: nothing; `number` tells one call from another."""
    return Seed(
        id=digest("blank", number),
        text="",
        title="",
        lang="en",
        source="",
        license="unknown",
        kind=NONE,
    )


def read_ideas(path: Path) -> list[Seed]:
    """A task list.

    Raises:
        UserError: the file is missing, cut, of another schema, or holds other seeds.
    """
    ideas: list[Seed] = rows_of(read_rows(path, Seed), Seed)
    if any(idea.kind != IDEA for idea in ideas):
        raise UserError(f"{path}: holds seeds that are no ideas")
    return ideas


def write_ideas(path: Path, ideas: Sequence[Seed]) -> None:
    """Write a task list, whole or not at all."""
    raise NotImplementedError


def dedupe_ideas(ideas: Sequence[Seed]) -> list[Seed]:
    """The ideas without near-copies of earlier ones; order kept."""
    raise NotImplementedError

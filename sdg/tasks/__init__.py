"""Task families, one file each. `TASKS` finds a family by the `task` of a prompt's front matter."""

from sdg.errors import UserError
from sdg.tasks.base import Rejected, Task
from sdg.tasks.retrieval import Retrieval

TASKS: dict[str, Task] = {task.name: task for task in (Retrieval(),)}


def get_task(name: str, where: str) -> Task:
    """A task family by name; `where` (a prompt's name) is for the error."""
    if name not in TASKS:
        raise UserError(f"prompt {where}: unknown task '{name}'; there are: {', '.join(TASKS)}")
    return TASKS[name]


__all__ = ["TASKS", "Rejected", "Task", "get_task"]

"""Task families, one file each, by the `task` of a prompt's front matter. `TASKS` write pairs."""

from sdg.errors import UserError
from sdg.prompting import OWN_VARIABLES, Prompt
from sdg.replies import Rejected
from sdg.tasks.base import MAX_GRADE, NONE, Family, Task, is_grade
from sdg.tasks.bitext import Bitext
from sdg.tasks.classification import Classification
from sdg.tasks.judge import Judge
from sdg.tasks.retrieval import Retrieval
from sdg.tasks.sts import Sts
from sdg.tasks.translate import Translate

TASKS: dict[str, Task] = {
    task.name: task for task in (Retrieval(), Classification(), Sts(), Bitext(), Translate())
}
JUDGE = Judge()
ASKED: dict[str, Family] = {**TASKS, JUDGE.name: JUDGE}  # all that models may be asked


def get_task(name: str, where: str) -> Task:
    """A task, by name; `where` (a prompt's name) is for the error."""
    if name not in TASKS:
        raise UserError(f"prompt {where}: unknown task '{name}'; there are: {', '.join(TASKS)}")
    return TASKS[name]


def faults(prompt: Prompt) -> list[str]:
    """What a prompt and its task do not agree on: its seeds, its form, the names it uses."""
    if prompt.task not in ASKED:
        return [f"unknown task '{prompt.task}'; there are: {', '.join(ASKED)}"]
    task = ASKED[prompt.task]
    if prompt.seed not in task.kinds:
        kinds = ", ".join(task.kinds)
        return [f"seed: {prompt.task} takes no '{prompt.seed}'; it takes: {kinds}"]
    found = []
    forms = task.forms(prompt.seed)
    if prompt.form and prompt.form not in forms:
        found.append(f"form: no '{prompt.form}'; there are: {', '.join(forms)}")
    if not prompt.instruction and prompt.seed != NONE:
        found.append("no instruction: pairs need one to be trained with")
    for name in task.grades if prompt.seed != NONE else ():
        if not all(is_grade(value) for value in prompt.controls.get(name, {"": 0})):
            found.append(f"controls: '{name}' must be there, with grades from 0 to {MAX_GRADE:g}")
    known = task.variables(prompt.seed) | set(prompt.controls) | OWN_VARIABLES
    for name in sorted(prompt.used_variables() - known):
        found.append(f"unknown variable '{name}'; there are: {', '.join(sorted(known))}")
    return found


def check_prompt(prompt: Prompt) -> Family:
    """The family of a prompt.

    Raises:
        UserError: the first of its `faults`.
    """
    for fault in faults(prompt):
        raise UserError(f"prompt {prompt.name}: {fault}")
    return ASKED[prompt.task]


__all__ = ["ASKED", "JUDGE", "TASKS", "Family", "Rejected", "Task"]
__all__ += ["check_prompt", "faults", "get_task"]

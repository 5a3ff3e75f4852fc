"""The tasks by name: what depends on a task (prompt, grader, file names) is in its `Task`; all else takes one."""

from open_r1.tasks.clevr_math import CLEVR_MATH
from open_r1.tasks.geomath import GEOMATH
from open_r1.tasks.task import Task, answers_of
from open_r1.tasks.trance import TRANCE
from open_r1.utils.names import unknown_name

TASKS: dict[str, Task] = {task.name: task for task in (CLEVR_MATH, GEOMATH, TRANCE)}


def get_task(name: str) -> Task:
    """Return the task called `name`; raises UserError with the nearest valid name."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


__all__ = ["TASKS", "Task", "answers_of", "get_task"]

"""What a task is: one prompt, one grader, and where its sets lie in a Reason-RFT-CoT folder."""

from collections.abc import Callable
from dataclasses import dataclass

from open_r1.schema import Score


@dataclass(frozen=True)
class Task:
    """A task's prompt, grader and files; `TASKS[name]` is the only place they are looked up.

    `grade(reply, answer, setting)` is pure and deterministic; training, selection and evaluation all call it.
    `settings` names the grader's variants, the default first.
    """

    name: str
    title: str  # "Visual counting": for tables and figures
    instruction: str  # follows the problem in the reasoning prompt; the reply must have think and answer tags
    direct_instruction: str  # follows the problem in the direct-answer prompt; the reply is the answer alone
    images_per_row: int
    train_files: str  # glob below the data folder
    test_files: dict[str, str]  # set name ("id", "ood" or "ood_left", ...) -> glob below the data folder
    settings: tuple[str, ...]
    grade: Callable[[str, str, str], Score]

    def instruction_for(self, prompt_kind: str) -> str:
        """Return what follows every problem: in the reasoning prompt, or in the direct-answer one."""
        return self.instruction if prompt_kind == "reasoning" else self.direct_instruction

"""What a task is: one prompt, one grader, and where its sets lie in a Reason-RFT-CoT folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from open_r1.rewards.tags import answer_tag_fault
from open_r1.schema import Score

ANY_OF = "\u241f"  # between answers of which any counts, in Row.answer: the visible sign of a unit separator


def answers_of(answer: str) -> list[str]:
    """The answers of a row of which any counts; most rows have one."""
    return answer.split(ANY_OF)


def _best_grade(grade: Callable[[str, str, str], Score], reply: str, answer: str, setting: str) -> Score:
    if ANY_OF not in answer:
        return grade(reply, answer, setting)
    return max((grade(reply, one, setting) for one in answers_of(answer)), key=lambda score: score.accuracy)


@dataclass(frozen=True)
class Task:
    """A task's prompt, grader and files; `TASKS[name]` is the only place they are looked up.

    `grade(reply, answer, setting)` is pure and deterministic; training, selection and evaluation all call it.
    `settings` names the grader's variants, the default first. `fault(answer)` says what the grader finds wrong with a
    row's own answer.
    """

    name: str
    title: str  # "Visual counting": for tables and figures
    instruction: str  # follows the problem in the reasoning prompt; the reply must have think and answer tags
    direct_instruction: str  # follows the problem in the direct-answer prompt; the reply is the answer alone
    images_per_row: int | None  # None: any number, also none
    train_files: str  # glob below the data folder
    test_files: dict[str, str]  # set name ("id", "ood" or "ood_left", ...) -> glob below the data folder
    settings: tuple[str, ...]
    grade: Callable[[str, str, str], Score]
    fault: Callable[[str], str | None]

    def __post_init__(self) -> None:
        """Let the grader take answers of which any counts; every caller gets that with `grade`."""
        object.__setattr__(self, "grade", partial(_best_grade, self.grade))

    def gradable(self, answer: str) -> str | None:
        """Why no reply could be graded against a row's answer, as half a sentence; None where one can.

        Example: TASKS["trance"].gradable("no change") begins with "names no function".
        """
        return next((why for one in answers_of(answer) if (why := answer_tag_fault(one) or self.fault(one))), None)

    def instruction_for(self, prompt_kind: str) -> str:
        """Return what follows every problem: in the reasoning prompt, or in the direct-answer one."""
        return self.instruction if prompt_kind == "reasoning" else self.direct_instruction

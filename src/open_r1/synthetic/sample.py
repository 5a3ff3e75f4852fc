"""What a generator hands to the writer: pictures, a question, and the ways a reasoner might go about it."""

from dataclasses import dataclass
from typing import Literal

from PIL.Image import Image

SIZES = ("tiny", "full")
Size = Literal["tiny", "full"]

RIGHT = "right"  # the procedure that answers the question; the others are plausible mistakes


@dataclass(frozen=True)
class Procedure:
    """A line of reasoning and the answer it ends in; `cot` is bare text without tags.

    Example: Procedure("left; large red cube 0; small blue ball 1; 1", "1").
    """

    cot: str
    answer: str


@dataclass(frozen=True)
class Exercise:
    """Another question about the same pictures that only has to be seen; the base policy can be asked it too."""

    problem: str
    cot: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """One synthetic row before it is written.

    `procedures[RIGHT]` ends in the true answer and becomes the training row's `cot`; the other procedures see the
    picture as well as the right one but reason wrongly, and are what the base policy is taught beside the right one.
    """

    images: tuple[Image, ...]
    problem: str
    kind: str  # question family
    procedures: dict[str, Procedure]
    exercise: Exercise | None = None  # where the task's own reasoning does not make a policy look (docs/LOG.md)

    @property
    def answer(self) -> str:
        """The true answer."""
        return self.procedures[RIGHT].answer

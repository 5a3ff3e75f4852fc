"""How the synthetic structure-perception questions are reasoned about: one small vocabulary of procedures.

Every family of questions uses the same few names, so that choosing the name that fits the question is what there is to
learn; what follows the name is reading the figure and one or two small steps of arithmetic.
"""

from dataclasses import dataclass

TURNS = {"straight": 180, "corner": 90, "whole": 360}  # degrees that angles are taken from
NAMES = (*TURNS, "sum", "gap", "product", "around", "pick", "other", "most", "least", "rest")


@dataclass(frozen=True)
class Numbers:
    """Numbers read in a figure, and those of them (in order) that the question is about.

    Example: Numbers("bars A 4, B 7, C 2", seen=(4, 7, 2), asked=(7, 2)).reason("gap") gives
    ("bars A 4, B 7, C 2; 7 - 2 = 5", 5).
    """

    read: str
    seen: tuple[int, ...]
    asked: tuple[int, ...]

    def reason(self, name: str) -> tuple[str, int]:
        """Return the reasoning without its first word, and its result, of the procedure called `name`."""
        steps, value = self._work(name)
        return "; ".join([self.read, *(steps or [str(value)])]), value

    def _work(self, name: str) -> tuple[list[str], int]:
        asked = self.asked
        if name in TURNS or name in ("sum", "around"):
            steps, total = _add(asked)
            if name == "sum":
                return steps, total
            if name == "around":
                return [*steps, f"{total} + {total} = {2 * total}"], 2 * total
            step, value = _subtract(TURNS[name], total)
            return [*steps, step], value
        if name == "gap":
            step, value = _subtract(max(asked), min(asked))
            return [step], value
        if name == "product":
            return [f"{asked[0]} x {asked[1]} = {asked[0] * asked[1]}"], asked[0] * asked[1]
        picks = {"pick": asked[0], "other": asked[-1], "most": max(self.seen), "least": min(self.seen)}
        return [], picks[name]


@dataclass(frozen=True)
class Tally:
    """Shapes in reading order, the kind asked for and another kind, for counting with a running count.

    Example: Tally(("square", "circle", "square"), "square", "circle").reason("pick") gives
    ("square 1, circle 1, square 2; 2", 2): the count after a shape is what has been counted so far.
    """

    shapes: tuple[str, ...]
    asked: str
    another: str

    def reason(self, name: str) -> tuple[str, int]:
        """Return the reasoning without its first word, and its result, of the procedure called `name`."""
        counted = {
            "pick": {self.asked},
            "other": {self.another},
            "rest": set(self.shapes) - {self.asked},
            "sum": set(self.shapes),
        }[name]
        count, steps = 0, []
        for shape in self.shapes:
            count += shape in counted
            steps.append(f"{shape} {count}")
        return f"{', '.join(steps)}; {count}", count


def _add(numbers: tuple[int, ...]) -> tuple[list[str], int]:
    """Add from left to right: (4, 7, 2) gives ["4 + 7 = 11", "11 + 2 = 13"] and 13."""
    total, steps = numbers[0], []
    for number in numbers[1:]:
        steps.append(f"{total} + {number} = {total + number}")
        total += number
    return steps, total


def _subtract(one: int, other: int) -> tuple[str, int]:
    """Take the smaller from the larger."""
    high, low = max(one, other), min(one, other)
    return f"{high} - {low} = {high - low}", high - low

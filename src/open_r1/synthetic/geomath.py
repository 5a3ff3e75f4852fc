"""Synthetic structure perception: angles, sides, charts, tables and shapes; lettered figures out of domain.

The scenes are in `geomath_scenes.py`, the ways of reasoning in `geomath_reasoning.py`, the drawing in
`geomath_figures.py`; here are the families of questions, how often each is drawn, and how hard it is (mean right share
as drawn: .25 at tiny, .24 at full size). About half of the questions have choices. A scene is drawn again until its
right and its three wrong procedures give four different positive numbers, so exactly one choice is right, and every
mistake is among the choices. Longer than 180 lines because it holds the table of twenty families.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from open_r1.synthetic import geomath_scenes as scenes
from open_r1.synthetic.geomath_figures import Figure, draw
from open_r1.synthetic.sample import RIGHT, SIZES, Procedure, Sample, Size
from open_r1.utils.names import unknown_name

CHOICE_SHARE = 0.5
EASY, MEDIUM, HARD = 0.5, 0.2, 0.04  # how often the base policy's pre-training mixture reasons rightly


@dataclass(frozen=True)
class Family:
    """A family of questions; `right` and `wrong` name procedures of `geomath_reasoning.py`."""

    make: Callable[[random.Random, Size], scenes.Scene]
    right: str
    wrong: tuple[str, str, str]
    right_share: float
    weights: tuple[int, int]  # how often it is drawn at tiny and at full size, in percent
    texts: tuple[str, ...]
    unit: str = ""  # of the answer, at full size
    suffix: str = ""  # follows every result

    def weight(self, size: Size) -> int:
        """Return how often the family is drawn, in percent."""
        return self.weights[SIZES.index(size)]


IN_DOMAIN: dict[str, Family] = {
    "line_angle": Family(
        scenes.line, "straight", ("corner", "whole", "pick"), MEDIUM, (13, 8),
        ("Find the missing angle on the straight line.", "What is the angle marked ? on the straight line?"), "°",
    ),
    "triangle_angle": Family(
        scenes.triangle, "straight", ("sum", "whole", "gap"), HARD, (12, 10),
        ("Find the missing angle of the triangle.", "What is the angle marked ? in the triangle?"), "°",
    ),
    "rectangle_perimeter": Family(
        scenes.rectangle, "around", ("product", "sum", "gap"), HARD, (12, 10),
        ("What is the perimeter of the rectangle?", "Find the perimeter of the rectangle."), " cm",
    ),
    "rectangle_area": Family(
        scenes.rectangle, "product", ("around", "sum", "gap"), MEDIUM, (12, 8),
        ("What is the area of the rectangle?", "Find the area of the rectangle."), " cm²",
    ),
    "circle_area": Family(
        scenes.circle, "product", ("around", "sum", "pick"), HARD, (0, 7),
        ("What is the area of the circle?", "Find the area of the circle."), " cm²", "π",
    ),
    "circle_circumference": Family(
        scenes.circle, "sum", ("product", "around", "pick"), MEDIUM, (0, 6),
        ("What is the circumference of the circle?", "How long is the way around the circle?"), " cm", "π",
    ),
    "bar_value": Family(
        partial(scenes.bars, about="one"), "pick", ("other", "sum", "gap"), EASY, (0, 8),
        ("What is the value of bar {first}?", "How high is bar {first}?"),
    ),
    "bar_difference": Family(
        scenes.bars, "gap", ("sum", "most", "least"), HARD, (13, 8),
        ("How much higher is bar {first} than bar {second}?", "What is bar {first} minus bar {second}?"),
    ),
    "bar_sum": Family(
        scenes.bars, "sum", ("gap", "most", "least"), MEDIUM, (0, 6),
        ("What is the sum of bars {first} and {second}?", "How much are bars {first} and {second} together?"),
    ),
    "bar_largest": Family(
        partial(scenes.bars, about="all"), "most", ("sum", "gap", "least"), EASY, (19, 9),
        ("What is the largest value in the chart?", "How high is the highest bar?"),
    ),
    "table_value": Family(
        scenes.table, "pick", ("other", "sum", "gap"), EASY, (0, 9),
        ("What is the value in row {row}, column {column}?", "Which number is in row {row} under {column}?"),
    ),
    "table_sum": Family(
        partial(scenes.table, about="row"), "sum", ("gap", "pick", "other"), MEDIUM, (0, 4),
        ("What is the sum of the values in row {row}?", "What is the total of row {row}?"),
    ),
    "count_shapes": Family(
        scenes.shapes, "pick", ("other", "rest", "sum"), EASY, (19, 7),
        ("How many {shape}s are there?", "What is the number of {shape}s?"),
    ),
}  # fmt: skip

LETTERED: dict[str, Family] = {
    "triangle_lettered": Family(
        partial(scenes.triangle, lettered=True), "straight", ("sum", "whole", "gap"), HARD, (20, 20),
        ("Find m∠{asked}.", "In triangle {name}, find the measure of angle {asked}."), "°",
    ),
    "parallel_equal": Family(
        scenes.parallel, "pick", ("straight", "corner", "whole"), EASY, (10, 10),
        ("The two horizontal lines are parallel. Find x.",), "°",
    ),
    "parallel_supplement": Family(
        partial(scenes.parallel, about="supplement"), "straight", ("pick", "corner", "whole"), MEDIUM, (15, 15),
        ("The two horizontal lines are parallel. Find x.",), "°",
    ),
    "segment_whole": Family(
        scenes.segment, "sum", ("gap", "pick", "product"), MEDIUM, (15, 15),
        ("Find {one}{other}.", "What is the length of segment {one}{other}?"), " cm",
    ),
    "segment_part": Family(
        partial(scenes.segment, about="part"), "gap", ("sum", "pick", "other"), HARD, (15, 15),
        ("Find {between}{other}.", "What is the length of segment {between}{other}?"), " cm",
    ),
    "perimeter_lettered": Family(
        partial(scenes.rectangle, lettered=True), "around", ("product", "sum", "gap"), HARD, (15, 15),
        ("Find the perimeter of rectangle {name}.",), " cm",
    ),
    "area_lettered": Family(
        partial(scenes.rectangle, lettered=True), "product", ("around", "sum", "gap"), MEDIUM, (10, 10),
        ("Find the area of rectangle {name}.",), " cm²",
    ),
}  # fmt: skip

FAMILIES: dict[str, dict[str, Family]] = {"train": IN_DOMAIN, "id": IN_DOMAIN, "ood": LETTERED}
KINDS: tuple[str, ...] = (*IN_DOMAIN, *LETTERED)
RIGHT_SHARE: dict[str, float] = {name: family.right_share for name, family in (IN_DOMAIN | LETTERED).items()}
ASK_FOR = {"°": "degrees", " cm": "cm", " cm²": "cm²"}  # unit in the choices -> unit in a question without choices


@dataclass(frozen=True)
class Question:
    """A question before it is drawn; see `Sample` for the parts."""

    kind: str
    problem: str
    figure: Figure
    procedures: dict[str, Procedure]


def sample(rng: random.Random, size: Size, split: str) -> Sample:
    """Draw one row of `split`: "train" and "id" from the same families, "ood" from lettered figures.

    Raises UserError for another split.
    """
    question = ask(rng, size, split)
    return Sample((draw(question.figure, size),), question.problem, question.kind, question.procedures)


def ask(rng: random.Random, size: Size, split: str) -> Question:
    """Make a question without drawing its picture; same arguments and errors as `sample`."""
    if split not in FAMILIES:
        raise unknown_name("split of geomath", split, FAMILIES)
    families = {name: family for name, family in FAMILIES[split].items() if family.weight(size)}
    kind = rng.choices(list(families), [family.weight(size) for family in families.values()])[0]
    family = families[kind]
    scene, reasons = _scene(rng, size, family)
    text = rng.choice(family.texts).format(**scene.words)
    unit = family.unit if size == "full" else ""
    values = {name: f"{value}{family.suffix}" for name, (_, value) in reasons.items()}
    letters: dict[str, str] = {}
    if rng.random() < CHOICE_SHARE:
        order = rng.sample(list(values), len(values))
        letters = dict(zip(order, "ABCD", strict=True))
        text += "\nChoices:" + "".join(f"\n{letters[name]}. {values[name]}{unit}" for name in order)
    elif unit:
        text += f" Answer in {ASK_FOR[unit]}{', in terms of π' if family.suffix else ''}."
    procedures = {}
    for name, (steps, _) in reasons.items():
        cot = f"{name}; {steps}" + (f"; {values[name]}" if family.suffix else "")
        cot += f"; {letters[name]}" if letters else ""
        procedures[RIGHT if name == family.right else name] = Procedure(cot, letters.get(name, values[name]))
    return Question(kind, text, scene.figure, procedures)


def _scene(rng: random.Random, size: Size, family: Family) -> tuple[scenes.Scene, dict[str, tuple[str, int]]]:
    """Draw scenes until all four procedures give different positive results; return them by name, the right first."""
    while True:
        scene = family.make(rng, size)
        reasons = {name: scene.facts.reason(name) for name in (family.right, *family.wrong)}
        results = {value for _, value in reasons.values()}
        if len(results) == len(reasons) and min(results) > 0:
            return scene, reasons

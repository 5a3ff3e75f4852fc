"""The scenes of synthetic structure perception: a figure, and what can be read in it and is asked about.

Tiny figures have two to six quantities, single digits or multiples of ten; full ones have the usual ranges. Every
scene says what is read in the figure's fixed order, whatever is asked.
"""

import random
from dataclasses import dataclass, field

from open_r1.synthetic.geomath_figures import Figure
from open_r1.synthetic.geomath_reasoning import Numbers, Tally
from open_r1.synthetic.sample import Size

SHAPES = ("circle", "square", "triangle")
BARS = (("Mon", "Tue", "Wed", "Thu", "Fri"), ("tea", "milk", "juice", "water", "soda"), ("A", "B", "C", "D", "E"))
ROWS = (("Ann", "Ben", "Cleo"), ("2022", "2023", "2024"), ("red", "blue", "green"))
COLUMNS = (("S", "M", "L"), ("May", "June", "July"), ("pens", "cups", "hats"))
VERTICES = ("ABCD", "PQRS", "EFGH", "WXYZ", "JKLM")


@dataclass(frozen=True)
class Scene:
    """One drawn figure with what can be read in it; `words` fill the question's template."""

    figure: Figure
    facts: Numbers | Tally
    words: dict[str, str] = field(default_factory=dict)


def _angle(rng: random.Random, size: Size, least: int, most: int) -> int:
    """An angle in degrees, both ends included: a multiple of ten at tiny size."""
    return rng.randrange(least, most + 1, 10) if size == "tiny" else rng.randint(least, most)


def _length(rng: random.Random, size: Size) -> int:
    return rng.randint(2, 9) if size == "tiny" else rng.randint(2, 20)


def _figure(rng: random.Random, size: Size, shape: str, values: tuple, **more) -> Figure:
    unit = " cm" if size == "full" and shape in ("rectangle", "circle", "segment") else ""
    return Figure(shape, values, unit=unit, style=rng.getrandbits(32), **more)


def _letters(rng: random.Random, size: Size, count: int) -> tuple[str, ...]:
    return tuple(rng.choice(VERTICES[:1] if size == "tiny" else VERTICES)[:count])


def line(rng: random.Random, size: Size) -> Scene:
    """Two angles on a straight line, one of them given."""
    angle = _angle(rng, size, 20, 80) if size == "tiny" else _angle(rng, size, 28, 152)
    pair, hidden = ((angle, 180 - angle), 1) if rng.random() < 0.5 else ((180 - angle, angle), 0)
    figure = _figure(rng, size, "line", pair, hidden=hidden)
    return Scene(figure, Numbers(f"angle {angle}", (angle,), (angle,)))


def _three_angles(rng: random.Random, size: Size) -> tuple[int, int, int]:
    while True:
        one, other = (_angle(rng, size, 20 if size == "tiny" else 28, 80 if size == "tiny" else 110) for _ in range(2))
        if 180 - one - other >= (20 if size == "tiny" else 28):
            return one, other, 180 - one - other


def triangle(rng: random.Random, size: Size, lettered: bool = False) -> Scene:
    """A triangle with two of its angles given."""
    angles, hidden = _three_angles(rng, size), rng.randrange(3)
    letters = _letters(rng, size, 3) if lettered else ()
    given = tuple(angle for index, angle in enumerate(angles) if index != hidden)
    figure = _figure(rng, size, "triangle", angles, hidden=hidden, letters=letters)
    words = {"name": "".join(letters), "asked": letters[hidden]} if lettered else {}
    return Scene(figure, Numbers(f"angles {given[0]}, {given[1]}", given, given), words)


def rectangle(rng: random.Random, size: Size, lettered: bool = False) -> Scene:
    """A rectangle with its sides given."""
    sides = _length(rng, size), _length(rng, size)
    letters = _letters(rng, size, 4) if lettered else ()
    figure = _figure(rng, size, "rectangle", sides, letters=letters)
    return Scene(figure, Numbers(f"sides {sides[0]}, {sides[1]}", sides, sides), {"name": "".join(letters)})


def circle(rng: random.Random, size: Size) -> Scene:
    """A circle with its radius given; the radius is asked about twice, as a factor and a term."""
    radius = _length(rng, size)
    return Scene(_figure(rng, size, "circle", (radius,)), Numbers(f"radius {radius}", (radius,), (radius, radius)))


def bars(rng: random.Random, size: Size, about: str = "two") -> Scene:
    """Bars; `about` "one", "two" (the higher one first) or "all" of them."""
    count = 3 if size == "tiny" else rng.randint(3, 5)
    names = BARS[-1][:count] if size == "tiny" else rng.choice(BARS)[:count]
    values = tuple(rng.sample(range(1, 10) if size == "tiny" else range(4, 60), count))
    chosen = rng.sample(range(count), 2)
    if about == "one":
        chosen[1] = (chosen[0] + 1) % count  # the neighbour that a mistaken reasoner takes
    else:
        chosen.sort(key=lambda index: -values[index])
    read = "bars " + ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
    asked = values if about == "all" else tuple(values[index] for index in chosen)
    words = {"first": names[chosen[0]], "second": names[chosen[1]]}
    return Scene(_figure(rng, size, "bars", values, letters=names), Numbers(read, values, asked), words)


def table(rng: random.Random, size: Size, about: str = "cell") -> Scene:
    """A table of 3 x 3 numbers; `about` is one "cell" (the mistaken one stands below it) or a "row"."""
    rows, columns = rng.choice(ROWS), rng.choice(COLUMNS)
    values = tuple(rng.randint(2, 30) for _ in range(9))
    row, column = rng.randrange(3), rng.randrange(3)
    lines = [values[start : start + 3] for start in (0, 3, 6)]
    read = "; ".join(f"{name} {', '.join(map(str, line))}" for name, line in zip(rows, lines, strict=True))
    asked = lines[row] if about == "row" else (lines[row][column], lines[(row + 1) % 3][column])
    figure = _figure(rng, size, "table", values, letters=(*columns, *rows))
    return Scene(figure, Numbers(read, values, asked), {"row": rows[row], "column": columns[column]})


def shapes(rng: random.Random, size: Size) -> Scene:
    """Circles, squares and triangles: four to six at tiny size, five to ten at full size."""
    shapes = tuple(rng.choice(SHAPES) for _ in range(rng.randint(4, 6) if size == "tiny" else rng.randint(5, 10)))
    asked = rng.randrange(3)
    facts = Tally(shapes, SHAPES[asked], SHAPES[(asked + 1) % 3])
    return Scene(_figure(rng, size, "shapes", shapes), facts, {"shape": SHAPES[asked]})


def segment(rng: random.Random, size: Size, about: str = "whole") -> Scene:
    """A segment AC with B on it: AC is asked for ("whole"), or AC is given and BC is asked for ("part")."""
    first, second = _length(rng, size), _length(rng, size)
    letters = _letters(rng, size, 3)
    given = (first, second) if about == "whole" else (first + second, first)
    figure = _figure(rng, size, "segment", (first, second), letters=letters, hidden=None if about == "whole" else 1)
    words = {"name": "".join(letters), "one": letters[0], "between": letters[1], "other": letters[2]}
    return Scene(figure, Numbers(f"sides {given[0]}, {given[1]}", given, given), words)


def parallel(rng: random.Random, size: Size, about: str = "equal") -> Scene:
    """Parallels and a transversal: the angle asked for is "equal" to the given one or its "supplement"."""
    angle = _angle(rng, size, 20, 80) if size == "tiny" else _angle(rng, size, 40, 140)
    quadrant = rng.choice((0, 2) if about == "equal" else (1, 3))
    figure = _figure(rng, size, "parallel", (angle,), hidden=quadrant)
    return Scene(figure, Numbers(f"angle {angle}", (angle,), (angle,)))

"""The figures of the synthetic structure-perception task, to scale at full size, schematic at tiny size.

A `Figure` is plain data (what is drawn, which value is asked for); `draw` turns it into a picture. Longer than 180
lines because it is a list of nine short drawings; the pen that they share is in `geomath_pen.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL.Image import Image

from open_r1.synthetic.geomath_pen import Pen, Point
from open_r1.synthetic.sample import Size

FILL = ((214, 60, 50), (60, 110, 220), (40, 150, 70), (240, 170, 30))


@dataclass(frozen=True)
class Figure:
    """What is drawn.

    Example: Figure("triangle", (40, 60, 80), hidden=2, letters=("A", "B", "C"), style=7) is a triangle whose angle at
    the top is asked for; `style` seeds colours and jitter.
    """

    shape: str  # a key of DRAWERS
    values: tuple
    hidden: int | None = None  # index of the value that is not given
    letters: tuple[str, ...] = ()  # names of vertices, of bars, or of a table's columns and then rows
    unit: str = ""  # follows every length
    style: int = 0


def draw(figure: Figure, size: Size) -> Image:
    """Draw `figure`: RGB, 84 x 84 pixels (tiny) or 320 x 240 pixels (full)."""
    pen = Pen(size, figure.style)
    DRAWERS[figure.shape](pen, figure)
    return pen.finish()


def _degrees(pen: Pen, figure: Figure, index: int) -> str:
    """Return the label of angle `index`: its value, or a question mark, or nothing in lettered figures."""
    if index == figure.hidden:
        return "" if figure.letters else "?"
    return f"{figure.values[index]}" if pen.tiny else f"{figure.values[index]}°"


def _ray(start: Point, degrees: float, length: float) -> Point:
    """Return the end of a ray from `start`, `degrees` counter-clockwise from the right."""
    return start[0] + length * math.cos(math.radians(degrees)), start[1] - length * math.sin(math.radians(degrees))


def _line(pen: Pen, figure: Figure) -> None:
    """Two angles (right, left) on a straight line."""
    right = figure.values[0]
    vertex = (pen.width / 2, 66)
    if pen.tiny:  # room for the number in the acute angle
        vertex = (36, 66) if right < 90 else (48, 66)
        right = max(58, min(122, right))
    ends = (pen.width - 5, 66), (5, 66)
    tip = _ray(vertex, right, 54)
    pen.line(*ends)
    pen.line(vertex, tip)
    for index, (one, other) in enumerate(((ends[0], tip), (tip, ends[1]))):
        pen.corner(vertex, one, other, _degrees(pen, figure, index))


def _triangle(pen: Pen, figure: Figure) -> None:
    """Angles in the order left, right, top; lettered figures name the vertices in the same order."""
    margin = 13 if figure.letters else 5
    floor = 84 - margin
    if pen.tiny:
        floor, peak = (68, 7) if figure.letters else (79, 4)
        vertices = ((4, floor), (80, floor), (42, peak))
    else:
        left, right, top = (math.radians(angle) for angle in figure.values)
        side = math.sin(right) / math.sin(top)
        peak = (side * math.cos(left), side * math.sin(left))
        low, high = min(0, peak[0]), max(1, peak[0])
        unit = min((pen.width - 2 * margin) / (high - low), (floor - margin) / peak[1])
        start = (pen.width - unit * (high + low)) / 2
        floor = 42 + unit * peak[1] / 2
        vertices = ((start, floor), (start + unit, floor), (start + unit * peak[0], floor - unit * peak[1]))
    pen.line(*vertices, closed=True)
    for index, vertex in enumerate(vertices):
        pen.corner(vertex, vertices[index - 2], vertices[index - 1], _degrees(pen, figure, index))
    if figure.letters:
        below = 0.62 * pen.em
        places = [(x, y + (below if index < 2 else -below)) for index, (x, y) in enumerate(vertices)]
        if pen.tiny:
            places = [(9, 76), (75, 76), (56, 9)]
        _name(pen, figure.letters, places)


def _name(pen: Pen, letters: tuple[str, ...], places: Sequence[Point]) -> None:
    """Write vertex names, smaller than numbers in tiny pictures."""
    for letter, place in zip(letters, places, strict=True):
        pen.label(place, letter, 0.8 if pen.tiny else 1.0)


def _rectangle(pen: Pen, figure: Figure) -> None:
    """Sides in the order bottom, left."""
    width, height = figure.values
    unit = min((0.7 * pen.width - 16) / width, 50 / height)
    across, down = unit * width, unit * height
    x, y = pen.width / 2 + 4, 39
    if pen.tiny:
        low, high = (34, 40) if figure.letters else (38, 50)  # room for vertex names
        across, down = max(low, min(high, across)), max(low, min(high, down))
        x, y = (46, 39) if figure.letters else (50, 37)
    left, right, top, bottom = x - across / 2, x + across / 2, y - down / 2, y + down / 2
    pen.line((left, bottom), (right, bottom), (right, top), (left, top), closed=True)
    below, side = f"{width}{figure.unit}", f"{height}{figure.unit}"
    pen.label((x, bottom + (1.4 if figure.letters and not pen.tiny else 0.75) * pen.em), below)
    pen.label((left - (0.45 + 0.3 * len(side)) * pen.em, y), side)
    if figure.letters:
        off = 0.5 * pen.em
        places = [
            (left - off, bottom + off),
            (right + off, bottom + off),
            (right + off, top - off),
            (left - off, top - off),
        ]
        _name(pen, figure.letters, places)


def _circle(pen: Pen, figure: Figure) -> None:
    """Radius."""
    centre, radius = (pen.width / 2, 42), 34
    pen.disc(centre, radius)
    pen.disc(centre, 1.2, colour=pen.ink)
    pen.line(centre, (centre[0] + radius, centre[1]))
    pen.label((centre[0] + radius / 2, 42 - 0.7 * pen.em), f"{figure.values[0]}{figure.unit}")


def _bars(pen: Pen, figure: Figure) -> None:
    """Bars from left to right, each with its value above: in a fixed row at tiny size, on the bar at full size."""
    floor, tallest = (66, 42) if pen.tiny else (72, 60)
    step = pen.width / len(figure.values)
    colours = pen.rng.sample(FILL, 3)
    for index, (value, name) in enumerate(zip(figure.values, figure.letters, strict=True)):
        x, half = (index + 0.5) * step, 0.3 * step
        top = floor - tallest * value / max(figure.values)
        colour = colours[index] if pen.tiny else colours[0]
        pen.fill((x - half, floor), (x - half, top), (x + half, top), (x + half, floor), colour=colour)
        pen.label((x, 12 if pen.tiny else top - 0.6 * pen.em), str(value))
        pen.label((x, floor + (0.6 if pen.tiny else 0.8) * pen.em), name, 0.8 if pen.tiny else 0.9)
    pen.line((3, floor), (pen.width - 3, floor), stroke=1.0)


def _table(pen: Pen, figure: Figure) -> None:
    """Three rows of three values; `letters` names the columns and then the rows."""
    columns = rows = 3
    wide, high = (pen.width - 8) / (columns + 1), 64 / (rows + 1)
    left, top = 4, 10
    cells = ["", *figure.letters[:columns]]
    for row in range(rows):
        cells += [figure.letters[columns + row], *map(str, figure.values[row * columns : (row + 1) * columns])]
    for index, text in enumerate(cells):
        down, across = divmod(index, columns + 1)
        if text:
            pen.label((left + (across + 0.5) * wide, top + (down + 0.5) * high), text)
    for row in range(rows + 2):
        pen.line((left, top + row * high), (left + (columns + 1) * wide, top + row * high))
    for column in range(columns + 2):
        pen.line((left + column * wide, top), (left + column * wide, top + (rows + 1) * high))


def _shapes(pen: Pen, figure: Figure) -> None:
    """Circles, squares and triangles in reading order, each in its own block of 28 units."""
    columns = int(pen.width // 28)
    cells = sorted(pen.rng.sample(range(3 * columns), len(figure.values)))
    for cell, shape in zip(cells, figure.values, strict=True):
        x, y = 28 * (cell % columns) + 14, 28 * (cell // columns) + 14
        colour, reach = pen.rng.choice(FILL), pen.rng.uniform(8.5, 11)
        if shape == "circle":
            pen.disc((x, y), reach, colour)
        elif shape == "square":
            reach *= 0.9
            pen.fill(
                (x - reach, y - reach),
                (x + reach, y - reach),
                (x + reach, y + reach),
                (x - reach, y + reach),
                colour=colour,
            )
        else:
            pen.fill((x, y - reach), (x + reach, y + reach * 0.8), (x - reach, y + reach * 0.8), colour=colour)


def _segment(pen: Pen, figure: Figure) -> None:
    """Lengths AB and BC on a segment AC; hidden=1 gives AC, on an arrow above, in place of BC."""
    first, second = figure.values
    share = 0.5 if pen.tiny else max(0.25, min(0.75, first / (first + second)))
    left, right, y = 8, pen.width - 8, 58
    middle = left + share * (right - left)
    pen.line((left, y), (right, y))
    for x in (left, middle, right):
        pen.line((x, y - 4), (x, y + 4))
    _name(pen, figure.letters, [(x, y + 0.95 * pen.em) for x in (left, middle, right)])
    pen.label(((left + middle) / 2, y - 0.85 * pen.em), f"{first}{figure.unit}")
    if figure.hidden is None:
        pen.label(((middle + right) / 2, y - 0.85 * pen.em), f"{second}{figure.unit}")
        return
    thin = 1.0 if pen.tiny else 0.5
    pen.line((left, 28), (right, 28), stroke=thin)
    for x, inward in ((left, 4), (right, -4)):
        pen.line((x + inward, 25), (x, 28), (x + inward, 31), stroke=thin)
    pen.label((pen.width / 2, 28 - 0.85 * pen.em), f"{first + second}{figure.unit}")


def _parallel(pen: Pen, figure: Figure) -> None:
    """Two parallels and a transversal; the given angle lies right above the first, `hidden` is the quadrant of x.

    Quadrants count counter-clockwise from 0, right above the second parallel.
    """
    angle = figure.values[0]
    slant = max(62, min(70, angle)) if pen.tiny else angle
    upper, lower, middle = 28, 58, 39 if pen.tiny else pen.width / 2
    shift = (lower - upper) / 2 / math.tan(math.radians(slant))
    crossings = (middle + shift, upper), (middle - shift, lower)
    tips = (
        _ray(crossings[0], slant, 24 / math.sin(math.radians(slant))),
        _ray(crossings[1], slant, -22 / math.sin(math.radians(slant))),
    )
    for y in (upper, lower):
        pen.line((3, y), (pen.width - 3, y))
    pen.line(*tips)
    pen.corner(crossings[0], (pen.width, upper), tips[0], f"{angle}" if pen.tiny else f"{angle}°")
    around = ((pen.width, lower), tips[0], (0, lower), tips[1])
    assert figure.hidden is not None, "a figure of parallels has its x in a quadrant"
    pen.corner(crossings[1], around[figure.hidden], around[(figure.hidden + 1) % 4], "x")


DRAWERS = {
    "line": _line,
    "triangle": _triangle,
    "rectangle": _rectangle,
    "circle": _circle,
    "bars": _bars,
    "table": _table,
    "shapes": _shapes,
    "segment": _segment,
    "parallel": _parallel,
}

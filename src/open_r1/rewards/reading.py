"""Reading a plain text that is nothing but a value: which kind of answer it is."""

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from open_r1.rewards.formula import MAX_FORMULA, Formula, NotAFormula, Number, difference, read_formula
from open_r1.rewards.formula_value import Undefined
from open_r1.rewards.plain import trimmed
from open_r1.rewards.quantities import Quantity, as_float, read_quantity
from open_r1.rewards.values import (
    Approximate,
    Elements,
    Enclosed,
    Listed,
    Name,
    Named,
    Ratio,
    Relation,
    Union,
    Value,
)

_MAX_NESTED = 4
_SIGNS = (
    (re.compile(r"<>"), "≠"),
    (re.compile(r"\s?(?:\|\||//)\s?(?=[A-Z∠])"), "∥"),
    (re.compile(r"\bangle\s?(?=[A-Z0-9∠]\w{0,3}\b)|<(?=[A-Z]{3}\b)", re.IGNORECASE), "∠"),
    (re.compile(r"\btriangle\s?(?=[A-Z]{3}\b)", re.IGNORECASE), "△"),
    (re.compile(r"\b(?:line segment|segment|line|chord|side)\s?(?=[A-Z]{2}\b)", re.IGNORECASE), ""),
    (re.compile(r"\bcircle\s?(?=[A-Z]\b)", re.IGNORECASE), "⊙"),
    (re.compile(r"\bparallelogram\s?(?=[A-Z]{4}\b)", re.IGNORECASE), "▱"),
    (re.compile(r"\bm\s?(?=∠)"), ""),
    (re.compile(r"(?<=[∠△⊙])\s?\{(\w{1,4})\}"), r"\1"),
    (re.compile(r"\bis parallel to\b"), "∥"),
    (re.compile(r"\bis perpendicular to\b"), "⊥"),
    (re.compile(r"\binfinity\b|\binf\b|\boo\b"), "∞"),
    (re.compile(r"(?<=[)\]])\s?[Uu]\s?(?=[(\[])"), "∪"),
)
_JOINT = re.compile(r"\s*(?:(?<!\d),|,(?!\d{3}(?!\d))|[;\n]|\band\b|\bor\b|&|[和或与及])\s*(?:(?:and|or)\b\s*|[和或])?")
_OR = re.compile(r"\bor\b|或")
_SIGN = re.compile(r"[=≈<>≤≥≠∈∥⊥≅∽]")
_COLON = re.compile(r"\s*:\s*")
_WORDS_RATIO = re.compile(r"(?<=[\d)}])\s+to\s+(?=[\d√\\(])")
_PAIR = {"(": ")]", "[": ")]", "⦃": "⦄", "{": "}"}
_LETTER = r"(?:[A-Za-zα-ωΓ-Ω](?:_\s?(?:\{[^{}]{1,8}\}|\w)|\d|'{1,2})?)"
_BUILDER = re.compile(r"[{⦃]\s*[A-Za-z]\s*(?:∈\s*[A-Z]\s*)?[|:]\s*(.+)[}⦄]")
_POINT = re.compile(r"([A-Z]'?)\s?(\([^()]+,[^()]+\))")
_POINTS = r"(?:[A-Z](?:'|_?\d)?){1,5}"
_SYMBOL = re.compile(
    rf"{_LETTER}|\|?{_POINTS}\|?|[∠△⊙▱□]\s?(?:{_POINTS}|[\dα-ω])|{_LETTER}\s?\(\s?{_LETTER}\s?\)"
    rf"|[SPAV]\s?_?\s?\{{?[△▱□]?\s?{_POINTS}\}}?"
    rf"|\\?(?:sin|cos|tan|cot)\s?∠?\s?(?:{_POINTS}|[α-ω])"
)
_FRACTION_NAME = re.compile(r"\\frac\s?\{\s?([A-Z]{1,2})\s?\}\s?\{\s?([A-Z]{1,2})\s?\}")
_WORDS = re.compile(r"[^\W\d]{2}[^\W\d]*(?:[\s'-]+[^\W\d]+|\s[∠△]?[A-Z]{1,4})*|[\u3400-\u9fff][^\d=]{0,30}")
_NOT_A_LABEL = re.compile(
    r"\b(?:half|third|quarter|twice|double|triple|times|square|squared|root|cubed?|sum|product|not|no|never|without|"
    r"minus|plus|negative|log|ln|sin|cos|tan|percent|more|less|than|least|most|between|or|except|but|cannot"
    r"|neither|nor|is|are|was|were|equals?|be|wrong|incorrect|false|other|rather|instead"
    r"|opposite|reciprocal|inverse|absolute)\b|n't|[不非]",
    re.IGNORECASE,
)
_GEOMETRY = re.compile(r"([∠△⊙▱□]|arc|ray|rectangle|square|quadrilateral|rhombus|circle|plane)\s?([A-Z][A-Z']{0,5}|\d)")


@lru_cache(maxsize=16384)
def read_value(text: str) -> Value | None:
    """The value that is all of a plain text; None where it is none, or longer than 300 characters.

    Raises:
        Undefined: it is a number without a real value, or one that is too large by its form.
    """
    if len(text) > MAX_FORMULA:
        return None
    if (quantity := read_quantity(text)) is not None:
        return quantity
    for sign, replacement in _SIGNS:
        text = sign.sub(replacement, text)
    return _read(text, 0)


def _read(text: str, depth: int) -> Value | None:
    """`read_value` for a part of a text, at a depth of nesting."""
    text = trimmed(text)
    if not text or depth > _MAX_NESTED:
        return None
    if (quantity := _quantity(text)) is not None:
        return quantity
    if name := _GEOMETRY.fullmatch(text):
        return _name(name[1], name[2])
    if builder := _BUILDER.fullmatch(text):
        return _read(builder[1], depth + 1)
    if (point := _POINT.fullmatch(text)) and (place := _read(point[2], depth + 1)):
        return Named(point[1], True, place)
    items = split(text, _JOINT)
    if len(items) > 1:
        return _listed(text, [_read(item, depth + 1) for item in items])
    sides = split(text, _SIGN)
    if len(sides) > 1:
        return _related([side.strip() for side in sides], _found(text, _SIGN), depth)
    return _united(text, depth) or _enclosed(text, depth) or _ratio(text) or _either(text, depth) or _formula(text)


def _quantity(text: str) -> Quantity | None:
    if infinite := re.fullmatch(r"([+-]?)\s?∞", text):
        return Quantity(-math.inf if infinite[1] == "-" else math.inf)
    return read_quantity(text)


def _formula(text: str) -> Formula | None:
    try:
        formula = read_formula(text)
    except NotAFormula:
        return None
    return formula if formula.symbols else None


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Split where the separator stands outside all brackets.

    >>> split("(1, 2), 3", re.compile(", "))
    ['(1, 2)', '3']
    """
    depth, depths = 0, list[int]()
    for character in text:
        depth += character in "([{⦃"
        depths.append(depth)
        depth -= character in ")]}⦄"
    parts, at = list[str](), 0
    for match in separator.finditer(text):
        if match.end() > match.start() and depths[match.start()] == 0:
            parts.append(text[at : match.start()])
            at = match.end()
    return [*parts, text[at:]]


def _found(text: str, separator: re.Pattern[str]) -> list[str]:
    """The separators that `split` splits at, for those of one character."""
    lengths = [len(part) for part in split(text, separator)]
    places = [sum(lengths[: i + 1]) + i for i in range(len(lengths) - 1)]
    return [text[place] for place in places]


def _listed(text: str, items: Sequence[Value | None]) -> Value | None:
    """Several values; a name in front of the first counts for the next: "x = 1 or 2". None where one is no value."""
    found: list[Value] = []
    for item in items:
        if item is None:
            return None
        before = found[-1] if found else None
        if isinstance(before, Named) and isinstance(item, Quantity):
            item = Named(before.name, before.symbol, item)
        found.append(item)
    ranges = [item for item in found if isinstance(item, Named) and isinstance(item.value, Enclosed)]
    if len(ranges) == len(found) and len({item.name for item in ranges}) == 1:
        return _combined(ranges, bool(_OR.search(text)))
    return Listed(tuple(found))


def _combined(ranges: list[Named], either: bool) -> Value | None:
    """X < 1 or x > 3: the union; x > 1 and x < 3: what lies in both."""
    first = ranges[0]
    if either:
        return Named(first.name, first.symbol, Union(tuple(item.value for item in ranges)))
    lower, upper = ("(", -math.inf), (")", math.inf)
    for item in ranges:
        interval = item.value
        assert isinstance(interval, Enclosed)
        low, high = interval.items
        if not isinstance(low, Quantity) or not isinstance(high, Quantity):
            return None
        lower = max(lower, (interval.opening, low.number), key=lambda end: (end[1], end[0] == "("))
        upper = min(upper, (interval.closing, high.number), key=lambda end: (end[1], end[0] == "]"))
    return Named(first.name, first.symbol, _interval(lower[0], lower[1], upper[1], upper[0]))


def _interval(opening: str, low: Number, high: Number, closing: str) -> Enclosed:
    return Enclosed(opening, closing, (Quantity(low), Quantity(high)))


def symbol_name(text: str) -> tuple[str, bool] | None:
    """(name, whether it is one of mathematics) for what may stand before an equals sign: x, AB, f(x), ∠ABC, the area.

    None for numbers, formulas and words that change what stands behind ("half of x").
    """
    text = _FRACTION_NAME.sub(r"\1/\2", text.strip(" *_'\""))
    if not text:
        return "", False
    parts = re.split(r"\s?[:/]\s?", text)
    if (
        len(parts) <= 3
        and all(_SYMBOL.fullmatch(part) for part in parts)
        and (len(parts) == 1 or "/" not in text or text.isupper())
    ):
        letters = re.sub(r"[\s{}|_\\∠]", "", text)
        return "".join(sorted(letters)) if re.fullmatch(r"[A-Z]{2}", letters) else letters, True
    if _WORDS.fullmatch(text) and len(text) <= 120 and not _NOT_A_LABEL.search(text):
        return re.sub(r"\b(?:the|a|an|its|value|of|so|then|thus|therefore|hence)\b|\s", "", text.casefold()), False
    return None


def _related(sides: list[str], signs: list[str], depth: int) -> Value | None:
    """Equations, approximations, inequalities, memberships, and how lines lie."""
    if len(sides) > 6 or not all(sides[1:]):
        return None
    if len(signs) == 1 and signs[0] in "∥⊥≅∽":
        letters = [re.sub(r"[\s∠△]", "", side) for side in sides]
        return Name(signs[0], ",".join(sorted(letters))) if all(re.fullmatch(_POINTS, x) for x in letters) else None
    if set(signs) <= {"=", "≈"}:
        return _equated(sides, signs, depth)
    if signs == ["∈"] and (name := symbol_name(sides[0])):
        value = _read(sides[1], depth + 1)
        return Named(*name, value) if isinstance(value, Enclosed | Elements | Union) else None
    if len(signs) <= 2 and (set(signs) <= set("<≤") or set(signs) <= set(">≥")):
        return _bounded(sides, signs, depth)
    if signs == ["≠"] and (both := _difference(*sides)):
        return Relation("≠", both)
    return None


def _equated(sides: list[str], signs: list[str], depth: int) -> Value | None:
    """X = 5; AB = 2√3 ≈ 3.46; 8 - 3 = 5, whose last side counts; x^2 + y^2 = 25, of which both do."""
    last = _read(sides[-1], depth + 1)
    name = symbol_name(sides[0])
    names = [symbol_name(part) for part in sides[0].strip("() ").split(",")]
    if (
        isinstance(last, Enclosed)
        and len(names) == len(last.items)
        and len(sides) == 2
        and all(name and name[1] for name in names)
    ):
        return Listed(tuple(Named(*name, item) for name, item in zip(names, last.items, strict=True) if name))
    if last is None or isinstance(last, Listed | Relation):
        back = symbol_name(sides[-1])
        first = _read(sides[0], depth + 1) if back and back[1] and len(sides) == 2 else None
        return Named(*back, first) if back and isinstance(first, Quantity) else None
    if signs[-1] == "≈" and isinstance(last, Quantity) and len(sides) > 1:
        exact = _read(sides[-2], depth + 1)
        if isinstance(exact, Quantity):
            near = math.isclose(as_float(exact.number), as_float(last.number), rel_tol=0.01, abs_tol=0.01)
            last = Approximate(exact, last) if near else None
    if last is None or not all(_links(side, depth) for side in sides[1:-1]):
        return None
    if name is not None:
        back = symbol_name(sides[-1])
        if isinstance(last, Formula) and back and back[1] and not name[1] and name[0]:
            return last
        return Named(*name, last)
    if isinstance(last, Approximate):
        return last
    first = _read(sides[0], depth + 1)
    if isinstance(first, Quantity) and isinstance(last, Quantity):
        return last
    if isinstance(first, Quantity) and (back := symbol_name(sides[-1])) and back[1]:
        return Named(*back, first)
    both = _difference(sides[0], sides[-1])
    return Relation("=", both) if both else None


def _links(side: str, depth: int) -> bool:
    """Whether a chain of equations may lead over this side; "4 x" in "x = 4 x = 5" is two statements."""
    return not re.search(r"\d\s+[A-Za-z]", side) and (
        symbol_name(side) is not None or _read(side, depth + 1) is not None
    )


def _difference(left: str, right: str) -> Formula | None:
    try:
        return difference(read_formula(left), read_formula(right))
    except NotAFormula:
        return None


def _bounded(sides: list[str], signs: list[str], depth: int) -> Value | None:
    """X > 5 and 2 < x ≤ 5 as intervals of x; other inequalities as a difference above 0."""
    if signs[0] in ">≥":
        sides, signs = sides[::-1], [{">": "<", "≥": "≤"}[sign] for sign in signs[::-1]]
    values = [_quantity(side) for side in sides]
    names = [symbol_name(side) for side in sides]
    opening, closing = "(" if signs[0] == "<" else "[", ")" if signs[-1] == "<" else "]"
    if len(sides) == 3 and values[0] and values[2] and names[1]:
        return Named(*names[1], Enclosed(opening, closing, (values[0], values[2])))
    if len(sides) == 2 and values[0] and names[1]:
        return Named(*names[1], Enclosed(opening, ")", (values[0], Quantity(math.inf))))
    if len(sides) == 2 and values[1] and names[0]:
        return Named(*names[0], Enclosed("(", closing, (Quantity(-math.inf), values[1])))
    both = _difference(sides[1], sides[0]) if len(sides) == 2 else None
    return Relation(">" if signs[0] == "<" else "≥", both) if both else None


def _united(text: str, depth: int) -> Value | None:
    pieces = split(text, re.compile("∪"))
    if len(pieces) == 1:
        return None
    found = [_read(piece, depth + 1) for piece in pieces]
    sets = [piece for piece in found if isinstance(piece, Enclosed | Elements)]
    return Union(tuple(sets)) if len(sets) == len(pieces) else None


def _enclosed(text: str, depth: int) -> Value | None:
    """A tuple, interval or set: one pair of brackets around it all, with two or more parts (a set: one or more)."""
    closings = _PAIR.get(text[0])
    if closings is None or text[-1] not in closings:
        return None
    inner = split(text[1:-1], re.compile(r"\s*[,;]\s*"))
    braces = text[0] in "{⦃"
    if len(inner) < (1 if braces else 2) or len(inner) > 12:
        return None
    items = tuple(_read(part, depth + 1) for part in inner)
    found = tuple(item for item in items if item is not None)
    if len(found) != len(items):
        return None
    return Elements(found) if braces else Enclosed(text[0], text[-1], found)


def _ratio(text: str) -> Value | None:
    parts = split(_WORDS_RATIO.sub(":", text), _COLON)
    if not 2 <= len(parts) <= 4:
        return None
    numbers = [_quantity(part) for part in parts]
    found = tuple(number.number for number in numbers if number is not None)
    if len(found) == len(parts):
        return Ratio(found)
    name = symbol_name(parts[0]) if len(parts) == 2 else None
    return Named(*name, numbers[1]) if name and numbers[1] else None


def _either(text: str, depth: int) -> Value | None:
    """±5 and 2 ± √3: the two values."""
    if text.count("±") != 1:
        return None
    both = [_read(text.replace("±", sign).removeprefix("+").strip(), depth + 1) for sign in "+-"]
    found = tuple(value for value in both if value is not None)
    return Listed(found) if len(found) == 2 else None


def _name(kind: str, letters: str) -> Name:
    """One spelling: the corners of a triangle have no order, an angle may be read from either side."""
    if kind == "△":
        return Name(kind, "".join(sorted(letters)))
    return Name(kind, min(letters, letters[::-1]))


__all__ = ["Undefined", "read_value", "split", "symbol_name"]

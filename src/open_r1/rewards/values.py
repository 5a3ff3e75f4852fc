"""The kinds of answers, and when two of a kind are the same. What is of no common kind is never the same."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from open_r1.rewards.formula import Formula, Number, Tree, constant, difference
from open_r1.rewards.formula_value import equal, ratio
from open_r1.rewards.quantities import Quantity, as_float, close, same_quantity

_MAX_ITEMS = 12


class Name(NamedTuple):
    """A geometric object ("∠", "ABC") or statement ("∥", "AB,CD"), in one spelling of its letters."""

    kind: str
    letters: str


class Ratio(NamedTuple):
    """1:2, or more parts."""

    parts: tuple[Number, ...]


class Relation(NamedTuple):
    """An equation or inequality in variables: `difference` `sign` 0, with sign "=", ">", "≥" or "≠"."""

    sign: str
    difference: Formula


class Listed(NamedTuple):
    """Several values one behind another, with "and" or with "or"."""

    items: "tuple[Value, ...]"


class Elements(NamedTuple):
    """A set in braces."""

    items: "tuple[Value, ...]"


class Enclosed(NamedTuple):
    """A point, tuple or interval with its brackets: ("(", "]", (1, 2))."""

    opening: str
    closing: str
    items: "tuple[Value, ...]"


class Union(NamedTuple):
    """Intervals and sets, united."""

    pieces: "tuple[Value, ...]"


class Approximate(NamedTuple):
    """An exact value and its decimals, which agree to a percent: 14π ≈ 43.98."""

    exact: Quantity
    decimals: Quantity


class Named(NamedTuple):
    """A value with what it is the value of: x = 5, AB = 3, y = 2x + 1. `symbol`: the name is one of mathematics."""

    name: str
    symbol: bool
    value: "Value"


Value = Quantity | Formula | Name | Ratio | Relation | Listed | Elements | Enclosed | Union | Approximate | Named


def same(given: Value, true: Value) -> bool:
    """Whether a reply's value is the true one. A name counts where both have one; an approximation is either side."""
    if isinstance(given, Approximate):
        return same(given.exact, true) or same(given.decimals, true)
    if isinstance(true, Approximate):
        return same(given, true.exact) or same(given, true.decimals)
    if isinstance(given, Named) and isinstance(true, Named):
        alike = given.name.casefold() == true.name.casefold() or not (given.symbol and true.symbol)
        if alike:
            return same(given.value, true.value)
        mine, theirs = as_relation(given), as_relation(true)  # x = (y - 1)/2 is y = 2x + 1
        solved = isinstance(given.value, Formula) and isinstance(true.value, Formula)
        return solved and mine is not None and theirs is not None and _same_relation(mine, theirs)
    if isinstance(true, Named):
        if isinstance(given, Relation) and not isinstance(true.value, Quantity):
            return (relation := as_relation(true)) is not None and _same_relation(given, relation)
        return same(given, true.value)
    if isinstance(given, Named):
        if isinstance(true, Relation):
            return (relation := as_relation(given)) is not None and _same_relation(relation, true)
        return same(given.value, true)
    return _same_kind(given, true)


def _same_kind(given: Value, true: Value) -> bool:
    """`same` for values without names, of one kind or of two that may say the same."""
    if isinstance(given, Quantity) and isinstance(true, Quantity):
        return same_quantity(given, true)
    if isinstance(given, Formula) and isinstance(true, Formula):
        return equal(given, true)
    if isinstance(given, Name) and isinstance(true, Name):
        return given == true
    if isinstance(given, Relation) and isinstance(true, Relation):
        return _same_relation(given, true)
    if isinstance(given, Ratio):
        return _same_ratio(given, true)
    if isinstance(true, Ratio):
        return _same_ratio(true, given)
    if isinstance(given, Union) and isinstance(true, Union):
        return _matched(given.pieces, true.pieces, same)
    if isinstance(given, Elements) and not isinstance(true, Elements | Listed):
        return len(given.items) == 1 and same(given.items[0], true)
    if isinstance(true, Elements) and not isinstance(given, Elements | Listed):
        return len(true.items) == 1 and same(given, true.items[0])
    return _same_several(given, true)


def _same_several(given: Value, true: Value) -> bool:
    """Lists, sets, points and intervals; the parts of a point may be listed without brackets, in order."""
    if isinstance(given, Enclosed) and isinstance(true, Enclosed):
        brackets = (given.opening, given.closing) == (true.opening, true.closing)
        return brackets and _in_order(given.items, true.items)
    if isinstance(given, Listed | Elements) and isinstance(true, Listed | Elements):
        return _same_items(given.items, true.items, isinstance(given, Listed) and isinstance(true, Listed))
    point, listed = (given, true) if isinstance(given, Enclosed) else (true, given)
    if isinstance(point, Enclosed) and isinstance(listed, Listed) and point.opening + point.closing == "()":
        return _in_order(point.items, listed.items) if point is given else _in_order(listed.items, point.items)
    return False


def as_relation(named: Named) -> Relation | None:
    """Y = 2x + 1 as y - (2x + 1) = 0, and x > 5 as x - 5 > 0; None where the name is no variable."""
    if not named.symbol or len(named.name) != 1:
        return None
    variable, value = Formula(Tree("symbol", name=named.name), (named.name,)), named.value
    if isinstance(value, Enclosed) and isinstance(value.items[0], Quantity) and isinstance(value.items[1], Quantity):
        low, high = (item.number for item in value.items if isinstance(item, Quantity))
        if math.isinf(high) and not math.isinf(low):
            return Relation(">" if value.opening == "(" else "≥", difference(variable, _constant(low)))
        if math.isinf(low) and not math.isinf(high):
            return Relation(">" if value.closing == ")" else "≥", difference(_constant(high), variable))
        return None
    if isinstance(value, Quantity):
        value = _constant(value.number)
    return Relation("=", difference(variable, value)) if isinstance(value, Formula) else None


def _constant(number: Number) -> Formula:
    return Formula(constant(number), ())


def _same_relation(given: Relation, true: Relation) -> bool:
    """Both sides count: the differences are equal up to a constant factor, a positive one for inequalities."""
    if given.sign != true.sign:
        return False
    factor = ratio(true.difference, given.difference)
    return factor is not None and (factor > 0 or given.sign in "=≠")


def _same_ratio(one: Ratio, other: Value) -> bool:
    """In proportion; a fraction that is written as one says the same as a ratio of two."""
    parts = one.parts
    if isinstance(other, Quantity):
        fraction = isinstance(other.number, Fraction) and len(parts) == 2 and parts[1] != 0
        return fraction and close(other.number * parts[1], parts[0])
    if not isinstance(other, Ratio) or len(parts) != len(other.parts) or 0 in parts or 0 in other.parts:
        return False
    factors = [as_float(a) / as_float(b) for a, b in zip(parts, other.parts, strict=True)]
    return all(math.isclose(factor, factors[0], rel_tol=1e-6) for factor in factors)


def _in_order(given: Sequence[Value], true: Sequence[Value]) -> bool:
    return len(given) == len(true) and all(same(a, b) for a, b in zip(given, true, strict=True))


def _same_items(given: Sequence[Value], true: Sequence[Value], ordered_by_name: bool) -> bool:
    """Any order where the true items have no names of their own, or where both name them; else in the true order."""
    names = {item.name for item in true if isinstance(item, Named)}
    if ordered_by_name and len(names) > 1 and not any(isinstance(item, Named) for item in given):
        return _in_order(given, true)
    return _matched(given, true, _same_item)


def _same_item(given: Value, true: Value) -> bool:
    """`same` for one of several values: where both are named, by the same name."""
    if isinstance(given, Named) and isinstance(true, Named) and given.name.casefold() != true.name.casefold():
        return False
    return same(given, true)


def _matched(given: Sequence[Value], true: Sequence[Value], alike: Callable[[Value, Value], bool]) -> bool:
    """Whether each of the one matches another of the other."""
    if len(given) != len(true) or len(given) > _MAX_ITEMS:
        return False
    left = list(true)
    for item in given:
        found = next((place for place, other in enumerate(left) if alike(item, other)), None)
        if found is None:
            return False
        del left[found]
    return True

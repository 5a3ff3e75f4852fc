"""The values of formulas, and when two formulas are equal: where their values are, at fixed points.

No symbolic algebra, so that nothing can hang and every process decides alike: an exact number has at most `_MAX_BITS`
bits, a longer one is a float, and what leaves a float's range or has no real value is equal to nothing.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from open_r1.rewards.formula import CIRCULAR, Formula, Number, Tree

_MAX_BITS = 2048  # of numerator and denominator
_MAX_FACTORIAL = 100
_GOLDEN = (math.sqrt(5) - 1) / 2


class Undefined(ValueError):
    """The formula has no real value, or one that is too large by its form."""


def value(formula: Formula, point: Mapping[str, float] | None = None) -> Number:
    """The formula's value at a point, exact where it is rational.

    Raises:
        Undefined: it has no real value there, or its form makes it too large for a float.
    """
    try:
        number = _value(formula.tree, point or {}, False)
    except (ArithmeticError, ValueError, KeyError) as error:
        raise Undefined(str(error)[:80]) from error
    if isinstance(number, complex) or (isinstance(number, float) and not math.isfinite(number)):
        raise Undefined("not finite")
    return number


def _value(tree: Tree, point: Mapping[str, float], circular: bool) -> Number:
    """The value of a tree; `circular`: inside sin, cos, ..., where a degree sign is a factor."""
    operation = tree.operation
    if operation == "number":
        return tree.number
    if operation == "symbol":
        return point[tree.name]
    circular = circular or operation in CIRCULAR
    numbers = [_value(part, point, circular) for part in tree.parts]
    first = numbers[0]
    if operation in _FUNCTIONS:
        result = _FUNCTIONS[operation](float(first))
        return result / math.log10(numbers[1]) if len(numbers) > 1 else result
    if operation == "°":
        return float(first) * math.pi / 180 if circular else first
    return _bounded(_UNARY[operation](first) if len(numbers) == 1 else _BINARY[operation](first, numbers[1]))


def _bounded(number: Number) -> Number:
    """The number: whole where it is, a float where it is exact but too long to go on exactly."""
    if isinstance(number, float):
        return number
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > _MAX_BITS:
        return float(number)
    return int(number) if number.denominator == 1 else number


def _add(one: Number, other: Number) -> Number:
    return one + other


def _times(one: Number, other: Number) -> Number:
    return one * other


def _over(above: Number, below: Number) -> Number:
    return above / below if isinstance(above, float) or isinstance(below, float) else Fraction(above) / below


def _power(base: Number, exponent: Number) -> Number:
    """Exact where the exponent is whole and the result short; else as floats, which end at 10^308."""
    if not isinstance(base, float) and isinstance(exponent, int):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) <= _MAX_BITS:
            return Fraction(base) ** exponent
    return math.pow(base, exponent)


def _root(radicand: Number, order: Number) -> Number:
    """The real root; exact where it is whole."""
    if order == 2 and isinstance(radicand, int) and radicand >= 0 and math.isqrt(radicand) ** 2 == radicand:
        return math.isqrt(radicand)
    if radicand < 0 and isinstance(order, int) and order % 2:
        return -math.pow(-radicand, 1 / order)
    return math.sqrt(radicand) if order == 2 else math.pow(radicand, 1 / order)


def _whole(number: Number) -> int:
    """The argument of a factorial or binomial, which is small."""
    if not isinstance(number, int) or not 0 <= number <= _MAX_FACTORIAL:
        raise Undefined("factorial")
    return number


_FUNCTIONS: dict[str, Callable[[float], float]] = {
    **{"sin": math.sin, "cos": math.cos, "tan": math.tan, "arcsin": math.asin, "arccos": math.acos},
    **{"arctan": math.atan, "asin": math.asin, "acos": math.acos, "atan": math.atan, "sinh": math.sinh},
    **{"cosh": math.cosh, "tanh": math.tanh, "ln": math.log, "lg": math.log10, "log": math.log10, "exp": math.exp},
    **{"cot": lambda x: 1 / math.tan(x), "sec": lambda x: 1 / math.cos(x), "csc": lambda x: 1 / math.sin(x)},
}
_UNARY: dict[str, Callable[[Number], Number]] = {
    "negative": lambda a: -a,
    "abs": lambda a: -a if a < 0 else a,
    "%": lambda a: _over(a, 100),
    "!": lambda a: math.factorial(_whole(a)),
}
_BINARY: dict[str, Callable[[Number, Number], Number]] = {
    "+": _add,
    "-": lambda a, b: _add(a, -b),
    "*": _times,
    "/": _over,
    "^": _power,
    "root": _root,
    "choose": lambda a, b: math.comb(_whole(a), _whole(b)),
}


def points(symbols: tuple[str, ...]) -> list[dict[str, float]]:
    """Eight fixed points: four with positive coordinates between .3 and 2.8, four of mixed signs."""
    return [
        {
            symbol: (-1 if k >= 4 and (k + i) % 2 else 1) * (0.3 + 2.5 * ((i + 1) * (k + 3) * _GOLDEN % 1))
            for i, symbol in enumerate(symbols)
        }
        for k in range(8)
    ]


def _values(formula: Formula, at: list[dict[str, float]]) -> list[float | None]:
    values: list[float | None] = []
    for point in at:
        try:
            values.append(float(value(formula, point)))
        except (Undefined, OverflowError):
            values.append(None)
    return values


def _pairs(one: Formula, other: Formula) -> list[tuple[float, float]]:
    """The two formulas' values at the points where both have one; none where these are fewer than three."""
    at = points(tuple(sorted({*one.symbols, *other.symbols})))
    both = zip(_values(one, at), _values(other, at), strict=True)
    found = [(a, b) for a, b in both if a is not None and b is not None]
    return found if len(found) >= 3 else []


def equal(one: Formula, other: Formula) -> bool:
    """Whether two formulas have the same value at all points where both have one, three or more of the eight."""
    pairs = _pairs(one, other)
    return bool(pairs) and all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in pairs)


def ratio(one: Formula, other: Formula) -> float | None:
    """The constant c with other = c one at all points; None where there is none, or c is 0."""
    pairs = _pairs(one, other)
    if not pairs or any(abs(a) < 1e-9 for a, _ in pairs):
        return None
    first = pairs[0][1] / pairs[0][0]
    if abs(first) < 1e-9:
        return None
    return first if all(math.isclose(b / a, first, rel_tol=1e-7) for a, b in pairs) else None

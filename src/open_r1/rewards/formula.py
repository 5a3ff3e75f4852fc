r"""Formulas: LaTeX or plain spelling read into a tree, whose value at a point is a number.

No symbolic algebra: two formulas are equal where their values are, at fixed points. All work is bounded by the form of
a text (`MAX_FORMULA` characters, `_MAX_DEPTH` brackets in brackets, `_MAX_BITS` of an exact number), so that nothing
can hang and every process decides alike. What has no value, or one beyond a float's range, is equal to nothing.
"""

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

MAX_FORMULA = 300  # characters
_MAX_DEPTH = 24
_MAX_BITS = 2048  # of numerator and denominator; above, a number is a float
_MAX_FACTORIAL = 100

Number = int | Fraction | float
Tree = tuple[object, ...]  # ("number", value), ("symbol", name) or (operation, tree, ...)


class NotAFormula(ValueError):
    """The text is no formula that this module reads."""


class Undefined(ValueError):
    """The formula has no real value, or one that is too large by its form."""


class Formula(NamedTuple):
    """A formula as it was read; `symbols` are its variables, sorted."""

    tree: Tree
    symbols: tuple[str, ...]


_FUNCTIONS: dict[str, Callable[[float], float]] = {
    **{"sin": math.sin, "cos": math.cos, "tan": math.tan, "arcsin": math.asin, "arccos": math.acos},
    **{"arctan": math.atan, "asin": math.asin, "acos": math.acos, "atan": math.atan, "sinh": math.sinh},
    **{"cosh": math.cosh, "tanh": math.tanh, "ln": math.log, "lg": math.log10, "exp": math.exp},
    **{"cot": lambda x: 1 / math.tan(x), "sec": lambda x: 1 / math.cos(x), "csc": lambda x: 1 / math.sin(x)},
    **{"log": math.log10},
}
_CIRCULAR = {"sin", "cos", "tan", "cot", "sec", "csc"}
_NAMES = "|".join(sorted(_FUNCTIONS, key=len, reverse=True))
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3}){1,9}(?![\d,])|\d{1,40})(?:\.\d{1,40})?(?![\d.])|\.\d{1,40}(?![\d.]))"
    r"(?:[eE](?P<power>[-+]?\d{1,3})(?![\d.]))?"
    rf"|\\?(?P<function>{_NAMES}|sqrt|frac|binom)(?![A-Z])|(?P<name>[A-Z]{{2,4}}|[A-Za-zα-ωΓ-Ω])"
    r"(?P<index>_\s?(?:\{[A-Za-z0-9]{1,4}\}|[A-Za-z0-9])|'{1,2})?"
    r"|(?P<sign>\*\*|[-+*/^()\[\]{}|!√∛°%_]))"
)
# Letters in a row are a product where no word of a language or unit is spelled like that.
_LETTERS = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}(?![A-Za-z])")
_TUPLE = re.compile(r"[(\[][^()\[\]]*,")
_KNOWN = re.compile(rf"(?:{_NAMES}|sqrt|frac|binom|[A-Z]{{2,4}})+?(?:[a-z](?![a-z]))?")
_PRODUCT = re.compile(r"[abcdfghjklmnpqrstvwxyz]{2,3}")
_WORDS = frozenset(
    [
        "an",
        "as",
        "at",
        "am",
        "by",
        "my",
        "all",
        "and",
        "can",
        "had",
        "has",
        "man",
        "was",
        "way",
        "day",
        "say",
        "may",
        "bar",
        "cat",
        "sq",
        "pts",
        "st",
        "nd",
        "rd",
        "th",
        "sky",
        "dry",
        "fly",
        "try",
        "any",
        "far",
        "car",
        "map",
        "hat",
        "bad",
        "bag",
        "ft",
        "yd",
        "hr",
        "cm",
        "mm",
        "km",
        "kg",
        "mg",
        "ml",
        "mph",
        "kph",
        "last",
        "past",
        "hz",
    ]
)


@lru_cache(maxsize=8192)
def read_formula(text: str) -> Formula:
    """Read a plain text (see `plain.py`) that is one formula from end to end.

    Raises:
        NotAFormula: it is none, or longer or deeper than the bounds.
    """
    if not 0 < len(text) <= MAX_FORMULA:
        raise NotAFormula(text[:40])
    if _TUPLE.search(text):
        raise NotAFormula(text)
    for letters in _LETTERS.findall(text):
        product = len(letters) <= 3 and _PRODUCT.fullmatch(letters) and letters not in _WORDS
        if not (product or _KNOWN.fullmatch(letters)):
            raise NotAFormula(letters)
    reader = _Reader(text)
    tree = reader.sum(0)
    if reader.kind != "end":
        raise NotAFormula(text)
    return Formula(tree, tuple(sorted(reader.symbols)))


class _Reader:
    """A recursive descent over the tokens: sum, product, power, atom."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.symbols = text.rstrip(), 0, set[str]()
        self.kind, self.token, self.index = "", "", ""
        self.advance()

    def advance(self) -> None:
        """Go to the next token."""
        if self.at >= len(self.text):
            self.kind, self.token = "end", ""
            return
        match = _TOKEN.match(self.text, self.at)
        if match is None or match.lastgroup is None:
            raise NotAFormula(self.text)
        self.at = match.end()
        self.kind = next(kind for kind in ("number", "function", "name", "sign") if match[kind])
        self.token, self.index = match[self.kind], (match["index"] or match["power"] or "")

    def take(self, *signs: str) -> str:
        """The sign that stands here, passed over, where it is one of these; else ""."""
        if self.kind == "sign" and self.token in signs:
            sign = self.token
            self.advance()
            return sign
        return ""

    def need(self, sign: str) -> None:
        """Pass over the sign that has to stand here."""
        if not self.take(sign):
            raise NotAFormula(self.text)

    def sum(self, depth: int) -> Tree:
        """Terms that are added or subtracted."""
        if depth > _MAX_DEPTH:
            raise NotAFormula(self.text)
        tree = self.product(depth)
        while sign := self.take("+", "-"):
            tree = (sign, tree, self.product(depth))
        return tree

    def product(self, depth: int) -> Tree:
        """Factors, with or without a sign between them; a whole number before a fraction of numbers is added to it."""
        tree = self.signed(depth)
        while True:
            if sign := self.take("*", "/"):
                tree = (sign, tree, self.signed(depth))
            elif self.kind in ("name", "function") or (self.kind == "sign" and self.token in "([{√∛"):
                whole = tree[1] if tree[0] == "negative" else tree
                mixed = self.token == "frac" and whole[0] == "number" and isinstance(whole[1], int)
                factor = self.power(depth)
                if mixed and factor[0] == "/" and factor[1][0] == factor[2][0] == "number":
                    tree = ("negative", ("+", whole, factor)) if tree[0] == "negative" else ("+", whole, factor)
                else:
                    tree = ("*", tree, factor)
            else:
                if self.kind == "number":
                    raise NotAFormula(self.text)  # "4 5" is no product
                return tree

    def signed(self, depth: int) -> Tree:
        """A factor that may have signs of its own."""
        negative, count = False, 0
        while sign := self.take("+", "-"):
            negative, count = negative ^ (sign == "-"), count + 1
            if count > 2:
                raise NotAFormula(self.text)
        tree = self.power(depth)
        return ("negative", tree) if negative else tree

    def power(self, depth: int) -> Tree:
        """A factor with its exponent, factorial, degree or percent sign."""
        tree = self.atom(depth)
        while sign := self.take("^", "**", "!", "°", "%"):
            if sign in ("^", "**"):
                exponent = self.signed(depth + 1) if self.token != "{" else self.atom(depth + 1)
                tree = ("^", tree, exponent)
            else:
                tree = (sign, tree)
        return tree

    def atom(self, depth: int) -> Tree:
        """A number, symbol, function, root, fraction or bracket."""
        if depth > _MAX_DEPTH:
            raise NotAFormula(self.text)
        token, index, kind = self.token, self.index, self.kind
        if kind == "end":
            raise NotAFormula(self.text)
        self.advance()
        if kind == "number":
            number = Fraction(token.replace(",", "")) * Fraction(10) ** int(index or 0)
            return ("number", int(number) if number.denominator == 1 else number)
        if kind == "name":
            return self.symbol(token, index)
        if kind == "function":
            return self.function(token, depth)
        if token == "√":
            return ("root", self.radicand(depth), ("number", 2))
        if token == "∛":
            return ("root", self.radicand(depth), ("number", 3))
        closing = {"(": ")", "[": "]", "{": "}", "|": "|"}.get(token)
        if closing is None:
            raise NotAFormula(self.text)
        tree = self.sum(depth + 1)
        self.need(closing)
        return ("abs", tree) if token == "|" else tree

    def symbol(self, token: str, index: str) -> Tree:
        """π, e, or a variable: one letter with an index, or the capitals of a segment, which has no direction."""
        if token == "π":
            return ("number", math.pi)
        if token == "e" and not index:
            return ("number", math.e)
        name = "".join(sorted(token)) if len(token) == 2 else token
        name += re.sub(r"[\s{}]", "", index)
        self.symbols.add(name)
        return ("symbol", name)

    def radicand(self, depth: int) -> Tree:
        """What stands behind a root sign: a bracket, number, letter or function without exponent."""
        return self.atom(depth + 1)

    def function(self, token: str, depth: int) -> Tree:
        """A function with its argument: sin 2x, sin^2 x, log_2 8, sqrt[3]{x}, frac{a}{b}, frac12."""
        if token in ("frac", "binom"):
            above, below = self.digit_or_atom(depth), self.digit_or_atom(depth)
            return ("/" if token == "frac" else "choose", above, below)
        if token == "sqrt":
            order: Tree = ("number", 2)
            if self.take("["):
                order = self.sum(depth + 1)
                self.need("]")
            return ("root", self.digit_or_atom(depth), order)
        base = self.atom(depth + 1) if token == "log" and self.take("_") else None
        exponent = (self.atom(depth + 1) if self.token == "{" else self.signed(depth + 1)) if self.take("^") else None
        if token == "exp" and exponent is not None:
            raise NotAFormula(self.text)
        tree: Tree = (token, self.argument(depth)) if base is None else ("log", self.argument(depth), base)
        if exponent == ("negative", ("number", 1)) and token in _CIRCULAR and "arc" + token in _FUNCTIONS:
            return ("arc" + token, *tree[1:])
        return tree if exponent is None else ("^", tree, exponent)

    def digit_or_atom(self, depth: int) -> Tree:
        r"""One part of \frac: in \frac12 the digits are two parts."""
        if self.kind == "number" and len(self.token) > 1 and self.token.isdigit() and not self.index:
            digit, self.token = self.token[0], self.token[1:]
            return ("number", int(digit))
        return self.atom(depth + 1)

    def argument(self, depth: int) -> Tree:
        """What a function without brackets applies to: the factors up to the next sign or function."""
        bracket = self.kind == "sign" and self.token in "([{"
        tree = self.signed(depth + 1)
        while not bracket and (self.kind == "name" or (self.kind == "sign" and self.token in "√")):
            tree = ("*", tree, self.power(depth + 1))
        return tree


def value(formula: Formula, point: Mapping[str, float] | None = None) -> Number:
    """The formula's value at a point, exact where it is rational.

    Raises:
        Undefined: it has no real value there, or its form makes it too large for a float.
    """
    try:
        number = _value(formula.tree, point or {}, False)
    except (ArithmeticError, ValueError, KeyError, TypeError) as error:
        raise Undefined(str(error)[:80]) from error
    if isinstance(number, float) and not math.isfinite(number):
        raise Undefined("not finite")
    return number


def _value(tree: Tree, point: Mapping[str, float], circular: bool) -> Number:
    """The value of a tree; `circular`: inside sin, cos, ..., where a degree sign is a factor."""
    operation, first = tree[0], tree[1]
    if operation == "number":
        return first  # type: ignore[return-value]
    if operation == "symbol":
        return point[first]  # type: ignore[index]
    circular = circular or operation in _CIRCULAR
    numbers = [_value(part, point, circular) for part in tree[1:]]  # type: ignore[arg-type]
    if operation in _FUNCTIONS:
        result = _FUNCTIONS[operation](float(numbers[0]))  # type: ignore[index]
        return result / math.log10(numbers[1]) if len(numbers) > 1 else result
    if operation == "°":
        return numbers[0] * math.pi / 180 if circular else numbers[0]
    return _bounded(_ARITHMETIC[operation](*numbers))  # type: ignore[index]


def _bounded(number: Number) -> Number:
    """The number, as a float where it is exact but too long to go on exactly."""
    if isinstance(number, float):
        return number
    bits = max(number.numerator.bit_length(), number.denominator.bit_length())
    if isinstance(number, Fraction) and number.denominator == 1:
        return int(number) if bits <= _MAX_BITS else float(number)
    return number if bits <= _MAX_BITS else float(number)


def _power(base: Number, exponent: Number) -> Number:
    """Exact where the exponent is whole and the result short; else as floats, which end at 10^308."""
    if not isinstance(base, float) and isinstance(exponent, int):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) <= _MAX_BITS:
            return base**exponent if exponent >= 0 else 1 / Fraction(base) ** -exponent
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


_ARITHMETIC: dict[str, Callable[..., Number]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: Fraction(a) / b if not isinstance(a, float) and not isinstance(b, float) else a / b,
    "negative": lambda a: -a,
    "abs": abs,
    "^": _power,
    "root": _root,
    "%": lambda a: Fraction(a) / 100 if not isinstance(a, float) else a / 100,
    "!": lambda a: math.factorial(_whole(a)),
    "choose": lambda a, b: math.comb(_whole(a), _whole(b)),
}


_GOLDEN = (math.sqrt(5) - 1) / 2


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
    found = [
        (a, b) for a, b in zip(_values(one, at), _values(other, at), strict=True) if a is not None and b is not None
    ]
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


def difference(left: Formula, right: Formula) -> Formula:
    """The formula left - right, which is 0 where the two are equal."""
    return Formula(("-", left.tree, right.tree), tuple(sorted({*left.symbols, *right.symbols})))

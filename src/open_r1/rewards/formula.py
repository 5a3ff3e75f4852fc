r"""Formulas: LaTeX or plain spelling read into a tree.

All work is bounded by the form of a text: `MAX_FORMULA` characters and `_MAX_DEPTH` brackets in brackets.
"""

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

MAX_FORMULA = 300  # characters
_MAX_DEPTH = 24

Number = int | Fraction | float


class NotAFormula(ValueError):
    """The text is no formula that this module reads."""


class Tree(NamedTuple):
    """An operation ("number", "symbol", "+", "root", "sin", ...) with its parts."""

    operation: str
    parts: "tuple[Tree, ...]" = ()
    number: Number = 0  # of a number
    name: str = ""  # of a symbol


class Formula(NamedTuple):
    """A formula as it was read; `symbols` are its variables, sorted."""

    tree: Tree
    symbols: tuple[str, ...]


def constant(number: Number) -> Tree:
    """The tree of a number."""
    return Tree("number", number=number)


CIRCULAR = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})
FUNCTIONS = frozenset({"arcsin", "arccos", "arctan", "asin", "acos", "atan", "sinh", "cosh", "tanh", *CIRCULAR}) | {
    *("ln", "lg", "log", "exp"),
}
_NAMES = "|".join(sorted(FUNCTIONS, key=lambda name: (-len(name), name)))
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
            tree = Tree(sign, (tree, self.product(depth)))
        return tree

    def product(self, depth: int) -> Tree:
        """Factors, with or without a sign between them; a whole number before a fraction of numbers is added to it."""
        tree = self.signed(depth)
        while True:
            if sign := self.take("*", "/"):
                tree = Tree(sign, (tree, self.signed(depth)))
            elif self.kind in ("name", "function") or (self.kind == "sign" and self.token in "([{√∛"):
                mixed = self.token == "frac"
                tree = _times(tree, self.power(depth), mixed)
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
        return Tree("negative", (tree,)) if negative else tree

    def power(self, depth: int) -> Tree:
        """A factor with its exponent, factorial, degree or percent sign."""
        tree = self.atom(depth)
        while sign := self.take("^", "**", "!", "°", "%"):
            if sign in ("^", "**"):
                exponent = self.signed(depth + 1) if self.token != "{" else self.atom(depth + 1)
                tree = Tree("^", (tree, exponent))
            else:
                tree = Tree(sign, (tree,))
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
            return constant(int(number) if number.denominator == 1 else number)
        if kind == "name":
            return self.symbol(token, index)
        if kind == "function":
            return self.function(token, depth)
        if token == "√":
            return Tree("root", (self.radicand(depth), constant(2)))
        if token == "∛":
            return Tree("root", (self.radicand(depth), constant(3)))
        closing = {"(": ")", "[": "]", "{": "}", "|": "|"}.get(token)
        if closing is None:
            raise NotAFormula(self.text)
        tree = self.sum(depth + 1)
        self.need(closing)
        return Tree("abs", (tree,)) if token == "|" else tree

    def symbol(self, token: str, index: str) -> Tree:
        """π, e, or a variable: one letter with an index, or the capitals of a segment, which has no direction."""
        if token == "π":
            return constant(math.pi)
        if token == "e" and not index:
            return constant(math.e)
        name = "".join(sorted(token)) if len(token) == 2 else token
        name += re.sub(r"[\s{}]", "", index)
        self.symbols.add(name)
        return Tree("symbol", name=name)

    def radicand(self, depth: int) -> Tree:
        """What stands behind a root sign: a bracket, number, letter or function without exponent."""
        return self.atom(depth + 1)

    def function(self, token: str, depth: int) -> Tree:
        """A function with its argument: sin 2x, sin^2 x, log_2 8, sqrt[3]{x}, frac{a}{b}, frac12."""
        if token in ("frac", "binom"):
            above, below = self.digit_or_atom(depth), self.digit_or_atom(depth)
            return Tree("/" if token == "frac" else "choose", (above, below))
        if token == "sqrt":
            order = constant(2)
            if self.take("["):
                order = self.sum(depth + 1)
                self.need("]")
            return Tree("root", (self.digit_or_atom(depth), order))
        base = self.atom(depth + 1) if token == "log" and self.take("_") else None
        exponent = (self.atom(depth + 1) if self.token == "{" else self.signed(depth + 1)) if self.take("^") else None
        if token == "exp" and exponent is not None:
            raise NotAFormula(self.text)
        tree = Tree(token, (self.argument(depth), *(() if base is None else (base,))))
        if exponent == Tree("negative", (constant(1),)) and "arc" + token in FUNCTIONS:
            return Tree("arc" + token, tree.parts)
        return tree if exponent is None else Tree("^", (tree, exponent))

    def digit_or_atom(self, depth: int) -> Tree:
        r"""One part of \frac: in \frac12 the digits are two parts."""
        if self.kind == "number" and len(self.token) > 1 and self.token.isdigit() and not self.index:
            digit, self.token = self.token[0], self.token[1:]
            return constant(int(digit))
        return self.atom(depth + 1)

    def argument(self, depth: int) -> Tree:
        """What a function without brackets applies to: the factors up to the next sign or function."""
        bracket = self.kind == "sign" and self.token in "([{"
        tree = self.signed(depth + 1)
        while not bracket and (self.kind == "name" or (self.kind == "sign" and self.token in "√")):
            tree = Tree("*", (tree, self.power(depth + 1)))
        return tree


def _times(tree: Tree, factor: Tree, mixed: bool) -> Tree:
    """The product of two factors without a sign; a whole number in front of a fraction of numbers is added to it."""
    whole = tree.parts[0] if tree.operation == "negative" else tree
    numbers = factor.operation == "/" and all(part.operation == "number" for part in factor.parts)
    if mixed and numbers and whole.operation == "number" and isinstance(whole.number, int):
        total = Tree("+", (whole, factor))
        return Tree("negative", (total,)) if tree.operation == "negative" else total
    return Tree("*", (tree, factor))


def difference(left: Formula, right: Formula) -> Formula:
    """The formula left - right, which is 0 where the two are equal."""
    return Formula(Tree("-", (left.tree, right.tree)), tuple(sorted({*left.symbols, *right.symbols})))

"""Formulas as mathematics, by math-verify, behind a gate that keeps out whatever could take long.

There is no time limit: math-verify's use signals, which work in the main thread only and fail silently everywhere else.
What passes `_tame` is short, shallow, made of few known commands, and free of towers of exponents.
"""

import logging
import math
import os
import re
import threading
from functools import lru_cache
from typing import Any

MAX_FORMULA = 120  # characters of LaTeX handed to the parser
_MAX_DEPTH = 4  # brackets in brackets: the parser's time grows steeply with depth
_MAX_POWER = {False: 1000, True: 4}  # product of all exponents, {has variables: limit}
_MAX_OPERATIONS = 12  # in each of two expressions that sympy has to simplify
_COMMANDS = re.compile(r"\\(?:frac|dfrac|tfrac|sqrt|pi|cdot|times|div|sin|cos|tan)(?![a-z])")
_EXPONENT = re.compile(
    r"\^\s*(?:-?(\d{1,3})(?!\d)|[a-z]|[{(]\s*-?(?:(\d{1,3})(?:\s*/\s*\d{1,2})?|[a-z])\s*[})])(?!\s*\^)", re.ASCII
)
# What sympy raises, instead of returning nan, for forms without a value such as tan(1/0) or a root of infinity.
_UNDEFINED = (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError, RecursionError)
_lock = threading.Lock()  # the ANTLR parser below math-verify fills shared tables without one of its own


def _fresh_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_fresh_lock)  # another thread of the parent may have held it


def _latex(text: str) -> str:
    """Plain spelling to LaTeX: "2√3" and "2 sqrt(3)" get the command for a root, 1e5 becomes a power of ten."""
    text = text.replace("**", "^").replace("π", "\\pi ")
    text = re.sub(r"(?<![\\a-z])sqrt|√", r"\\sqrt", text)
    text = re.sub(r"(?<=\d)[eE]\+?(-?\d{1,2})$", r"*10^{\1}", text)
    text = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    return re.sub(r"\\sqrt\s*(\d+)", r"\\sqrt{\1}", text)


def _tame(latex: str) -> bool:
    """Whether parsing and evaluating is sure to be quick: short, shallow, known commands, small exponents."""
    if not 0 < len(latex) <= MAX_FORMULA:
        return False
    bare = _COMMANDS.sub(" ", latex)
    variables = re.search(r"[A-Za-z]", bare) is not None
    if not re.fullmatch(r"[A-Za-z0-9+\-*/^().,{}\[\] ]*", bare) or re.search(r"[A-Za-z]{2}|\d{21}|[-+*/ ]{6}", bare):
        return False
    if re.search(r"\d\s+\d", latex) or (variables and re.search(r"\\(?:sin|cos|tan)", latex)):
        return False
    depth = deepest = 0
    for character in latex:
        depth += (character in "({[") - (character in ")}]")
        deepest = max(deepest, depth)
    exponents = _EXPONENT.findall(latex)
    power = math.prod(int(a or b) for a, b in exponents if a or b)
    return deepest <= _MAX_DEPTH and len(exponents) == latex.count("^") and power <= _MAX_POWER[variables]


@lru_cache(maxsize=1)
def _math_verify() -> Any:
    """math-verify, imported late: it takes seconds, and plain numbers need none of it."""
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that time limits are off; `_tame` replaces them
    return math_verify


@lru_cache(maxsize=4096)
def _expression(text: str) -> Any:
    """The sympy expression that a formula is; None where it is not tame or math-verify cannot parse it."""
    latex = _latex(text)
    if not _tame(latex):
        return None
    library = _math_verify()
    with _lock:
        parsed = library.parse(
            f"${latex}$", [library.LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None
        )
    return parsed[0] if parsed else None


def is_formula(text: str) -> bool:
    """Whether the text is a formula, with or without variables, or a tuple of formulas."""
    return len(text) <= MAX_FORMULA and _expression(text) is not None


@lru_cache(maxsize=4096)
def constant(text: str) -> float | None:
    """The value of a formula without variables; None where it is none, not real or not finite."""
    expression = _expression(text) if len(text) <= MAX_FORMULA else None
    if expression is None or not getattr(expression, "is_number", False):
        return None
    try:
        value = expression.evalf(17)
    except _UNDEFINED:
        return None
    number = float(value) if value.is_Float or value.is_Rational else math.nan
    return number if math.isfinite(number) else None


@lru_cache(maxsize=4096)
def same_expression(true: str, given: str) -> bool:
    """Whether two formulas with variables, or two tuples, are equal as mathematics.

    verify(gold, answer) is not symmetric, hence the order; it simplifies, so both must have few operations. Failure to
    compare is False, as math-verify documents it.
    """
    if max(len(true), len(given)) > MAX_FORMULA // 2:
        return False
    gold, answer = _expression(true), _expression(given)
    if gold is None or answer is None or max(gold.count_ops(), answer.count_ops()) > _MAX_OPERATIONS:
        return False
    with _lock:
        return bool(_math_verify().verify(gold, answer, timeout_seconds=None))

"""Markdown tables, and numbers set against their targets."""

import operator
from collections.abc import Sequence

from open_r1.schema import UserError, printable

COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def verdict(value: float | None, target: str | None) -> str:
    """Say whether `value` reaches a target ("and" joins two), and by how much it does not; None never reaches one.

    >>> verdict(7.5, ">= 10 and <= 50")
    'not reached: 2.5 short of >= 10'
    """
    if target is None:
        return ""
    for part in target.split(" and "):
        sign, _, number = part.partition(" ")
        if sign not in COMPARE:
            raise UserError(
                f"target '{part}' cannot be read: a target is one of {', '.join(COMPARE)}, a space, a number"
            )
        if value is None:
            return f"not reached ({target})"
        if not COMPARE[sign](value, float(number)):
            missing = number_text(abs(float(number) - value))
            return f"not reached: {missing} {'short of' if '>' in sign else 'above'} {part}"
    return f"reached ({target})"


def number_text(value: float | None) -> str:
    """Three significant digits, and whole numbers in full: 0.0123, 2.5, 51,234; "never" for None."""
    if value is None:
        return "never"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; names in it may come from elsewhere, so that what a terminal would obey is written out."""
    lines = [head, ["---"] * len(head), *([printable(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

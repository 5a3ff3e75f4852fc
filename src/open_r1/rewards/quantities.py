"""Reading a mathematical answer: the number and unit that a text gives. Plain numbers never reach symbolic algebra."""

import re
from fractions import Fraction
from typing import NamedTuple

from open_r1.rewards.algebra import MAX_FORMULA, constant, is_formula

_ALIASES = {
    "°": "degree degrees deg 度",
    "%": "percent pct",
    "": "unit units 个",
    "mm": "millimeter millimeters millimetre millimetres 毫米",
    "cm": "centimeter centimeters centimetre centimetres 厘米",
    "m": "meter meters metre metres 米",
    "km": "kilometer kilometers kilometre kilometres 千米",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards",
    "mi": "mile miles",
    "s": "sec second seconds",
    "min": "minute minutes",
    "h": "hr hour hours",
    "g": "gram grams",
    "kg": "kilogram kilograms",
    "l": "liter liters litre litres L",
}
_UNITS = {alias: unit for unit, names in _ALIASES.items() for alias in (unit, *names.split())}

_NUMBER = r"[-+]?(?:(?:[0-9]{1,3}(?:[ ,][0-9]{3}){1,9}|[0-9]{1,30})(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?![0-9])"
_UNIT = r"(?:\s*(?P<unit>°|%|[^\W\d_]+)(?:\^?\{?(?P<power>[23])\}?)?)?"
_PLAIN = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_QUANTITY = re.compile(
    rf"(?<![A-Za-z0-9_π.,^/*])(?P<number>{_NUMBER})(?:\s*/\s*(?P<below>[0-9]{{1,30}})(?![0-9]))?{_UNIT}"
)
_MIXED = re.compile(r"(-?)(\d{1,9})\s+(\d{1,9})/(\d{1,9})", re.ASCII)
_FRACTION = re.compile(r"(-?)\\[dt]?frac\s*(?:\{\s*(-?\d{1,30})\s*\}\s*\{\s*(\d{1,30})\s*\}|(\d)\s*(\d))", re.ASCII)

_CHARACTERS = str.maketrans(
    {chr(0xFF10 + digit): str(digit) for digit in range(10)}  # full-width digits
    | {"−": "-", "–": "~", "×": "*", "·": "*", "÷": "/", "⁄": "/", "º": "°", "，": ",", "％": "%", "＝": "=", "（": "("}
    | {"）": ")", "²": "^2", "³": "^3", "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "\u00a0": " ", "$": "", "`": ""}
)
_LATEX = (
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\[,;!: ]|\\(?:left|right|displaystyle|quad)(?![a-z])|\\[()\[\]]"), " "),
    (re.compile(r"\^?\s{0,2}\{?\s{0,2}\\(?:circ|degree)(?![a-z])\s{0,2}\}?"), "°"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\pi(?![a-z])|\bpi\b"), "π"),
)
# Where a conclusion starts: behind an equals sign, "is", "are" or a word with a colon ("Answer: 5"; not "3:4").
_CONCLUSION = re.compile(r"(?<![<>!])[=≈]|\b(?:is|are|equals|be)\b|(?<=[^\W\d_])\s*[:：]")
_EITHER = re.compile(
    r"\d\W{0,3}(?:[^\W\d]{1,20}\W{1,3})?(?:\bor\b|或)\W{0,3}(?:[^\W\d]{1,20}\W{1,3}){0,3}[-+]?\d[\d.,/]*\D*"
)
_JOINED = re.compile(r"[^\w.\n]*(?:(?:or|and|to|或|和)\b[^\w.\n]*(?:[^\W\d]{1,20}\s)?)?")
_GOES_ON = re.compile(r"\s*[π^*/+={]|\(|.*\d", re.DOTALL)
_FORMULA = re.compile(r"[\\√<>≤≥±]|sqrt")


class Quantity(NamedTuple):
    """A number as it was written, exact where it is rational: "1,000 cm^2" is Quantity(Fraction(1000), "cm2")."""

    number: int | Fraction | float
    unit: str = ""  # "" where the text names none


def tidy(text: str) -> str:
    """Strip what carries no meaning: dollar signs, bold marks, boxes, LaTeX spacing, a full stop at the end."""
    if "\\boxed" in text:
        text = text.rpartition("\\boxed")[2]
    text = text.translate(_CHARACTERS)
    if "\\" in text or "{" in text or "p" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    text = text.strip("* \t\r\n").rstrip(".。 ")
    while text.startswith("{") and text.find("}") == len(text) - 1:
        text = text[1:-1].strip()
    return text


def plain_number(text: str) -> int | Fraction | None:
    """The fast path: the number where `text` is nothing but a number such as -12 or 3.50, else None."""
    if not _PLAIN.fullmatch(text):
        return None
    return Fraction(text) if "." in text else int(text)  # integers are compared twenty times faster


def _quantity(match: re.Match[str]) -> Quantity | None:
    """What a match of `_QUANTITY` says; None where letters behind the number are a factor ("2x", "14π")."""
    word, below = match["unit"] or "", match["below"]
    if word not in _UNITS and (len(word) == 1 or "π" in word):
        return None
    number = Fraction(re.sub(r"[ ,]", "", match["number"]).rstrip("."))
    if below is not None:
        if int(below) == 0:
            return None
        number /= int(below)
    unit = _UNITS.get(word, "")
    return Quantity(number, unit + (match["power"] or "") if unit else "")


def _whole_quantity(text: str) -> Quantity | None:
    """The quantity where it is all of the text: "1,000", "65°", "1/2 cm", "1 1/2", a LaTeX fraction."""
    if match := _MIXED.fullmatch(text) or _FRACTION.fullmatch(text):
        parts = [part for part in match.groups()[1:] if part is not None]
        *whole, above, below = (int(part) for part in parts)
        value = sum(whole) + Fraction(above, below) if below else None
        return None if value is None else Quantity(-value if match[1] else value)
    match = _QUANTITY.fullmatch(text)
    return _quantity(match) if match else None


def _last_quantity(text: str) -> Quantity | None:
    """The last number of a sentence; None where it is part of a formula or one of several on offer ("5 or 6")."""
    found = list(_QUANTITY.finditer(text))
    if (
        not found
        or _FORMULA.search(text)
        or _GOES_ON.match(text, found[-1].end())
        or text[: found[-1].start()].rstrip().endswith("+")
    ):
        return None
    last = _quantity(found[-1])
    if len(found) > 1 and _JOINED.fullmatch(text, found[-2].end(), found[-1].start()):
        return last if last == _quantity(found[-2]) else None
    return last


def conclusion(text: str) -> str | None:
    """The part of a tidy text that states its result: "8 - 3 = 5" -> "5"; None where the text offers alternatives."""
    if ("or" in text or "或" in text) and any(m.end() == len(text[-120:]) for m in _EITHER.finditer(text[-120:])):
        return None
    pieces = _CONCLUSION.split(text)
    return next((piece.strip() for piece in reversed(pieces) if re.search(r"[\dπ]", piece)), text)


def read_quantity(text: str) -> Quantity | None:
    """The number that a tidy text gives as its answer, with its unit; None where it gives none or several.

    Tried in this order: the conclusion is a quantity; it is a formula without variables (2√3, 14π, 3/4 + 1), taken as a
    float; it is a sentence, whose last number counts.
    """
    if (plain := plain_number(text)) is not None:
        return Quantity(plain)
    part = conclusion(text)
    if not part:
        return None
    whole = _whole_quantity(part)
    if whole is not None:
        return whole
    formula, unit = _split_unit(part)
    number = constant(formula)
    if number is not None:
        return Quantity(number, unit)
    return None if is_formula(formula) else _last_quantity(part)


_TAIL = re.compile(r"(?<=[\d)}π])\s*([^\W\d_π][^\W\d_π]*|°)(?:\^?\{?([23])\}?)?(?:\s+[^\W\d_π]{2,12})?$")


def _split_unit(text: str) -> tuple[str, str]:
    """Take the unit off a formula: "2πcm" -> ("2π", "cm"); other words behind it are dropped, variables stay."""
    match = _TAIL.search(text) if len(text) <= MAX_FORMULA else None
    if match is None or (match[1] not in _UNITS and len(match[1]) == 1):
        return text, ""
    unit = _UNITS.get(match[1], "")
    return text[: match.start()], unit + (match[2] or "") if unit else ""

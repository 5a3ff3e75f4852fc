"""Quantities: the number and the unit that a plain text gives. Plain numbers are read without a formula."""

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from open_r1.rewards.formula import MAX_FORMULA, NotAFormula, Number, read_formula
from open_r1.rewards.formula_value import Undefined, value

_ALIASES = {
    "°": "degree degrees deg degs 度",
    "%": "percent pct",
    "mm": "millimeter millimeters millimetre millimetres 毫米",
    "cm": "centimeter centimeters centimetre centimetres cms 厘米",
    "dm": "decimeter decimeters decimetre decimetres 分米",
    "m": "meter meters metre metres 米",
    "km": "kilometer kilometers kilometre kilometres kms 千米 公里",
    "in": "inch inches ″",
    "ft": "foot feet",
    "yd": "yard yards yds",
    "mi": "mile miles",
    "s": "sec secs second seconds 秒",
    "min": "mins minute minutes 分钟",
    "h": "hr hrs hour hours 小时",
    "day": "days 天",
    "g": "gram grams 克",
    "mg": "milligram milligrams 毫克",
    "kg": "kilogram kilograms kgs 千克 公斤",
    "t": "ton tons tonne tonnes 吨",
    "lb": "lbs pound pounds",
    "oz": "ounce ounces",
    "l": "liter liters litre litres L 升",
    "ml": "milliliter milliliters millilitre millilitres mL 毫升",
    "N": "newton newtons 牛",
    "J": "joule joules 焦",
    "kJ": "kilojoule kilojoules",
    "W": "watt watts 瓦",
    "kW": "kilowatt kilowatts",
    "V": "volt volts 伏",
    "A": "amp amps ampere amperes 安",
    "Ω": "ohm ohms 欧",
    "Hz": "hertz",
    "Pa": "pascal pascals",
    "K": "kelvin kelvins",
    "C": "°C celsius",
    "F": "°F fahrenheit",
    "T": "tesla",
    "H": "henry",
    "S": "siemens",
    "eV": "electronvolt electronvolts",
    "Wh": "",
    "bar": "bars",
    "atm": "",
    "mol": "mole moles",
    "rad": "radian radians 弧度",
    "$": "€ £ ¥ usd dollar dollars euro euros yuan 元",
    "cent": "cents",
    "": "unit units 个 只 只球 件 块 条 根 人",
}
_UNITS = {alias: unit for unit, names in _ALIASES.items() for alias in (unit, *names.split()) if alias}
_PREFIXED = re.compile(r"[kMGTmμnpcdh](?:m|g|s|N|J|W|V|A|Ω|Hz|Pa|L|l|F|T|C|H|S|eV|Wh|mol|bar|rad)")
_SHORT = {"kmh": "km/h", "kph": "km/h", "mph": "mi/h", "mps": "m/s"}
_SCALES = {
    **{"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12},
    **{"百": 100, "千": 1000, "万": 10**4, "亿": 10**8},
}
# Words behind a number that make it another number, or a part of one.
_CHANGING = frozenset(
    [
        "half",
        "halves",
        "third",
        "thirds",
        "quarter",
        "quarters",
        "fourth",
        "fourths",
        "fifth",
        "fifths",
        "tenth",
        "tenths",
        "eighth",
        "eighths",
        "sixth",
        "sixths",
        "squared",
        "cubed",
        "factorial",
        "times",
        "fold",
        "pair",
        "pairs",
        "dozens",
        "gross",
        "score",
        "hundreds",
        "thousands",
        "millions",
        "out",
        "of",
        "minus",
        "plus",
        "than",
        "point",
        "to",
        "th",
        "st",
        "nd",
        "rd",
        "power",
        "root",
        "divided",
        "multiplied",
        "over",
        "or",
        "either",
        "per",
        "by",
        "square",
        "sq",
        "cubic",
        "cents",
        "k",
        "short",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "not",
        "no",
        "never",
        "wrong",
        "incorrect",
        "false",
        "maybe",
        "perhaps",
        "possibly",
        "but",
        "doubled",
        "tripled",
        "halved",
        "greater",
        "bigger",
        "smaller",
        "plus-minus",
        "left-over",
    ]
)
_UNIT_WORD = r"(?:°[CF]?|%|[€£¥$]|[^\W\d_]{1,20})"
_POWER = r"(?:\s?\^\s?\{?\s?-?[123]\s?\}?|[23](?!\d))?"
_UNIT = re.compile(
    rf"(?P<area>(?:square|sq\.?|cubic|cu\.?)\s|平方|立方)?\s?(?P<first>{_UNIT_WORD}{_POWER})"
    rf"(?P<more>(?:\s?(?:/|\*|·|\bper\b)\s?{_UNIT_WORD}{_POWER}){{0,3}})(?P<power>\s(?:squared|cubed))?"
)
_NUMBER = r"(?:\d{1,3}(?:[ ,]\d{3}){1,9}(?![\d,])|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40}"
_HEAD = re.compile(
    rf"(?P<sign>[-+]\s?)?(?:(?P<currency>[€£¥])\s?)?"
    rf"(?:(?P<whole>\d{{1,9}})\s(?P<above>\d{{1,9}})/(?P<below>\d{{1,9}})(?!\d)"
    rf"|(?P<number>{_NUMBER})(?:[eE](?P<tens>[-+]?\d{{1,3}})|\s?\*\s?10\s?(?:\^"
    rf"|\*\*)\s?[{{(]?(?P<power>[-+]?\d{{1,3}})[}})]?)?"
    rf"(?:\s?/\s?(?P<under>\d{{1,40}})(?!\.?\d))?)(?P<rest>[^\d.].*|\.?)?",
    re.DOTALL,
)
_PLAIN = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_BELOW = re.compile(r"/\s?\(([^()\d]{1,20})\)")
_ASIDE = re.compile(r"\([^()\d]{0,60}\)")
_WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*|[.,]")
_NO_NOUN = re.compile(r"[α-ωΑ-Ω]|[不非错误錯誤没無未是]|n't")  # factors and negations, not things that are counted
_FORMULA_UNIT = re.compile(r"(?<=[\d)}π%\]])\s*((?:[^\W\d_α-ω][^\W_α-ω]*|°[CF]?)[^\\(){}\[\]=<>]{0,60})$")


class Quantity(NamedTuple):
    """A number as it was written, exact where it is rational: "1,000 cm^2" is Quantity(1000, "cm2")."""

    number: Number
    unit: str = ""  # "" where the text names none, or only what is counted


def plain_number(text: str) -> int | Fraction | None:
    """The fast path: the number where `text` is nothing but a number such as -12 or 3.50, else None."""
    if not _PLAIN.fullmatch(text):
        return None
    return Fraction(text) if "." in text else int(text)  # integers are compared twenty times faster


def read_unit(text: str) -> tuple[Number, str] | None:
    """What stands behind a number: (factor, unit); None where it makes the number another or is a formula's rest.

    >>> read_unit("km per hour"), read_unit("sq. cm long"), read_unit("million people"), read_unit("red cubes left")
    ((1, 'km/h'), (1, 'cm2'), (1000000, ''), (1, ''))
    """
    text = _BELOW.sub(lambda below: "/" + below[1].replace("*", "/"), text) if "/" in text else text
    text = _ASIDE.sub("", text).strip(" .,*")
    if not text:
        return 1, ""
    if len(text) > 100:
        return None
    factor: Number = 1
    scale = re.match(r"[^\W\d_]+", text)
    if (scale and (word := scale[0].lower()) in _SCALES) or (scale and (word := text[0]) in _SCALES):
        factor, text = _SCALES[word], text[len(word) :].strip()
    match = _UNIT.match(text)
    unit = _unit(match) if match else None
    if match and unit is not None:
        text = text[match.end() :]
    return (factor, unit or "") if _nouns(text) else None


def _unit(match: re.Match[str]) -> str | None:
    """The one spelling of a unit: "km per hour" -> "km/h"; None where a word is no unit."""
    parts = re.split(r"\s?(/|\*|·|\bper\b)\s?", match["first"] + match["more"])
    names = list[str]()
    for part in parts[::2]:
        word = re.match(_UNIT_WORD, part)
        if word is None:
            return None
        name = _UNITS.get(word[0], _UNITS.get(word[0].lower()) if len(word[0]) > 1 else None)
        name = _SHORT.get(word[0].lower()) if name is None else name
        name = word[0] if name is None and _PREFIXED.fullmatch(word[0]) else name
        if name is None:
            return None
        names.append(name + "".join(re.findall(r"-?[123]", part[word.end() :])))
    spelled = names[0]
    for sign, name in zip(parts[1::2], names[1:], strict=True):
        inverse = name.endswith("-1") or name.endswith("-2")
        name = name.replace("-1", "").replace("-", "") if inverse else name
        spelled += ("/" if inverse or sign in ("/", "per") else "") + name
    raised = (match["area"] or match["power"] or "").strip().lower().rstrip(".")
    return spelled + ("2" if raised in ("square", "sq", "平方", "squared") else "3" if raised else "")


def _nouns(text: str) -> bool:
    """Whether a text is words that say what is counted, up to eight of them."""
    if not text.strip(" .,"):
        return True
    words = _WORD.findall(text)
    if len(words) > 10 or _WORD.sub("", text).strip(" .,"):
        return False
    if any(word.lower() in _CHANGING or word.lower() in _SCALES for word in words):
        return False
    return not _NO_NOUN.search(text) and (len(words[0]) > 1 or not words[0].isascii() or not words[0].isalpha())


def read_quantity(text: str) -> Quantity | None:
    """The quantity that is all of a plain text; None where it is none.

    >>> read_quantity("1 1/4 cm"), read_quantity("1.2*10^3"), read_quantity("5x")
    (Quantity(number=Fraction(5, 4), unit='cm'), Quantity(number=1200, unit=''), None)

    Raises:
        Undefined: it is a number without a real value, or one that is too large by its form.
    """
    if (plain := plain_number(text)) is not None:
        return Quantity(plain)
    if len(text) > MAX_FORMULA:
        return None
    match = _HEAD.fullmatch(text)
    if match and (unit := read_unit(match["rest"] or "")) is not None:
        return Quantity(_shortest(_number(match) * unit[0]), (match["currency"] and "$") or unit[1])
    return _constant(text)


def _number(match: re.Match[str]) -> Fraction:
    if match["whole"]:
        number = int(match["whole"]) + _over(Fraction(int(match["above"])), match["below"])
    else:
        number = Fraction(re.sub(r"[ ,]", "", match["number"]))
        number *= Fraction(10) ** int(match["tens"] or match["power"] or 0)
        number = _over(number, match["under"]) if match["under"] else number
    return -number if (match["sign"] or "").startswith("-") else number


def _over(above: Fraction, below: str) -> Fraction:
    if int(below) == 0:
        raise Undefined("a denominator is 0")
    return above / int(below)


def _shortest(number: Number) -> Number:
    return int(number) if isinstance(number, Fraction) and number.denominator == 1 else number


def _constant(text: str) -> Quantity | None:
    """A formula without variables, with its unit: 2√3 cm, 14π, 3/4 + 1."""
    factor, unit = 1, ""
    try:
        formula = read_formula(text)
    except NotAFormula:
        formula = None
    if formula is None or formula.symbols:
        tail = _FORMULA_UNIT.search(text)
        behind = read_unit(tail[1]) if tail else None
        if tail is None or behind is None:
            return None
        (factor, unit), text = behind, text[: tail.start()].strip()
        try:
            formula = read_formula(text)
        except NotAFormula:
            return None
    if formula.symbols:
        return None
    if text.endswith("%"):
        return Quantity(value(read_formula(text[:-1])), "%") if len(text) > 1 else None
    unit = "°" if text.endswith("°") and not unit else unit
    return Quantity(_shortest(value(formula) * factor), unit)


def same_quantity(given: Quantity, true: Quantity) -> bool:
    """Equal to six decimals; units count where both texts name one, and a percent sign is a unit or a factor 1/100."""
    if given.unit and true.unit and given.unit != true.unit and "%" not in (given.unit, true.unit):
        return False
    if close(given.number, true.number):
        return True
    if (given.unit == "%") == (true.unit == "%"):
        return False
    share, percent = (true.number, given.number) if given.unit == "%" else (given.number, true.number)
    return close(share * 100, percent)


def close(one: Number, other: Number) -> bool:
    """Equal to six decimals and, as a guard for small numbers, to one part in ten thousand of the second.

    Floats are equal within their own error, too: of 10^12 six decimals are not known.
    """
    if one == other:
        return True
    if not isinstance(one, float) and not isinstance(other, float):
        gap = abs(one - other)
        return gap < _SAME and gap <= _RELATIVE * abs(other)
    size = abs(as_float(other))
    gap = abs(as_float(one) - as_float(other))
    if not math.isfinite(gap):
        return False
    return gap < max(_SAME if size else 1e-9, 1e-12 * size) and (gap <= 1e-4 * size or size < 1e-12)


def as_float(number: Number) -> float:
    """The number as a float; infinite where it is too large for one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


_SAME = Fraction(5, 10**7)  # numbers agree to six decimals, as in math-verify: 0.333333 is 1/3, 0.3333 is not
_RELATIVE = Fraction(1, 10**4)


def tolerant_credit(given: Quantity, true: Quantity) -> float:
    """Reason-RFT's reward of a relative error e: 1 up to .05, 0 from .20, a half cosine between.

    Unlike there, a true answer of 0 is rewardable: 0 itself has got its credit from the exact comparison before this.
    """
    if true.number == 0 or (given.unit and true.unit and given.unit != true.unit):
        return 0.0
    if math.inf in (abs(given.number), abs(true.number)):
        return 0.0
    exact = abs(1 - Fraction(given.number) / Fraction(true.number))
    if exact >= _MAX_ERROR:
        return 0.0
    error = float(exact)
    if error <= _FREE_ERROR:
        return 1.0
    return (math.cos(math.pi * (error - _FREE_ERROR) / (_MAX_ERROR - _FREE_ERROR)) + 1) / 2


_FREE_ERROR, _MAX_ERROR = 0.05, 0.20


@lru_cache(maxsize=8192)
def quantity_or_none(text: str) -> Quantity | None:
    """`read_quantity`, with None for what has no value."""
    try:
        return read_quantity(text)
    except Undefined:
        return None

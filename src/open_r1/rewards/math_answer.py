"""The graders: one per task, for training, selection and evaluation alike. docs/DATA.md lists what each case gets."""

import math
import re
from fractions import Fraction
from functools import lru_cache

from open_r1.rewards.algebra import same_expression
from open_r1.rewards.quantities import Quantity, conclusion, plain_number, read_quantity, tidy
from open_r1.rewards.spatial_answer import SPATIAL_SETTINGS, grade_spatial
from open_r1.rewards.tags import MAX_ANSWER, parse_reply
from open_r1.schema import Score, UserError
from open_r1.utils.names import unknown_name

MATH_SETTINGS = ("exact", "tolerant")

_SAME = 5e-7  # numbers agree to six decimals, as in math-verify: 0.333333 is 1/3, 0.3333 is not
_FREE_ERROR, _MAX_ERROR = 0.05, 0.20  # Reason-RFT's tolerant reward: all credit up to 5 % off, none from 20 %

_LETTER = re.compile(r"[(\[{]?\s*([A-Za-z])\s*[)\]}.:]*")
_LETTER_FIRST = re.compile(r"(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\s*[).:：、])\s*\S")
_LETTER_NAMED = re.compile(r"\b(?i:answer|choice|option)\b(?:\s(?i:is|are)\b)?\s{0,2}[:：]?\s{0,2}[*({]{0,3}([A-H])\b")
_LETTER_LAST = re.compile(r"(?:^|[\s(:：*{])([A-H])[)*}.\s]*$")
_LETTERS_JOINED = re.compile(r"(?<![A-Za-z])[A-H][).]*\s*(?:,|/|;|&|\bor\b|\band\b|或)[\s(*]*[A-H](?![A-Za-z])")


def read_choice(text: str) -> str | None:
    """The letter that a tidy text chooses, upper case: "B", "b", "(B)", "B.", "B. 12", "the answer is B".

    None where it chooses none, or offers several ("A or B").
    """
    if match := _LETTER.fullmatch(text):
        return match[1].upper()
    if match := _LETTER_FIRST.match(text):
        first = (match[1] or match[2]).upper()
        others = set(re.findall(r"(?<![A-Za-z])\(?([A-H])[).:]\s", text[2:]))
        return first if others <= {first} and not _LETTERS_JOINED.search(text) else None
    named = list(_LETTER_NAMED.finditer(text))
    statement = text[named[-1].start() :] if named else text[-40:]
    found = named[-1] if named else _LETTER_LAST.search(statement)
    return found[1] if found and not _LETTERS_JOINED.search(statement) else None


def _same_quantity(given: Quantity, true: Quantity) -> bool:
    """Equal to six decimals; units count where both texts name one, and a percent sign is a unit or a factor 1/100."""
    if given.unit and true.unit and given.unit != true.unit:
        return False
    if given.number == true.number or abs(given.number - true.number) < _SAME:
        return True
    if (given.unit == "%") == (true.unit == "%"):
        return False
    share, percent = (true.number, given.number) if given.unit == "%" else (given.number, true.number)
    return abs(share * 100 - percent) < _SAME * 100


def _tolerant_credit(given: Quantity, true: Quantity) -> float:
    """Reason-RFT's reward of a relative error e: 1 up to .05, 0 from .20, a half cosine between.

    Unlike there, a true answer of 0 is rewardable: 0 itself has got its credit from the exact comparison before this.
    """
    if true.number == 0 or (given.unit and true.unit and given.unit != true.unit):
        return 0.0
    error = float(abs(1 - Fraction(given.number) / Fraction(true.number)))
    if error <= _FREE_ERROR:
        return 1.0
    if error >= _MAX_ERROR:
        return 0.0
    return (math.cos(math.pi * (error - _FREE_ERROR) / (_MAX_ERROR - _FREE_ERROR)) + 1) / 2


def math_fault(answer: str) -> str | None:
    """Why no reply of the counting or structure task could be graded against a row's answer; None where one can."""
    length = len(tidy(parse_reply(answer).graded))
    if not 0 < length <= MAX_ANSWER:
        return f"holds {length} characters of text; a row's answer must hold 1 to {MAX_ANSWER}: correct the row"
    return None


@lru_cache(maxsize=65536)
def _true_text(answer: str) -> str:
    """The graded text of a row's answer, tidied; raises UserError where no reply could be graded against it."""
    if (fault := math_fault(answer)) is not None:
        raise UserError(f"answer {answer[:80]!r} {fault}")
    return tidy(parse_reply(answer).graded)


@lru_cache(maxsize=65536)
def _true_quantity(text: str) -> Quantity | None:
    return read_quantity(text)


@lru_cache(maxsize=65536)
def _true_choice(text: str) -> str | None:
    """The letter where the true answer is a choice: a letter alone, or a letter in front of its text ("B. 12")."""
    alone = _LETTER.fullmatch(text) or re.fullmatch(r"\(?([A-H])[).:：、]\s*[^=]*", text)
    return alone[1].upper() if alone else None


def _math_accuracy(given_text: str, answer: str, setting: str) -> float:
    true_text = _true_text(answer)
    true = _true_quantity(true_text)
    number = plain_number(given_text)
    if number is not None and true is not None:
        given: Quantity | None = Quantity(number)
    else:
        if len(given_text) > MAX_ANSWER:
            return 0.0
        given_text = tidy(given_text)
        if given_text.casefold() == true_text.casefold():
            return 1.0
        choice = _true_choice(true_text)
        if choice is not None:
            return float(read_choice(given_text) == choice)
        given = read_quantity(given_text)
    if given is not None and true is not None:
        if _same_quantity(given, true):
            return 1.0
        return _tolerant_credit(given, true) if setting == "tolerant" else 0.0
    if given is not None or true is not None:
        return 0.0  # a number is never equal to a formula with variables
    return float(same_expression(conclusion(true_text) or "", conclusion(given_text) or ""))


def grade_math(reply: str, answer: str, setting: str = "exact") -> Score:
    """Score a reply of the counting and structure tasks against the row's answer.

    `exact`: the text of the first answer tag (the whole reply where it has none) is equal to the answer, chooses the
    same letter, gives the same number to six decimals, or is equal as mathematics (math-verify). `tolerant` adds
    credit for a number less than 20 % off. docs/DATA.md says what units, percent signs, sentences and alternatives get.

    Raises:
        UserError: `setting` is unknown, or `answer` is empty.
    """
    if setting not in MATH_SETTINGS:
        raise unknown_name("setting", setting, MATH_SETTINGS, where="the mathematical grader")
    parsed = parse_reply(reply)
    return Score(_math_accuracy(parsed.graded, answer, setting), float(parsed.well_formed))


__all__ = ["MATH_SETTINGS", "SPATIAL_SETTINGS", "grade_math", "grade_spatial", "read_choice"]

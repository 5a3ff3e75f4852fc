"""The grader of counting and structure. docs/DATA.md lists what each case gets.

A reply goes one way: the answer behind its thought (tags), in plain spelling (plain), as a letter (choices) or as what
it states (statements, reading), set against the row's answer by kind (values, quantities, formula).
"""

from functools import lru_cache
from typing import NamedTuple

from open_r1.rewards.choices import read_choice, true_choice
from open_r1.rewards.deadline import guarded
from open_r1.rewards.formula_value import Undefined
from open_r1.rewards.plain import plain
from open_r1.rewards.quantities import Quantity, plain_number, same_quantity, tolerant_credit
from open_r1.rewards.reading import read_value
from open_r1.rewards.spatial_answer import SPATIAL_SETTINGS, grade_spatial
from open_r1.rewards.statements import read_statement
from open_r1.rewards.tags import MAX_ANSWER, parse_reply
from open_r1.rewards.values import Named, Value, same
from open_r1.rewards.words import same_words
from open_r1.schema import Score, UserError
from open_r1.utils.names import unknown_name

MATH_SETTINGS = ("exact", "tolerant")


class TrueAnswer(NamedTuple):
    """A row's answer as it is compared: its plain text, and its letter or its value; words alone have neither."""

    text: str
    choice: str | None
    value: Value | None


def math_fault(answer: str) -> str | None:
    """Why no reply of the counting or structure task could be graded against a row's answer; None where one can."""
    graded = parse_reply(answer).graded
    text = plain(graded) if len(graded) <= MAX_ANSWER else graded
    if not 0 < len(text) <= MAX_ANSWER or not any(character.isalnum() or character in "∞∅" for character in text):
        return f"holds {len(text)} characters of text; a row's answer must hold 1 to {MAX_ANSWER}: correct the row"
    try:
        read_value(text)
    except Undefined:
        return "is a number without a value, or too large to be computed; write it out or correct the row"
    return None


@lru_cache(maxsize=65536)
def _true_answer(answer: str) -> TrueAnswer:
    """Read a row's answer; raises UserError where no reply could be graded against it."""
    if (fault := math_fault(answer)) is not None:
        raise UserError(f"answer {answer[:80]!r} {fault}")
    text = plain(parse_reply(answer).graded)
    choice = true_choice(text)
    return TrueAnswer(text, choice, None if choice else read_value(text))


@lru_cache(maxsize=16384)
def _accuracy(given: str, answer: str, setting: str) -> float:
    """The accuracy of a reply's graded text that is no plain number."""
    true = _true_answer(answer)
    if len(given) > MAX_ANSWER:
        return 0.0
    text = plain(given)
    if _folded(text) == _folded(true.text):
        return 1.0
    if true.choice:
        return float(read_choice(text) == true.choice)
    if true.value is None:
        return float(same_words(text, true.text))
    value = read_statement(text)
    if value is None:
        return 0.0
    if same(value, true.value):
        return 1.0
    given_number, true_number = _number(value), _number(true.value)
    if setting == "tolerant" and given_number and true_number:
        return tolerant_credit(given_number, true_number)
    return 0.0


def _folded(text: str) -> str:
    return "".join(text.casefold().split(" "))


def _number(value: Value) -> Quantity | None:
    value = value.value if isinstance(value, Named) else value
    return value if isinstance(value, Quantity) else None


def grade_math(reply: str, answer: str, setting: str = "exact") -> Score:
    """Score a reply of the counting and structure tasks against the row's answer.

    `exact`: what the reply answers behind its thought is equal to the answer, chooses the same letter, gives the same
    number to six decimals, or the same formula, equation, interval, set, ratio, name or list of values. `tolerant` adds
    credit for a number less than 20 % off. docs/DATA.md says what units, percent signs, sentences and alternatives get.

    Raises:
        UserError: `setting` is unknown, or no reply can be graded against `answer`.
        GradingTimeout: grading took longer than five seconds, which no known text does; it gives no score.
    """
    if setting not in MATH_SETTINGS:
        raise unknown_name("setting", setting, MATH_SETTINGS, where="the mathematical grader")
    parsed = parse_reply(reply)
    number, true = plain_number(parsed.graded), _true_number(answer)
    if number is not None and true is not None:
        given = Quantity(number)
        accuracy = 1.0 if (number == true.number and not true.unit) or same_quantity(given, true) else 0.0
        if not accuracy and setting == "tolerant":
            accuracy = tolerant_credit(given, true)
    else:
        with guarded(answer):
            accuracy = _accuracy(parsed.graded, answer, setting)
    return Score(accuracy, float(parsed.well_formed))


@lru_cache(maxsize=65536)
def _true_number(answer: str) -> Quantity | None:
    with guarded(answer):
        value = _true_answer(answer).value
    return value if isinstance(value, Quantity) else None


__all__ = ["MATH_SETTINGS", "SPATIAL_SETTINGS", "grade_math", "grade_spatial", "math_fault", "read_choice"]

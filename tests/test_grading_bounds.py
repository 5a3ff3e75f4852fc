"""Grading is bounded by the form of a text; the deadline is a last guard, which never gives a score."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from open_r1.rewards import deadline, math_answer
from open_r1.rewards.deadline import GradingTimeout, of_row
from open_r1.rewards.math_answer import grade_math
from open_r1.rewards.spatial_answer import grade_spatial
from open_r1.tasks import TASKS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from fuzz_formulas import BOMBS, LIMIT_S, PLAIN_ANSWERS, measure

# What patterns could trip over when it is repeated to 20,000 characters.
TRAPS = [
    *(
        "9^",
        "(",
        "{",
        "[",
        "\\frac{",
        "\\sqrt{",
        "-",
        "+",
        "|",
        "_",
        "*",
        "**",
        "`",
        "\\boxed{",
        "\\boxed{1}",
        "\\text{",
    ),
    *(
        "<b>",
        "<sub>",
        "&amp;",
        "$",
        "~",
        "=",
        "x=",
        "is ",
        "answer is ",
        "answer: ",
        "A. ",
        "(A) ",
        "A or ",
        "B, ",
        "not ",
    ),
    *(
        "5 or ",
        "5, ",
        "5 ",
        "5\n",
        "5. ",
        "5; ",
        "1/",
        "√",
        "(1,2)∪",
        "±",
        "≤",
        "AB = 3, ",
        "1:",
        "°",
        "cm ",
        "cm/",
        "per ",
    ),
    *(
        "(5) ",
        "so ",
        "because ",
        "，",
        "答案是",
        "选",
        "B\n",
        "change_a(",
        "change_color(1,",
        "'",
        "“",
        "\x01",
        "\\",
        "\\\\",
    ),
    *(
        "\\{",
        "< ",
        "> ",
        "- ",
        "# ",
        "! ",
        "\t",
        "\u3000",
        "²",
        "½",
        "9,",
        "9.9",
        "1e9",
        "→",
        "π",
        "5!",
        "maybe ",
        "which is ",
    ),
    *(
        "is the answer ",
        "A is correct ",
        "minus ",
        "1 plus ",
        "1 x ",
        "sin ",
        "log_",
        "∠A = ",
        "(since ",
        "1 200 ",
        "\\circ",
    ),
    *("[a](http://", "\\color{", "half of ", "5 (5) ", "</think>", "<think>", "<answer>", " ", "…", "1.", "a.", "e-"),
]


@pytest.mark.parametrize("trap", TRAPS, ids=repr)
def test_twenty_thousand_characters_of_anything_take_less_than_half_a_second(trap):
    text = trap * (20_000 // len(trap))
    for reply in (text, f"<answer>{text[:19_900]} 5</answer>", f"<answer>The answer is {text[:19_900]}</answer>"):
        for answer in PLAIN_ANSWERS:
            began = time.thread_time()
            grade_math(reply, answer, "tolerant")
            assert time.thread_time() - began < LIMIT_S
        began = time.thread_time()
        grade_spatial(reply, "change_color(2, cyan)")
        assert time.thread_time() - began < LIMIT_S


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb[:20])
def test_no_bomb_is_computed_and_all_are_wrong(bomb):
    for answer in PLAIN_ANSWERS:
        began = time.thread_time()
        assert grade_math(f"<answer>{bomb}</answer>", answer, "tolerant").accuracy == 0
        assert time.thread_time() - began < LIMIT_S


def test_the_pair_that_once_hung_a_run_is_wrong_at_once():
    for answer in ("x+1", "x^2", "(1, 7)", "5"):
        assert grade_math("<answer>((2/10)^{997/91},7)</answer>", answer).accuracy == 0


def test_two_thousand_formulas_of_a_grammar_take_less_than_half_a_second_each():
    """The hundred thousand of record are graded by scripts/fuzz_formulas.py into results/formulas.json."""
    assert max(measure(2000, seed=1))[0] < LIMIT_S


def never_ending(*_):
    while True:
        pass


@pytest.fixture
def hanging(monkeypatch):
    monkeypatch.setattr(deadline, "SECONDS", 0.2)
    monkeypatch.setattr(deadline, "_WAKE_UP", 0.05)
    monkeypatch.setattr(deadline, "_watch", deadline._Watch())
    monkeypatch.setattr(math_answer, "read_statement", never_ending)


def test_grading_that_does_not_end_is_ended_with_the_rows_name_in_any_thread_and_gives_no_score(hanging):
    def grade(index):
        with of_row(f"row-{index}"):
            return grade_math(f"<answer>so 5 or {index}</answer>", "5 cm")

    said = r"row row-{}: grading against the answer '5 cm' took over 0.2 s: no score is given; leave the row out"
    with pytest.raises(GradingTimeout, match=said.format(0)):
        grade(0)
    with ThreadPoolExecutor(2) as pool:
        for index in (1, 2):
            with pytest.raises(GradingTimeout, match=said.format(index)):
                pool.submit(grade, index).result()
    assert threading.main_thread().is_alive()


def test_after_a_deadline_the_next_reply_is_graded_as_ever(hanging, monkeypatch):
    with pytest.raises(GradingTimeout):
        grade_math("<answer>so 5 or 7</answer>", "5 cm")
    monkeypatch.undo()
    assert grade_math("<answer>so 5</answer>", "5 cm").accuracy == 1


def test_a_rows_own_answer_is_graded_under_the_deadline_too(hanging, monkeypatch):
    monkeypatch.setattr(math_answer, "read_value", never_ending)
    with pytest.raises(GradingTimeout, match="grading against the answer '5 km"):
        TASKS["geomath"].grade("<answer>5</answer>", "5 km", "exact")

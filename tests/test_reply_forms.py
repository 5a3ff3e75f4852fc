"""Replies as they really come: the forms of tests/data/reply_forms*.jsonl, and what no form may do."""

import json
from collections import Counter
from pathlib import Path

import pytest

from open_r1.rewards.tags import format_reply
from open_r1.synthetic.rows import Job, make_sample
from open_r1.synthetic.sample import RIGHT
from open_r1.tasks import TASKS

DATA = Path(__file__).resolve().parent / "data"
FORMS = [
    json.loads(line)
    for name in ("reply_forms.jsonl", "reply_forms_neighbours.jsonl")
    for line in (DATA / name).read_text(encoding="utf-8").splitlines()
]
KINDS = sorted({form["kind"] for form in FORMS})


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_gets_what_a_careful_person_would_give(kind):
    forms = [form for form in FORMS if form["kind"] == kind]
    wrong = [
        (form["reply"], form["answer"], form["want"])
        for form in forms
        if TASKS[form["task"]].grade(form["reply"], form["answer"], TASKS[form["task"]].settings[0]).accuracy
        != form["want"]
    ]
    assert wrong == []


def test_the_forms_are_many_of_each_kind():
    counts = Counter(form["kind"] for form in FORMS)
    assert len(counts) == 22
    assert min(counts.values()) >= 17
    assert sum(counts.values()) > 2000


@pytest.mark.parametrize("task", list(TASKS))
def test_no_cut_inside_the_thought_of_a_right_reply_earns_accuracy_on_1000_rows(task, monkeypatch):
    for place, name in (("clevr_scene.Scene", "draw"), ("geomath", "draw"), ("trance", "picture")):
        monkeypatch.setattr(f"open_r1.synthetic.{place}.{name}", lambda *_: None)  # the pictures are not needed
    grade = TASKS[task].grade
    for index in range(1000):
        sample, _ = make_sample(Job(task, "tiny", 0, "train", index, Path("unused")))
        reply = format_reply(sample.procedures[RIGHT].cot, sample.answer)
        assert grade(reply, sample.answer, TASKS[task].settings[0]).reward == 2
        assert TASKS[task].gradable(sample.answer) is None
        for length in range(reply.index("</think>") + len("</think>")):
            assert grade(reply[:length], sample.answer, TASKS[task].settings[-1]).reward == 0, reply[:length]


@pytest.mark.parametrize(
    ("task", "answer", "reason"),
    [
        *[("trance", answer, "names no function") for answer in ("no change", "**", "", "change_color(cyan)", "5")],
        ("trance", "change_color(2, cyan), change_size(3)", "holds 2 functions of which 1 can be read"),
        *[("geomath", answer, "characters of text") for answer in ("**", "", " ", "$$", "\\boxed{}", "...", "<b></b>")],
        *[("geomath", answer, "without a value") for answer in ("1/0", "9^9^9^9", "10**(10**9)", "\\frac{5}{0}")],
        *[("geomath", answer, "without a value") for answer in ("((9!)!)!", "\\sqrt{-4}", "\\ln 0", "x = 9^{9^9}")],
        *[(task, "5</answer>", "holds the tag </answer>") for task in TASKS],
        ("clevr_math", "5" * 20_001, "holds 20001 characters"),
    ],
)
def test_a_row_whose_answer_cannot_be_graded_is_named_with_the_reason(task, answer, reason):
    assert reason in TASKS[task].gradable(answer)


@pytest.mark.parametrize(
    "answer", ["5", "B", "x = 3, y = 4", "no change", "14 π", "(1, 2]", "2 < x", "5 or 6", "x^{99}"]
)
def test_a_row_whose_answer_can_be_graded_has_no_reason(answer):
    assert TASKS["geomath"].gradable(answer) is None
    assert TASKS["geomath"].grade(format_reply("x", answer), answer, "exact").accuracy == 1

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_r1.rewards.tags import ParsedReply, answer_tag_fault, format_reply, parse_reply, reasoning_fault

GOOD = "<think>3 + 2</think>\n<answer> 5 </answer>"


def test_a_good_reply_is_taken_apart():
    assert parse_reply(GOOD) == ParsedReply("3 + 2", "5", "5", True)


@pytest.mark.parametrize(
    "text",
    [
        "<think>a\nb</think>\n\n \t<answer>\n5\n</answer>",  # dot matches newlines in both parts
        "<think></think><answer></answer>",
    ],
)
def test_white_space_and_empty_parts_are_well_formed(text):
    assert parse_reply(text).well_formed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        GOOD + "\n",  # nothing may stand outside, not even a line break
        "ok " + GOOD,
        GOOD + " done",
        "<answer>5</answer><think>x</think>",
        "<think>x</think> so <answer>5</answer>",
        "<think>x</think><answer>5",
        "<answer>5</answer>",
        "<think>x<answer>5</answer></think>",
        "<think>x</think><answer>3</answer><think>x</think><answer>5</answer>",
        "<think>x</think><answer>3</answer><answer>5</answer>",
        "<think><think>x</think><answer>5</answer>",
        "<Think>x</Think><answer>5</answer>",
    ],
)
def test_anything_else_is_not_well_formed(text):
    assert not parse_reply(text).well_formed


def test_the_first_of_two_answers_counts():
    assert parse_reply("<answer>3</answer> no, <answer>5</answer>").answer == "3"


@pytest.mark.parametrize(
    ("text", "graded"),
    [
        (GOOD, "5"),
        (" so 5 ", "so 5"),
        ("<answer></answer>", ""),
        ("<answer><answer>5</answer></answer>", "5"),
        ("ok <think>x</think><answer>5</answer>", "5"),
        # a finished thought, then a plain answer
        *(("<think>t</think>\n5", "5"), ("<think>3</think>So <b>5</b>", "So <b>5</b>"), ("3 + 2</think>\n5", "5")),
        *(("<think>a</think><think>b</think>7", "7"), ("<thinking>4</thinking> 5", "5"), ("<THINK>4</THINK>5", "5")),
        # cut off in the thought or in the answer
        *(("<think>x</think><answer>5", ""), ("<think>The total is 5", ""), ("<think>5</thi", ""), ("<Think>5", "")),
        *(("<think>5</think>", ""), ("3 + 2 = 5</think>", ""), ("< think >5", ""), ("<thought>5", "")),
        *(("<think>goes between <answer>5</answer>", ""), ("5 <think> but", ""), ("<think>x</think>5 <answer>", "")),
        # tags named in a thought are text
        ("<think>The final goes between <answer> tags</think><answer>5</answer>", "5"),
        ("<think>format: <answer>number</answer></think><answer>5</answer>", "5"),
        ("<think>I end with </think> and <answer>B</answer></think><answer>C</answer>", "C"),
        ("<think>a <think> b</think> c</think><answer>5</answer>", "5"),
        ("as <answer>number</answer></think><answer>5</answer>", "5"),
        # the first answer outside a thought counts, whatever comes behind it
        ("<think>x</think><answer>5</answer></think>", "5"),
        ("<answer>5</answer><think>x", "5"),
        ("<think>x</think><answer>3</answer><think>x</think><answer>5</answer>", "3"),
    ],
)
def test_the_graded_text_is_the_answer_behind_the_thought_and_nothing_of_what_was_cut_off(text, graded):
    assert parse_reply(text).graded == graded


@pytest.mark.parametrize("cot", ["between <answer> and </answer>", "a</think>b", "<Think>", "< answer >"])
def test_reasoning_and_answers_that_hold_tags_are_faults(cot):
    assert "holds the tag <" in reasoning_fault(cot)
    assert "holds the tag <" in answer_tag_fault(cot)
    assert reasoning_fault("3 < 4, so a <b> holds") is None


def test_format_reply_takes_bare_and_wrapped_reasoning():
    assert format_reply("x", "5") == "<think>x</think>\n<answer>5</answer>"
    assert format_reply("<think>x</think>", "5") == "<think>x</think>\n<answer>5</answer>"


tagless = st.text().filter(lambda text: "<" not in text)


@settings(deadline=None)
@given(tagless, tagless)
def test_what_is_formatted_is_read_back(cot, answer):
    assert parse_reply(format_reply(cot, answer)) == ParsedReply(cot.strip(), answer.strip(), answer.strip(), True)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", " ", "x"])))
def test_well_formed_means_the_four_tags_once_and_in_order_with_only_space_between(parts):
    outside = [part for part in parts if part != "x" and part != " "]
    text = "".join(parts)
    expected = outside == ["<think>", "</think>", "<answer>", "</answer>"]
    if expected:
        middle = text.split("</think>")[1].split("<answer>")[0]
        expected = text.startswith("<think>") and text.endswith("</answer>") and not middle.strip()
    assert parse_reply(text).well_formed == expected


@pytest.mark.parametrize(
    "unit",
    ["<think>", "</think><answer>", "<answer>", "<answer></answer>", " ", "<", "\n", "</think>"],
)
def test_ten_megabytes_take_well_under_a_second(unit):
    filler = unit * (10_000_000 // len(unit))
    start = time.process_time()
    for text in (filler, f"<think>x</think>{filler}", f"<think>{filler}</think><answer>5</answer>"):
        parse_reply(text)
    assert time.process_time() - start < 1.5  # three texts

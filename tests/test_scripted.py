"""Scripted external models: as accurate as told, correlated as told, the same whoever asks first, wrong when wrong."""

import asyncio
import math
import random
import threading
import time

import numpy as np
import pytest

from open_r1.external.provider import Provider, Request
from open_r1.external.scripted import (
    VALUES,
    ScriptedProvider,
    answer_at,
    answer_share,
    far_functions,
    format_functions,
    near_functions,
    near_score,
    object_ids,
    true_functions,
    wrong_answer,
    wrong_answers,
)
from open_r1.rewards.math_answer import grade_math, grade_spatial
from open_r1.rewards.tags import parse_reply
from open_r1.schema import Failure, Reply, Row

COUNTING = Row(
    "train-12", "clevr_math", (), "Subtract all red cubes. How many are left?", "4", "all; 5; 5 - 1 = 4", "sub"
)
PROBLEM = (
    "The attributes of the initial objects are: [('0', 'cube', 'small', 'gray', 'metal'),"
    " ('1', 'cube', 'large', 'red', 'metal'), ('2', 'sphere', 'small', 'blue', 'glass')]."
)
SPATIAL = Row("train-1-C", "trance", (), PROBLEM, "change_size(2, large), change_position(0, front_left)", "compare")


def ask_all(provider: Provider, rows: list[Row], n: int = 8) -> list[list[Reply] | Failure]:
    async def gather():
        return await asyncio.gather(*(provider.ask(Request(row, messages=[], n=n)) for row in rows))

    return asyncio.run(gather())


def ask(provider: Provider, row: Row, n: int = 8) -> list[Reply] | Failure:
    return ask_all(provider, [row], n)[0]


def all_texts(provider: Provider, rows: list[Row], n: int = 8) -> list[list[str]]:
    return [[reply.text for reply in replies] for replies in ask_all(provider, rows, n) if isinstance(replies, list)]


def texts(provider: Provider, row: Row, n: int = 8) -> list[str]:
    return all_texts(provider, [row], n)[0]


def counting_rows(number: int) -> list[Row]:
    return [Row(f"r{i}", "clevr_math", (), "How many?", str(i % 11), f"1 + 1 = {i % 11}") for i in range(number)]


def right_PN(provider: ScriptedProvider, rows: list[Row], n: int) -> np.ndarray:
    replies_PN = all_texts(provider, rows, n)
    return np.array(
        [[grade_math(t, row.answer).accuracy for t in ts] for row, ts in zip(rows, replies_PN, strict=True)]
    )


def test_a_right_reply_is_the_rows_own_reasoning_and_answer():
    assert (
        texts(ScriptedProvider("a", 1, 1.0), COUNTING) == ["<think>all; 5; 5 - 1 = 4</think>\n<answer>4</answer>"] * 8
    )


def test_a_row_without_reasoning_gets_a_sentence():
    row = Row("t", "clevr_math", (), "How many?", "3")
    reply = parse_reply(texts(ScriptedProvider("a", 1, 1.0), row, 1)[0])
    assert reply.well_formed and reply.answer == "3" and reply.think and reply.think.endswith("3")


def test_the_reasoning_of_a_wrong_reply_ends_in_its_wrong_answer():
    for text in texts(ScriptedProvider("a", 1, 0.0), COUNTING, 40):
        reply = parse_reply(text)
        assert reply.think == f"all; 5; 5 - 1 = {reply.answer}" and reply.answer in map(str, range(11))
        assert reply.answer != "4" and reply.well_formed


@pytest.mark.parametrize("accuracy", [0.0, 0.25, 0.681, 1.0])
def test_mean_accuracy_is_what_was_asked_for(accuracy):
    right = right_PN(ScriptedProvider("gpt", 8, accuracy), counting_rows(200), 8)
    assert right.mean() == pytest.approx(accuracy, abs=3 * math.sqrt(0.25 / right.size))


def test_accuracy_by_kind_replaces_the_mean_for_its_kind_only():
    provider = ScriptedProvider("a", 1, 1.0, accuracy_by_kind={"sub": 0.0})
    other = Row("x", "clevr_math", (), "How many?", "4", kind="add")
    assert right_PN(provider, [COUNTING], 20).sum() == 0 and right_PN(provider, [other], 20).sum() == 20


def test_correlated_replies_are_right_together_as_often_as_the_probit_model_says():
    # Two standard normals with correlation 1/2 are both negative with probability 1/4 + asin(1/2) / (2 pi) = 1/3,
    # for two replies of one model and for replies of two models alike; independent ones with 1/4.
    rows = counting_rows(2000)
    one, two = (right_PN(ScriptedProvider(name, 2, 0.5, correlation=0.5), rows, 2) for name in "ab")
    free = right_PN(ScriptedProvider("a", 2, 0.5), rows, 2)
    assert one.mean() == pytest.approx(0.5, abs=0.03)
    assert np.mean(one[:, 0] * one[:, 1]) == pytest.approx(1 / 3, abs=0.03)
    assert np.mean(one[:, 0] * two[:, 0]) == pytest.approx(1 / 3, abs=0.03)
    assert np.mean(free[:, 0] * free[:, 1]) == pytest.approx(1 / 4, abs=0.03)


def test_a_reply_depends_on_seed_model_row_and_index_only():
    rows, provider = counting_rows(30), ScriptedProvider("a", 4, 0.5, correlation=0.3, format_rate=0.5)
    forward = all_texts(provider, rows, 4)
    backward: dict[str, list[str]] = {}

    def read(part):
        backward.update({row.id: texts(ScriptedProvider("a", 9, 0.5, {}, 0.3, 0.5), row, 9) for row in reversed(part)})

    threads = [threading.Thread(target=read, args=(rows[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert forward == [backward[row.id][:4] for row in rows]
    for other in (ScriptedProvider("b", 4, 0.5, {}, 0.3, 0.5), ScriptedProvider("a", 4, 0.5, {}, 0.3, 0.5, seed=1)):
        assert forward != all_texts(other, rows, 4)


def test_format_rate_is_the_share_of_well_formed_replies_and_leaves_accuracy_alone():
    rows = counting_rows(200)
    replies = [t for ts in all_texts(ScriptedProvider("a", 8, 1.0, format_rate=0.7), rows) for t in ts]
    assert np.mean([parse_reply(text).well_formed for text in replies]) == pytest.approx(0.7, abs=0.03)
    assert right_PN(ScriptedProvider("a", 8, 1.0, format_rate=0.0), rows, 1).mean() == 1


def test_failures_come_at_their_rate_and_always_on_the_same_rows():
    provider, rows = ScriptedProvider("a", 2, 0.5, fail_rate=0.25), counting_rows(800)
    failed = [isinstance(answer, Failure) for answer in ask_all(provider, rows)]
    assert np.mean(failed) == pytest.approx(0.25, abs=0.05)
    assert failed == [isinstance(answer, Failure) for answer in ask_all(provider, rows)]
    failure = ask(ScriptedProvider("gpt", 2, 0.5, fail_rate=1.0), COUNTING)
    assert failure == Failure("gpt", "server", "scripted failure on row 'train-12'")


def test_latency_is_waited_for_and_reported():
    started = time.perf_counter()
    replies = ask(ScriptedProvider("a", 1, 1.0, latency_s=0.05), COUNTING)
    assert time.perf_counter() - started >= 0.05
    assert isinstance(replies, list) and replies[0].latency_s == 0.05 and replies[0].cost_usd is None


@pytest.mark.parametrize(
    "answer",
    ["A", "D", "(B)", "B. 12", "0", "1", "2", "7", "65°", "3.5", "0.25", "-4", "1/2", r"\frac{1}{2}", r"6\sqrt{2}",
     r"\sqrt{2}", "4π", "18 cm", "50%", "yes", "No", "blue"],
)  # fmt: skip
@pytest.mark.parametrize("setting", ["exact", "tolerant"])
def test_a_wrong_answer_is_wrong_to_the_grader(answer, setting):
    row, rng = Row("s", "geomath", (), "Find x.", answer), random.Random(0)
    wrong = {wrong_answer(row, rng) for _ in range(40)}
    assert all(grade_math(f"<answer>{text}</answer>", answer, setting).accuracy == 0 for text in wrong)
    assert grade_math(f"<answer>{answer}</answer>", answer, setting).accuracy == 1


def test_wrong_answers_keep_the_form_of_the_true_one():
    def wrong(task, answer):
        rng = random.Random(0)
        return {wrong_answer(Row("s", task, (), "", answer), rng) for _ in range(200)}

    assert wrong("geomath", "B") == {"A", "C", "D"}
    assert wrong("geomath", "65°") == {"32°", "98°", "130°", "195°"}
    assert wrong("clevr_math", "4") == {"0", "1", "2", "3", "5", "6", "7", "8", "9", "10"}


def spatial_rows(number: int) -> list[Row]:
    rng, rows = random.Random(1), []
    for i in range(number):
        pairs = rng.sample([(name, id_) for name in VALUES for id_ in "012"], k=1 + i % 4)
        functions = [(name, id_, rng.choice(VALUES[name])) for name, id_ in pairs]
        rows.append(Row(f"t{i}", "trance", (), PROBLEM, format_functions(functions)))
    return rows


def partial(text: str, row: Row) -> float:
    score = grade_spatial(text, row.answer).partial
    assert score is not None
    return score


def test_the_vocabulary_is_the_instructions():
    assert list(VALUES) == ["size", "color", "material", "shape", "position"]
    assert VALUES["size"] == ["small", "medium", "large"] and len(VALUES["position"]) == 8 == len(VALUES["color"])


def test_spatial_answers_and_objects_are_read_in_order():
    assert true_functions(SPATIAL) == [("size", "2", "large"), ("position", "0", "front_left")]
    assert format_functions(true_functions(SPATIAL)) == SPATIAL.answer
    assert object_ids(SPATIAL) == ["0", "1", "2"] and true_functions(COUNTING) == []


@pytest.mark.parametrize("accuracy", [0.05, 0.2622, 0.4255, 0.7, 1.0])
def test_on_spatial_rows_the_mean_partial_score_is_what_was_asked_for(accuracy):
    rows, provider = spatial_rows(400), ScriptedProvider("gpt", 8, accuracy)
    scores = [partial(t, row) for row, ts in zip(rows, all_texts(provider, rows), strict=True) for t in ts]
    assert np.mean(scores) == pytest.approx(accuracy, abs=0.03)


def test_a_weak_spatial_model_is_right_near_and_far_in_known_shares():
    # One function: a slip scores .5. Accuracy .4: right .2, near (.4 - .2) / .5 = .4, far .4.
    row = Row("t", "trance", (), PROBLEM, "change_size(2, large)")
    scores = [partial(answer_at(row, 0.4, (i + 0.5) / 100, random.Random(i)), row) for i in range(100)]
    assert [scores.count(score) for score in (1, 0.5, 0)] == [20, 40, 40]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_slips_score_what_near_score_says_and_far_lists_score_nothing(length):
    rows = [row for row in spatial_rows(400) if len(true_functions(row)) == length]
    rng, near, far = random.Random(0), [], []
    for row in rows * 10:
        near.append(partial(format_functions(near_functions(true_functions(row), object_ids(row), rng)), row))
        far.append(partial(format_functions(far_functions(true_functions(row), object_ids(row), rng)), row))
    assert np.mean(near) == pytest.approx(near_score(length), abs=0.02) and max(near) < 1 and max(far) == 0


def test_rows_that_leave_no_room_for_a_slip_still_get_one():
    crowded = (
        "change_size(0, large), change_color(0, red), change_material(0, glass), change_shape(0, cube),"
        " change_position(0, left), change_taste(0, sweet)"
    )
    row = Row("t", "trance", (), "[('0', 'cube', 'small', 'gray', 'metal')]", crowded)
    replies = texts(ScriptedProvider("a", 200, 0.3), row, 200)
    assert 0.25 < np.mean([partial(text, row) for text in replies]) < 0.45


@pytest.mark.parametrize("answer", ["4", "B", "(C) 30°", "2.5 cm", "1", "yes"])
def test_the_shares_of_all_answers_sum_to_1(answer):
    row = Row("s", "geomath", (), "", answer)
    wrong = set(wrong_answers(row))
    assert answer_share(row, answer, 0.7) == 0.7
    assert sum(answer_share(row, other, 0.7) for other in wrong) == pytest.approx(0.3)


@pytest.mark.parametrize(("correlation", "format_rate"), [(0.0, 1.0), (0.5, 0.8)])
def test_a_reply_says_how_likely_its_text_was(correlation, format_rate):
    row = Row("s", "clevr_math", (), "How many?", "4", cot="3 + 1 = 4")
    teacher = ScriptedProvider("t", 4000, accuracy=0.6, correlation=correlation, format_rate=format_rate, seed=3)
    replies = asyncio.run(teacher.ask(Request(row, [], n=4000)))
    assert isinstance(replies, list)
    likely = {reply.text: math.exp(reply.logprobs[0]) for reply in replies}
    seen = {text: sum(reply.text == text for reply in replies) / 4000 for text in likely}
    assert len(likely) == (11 if format_rate == 1 else 22)
    assert sum(likely.values()) == pytest.approx(1.0)
    assert all(seen[text] == pytest.approx(share, abs=0.03) for text, share in likely.items())  # 4 standard errors


def test_log_probs_are_left_out_where_they_are_not_wanted_or_not_known():
    silent, telling = (ScriptedProvider("t", 1, accuracy=0.6, logprobs=wanted) for wanted in (False, True))
    replies = [ask(silent, COUNTING), ask(telling, SPATIAL), ask(telling, COUNTING)]
    assert [reply[0].logprobs is None for reply in replies if isinstance(reply, list)] == [True, True, False]


def test_it_finds_its_own_replies_as_likely_as_it_says_and_what_it_never_says_impossible():
    row = Row("s", "clevr_math", (), "How many?", "4", cot="3 + 1 = 4")
    teacher = ScriptedProvider("t", 200, accuracy=0.6, correlation=0.5, format_rate=0.8, seed=3)
    replies = asyncio.run(teacher.ask(Request(row, [], n=200)))
    told = {reply.text: reply.logprobs for reply in replies}
    scores = asyncio.run(teacher.score(Request(row, []), [*told, "<think>never</think>"]))
    assert scores[:-1] == [pytest.approx(logprobs) for logprobs in told.values()] and scores[-1] == (-math.inf,)
    assert asyncio.run(teacher.score(Request(SPATIAL, []), ["x"])) == [None]

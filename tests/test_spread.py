"""An evaluation that is dealt to several processes: every question answered once, errors heard."""

import os
from functools import partial

import pytest

from open_r1.evaluation.backends import Wanted
from open_r1.evaluation.spread import Spread
from open_r1.schema import Row, UserError


def row(name: str) -> Row:
    return Row(name, "clevr_math", (), "?", "1")


def device_of_each(fail: type[Exception] | None = None):
    """A back end that replies with its device; or fails, or dies without a word."""
    if fail is UserError:
        raise UserError("no such model")
    if fail is SystemExit:
        os._exit(9)

    def answer(wanted, label):
        for question in wanted:
            if fail is ValueError:
                raise ValueError("bad weights")
            yield question, os.environ["CUDA_VISIBLE_DEVICES"]

    return answer


def test_rows_are_dealt_to_all_devices_samples_of_a_row_together_and_each_answered_once():
    wanted = [Wanted(row(f"r{n}"), sample) for n in range(5) for sample in range(3)]
    spread = Spread(device_of_each, ["3", "5"])
    for _ in range(2):  # the processes stay for the next test set
        answers = dict(spread(wanted, "id"))
        assert sorted(answers, key=lambda question: (question.row.id, question.sample)) == wanted
        for n, device in enumerate(["3", "5", "3", "5", "3"]):
            assert [answers[Wanted(row(f"r{n}"), sample)] for sample in range(3)] == [device] * 3


@pytest.mark.parametrize(
    ("fail", "raised", "words"),
    [
        (UserError, UserError, "no such model"),
        (ValueError, RuntimeError, "evaluation process 0: ValueError: bad weights"),
        (SystemExit, RuntimeError, r"ended without a word \(0: exit status 9\)"),
    ],
)
def test_what_goes_wrong_in_a_process_is_raised_here(fail, raised, words):
    with pytest.raises(raised, match=words):
        list(Spread(partial(device_of_each, fail), ["0"])([Wanted(row("r"), 0)], "id"))

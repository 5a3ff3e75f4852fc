"""Phases: each moment counts for the innermost phase under way, on a clock that the tests turn by hand."""

import pytest

from open_r1.utils.phases import Phases


class Work:
    """A step of 1 + 2 + 4 seconds whose middle is a call of its own."""

    def __init__(self):
        self.now = 0.0

    def step(self) -> str:
        self.now += 1
        self.inner()
        self.now += 4
        return "done"

    def inner(self) -> None:
        self.now += 2


def test_a_call_inside_a_call_is_counted_once_for_the_inner_phase():
    work = Work()
    phases = Phases(lambda: work.now)
    phases.watch(work, {"step": "outer", "inner": "inner"})
    work.now += 100  # outside of every phase
    assert work.step() == "done"
    assert phases.take() == {"outer": 5.0, "inner": 2.0}
    work.inner()
    assert phases.take() == {"inner": 2.0}


def test_what_an_exception_leaves_behind_is_still_counted():
    work = Work()
    phases = Phases(lambda: work.now)
    with pytest.raises(ValueError, match="broken"), phases.phase("outer"):
        work.now += 3
        raise ValueError("broken")
    work.now += 50
    with phases.phase("next"):
        work.now += 1
    assert phases.take() == {"outer": 3.0, "next": 1.0}

"""Splits what a training step takes into phases: every method of an object timed, less the timed methods inside it."""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Phases:
    """Adds up a clock by phase, each moment counted for the innermost phase that is under way.

    Args:
        clock: what is measured, e.g. `time.perf_counter`, or the FLOPs counted so far.
    """

    def __init__(self, clock: Callable[[], float]):
        self.clock, self.spent = clock, defaultdict(float)
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block for `name`, but for what is inside other phases within it."""
        self._switch()
        self._stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def _switch(self) -> None:
        """Count what went by since the last switch."""
        now = self.clock()
        if self._stack:
            self.spent[self._stack[-1]] += now - self._since
        self._since = now

    def watch(self, owner: object, methods: Mapping[str, str]) -> None:
        """Count calls of `owner`'s methods: method name -> phase."""
        for method, name in methods.items():
            setattr(owner, method, self._counted(getattr(owner, method), name))

    def _counted(self, call: Callable[P, R], name: str) -> Callable[P, R]:
        @functools.wraps(call)
        def counted(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.phase(name):
                return call(*args, **kwargs)

        return counted

    def take(self) -> dict[str, float]:
        """Return what each phase took since the last call."""
        taken, self.spent = dict(self.spent), defaultdict(float)
        return taken

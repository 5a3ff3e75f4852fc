"""Tally: how every metric is collected, so that none can be a mean of means.

Each process, micro-batch and generation adds to a metric the numbers that it is made of (a sum and a count, an amount,
a maximum, single values); it becomes one number once, when a line is logged. docs/METRICS.md says of each name which
of the kinds below it is.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from accelerate.utils import gather_object

Parts = tuple[float, ...]


class Kind(NamedTuple):
    """How the parts of a metric come together: within a process, then over processes, then into a number."""

    add: Callable[[Parts, Parts], Parts]
    join: Callable[[Parts, Parts], Parts]
    value: Callable[[Parts], float]


def _plus(a: Parts, b: Parts) -> Parts:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _first(parts: Parts) -> float:
    return parts[0]


def _percentile_95(values: Parts) -> float:
    return float(np.quantile(values, 0.95)) if values else math.nan


def _deviation(values: Parts) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


KINDS = {
    "ratio": Kind(_plus, _plus, lambda parts: parts[0] / parts[1] if parts[1] else math.nan),
    "sum": Kind(_plus, _plus, _first),
    "longest": Kind(_plus, max, _first),  # an amount that all processes wait for: that of the slowest
    "latest": Kind(lambda _, new: new, max, _first),  # a running total
    "max": Kind(max, max, _first),
    "min": Kind(min, min, _first),
    "percentile 95": Kind(tuple.__add__, tuple.__add__, _percentile_95),
    "deviation": Kind(tuple.__add__, tuple.__add__, _deviation),
}


class Tally:
    """What one process has added to each metric since the last logged line."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[str, Parts]] = {}

    def _add(self, kind: str, name: str, parts: Parts) -> None:
        if name in self._parts:
            parts = KINDS[kind].add(self._parts[name][1], parts)
        self._parts[name] = kind, parts

    def ratio(self, name: str, part: float, whole: float) -> None:
        """Add to a share or a mean: it is the sum of all `part` over the sum of all `whole`, NaN where that is 0."""
        self._add("ratio", name, (part, whole))

    def mean(self, name: str, values: Iterable[float]) -> None:
        """Add single values to a mean; NaN is not counted."""
        known = _known(values)
        self.ratio(name, math.fsum(known), len(known))

    def sum(self, name: str, amount: float) -> None:
        """Add to an amount or a count, over all processes."""
        self._add("sum", name, (amount,))

    def longest(self, name: str, seconds: float) -> None:
        """Add to an amount of which the process that has most of it counts."""
        self._add("longest", name, (seconds,))

    def latest(self, name: str, total: float) -> None:
        """Set a running total; over processes the largest counts."""
        self._add("latest", name, (total,))

    def extreme(self, which: str, name: str, values: Iterable[float]) -> None:
        """Add to a "max" or "min"; a process that has no value takes nothing away."""
        none = -math.inf if which == "max" else math.inf
        self._add(which, name, ((max if which == "max" else min)(_known(values), default=none),))

    def percentile_95(self, name: str, values: Iterable[float]) -> None:
        """Add single values, of all of which the 95th percentile is logged."""
        self._add("percentile 95", name, tuple(_known(values)))

    def deviation(self, name: str, values: Iterable[float]) -> None:
        """Add single values, of all of which the sample standard deviation is logged."""
        self._add("deviation", name, tuple(_known(values)))

    def take(self) -> dict[str, float]:
        """Return every metric over all processes, NaN where it has no value, and begin again. All processes call it."""
        everyone: list[dict[str, tuple[str, Parts]]] = gather_object([self._parts])
        joined: dict[str, tuple[str, Parts]] = {}
        for parts in everyone:
            for name, (kind, own) in parts.items():
                joined[name] = kind, KINDS[kind].join(joined[name][1], own) if name in joined else own
        self._parts = {}
        values = {name: KINDS[kind].value(parts) for name, (kind, parts) in joined.items()}
        return {name: value if math.isfinite(value) else math.nan for name, value in values.items()}


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]

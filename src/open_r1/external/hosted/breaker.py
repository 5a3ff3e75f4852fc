"""The circuit breaker: a model that fails again and again is rested, then asked once, and taken back when it answers.

Pure: the clock is handed in. While a model rests its questions fail at once, so that a step waits for nobody who is
known to be down, and a server that comes up again is not met by everything that piled up.
"""

import time
from collections.abc import Callable

FAILURES = 5  # in a row, before a model is rested
REST_S = 15.0  # the first rest; each failed trial doubles it
LONGEST_S = 300.0


class Breaker:
    """The state of one model: closed (asked), open (rested until a time), half open (one trial under way)."""

    def __init__(self, failures: int = FAILURES, rest_s: float = REST_S, clock: Callable[[], float] = time.monotonic):
        """Begin closed."""
        self._limit, self._first_rest_s, self._clock = failures, rest_s, clock
        self._rest_s, self._in_a_row, self._until, self._on_trial = rest_s, 0, 0.0, False

    @property
    def rest_s(self) -> float:
        """Seconds until the next trial; 0 where the model may be asked."""
        return max(0.0, self._until - self._clock()) if self._rests else 0.0

    @property
    def _rests(self) -> bool:
        return self._in_a_row >= self._limit

    def allows(self) -> bool:
        """Whether a request may be sent now. After a rest one caller is let through; the others wait for its outcome.

        A trial without an outcome (it was cancelled) is followed by another one after as long again.
        """
        if self.rest_s:
            return False
        if self._rests:
            self._until, self._on_trial = self._clock() + self._rest_s, True
        return True

    def succeeded(self) -> None:
        """The model answered: ask it again as before."""
        self._in_a_row, self._rest_s, self._on_trial = 0, self._first_rest_s, False

    def failed(self) -> bool:
        """The model failed. Returns whether a rest begins; calls under way when it began prolong it no further."""
        if self._rests and not self._on_trial:
            return False
        if self._on_trial:
            self._rest_s = min(LONGEST_S, 2 * self._rest_s)
        self._in_a_row, self._on_trial = self._in_a_row + 1, False
        if self._rests:
            self._until = self._clock() + self._rest_s
        return self._rests

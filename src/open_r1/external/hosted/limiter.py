"""The limiter: keeps one external model below its requests and tokens per minute, and so many requests under way.

Token buckets with the clock handed in, so that their law can be tested without waiting: in any window of w seconds a
bucket lets through at most rate * w + burst. Who asks for more than there is waits; nobody is refused.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

BURST_S = 1.0  # a bucket saves up this much of its rate: providers count in windows far shorter than their minute


class TokenBucket:
    """Amounts at a rate. Later askers wait behind earlier ones, so a large amount is not starved by small ones."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic):
        """Begin full: one second's worth, and at least one unit."""
        self.rate = per_minute / 60
        self.burst = max(1.0, self.rate * BURST_S)
        self._clock, self._level, self._seen = clock, self.burst, clock()

    def take(self, amount: float) -> float:
        """Take `amount` and return the seconds to wait before it may be used."""
        self._refill()
        self._level -= amount
        return max(0.0, -self._level / self.rate)

    def give(self, amount: float) -> None:
        """Put back what was taken and not used; a negative amount takes what was used beyond."""
        self._refill()
        self._level = min(self.burst, self._level + amount)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self.burst, self._level + (now - self._seen) * self.rate)
        self._seen = now


class Limiter:
    """What one external model is allowed: requests and tokens per minute, requests under way at once."""

    def __init__(self, concurrency: int, per_minute: float | None = None, tokens_per_minute: float | None = None):
        """Keep to so many requests at once, requests and tokens per minute; None is no limit."""
        self._under_way = asyncio.Semaphore(concurrency)
        self._requests = TokenBucket(per_minute) if per_minute else None
        self._tokens = TokenBucket(tokens_per_minute) if tokens_per_minute else None

    @asynccontextmanager
    async def slot(self, tokens: float) -> AsyncGenerator[None]:
        """Wait for room for one request of about `tokens` tokens, and hold its place in the number under way.

        The wait ends: places come free as calls end, each by its own time-out, and buckets fill at their rate.
        """
        async with self._under_way:
            taken = [(bucket, amount) for bucket, amount in ((self._requests, 1), (self._tokens, tokens)) if bucket]
            pause = max((bucket.take(amount) for bucket, amount in taken), default=0.0)
            try:
                if pause:
                    await asyncio.sleep(pause)
            except asyncio.CancelledError:
                for bucket, amount in taken:
                    bucket.give(amount)
                raise
            yield

    def used(self, estimated: float, tokens: float) -> None:
        """Correct the estimate of one request by what it used in the end."""
        if self._tokens:
            self._tokens.give(estimated - tokens)

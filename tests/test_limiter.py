"""The limiter's law and the circuit breaker's states, by a clock that the tests turn."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_r1.external.hosted.breaker import LONGEST_S, Breaker
from open_r1.external.hosted.limiter import Limiter, TokenBucket


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_of_60_a_minute_lets_one_through_at_once_and_then_one_a_second():
    bucket = TokenBucket(60, Clock())
    assert [bucket.take(1) for _ in range(4)] == [0, 1, 2, 3]


def test_an_amount_above_the_burst_waits_until_its_rate_has_earned_it():
    bucket = TokenBucket(6000, Clock())  # 100 a second, 100 saved up
    assert bucket.take(300) == pytest.approx(2.0)
    assert bucket.take(100) == pytest.approx(3.0)  # later askers wait behind


def test_what_was_not_used_is_given_back():
    bucket = TokenBucket(6000, Clock())
    assert bucket.take(100) == 0
    bucket.give(60)
    assert bucket.take(60) == 0


@given(
    per_minute=st.floats(1, 10_000),
    asks=st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 50)), min_size=1, max_size=40),
    window=st.floats(0.1, 120),
)
def test_no_window_holds_more_than_rate_times_its_length_plus_the_burst_and_one_ask(per_minute, asks, window):
    clock = Clock()
    bucket = TokenBucket(per_minute, clock)
    starts = []
    for gap, amount in asks:
        clock.now += gap
        starts.append((clock.now + bucket.take(amount), amount))
    assert [start for start, _ in starts] == sorted(start for start, _ in starts)  # first come, first served
    for begin, _ in starts:
        inside = [amount for start, amount in starts if begin <= start < begin + window]
        # the window's first ask may have been earned before it
        assert sum(inside) <= bucket.rate * window + bucket.burst + inside[0] + 1e-6


def test_no_more_requests_are_under_way_than_allowed():
    async def run() -> int:
        limiter, now, most = Limiter(concurrency=3), 0, 0

        async def one() -> None:
            nonlocal now, most
            async with limiter.slot(1):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.001)
                now -= 1

        await asyncio.gather(*(one() for _ in range(20)))
        return most

    assert asyncio.run(run()) == 3


def test_a_cancelled_wait_gives_its_tokens_back():
    async def run() -> float:
        limiter = Limiter(concurrency=9, tokens_per_minute=60)

        async def one() -> None:
            async with limiter.slot(1000):
                raise AssertionError("it cannot have come through")

        task = asyncio.create_task(one())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return limiter._tokens.take(1)

    assert asyncio.run(run()) <= 1


def test_five_failures_in_a_row_rest_a_model_and_one_success_takes_it_back():
    clock = Clock()
    breaker = Breaker(failures=5, rest_s=15, clock=clock)
    assert [breaker.failed() for _ in range(5)] == [False] * 4 + [True]
    assert not breaker.allows() and breaker.rest_s == 15
    assert not breaker.failed() and breaker.rest_s == 15  # a call that was under way
    clock.now += 15
    assert breaker.allows() and not breaker.allows()  # one trial
    breaker.succeeded()
    assert breaker.allows() and breaker.allows()


def test_each_failed_trial_doubles_the_rest_up_to_five_minutes():
    clock = Clock()
    breaker = Breaker(failures=1, rest_s=15, clock=clock)
    breaker.failed()
    rests = []
    for _ in range(7):
        rests.append(breaker.rest_s)
        clock.now += breaker.rest_s
        assert breaker.allows()
        assert breaker.failed()
    assert rests == [15, 30, 60, 120, 240, LONGEST_S, LONGEST_S]


def test_a_success_between_failures_keeps_a_model_in():
    breaker = Breaker(failures=2, clock=Clock())
    for _ in range(10):
        assert not breaker.failed()
        breaker.succeeded()
    assert breaker.allows()


def test_a_trial_that_was_cancelled_is_followed_by_another():
    clock = Clock()
    breaker = Breaker(failures=1, rest_s=15, clock=clock)
    breaker.failed()
    clock.now += 15
    assert breaker.allows()
    clock.now += 15
    assert breaker.allows()

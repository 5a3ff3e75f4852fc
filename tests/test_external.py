"""The pool of external models: asks all at once, never waits longer than told, counts and tells what failed."""

import asyncio
import logging
import threading
import time

import pytest

from open_r1.external import Gatherer, Provider, Request, ScriptedProvider, gather
from open_r1.schema import Failure, Reply, Row, UserError

ROWS = [Row(f"r{i}", "clevr_math", (), "How many?", str(i)) for i in range(3)]
REQUESTS = [Request(row, messages=[], step=7) for row in ROWS]


class Fake:
    """An external model whose answer is a function of the request."""

    def __init__(self, name, answer, n=2):
        self.name, self.n, self.answer, self.closed_in = name, n, answer, None

    async def ask(self, request):
        result = self.answer(request)
        return await result if asyncio.iscoroutine(result) else result

    async def aclose(self):
        self.closed_in = threading.current_thread().name


def echo(request):
    return [Reply(f"{request.row.id} {i}") for i in range(request.n)]


async def hang(request):
    await asyncio.Event().wait()


async def cling(request):
    while True:  # a provider that will not be cancelled
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            return []


@pytest.fixture
def make_pool():
    pools = []

    def make(*providers, required=False):
        pools.append(Gatherer(providers, required))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_a_scripted_model_is_a_provider():
    provider: Provider = ScriptedProvider("gpt", 8, 0.5)
    assert (provider.name, provider.n) == ("gpt", 8)


def test_every_model_answers_every_prompt_with_its_own_number_of_replies(make_pool):
    answers, wait_s, failures = make_pool(Fake("a", echo, n=1), Fake("b", echo, n=3)).ask(REQUESTS, deadline_s=5)()
    assert [[reply.text for reply in by_model["b"]] for by_model in answers] == [
        [f"{row.id} {i}" for i in range(3)] for row in ROWS
    ]
    assert [len(by_model["a"]) for by_model in answers] == [1, 1, 1]
    assert failures == {"a": 0, "b": 0} and 0 <= wait_s < 5


def test_all_calls_run_at_the_same_time(make_pool):
    # 3 prompts x 2 models x .2 s would be 1.2 s one after the other
    _, wait_s, _ = make_pool(*(ScriptedProvider(name, 1, 0.5, latency_s=0.2) for name in "ab")).ask(
        REQUESTS, deadline_s=5
    )()
    assert 0.15 < wait_s < 0.8


def test_time_spent_elsewhere_is_not_waiting_time(make_pool):
    pending = make_pool(ScriptedProvider("a", 1, 0.5, latency_s=0.2)).ask(REQUESTS, deadline_s=5)
    time.sleep(0.4)
    assert pending().wait_s < 0.1


def test_without_models_or_prompts_there_is_nothing_to_wait_for(make_pool):
    threads = threading.active_count()
    assert make_pool().ask(REQUESTS, deadline_s=5)() == ([{}, {}, {}], 0.0, {})
    assert make_pool(Fake("a", echo)).ask([], deadline_s=5)() == ([], 0.0, {"a": 0})
    assert threading.active_count() == threads


@pytest.mark.parametrize("never", [hang, cling])
def test_a_model_that_never_returns_is_cut_off_at_the_deadline_and_the_others_are_kept(make_pool, never):
    answers, wait_s, failures = make_pool(Fake("slow", never), Fake("b", echo)).ask(REQUESTS, deadline_s=0.2)()
    assert all(by_model["slow"] == Failure("slow", "timeout", "no reply within 0.2 s") for by_model in answers)
    assert all(len(by_model["b"]) == 2 for by_model in answers)
    assert failures == {"slow": 3, "b": 0} and 0.15 < wait_s < 2


def test_a_cancelled_call_learns_of_it(make_pool):
    cancelled = threading.Event()

    async def notice(request):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    make_pool(Fake("a", notice)).ask(REQUESTS[:1], deadline_s=0.1)()
    assert cancelled.wait(2)


def test_an_exception_propagates_at_once_and_names_model_and_row(make_pool):
    def broken(request):
        raise ZeroDivisionError("in the provider")

    with pytest.raises(ZeroDivisionError) as caught:  # waiting for the slow one would take an hour
        make_pool(Fake("bad", broken), Fake("slow", hang)).ask(REQUESTS[:1], deadline_s=3600)()
    assert caught.value.__notes__ == ["external model 'bad', asked about row 'r0' in step 7"]


def test_a_time_out_raised_by_a_provider_is_an_exception_like_any_other(make_pool):
    def broken(request):
        raise TimeoutError("forgot to return a Failure")

    with pytest.raises(TimeoutError, match="forgot"):
        make_pool(Fake("a", broken)).ask(REQUESTS, deadline_s=5)()


def test_a_provider_that_blocks_the_loop_is_reported_instead_of_waited_for(make_pool, monkeypatch):
    monkeypatch.setattr(gather, "GRACE_S", 0.1)
    with pytest.raises(RuntimeError, match=r"\(sleeper\) blocks the event loop"):
        make_pool(Fake("sleeper", lambda request: time.sleep(1))).ask(REQUESTS[:1], deadline_s=0.1)()


def test_blank_replies_are_dropped_and_counted(make_pool):
    def blanks(request):
        return [Reply(""), Reply(" \n")] if request.row.id == "r0" else [Reply("x"), Reply("\t")]

    answers, _, failures = make_pool(Fake("a", blanks)).ask(REQUESTS, deadline_s=5)()
    assert answers[0]["a"] == Failure("a", "bad_reply", "2 replies, none with text")
    assert answers[1]["a"] == answers[2]["a"] == [Reply("x")]
    assert failures == {"a": 3}  # one failed call, two single replies


def test_failures_are_counted_per_model_over_the_pools_life(make_pool):
    pool = make_pool(ScriptedProvider("a", 1, 0.5, fail_rate=1.0), Fake("b", echo))
    assert [pool.ask(REQUESTS, deadline_s=5)().failures for _ in range(2)] == [{"a": 3, "b": 0}] * 2
    assert pool.failures == {"a": 6, "b": 0}


def test_a_failing_model_is_warned_about_once_and_then_every_fifty_failures(make_pool, caplog):
    pool = make_pool(ScriptedProvider("gpt", 1, 0.5, fail_rate=1.0), Fake("b", echo))
    with caplog.at_level(logging.WARNING):
        for _ in range(18):  # 3 failures a step: warned at 3 and, 50 later, at 54
            pool.ask(REQUESTS, deadline_s=5)()
    messages = [entry.getMessage() for entry in caplog.records if entry.name == "open_r1.external.failures"]
    assert len(messages) == 2  # of this module: other libraries warn when they like
    assert messages[0].startswith("external model 'gpt' failed 3 times in step 7 (server: scripted failure on row")
    assert "54 times so far" in messages[1]


def test_a_required_model_that_fails_ends_the_run_with_name_number_and_remedy(make_pool):
    pool = make_pool(Fake("b", echo), ScriptedProvider("gpt", 1, 0.5, fail_rate=1.0), required=True)
    with pytest.raises(UserError, match=r"'gpt' failed for 3 of 3 prompts in step 7 .*set external_required: false"):
        pool.ask(REQUESTS, deadline_s=5)()
    answers = make_pool(Fake("b", echo), required=True).ask(REQUESTS, deadline_s=5)().answers
    assert len(answers) == 3


@pytest.mark.parametrize(("names", "rule"), [(["a", "a"], "'a' is given twice"), (["policy"], "the policy's own")])
def test_names_must_tell_the_models_apart(names, rule):
    with pytest.raises(UserError, match=rule):
        Gatherer([Fake(name, echo) for name in names])


def test_one_thread_serves_all_steps_and_ends_with_the_pool():
    seen = set()

    def note(request):
        seen.add(threading.current_thread())
        return echo(request)

    provider = Fake("a", note)
    pool = Gatherer([provider])
    for _ in range(3):
        pool.ask(REQUESTS, deadline_s=5)()
    (thread,) = seen
    assert thread.is_alive() and thread.daemon
    pool.close()
    pool.close()
    assert not thread.is_alive() and provider.closed_in == "external-models"


def test_the_pool_asks_those_that_can_tell_about_what_others_wrote_and_waits_no_longer_than_allowed(make_pool):
    class Scorer(Fake):
        scores, pause_s = True, 0.0

        async def score(self, request, texts):
            await asyncio.sleep(self.pause_s)
            return [None if text == "odd" else (-float(len(text)),) for text in texts]

    quick, slow, silent = Scorer("quick", echo), Scorer("slow", echo), Fake("silent", echo)
    slow.pause_s = 3600.0
    written = [("policy", "abc"), ("policy", "abc"), ("quick", "own"), ("silent", "odd")]
    known = make_pool(quick, slow, silent).score(REQUESTS[:2], [written, []], deadline_s=0.2)
    assert known == [{("quick", "abc"): (-3.0,)}, {}]
    assert make_pool(silent).score(REQUESTS[:1], [written], deadline_s=0.2) == [{}]


def test_blank_replies_of_a_hidden_reasoner_name_max_tokens(make_pool):
    answers = make_pool(Fake("a", lambda request: [Reply("", "length")] * 2)).ask(REQUESTS[:1], deadline_s=5)().answers
    assert answers[0]["a"].message.startswith(
        "2 replies, none with text: hidden reasoning used up max_tokens; raise it"
    )


def test_closing_ends_what_a_library_left_running_on_the_loop(make_pool, recwarn):
    left = []

    def leave(request):
        left.append(asyncio.get_running_loop().create_task(asyncio.Event().wait()))
        return echo(request)

    pool = make_pool(Fake("a", leave))
    pool.ask(REQUESTS[:1], deadline_s=5)()
    pool.close()
    assert left[0].cancelled()

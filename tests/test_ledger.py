"""The ledger: what is spent and reserved never passes the budget, whoever asks, and no amount is forgotten."""

import multiprocessing
import os
import signal
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_r1.external.store.database import Database
from open_r1.external.store.ledger import NANO, Account, Ledger
from open_r1.schema import UserError


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "store.sqlite")
    yield database
    database.close()


def test_a_call_is_reserved_at_its_bound_and_counted_at_its_cost(database):
    ledger = Ledger(database, budget_usd=0.10)
    call = ledger.reserve(b"a", "gpt", 0.08)
    assert isinstance(call, int) and ledger.accounts() == {}
    assert ledger.reserve(b"b", "gpt", 0.03) == "wait"  # .08 + .03 > .10, but the first may come out cheaper
    ledger.settle(call, "gpt", 0.05)
    assert ledger.accounts() == {"gpt": Account(0.05, 0.0, 1)}
    assert ledger.reserve(b"b", "gpt", 0.06) == "over"  # .05 + .06 > .10 for good
    assert isinstance(ledger.reserve(b"c", "gpt", 0.05), int)


def test_ten_calls_of_ten_cents_fit_into_a_dollar_exactly(database):
    ledger = Ledger(database, budget_usd=1.0)
    for i in range(10):
        call = ledger.reserve(bytes([i]), "gpt", 0.1)
        assert isinstance(call, int)
        ledger.settle(call, "gpt", 0.1)
    assert ledger.reserve(b"last", "gpt", 1e-9) == "over" and ledger.counted_usd == 1.0


def test_a_question_is_claimed_while_a_call_about_it_is_open(database):
    ledger = Ledger(database)
    call = ledger.reserve(b"a", "gpt", 0.0)
    assert isinstance(call, int)
    assert Ledger(database).reserve(b"a", "gpt", 0.0) == "claimed"
    ledger.release(call)
    assert isinstance(ledger.reserve(b"a", "gpt", 0.0), int)


def test_without_a_budget_everything_is_granted_and_counted(database):
    ledger = Ledger(database)
    for model, usd in (("a", 1e6), ("b", 0.25)):
        call = ledger.reserve(model.encode(), model, usd)
        assert isinstance(call, int)
        ledger.settle(call, model, usd)
    assert ledger.accounts() == {"a": Account(1e6, 0.0, 1), "b": Account(0.25, 0.0, 1)}


def test_the_next_run_goes_on_from_what_was_spent(tmp_path):
    for spent in (0.0, 0.4, 0.8):
        database = Database(tmp_path / "store.sqlite")
        ledger = Ledger(database, budget_usd=1.0)
        assert ledger.counted_usd == spent
        call = ledger.reserve(b"a", "gpt", 0.4)
        if spent < 0.8:
            assert isinstance(call, int)
            ledger.settle(call, "gpt", 0.4)
        else:
            assert call == "over"
        database.close()


def test_what_a_closed_ledger_left_open_is_in_doubt_and_counts(database):
    ledger = Ledger(database, budget_usd=1.0)
    ledger.reserve(b"a", "gpt", 0.3)
    ledger.close()
    assert ledger.accounts() == {"gpt": Account(0.0, 0.3, 0)} and ledger.counted_usd == 0.3
    assert isinstance(ledger.reserve(b"a", "gpt", 0.7), int)  # the question is free again


def _open_a_call_and_die(path) -> None:
    Ledger(Database(path)).reserve(b"a", "gpt", 0.3)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_call_of_a_killed_process_is_in_doubt_and_its_question_free_again(database):
    ledger = Ledger(database, budget_usd=1.0)  # opened before the other process dies
    process = multiprocessing.get_context("spawn").Process(target=_open_a_call_and_die, args=(database.path,))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    assert isinstance(ledger.reserve(b"a", "gpt", 0.7), int)
    assert ledger.accounts() == {"gpt": Account(0.0, 0.3, 0)}
    assert Ledger(database).accounts() == {"gpt": Account(0.0, 0.3, 0)}  # once


@pytest.mark.parametrize("budget", [-1.0, float("inf"), float("nan")])
def test_a_budget_is_an_amount(database, budget):
    with pytest.raises(UserError, match="must be 0 or more dollars"):
        Ledger(database, budget)


@settings(deadline=None, max_examples=40)
@given(
    budget=st.integers(0, 50),
    calls=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.booleans()), max_size=30),
)
def test_spent_in_doubt_and_open_never_pass_the_budget_in_any_order_of_events(tmp_path_factory, budget, calls):
    """Calls of (bound, cost up to the bound, settled at once or left open): cents, so that sums are exact."""
    database = Database(tmp_path_factory.mktemp("law") / "store.sqlite")
    ledger = Ledger(database, budget / 100)
    open_cents, spent_cents = 0, 0
    for i, (bound, cost, now) in enumerate(calls):
        call = ledger.reserve(str(i).encode(), "gpt", bound / 100)
        fits = spent_cents + open_cents + bound <= budget or bound == 0
        assert isinstance(call, int) == fits
        if isinstance(call, int):
            if now:
                ledger.settle(call, "gpt", min(cost, bound) / 100)
                spent_cents += min(cost, bound)
            else:
                open_cents += bound
        assert round(ledger.counted_usd * 100) == spent_cents and spent_cents + open_cents <= budget
    ledger.close()
    assert round(ledger.counted_usd * NANO) == (spent_cents + open_cents) * NANO // 100
    database.close()


def test_threads_together_pass_the_budget_no_more_than_one_does(database):
    granted = []

    def spend(name: int) -> None:
        ledger = Ledger(database, budget_usd=1.0)
        for i in range(40):
            call = ledger.reserve(f"{name}/{i}".encode(), "gpt", 0.01)
            if isinstance(call, int):
                granted.append(call)
                ledger.settle(call, "gpt", 0.01)

    threads = [threading.Thread(target=spend, args=(name,)) for name in range(4)]  # 1.60 $ are wanted
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(granted) == 100 and Ledger(database).counted_usd == 1.0

"""Laws of the money over made-up responses and orders of events; scripts/check_money.py runs them by the thousand."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import run_state_machine_as_test

from fault_server import FaultServer
from money_checks import MoneyMachine, check_response, picture, responses
from open_r1.external.store.database import Database
from open_r1.external.store.ledger import Ledger
from open_r1.external.store.replies import Store

NONE = list(HealthCheck)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_no_response_raises_and_none_is_counted_below_what_was_billed(tmp_path):
    image, database = picture(tmp_path), Database(tmp_path / "store.sqlite")
    ledger, store, seen = Ledger(database), Store(database), []

    with FaultServer(raw="") as server:

        @settings(
            max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=responses)
        def check(case):
            seen.append(check_response(server, ledger, store, image, f"{len(seen)}", case))

        check()
    assert {"replies", "bad_reply", "refused", "server"} <= set(seen)
    database.close()


def test_no_order_of_events_loses_or_overspends():
    with FaultServer() as server:
        MoneyMachine.server = server
        run_state_machine_as_test(
            MoneyMachine,
            settings=settings(
                max_examples=6, stateful_step_count=25, derandomize=True, deadline=None, database=None,
                suppress_health_check=NONE,
            ),
        )  # fmt: skip

"""Holds the laws of the money by the thousand, into results/money.json: made-up responses, and orders of events.

    python scripts/check_money.py [--responses 5000] [--steps 10000] [--seed 0] [--output results/money.json]

Minutes on two idle cores. The first law broken ends it with the smallest case that breaks it, and nothing is written;
tests/money_checks.py says what is held, tests/test_money_laws.py holds it with a few hundred each.
"""

import argparse
import logging
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# The server that misbehaves, and the laws, are the tests'.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from hypothesis import HealthCheck, given, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from tqdm import tqdm

from fault_server import FaultServer
from money_checks import MoneyMachine, check_response, picture, responses
from open_r1.external.store.database import Database
from open_r1.external.store.ledger import Ledger
from open_r1.external.store.replies import Store
from open_r1.utils.provenance import ROOT, figure, write_figures

STEPS_PER_EXAMPLE = 50
PLAIN: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def check_responses(count: int, start: int) -> Counter[str]:
    """Send `count` made-up responses through provider, store and ledger; returns what became of them."""
    logging.disable(logging.WARNING)  # every fault of the server is said, and there are thousands
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, FaultServer(raw="") as server, tqdm(total=count) as bar:
        image, database = picture(Path(folder)), Database(Path(folder) / "store.sqlite")
        ledger, store = Ledger(database), Store(database)

        @seed(start)
        @settings(max_examples=count, **PLAIN)
        @given(case=responses)
        def check(case: Any) -> None:
            outcomes[check_response(server, ledger, store, image, f"{outcomes.total()}", case)] += 1
            bar.update()

        check()
        database.close()
    return outcomes


def check_orders(steps: int, start: int) -> int:
    """Run the machine for `steps` steps at least; returns how many were made."""
    logging.disable(logging.WARNING)
    MoneyMachine.steps = 0
    with FaultServer() as server, tqdm(total=steps) as bar:
        MoneyMachine.server = server
        for number in range(start, start + steps):  # each example makes one step at least
            machine = seed(number)(type("Machine", (MoneyMachine,), {}))
            run_state_machine_as_test(
                machine, settings=settings(max_examples=10, stateful_step_count=STEPS_PER_EXAMPLE, **PLAIN)
            )
            bar.update(MoneyMachine.steps - bar.n)
            if MoneyMachine.steps >= steps:
                break
    return MoneyMachine.steps


def main() -> None:
    """Check and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=5_000)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "money.json")
    args = parser.parse_args()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as side_by_side:
        sent = side_by_side.submit(check_responses, args.responses, args.seed)
        made = side_by_side.submit(check_orders, args.steps, args.seed)
        outcomes, steps = sent.result(), made.result()
    figures = [
        figure("made-up responses that kept every law", outcomes.total(), "", f">= {args.responses}"),
        figure("steps of buying, dying, starting again and settling that kept it", steps, "", f">= {args.steps}"),
    ]
    write_figures(args.output, "Money: laws over made-up responses and orders of events", figures, seed=args.seed,
                  outcomes=dict(outcomes))  # fmt: skip


if __name__ == "__main__":
    main()

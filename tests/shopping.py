"""Real collecting processes against a real server that counts its sales: shared by the tests and the benchmark."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buyer import PROMPT, N, requests
from open_r1.external.store.database import Database
from open_r1.external.store.replies import Store, reply_key

HERE = Path(__file__).resolve().parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HERE.parent / 'src'}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
DEADLINE_S = 300  # for one collecting process


@contextmanager
def seller(*options: str) -> Iterator[int]:
    """A running tests/seller.py; yields its port."""
    command = [sys.executable, str(HERE / "seller.py"), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdin and process.stdout
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def buy(port: int, store: Path, *options: str) -> subprocess.Popen:
    """A collecting process."""
    command = [sys.executable, str(HERE / "buyer.py"), str(port), str(store), *options]
    return subprocess.Popen(command, env=ENVIRONMENT)


def told(port: int) -> dict:
    """What the server has sold so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return json.load(answer)


def kill_once(port: int, store: Path, rows: int, after: int) -> tuple[set[str], set[str]]:
    """Collect and kill -9 after `after` more sales.

    Returns:
        The rows in flight at the kill; and those lost: sold, not in flight, and not in the store.
    """
    before = told(port)["calls"]
    process = buy(port, store, "--rows", str(rows))
    give_up_at = time.monotonic() + DEADLINE_S
    while process.poll() is None and told(port)["calls"] < before + after:
        assert time.monotonic() < give_up_at, "the collecting process buys nothing"
        time.sleep(0.005)
    process.kill()
    process.wait(30)
    time.sleep(0.2)  # what the server still had to answer is sold by now
    database = Database(store)
    open_keys = {key for (key,) in database.rows("select key from open_calls")}
    kept = {asked.row_id for asked, told_ in Store(database).everything() if len(told_) == N}
    database.close()
    keys = {reply_key(asked, PROMPT, "seller", {"name": "seller"}).key: asked.row.id for asked in requests(rows)}
    in_flight = {keys[key] for key in open_keys}
    return in_flight, set(told(port)["sold"]) - kept - in_flight

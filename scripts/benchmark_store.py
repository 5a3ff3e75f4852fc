"""Measures the store and the ledger, into results/store.json: look-up, opening, 50 kills, one budget for two processes.

    python scripts/benchmark_store.py [--replies 1000000] [--kills 50] [--output results/store.json]

About eight minutes on two idle cores with the defaults, 2 GiB of disk in a temporary folder. The server that sells the
replies is tests/seller.py; what was sold is its count, not ours.
"""

import argparse
import hashlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

# The server that sells replies is the tests'.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tqdm import tqdm

from open_r1.external.store.database import Database
from open_r1.external.store.replies import PromptVersion, ReplyKey, Store
from open_r1.schema import Reply
from open_r1.utils.provenance import ROOT, figure, write_figures
from shopping import DEADLINE_S, buy, kill_once, seller, told

N, STEP_KEYS, ROUNDS = 8, 256, 30  # replies per question; questions looked up at once, and how often
PROMPT = PromptVersion("clevr_math", "reasoning", " Think first.")
ROWS_PER_KILL = 16  # rows that a kill leaves to be bought


def key(number: int) -> bytes:
    """The address of a made-up question."""
    return hashlib.sha256(str(number).encode()).digest()


def fill(path: Path, replies: int) -> None:
    """Write that many replies of 1 kB, N to a question."""
    store, text = Store(Database(path)), "x" * 1000
    reply = Reply(text, prompt_tokens=300, completion_tokens=250, cost_usd=0.003, latency_s=1.5)
    with tqdm(total=replies, desc="filling", unit="reply", unit_scale=True) as bar:
        for first in range(0, replies // N, 2000):
            numbers = range(first, min(first + 2000, replies // N))
            asked = [ReplyKey(key(i), PROMPT, "gpt", "{}", f"row-{i}", "4") for i in numbers]
            bar.update(store.add([(question, 0, [reply] * N) for question in asked]))
    store.database.close()


def forget(path: Path) -> None:
    """Drop the file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def look_up(path: Path, replies: int) -> list[dict[str, Any]]:
    """Opening, and looking up a step's questions, with the file in the page cache and without."""
    rng = random.Random(0)
    seconds: dict[str, list[float]] = {"open": [], "cold": [], "warm": [], "few": []}
    for _ in tqdm(range(ROUNDS), desc="looking up", unit="round"):
        forget(path)
        began = time.perf_counter()
        store = Store(Database(path))
        seconds["open"].append(time.perf_counter() - began)
        keys = [key(i) for i in rng.sample(range(replies // N), STEP_KEYS)]
        for temperature in ("cold", "warm"):
            began = time.perf_counter()
            found = store.replies(keys)
            seconds[temperature].append(time.perf_counter() - began)
            assert len(found) == STEP_KEYS and all(len(told) == N for told in found.values())
        began = time.perf_counter()
        store.replies(keys[: STEP_KEYS // N])
        seconds["few"].append(time.perf_counter() - began)
        store.database.close()
    median = {name: statistics.median(values) for name, values in seconds.items()}
    what = f"{STEP_KEYS} questions ({STEP_KEYS * N} replies)"
    return [
        figure(f"opening a store of {replies:,} replies of 1 kB", median["open"], "s", "< 1"),
        figure(f"look-up of {STEP_KEYS} replies ({STEP_KEYS // N} questions)", 1000 * median["few"], "ms", "< 20"),
        figure(f"look-up of {what}, in the page cache", 1000 * median["warm"], "ms", "< 20"),
        figure(f"look-up of {what}, not in the page cache", 1000 * median["cold"], "ms", None),
    ]


def kills(folder: Path, count: int) -> list[dict[str, Any]]:
    """Kill a collection `count` times at random moments, finish it, run it once more."""
    store, rng, rows = folder / "killed.sqlite", random.Random(0), count * ROWS_PER_KILL
    in_flight, lost = Counter(), 0
    with seller("--latency_s", "0.05") as port:
        for _ in tqdm(range(count), desc="kill -9", unit="kill"):
            cut_off, gone = kill_once(port, store, rows, after=rng.randint(1, ROWS_PER_KILL))
            in_flight.update(cut_off)
            lost += len(gone)
        assert buy(port, store, "--rows", str(rows)).wait(DEADLINE_S) == 0
        sold = told(port)
        assert buy(port, store, "--rows", str(rows)).wait(DEADLINE_S) == 0
        again = told(port)
    twice = sum(max(0, sales - 1 - in_flight[row]) for row, sales in sold["sold"].items())
    return [
        figure(f"paid replies lost in {count} kills", lost, "replies", "<= 0"),
        figure("bought twice without being in flight at a kill", twice, "replies", "<= 0"),
        figure("in flight at the kills", in_flight.total(), "calls", None),
        figure("requests of a second run", again["calls"] - sold["calls"], "requests", "<= 0"),
        figure("dollars of a second run", again["usd"] - sold["usd"], "$", "<= 0"),
    ]


def budget(folder: Path) -> list[dict[str, Any]]:
    """Two processes at concurrency 64 on one budget of 1.00 $, 4 $ wanted."""
    with seller("--latency_s", "0.05", "--usd", "0.01") as port:
        words = ["--rows", "200", "--budget", "1.0", "--concurrency", "64"]
        for process in [buy(port, folder / "budget.sqlite", *words) for _ in range(2)]:
            assert process.wait(DEADLINE_S) == 0
        usd = told(port)["usd"]
    return [figure("spent of 1.00 $ by the server's count, concurrency 64, two processes", usd, "$", "<= 1")]


def main() -> None:
    """Measure everything and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "store.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store_") as name:
        folder = Path(name)
        fill(folder / "store.sqlite", args.replies)
        figures = look_up(folder / "store.sqlite", args.replies) + kills(folder, args.kills) + budget(folder)
    write_figures(args.output, "Store and ledger", figures, seeds=[0])
    for line in figures:
        print(f"{line['label']}: {line['value']} {line['unit']}" + (f" ({line['target']})" if line["target"] else ""))


if __name__ == "__main__":
    main()

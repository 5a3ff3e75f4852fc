"""Measures what slow teachers cost a training step, into results/prefetch.json: with and without asking ahead.

    python scripts/benchmark_prefetch.py [--steps 40] [--latency_s 3] [--output results/prefetch.json]

Four runs of the tiny counting recipe through launch.py, one after the other on one machine: plain GRPO; EKIPL with an
empty store, asked ahead; EKIPL with an empty store, not asked ahead; EKIPL from the second run's store. About ten
minutes on two idle cores with the defaults. Compared are medians of `step_time`, the first step left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from open_r1.external import open_store
from open_r1.utils.provenance import ROOT, figure, write_figures

DEADLINE_S = 3600  # for one run
PROMPTS = 8  # per step, recipes/tasks/clevr_math/tiny.yaml
TEST_ROWS = 4  # accuracy is not what is measured


def train(folder: Path, method: str, steps: int, *words: str) -> list[dict[str, Any]]:
    """Train in a process of its own; returns the lines of metrics.jsonl but the first."""
    command = [sys.executable, "-m", "open_r1.launch", "--method", method, "--output_dir", str(folder)]
    command += ["--max_steps", str(steps), "--num_train_rows", str(steps * PROMPTS), "--num_test_rows", str(TEST_ROWS)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with folder.with_suffix(".log").open("w") as log:
        subprocess.run([*command, *words], check=True, timeout=DEADLINE_S, stdout=log, stderr=log, env=environment)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return lines[1:]


def calls(path: Path) -> int:
    """How many requests the store's ledger has settled."""
    store, ledger = open_store(path, read_only=True)
    made = sum(account.calls for account in ledger.accounts().values())
    store.database.close()
    return made


def main() -> None:
    """Run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--latency_s", type=float, default=3.0)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "prefetch.json")
    args = parser.parse_args()
    late = [word for i in range(2) for word in (f"--external_models[{i}].latency_s", str(args.latency_s))]
    lines: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="prefetch_") as name, tqdm(total=4, desc="runs", unit="run") as bar:
        folder = Path(name)
        first, other = folder / "ahead.sqlite", folder / "waiting.sqlite"
        ahead = ["--store_path", str(first), *late]
        runs = {
            "grpo": ("grpo", []),
            "ahead": ("ekipl", ahead),
            "waiting": ("ekipl", ["--store_path", str(other), "--external_prefetch_steps", "0", *late]),
            "again": ("ekipl", ahead),
        }
        for run, (method, words) in runs.items():
            bar.set_postfix_str(run)
            before = calls(first) if run == "again" else 0
            lines[run] = train(folder / run, method, args.steps, *words)
            bar.update()
        bought, again = before, calls(first) - before
    step = {run: statistics.median(line["step_time"] for line in lines[run]) for run in lines}
    wait = {run: statistics.median(line["external/wait_s"] for line in lines[run]) for run in lines if run != "grpo"}
    ratio = step["ahead"] / step["grpo"]
    figures = [
        figure("median step, plain GRPO", step["grpo"], "s", None),
        figure(f"median step, EKIPL, teachers of {args.latency_s:g} s asked ahead", step["ahead"], "s", None),
        figure(f"median step, EKIPL, teachers of {args.latency_s:g} s not asked ahead", step["waiting"], "s", None),
        figure("median step, EKIPL from the store", step["again"], "s", None),
        figure("EKIPL asked ahead : plain GRPO", ratio, "x", "<= 1.05"),
        figure("EKIPL not asked ahead : plain GRPO", step["waiting"] / step["grpo"], "x", None),
        figure("of a step waiting, asked ahead", wait["ahead"], "s", None),
        figure("of a step waiting, not asked ahead", wait["waiting"], "s", None),
        figure("requests of the first run", bought, "requests", None),
        figure("requests of the second run", again, "requests", "<= 0"),
    ]
    write_figures(args.output, "Slow teachers", figures, seeds=[0])
    for line in figures:
        print(f"{line['label']}: {line['value']} {line['unit']}" + (f" ({line['target']})" if line["target"] else ""))


if __name__ == "__main__":
    main()

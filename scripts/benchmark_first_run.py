"""Measures what a newcomer meets in a fresh clone: `make train`, `make eval`, `make test`, into results/first_run.json.

    python scripts/benchmark_first_run.py [--folder /tmp/first_run] [--no_test]

Clones the last commit into an empty folder, runs the commands of the README there, keeps the seconds of each stage
and the largest memory of any process. The clone is deleted afterwards, the virtual environment with it.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from open_r1.utils.provenance import ROOT, figure, write_figures

DEADLINE_S = 3600  # for either command


def timed(command: list[str], folder: Path) -> float:
    """Run a command to its end, its output shown; returns its wall-clock seconds."""
    began = time.monotonic()
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    subprocess.run(command, cwd=folder, check=True, timeout=DEADLINE_S, env=environment)
    return time.monotonic() - began


def main() -> None:
    """Clone, run, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to clone to (default: a temporary folder)")
    parser.add_argument("--no_test", action="store_true", help="leave `make test` out")
    args = parser.parse_args()
    clone = args.folder or Path(tempfile.mkdtemp(prefix="first_run_")) / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    try:
        train = timed(["make", "train"], clone)
        run = next((clone / "runs").glob("*/summary.json")).parent
        summary = json.loads((run / "summary.json").read_text())
        timed(["make", "eval", f"MODEL_PATH={run}", "K=4", f"OUTPUT={clone / 'evaluation'}"], clone)
        evaluation = json.loads((clone / "evaluation" / "scores.json").read_text())
        test = None if args.no_test else timed(["make", "test"], clone)
    finally:
        shutil.rmtree(clone, ignore_errors=True)
    seconds = summary["seconds"]
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    figures = [
        figure("`make train` from a fresh clone to the table", train, "s", "<= 720"),
        figure("of it installing", seconds["install"], "s", "<= 240"),
        figure("of it making data", seconds["data"], "s", None),
        figure("of it training and both evaluations", seconds["train"] + seconds["eval"], "s", "<= 360"),
        figure("`make eval`, four replies a row", evaluation["replies_per_s"], "replies/s", ">= 20"),
        figure("largest memory of a process", peak_mib, "MiB", "<= 4096"),
    ]
    if test is not None:
        figures.append(figure("`make test`", test, "s", "<= 480"))
    write_figures(ROOT / "results" / "first_run.json", "First run", figures)


if __name__ == "__main__":
    main()

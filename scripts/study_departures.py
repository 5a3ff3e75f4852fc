"""What each departure from the paper is worth (docs/METHOD.md): EKIPL+ on the counting task, one change each.

    python scripts/study_departures.py                         # results/departures.json
    python scripts/study_departures.py --cells "no warm-up"    # some of them; those that are finished are in the table
    python scripts/study_departures.py --cells                 # the table of those that are finished; makes none

Runs are those of scripts/study_learning.py, without its curve. A difference is taken seed by seed from the run that
changes nothing, so that data, order and base policy are the same.
"""

import argparse
import datetime
import json
import shlex
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import study_learning as learning
from open_r1.schema import UserError
from open_r1.utils.files import write_json
from open_r1.utils.names import unknown_name
from open_r1.utils.provenance import figure, hardware
from study_learning import Job

TASK = "clevr_math"
WHOLE = "as in the recipe"
CELLS = {  # what is changed: overrides of methods/ekipl_plus.yaml
    WHOLE: "",
    "KL without the ratio": "--use_bias_correction_kl false",
    # what loss_level: reply sets
    "ratios of whole replies": "--importance_sampling_level sequence --loss_type luspo",
    "no warm-up": "--warmup_steps 0",
    "is, factors at most 10": "--external_weight is",
    "is, factors without bound": "--external_weight is --weight_max null",
}
LOGGED = ("kl/policy", "grad_norm", "weights/max", "weights/bounded")  # means over the steps of these, maxima of maxima


def jobs_of(cells: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """The runs, seeds outermost."""
    extra = {cell: ("--curve_every", "0", *shlex.split(CELLS[cell])) for cell in cells}
    return [Job(TASK, "ekipl_plus", seed, extra[cell], cell) for seed in seeds for cell in cells]


def result_of(job: Job) -> dict[str, Any]:
    """What one run came to, in points (percent of the test rows)."""
    summary = json.loads((job.folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    columns = {name: [line[name] for line in lines if line.get(name) is not None] for name in LOGGED}
    logged = {
        name: (max if name.endswith("/max") else statistics.fmean)(values) for name, values in columns.items() if values
    }
    accuracy = {name: 100 * summary["final"][name]["accuracy"] for name in ("id", "ood")}
    return {"cell": job.cell, "seed": job.seed, "commit": summary["commit"], **accuracy, **logged}


def difference(runs: Sequence[Mapping[str, Any]], cell: str) -> dict[str, Any]:
    """Of one cell the accuracies and, seed by seed, how far they are from the run that changes nothing."""
    whole = {run["seed"]: run for run in runs if run["cell"] == WHOLE}
    own = [run for run in runs if run["cell"] == cell]
    entry: dict[str, Any] = {"cell": cell, "overrides": CELLS[cell], "runs": len(own)}
    for name in ("id", "ood"):
        points = [run[name] - whole[run["seed"]][name] for run in own if run["seed"] in whole]
        entry |= {name: statistics.fmean(run[name] for run in own), f"{name}_difference": points}
    return entry


def results(runs: Sequence[Mapping[str, Any]], command: str, seeds: Sequence[int]) -> dict[str, Any]:
    """What results/departures.json holds: every run, and the figures of docs/RESULTS.md."""
    cells = [difference(runs, cell) for cell in CELLS if any(run["cell"] == cell for run in runs)]
    figures = [
        figure(f"{cell['cell']}: {'in' if name == 'id' else 'out of'} domain, seed {seed}", points, "points")
        for cell in cells
        if cell["cell"] != WHOLE
        for name in ("id", "ood")
        for seed, points in zip(seeds, cell[f"{name}_difference"], strict=True)
    ]
    return {
        "name": "What each departure from the paper is worth: EKIPL+ on counting, points against the recipe as it is",
        "command": command,
        "commit": ", ".join(sorted({run["commit"] for run in runs})),
        "hardware": hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "task": TASK,
        "method": "ekipl_plus",
        "seeds": list(seeds),
        "figures": figures,
        "cells": cells,
        "measured": list(runs),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Make the runs and write the results; exit status 1 where a run failed, 2 for invalid input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="*", default=list(CELLS), help="; ".join(CELLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, one thread each")
    parser.add_argument("--deadline_s", type=float, default=3600.0, help="seconds after which a run counts as failed")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs are stopped too
    try:
        for cell in args.cells:
            if cell not in CELLS:
                raise unknown_name("cell", cell, CELLS)
        failed = learning.make_runs(jobs_of(args.cells, args.seeds), args.jobs, args.deadline_s)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    runs = [result_of(job) for job in jobs_of(list(CELLS), args.seeds) if (job.folder / "summary.json").is_file()]
    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "scripts/study_departures.py", *words])
    write_json(learning.RESULTS / "departures.json", results(runs, command, args.seeds))
    for job, reason in failed.items():
        print(f"{job.cell}, seed {job.seed} failed: {reason}; see {job.command.log}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""From the finished runs of an ablation to its results file and picture; imported by scripts/study_ablation.py."""

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

# The script also runs where the package is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from open_r1.figures_study import draw_cells
from open_r1.schema import POLICY
from open_r1.summary import column, read_metrics
from open_r1.tasks import get_task
from open_r1.utils.provenance import hardware, write_json
from study_learning import Job

RUN_KEYS = ("task", "seed", "base", "final", "dead_groups", "kept_share", "seconds", "commit")
HEAD = [
    *("task", "cell", "runs", "ID after", "OOD after", "samples to GRPO's end"),
    *("avoidable dead groups", "external kept, start → end", "KL, end"),
]
NOTE = (
    "Accuracy in percent after training, mean over the seeds (lowest to highest); the overrides of a cell are in"
    " `scripts/study_ablation.py`. Samples to GRPO's end: share of the run's prompts after which the policy's training"
    " accuracy, mean of the last tenth of the run, is that of GRPO at its end with the same seed; aim: at most 25 %."
    " Avoidable dead groups: of the prompts whose pool was not all-equal, those that taught nothing; aim: at most 5 %."
    " KL to the base policy, nats per token of the policy's kept candidates."
)


def training_curve(job: Job) -> np.ndarray:
    """The policy's mean accuracy on the prompts of the last tenth of the run, at every step (S,).

    Taken before selection, on prompts that are seen once: in-domain accuracy at the training temperature.
    """
    accuracy = column(read_metrics(job.folder), "policy/accuracy")
    tenth = max(1, len(accuracy) // 10)
    summed = np.concatenate(([0.0], np.cumsum(accuracy)))
    ends = np.arange(1, len(accuracy) + 1)
    starts = np.maximum(0, ends - tenth)
    return (summed[ends] - summed[starts]) / (ends - starts)


def share_until(curve: np.ndarray, level: float) -> float | None:
    """Share of the samples after which the curve reaches the level; None where it never does.

    >>> share_until(np.array([0.1, 0.3, 0.2, 0.4]), 0.3)
    0.5
    """
    above = np.flatnonzero(curve >= level - 1e-9)  # sums of floats
    return float((above[0] + 1) / len(curve)) if len(above) else None


def describe(job: Job, baseline: Job | None) -> dict[str, Any]:
    """What the table needs of a run: scores, samples to the end of `baseline`'s curve, dead groups, KL."""
    summary, metrics = json.loads((job.folder / "summary.json").read_text()), read_metrics(job.folder)
    dead = {when: float(np.mean(column(metrics, f"dead_groups/{when}"))) for when in ("after", "pool", "update")}
    alive = 1 - dead["pool"]
    kl = column(metrics, f"kl/{POLICY}")[-max(1, len(metrics) // 10) :]
    curve = training_curve(job)
    return {
        "cell": job.cell,
        **{key: summary[key] for key in RUN_KEYS},
        # of the groups that some selection could have kept alive, the share that taught nothing
        "dead_avoidable": (dead["update"] - dead["pool"]) / alive if alive > 0 else 0.0,
        "kl_end": float(np.nanmean(kl)),
        "train_accuracy_end": float(curve[-1]),
        "samples_to_baseline": share_until(curve, float(training_curve(baseline)[-1])) if baseline else None,
    }


def table(runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row per task and cell, means over the seeds; the columns are those of HEAD."""
    rows = []
    for task, cell in dict.fromkeys((run["task"], run["cell"]) for run in runs):
        group = [run for run in runs if (run["task"], run["cell"]) == (task, cell)]
        reached = [run["samples_to_baseline"] for run in group if run["samples_to_baseline"] is not None]
        samples = f"{100 * fmean(reached):.0f} %" if reached else "never"
        external = [fmean(1 - run["kept_share"][end][POLICY] for run in group) for end in ("start", "end")]
        rows.append(
            [
                *(get_task(task).title, cell, str(len(group))),
                *(percent([run["final"][name]["accuracy"] for run in group]) for name in ("id", "ood")),
                samples + (f" ({len(reached)} of {len(group)})" if 0 < len(reached) < len(group) else ""),
                f"{100 * fmean(run['dead_avoidable'] for run in group):.0f} %",
                " → ".join(f"{100 * share:.0f} %" for share in external),
                f"{fmean(run['kl_end'] for run in group):.3f}",
            ]
        )
    return rows


def percent(values: Sequence[float]) -> str:
    """A mean with its extremes, in percent: "45.3 (42.1 to 48.0)"."""
    return f"{100 * fmean(values):.1f} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def ranking(runs: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
    """Cells from the best to the worst by final accuracy, mean of ID and OOD, over GRPO's of the same task and seed.

    Only cells that were run on every task, with every seed, for the published teachers; points.
    """
    score = {(r["cell"], r["task"], r["seed"]): fmean(r["final"][n]["accuracy"] for n in ("id", "ood")) for r in runs}
    places = [(task, seed) for cell, task, seed in score if cell == "grpo"]
    whole = [c for c in dict.fromkeys(r["cell"] for r in runs) if all((c, *place) in score for place in places)]
    leads = [(c, 100 * fmean(score[c, *place] - score["grpo", *place] for place in places)) for c in whole if places]
    return sorted(leads, key=lambda lead: -lead[1])


def write_results(
    path: Path, command: str, jobs: Sequence[Job], failed: Mapping[Job, str], cells: Mapping[str, Any]
) -> None:
    """Write the results file and docs/images/<its name>.png of the runs that did not fail; of none, nothing.

    Args:
        path: results/<name>.json.
        command: the command line that is written beside the numbers.
        jobs: all runs of the study.
        failed: those that failed, with the reason in one line.
        cells: what each cell's name stands for, kept beside the numbers.
    """
    done = [job for job in jobs if job not in failed]
    if not done:
        return
    baselines = {(job.task, job.seed): job for job in done if job.cell == "grpo"}
    runs = [describe(job, baselines.get((job.task, job.seed))) for job in done]
    leads = "; ".join(f"{cell} {lead:+.1f}" for cell, lead in ranking(runs))
    result = {
        "name": "Ablation",
        "note": NOTE + (f" Points over GRPO, mean of ID and OOD over all tasks and seeds: {leads}." if leads else ""),
        "image": f"images/{path.stem}.png",
        "head": HEAD,
        "rows": table(runs),
        "command": command,
        "commit": ", ".join(sorted({run["commit"] for run in runs})),
        "hardware": hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seeds": list(dict.fromkeys(job.seed for job in jobs)),
        "cells": {cell: cells[cell]._asdict() for cell in dict.fromkeys(job.cell for job in jobs)},
        "runs": runs,
        "failed": [{"task": j.task, "cell": j.cell, "seed": j.seed, "reason": why} for j, why in failed.items()],
    }
    write_json(path, result)
    draw_cells(runs, path.parents[1] / "docs" / result["image"])

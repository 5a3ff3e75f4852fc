"""From the finished runs of an ablation to its results file and picture; imported by scripts/study_ablation.py."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from open_r1.report.run_folder import column
from open_r1.report.runs import Run, curve_points, passing_share, read_runs
from open_r1.report.study_figures import draw_cells
from open_r1.schema import POLICY
from open_r1.tasks import get_task
from open_r1.utils.files import write_json
from open_r1.utils.provenance import hardware
from study_learning import Job

RUN_KEYS = ("task", "seed", "base", "final", "dead_groups", "kept_share", "seconds", "commit")
HEAD = [
    *("task", "cell", "runs", "ID after", "OOD after", "samples to GRPO's ID", "samples to GRPO's OOD", "pass@16"),
    *("avoidable dead groups", "external kept, start → end", "KL, end"),
]
NOTE = (
    "Accuracy in percent after training, mean over the seeds (lowest to highest); the overrides of a cell are in"
    " `scripts/study_ablation.py`. Samples to GRPO's ID and OOD: share of GRPO's prompts after which the cell's mean"
    " test curve (every tenth step, the first 100 rows of each set) has GRPO's final score of the same seeds; aim: at"
    " most 25 % and 12 %. pass@16: in domain, first seed, percent."
    " Avoidable dead groups: of the prompts whose pool was not all-equal, those that taught nothing; aim: at most 5 %."
    " KL to the base policy, nats per token of the policy's kept candidates."
)
PASS = "16"


def describe(job: Job) -> dict[str, Any]:
    """What the results keep of a run: scores, test curves, dead groups, KL, pass@16."""
    run = Run(job.folder, json.loads((job.folder / "summary.json").read_text()))
    dead = {when: float(np.mean(column(run.metrics, f"dead_groups/{when}"))) for when in ("after", "pool", "update")}
    alive = 1 - dead["pool"]
    kl = column(run.metrics, f"kl/{POLICY}")[-max(1, len(run.metrics) // 10) :]
    passes = (run.passes or {"sets": {}})["sets"].get("id", {"pass_at_k": {}})["pass_at_k"]
    return {
        "cell": job.cell,
        **{key: run.summary[key] for key in RUN_KEYS},
        # of the groups that some selection could have kept alive, the share that taught nothing
        "dead_avoidable": (dead["update"] - dead["pool"]) / alive if alive > 0 else 0.0,
        "kl_end": float(np.nanmean(kl)),
        "curve": {name: curve_points(run, name) for name in ("id", "ood")},
        "pass_16": passes[PASS]["mean"] if PASS in passes else None,
    }


def samples(jobs: Sequence[Job], baseline: Sequence[Job], name: str) -> str:
    """Say at which share of the baseline's prompts the mean curve of these runs has its final score."""
    runs, grpo = (read_runs([job.folder for job in some]) if some else [] for some in (jobs, baseline))
    found = passing_share(runs, grpo, name)
    if found is None:
        return ""
    return "never" if found["share"] is None else f"{100 * found['share']:g} %"


def table(jobs: Sequence[Job], runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row per task and cell, columns as in HEAD, means over the seeds. `runs` describe `jobs` in order."""
    rows = []
    for task, cell in dict.fromkeys((job.task, job.cell) for job in jobs):
        mine = [job for job in jobs if (job.task, job.cell) == (task, cell)]
        group = [run for job, run in zip(jobs, runs, strict=True) if job in mine]
        seeds = {job.seed for job in mine}
        grpo = [job for job in jobs if (job.task, job.cell) == (task, "grpo") and job.seed in seeds]
        external = [fmean(1 - run["kept_share"][end][POLICY] for run in group) for end in ("start", "end")]
        passes = [run["pass_16"] for run in group if run["pass_16"] is not None]
        rows.append(
            [
                *(get_task(task).title, cell, str(len(group))),
                *(percent([run["final"][name]["accuracy"] for run in group]) for name in ("id", "ood")),
                *(samples(mine, grpo, name) for name in ("id", "ood")),
                f"{100 * fmean(passes):.1f}" if passes else "",
                f"{100 * fmean(run['dead_avoidable'] for run in group):.0f} %",
                " → ".join(f"{100 * share:.0f} %" for share in external),
                f"{fmean(run['kl_end'] for run in group):.3f}",
            ]
        )
    return rows


def percent(values: Sequence[float]) -> str:
    """A mean with its extremes, in percent: "45.3 (42.1 to 48.0)"."""
    return f"{100 * fmean(values):.1f} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def scores_of(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Cell, task, seed and final scores of finished runs."""
    summaries = [(job, json.loads((job.folder / "summary.json").read_text())) for job in jobs]
    return [{"cell": job.cell, **{key: told[key] for key in ("task", "seed", "final")}} for job, told in summaries]


def ranking(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Cells from the best to the worst by final accuracy, mean of ID and OOD, over GRPO's of the same task and seed.

    Only cells that were run on every task and with every seed that GRPO was; points.
    """
    score = {(r["cell"], r["task"], r["seed"]): fmean(r["final"][n]["accuracy"] for n in ("id", "ood")) for r in runs}
    places = [(task, seed) for cell, task, seed in score if cell == "grpo"]
    whole = [c for c in dict.fromkeys(r["cell"] for r in runs) if all((c, *place) in score for place in places)]
    leads = [(c, 100 * fmean(score[c, *place] - score["grpo", *place] for place in places)) for c in whole if places]
    return sorted(leads, key=lambda lead: -lead[1])


def verdict(runs: Sequence[Mapping[str, Any]], rules: Sequence[str]) -> str:
    """Say which cell leads GRPO by how much, and which rule is best by seeds that chose nothing.

    The first seed chose which rules got the others; where there is no other, it says so.
    """
    seeds = list(dict.fromkeys(run["seed"] for run in runs))
    fresh = [run for run in runs if run["seed"] != seeds[0]]
    told = ""
    for name, some in (
        (f"with seed {seeds[0]}", [r for r in runs if r["seed"] == seeds[0]]),
        ("with the others", fresh),
    ):
        leads = "; ".join(f"{cell} {lead:+.1f}" for cell, lead in ranking(some))
        tasks = ", ".join(dict.fromkeys(get_task(run["task"]).title.lower() for run in some))
        told += f" Points over GRPO {name}, mean of ID and OOD over {tasks}: {leads}." if leads else ""
    best = next((cell for cell, _ in ranking(fresh or runs) if cell in rules), None)
    by = "by the seeds that chose nothing" if fresh else "by the one seed there is"
    return told + (f" Best rule {by}: **{best}**." if best else "")


def write_results(
    path: Path,
    command: str,
    jobs: Sequence[Job],
    failed: Mapping[Job, str],
    cells: Mapping[str, Any],
    rules: Sequence[str],
) -> None:
    """Write the results file and docs/images/<its name>.png of the runs that did not fail; of none, nothing.

    Args:
        path: results/<name>.json.
        command: the command line that is written beside the numbers.
        jobs: all runs of the study.
        failed: those that failed, with the reason in one line.
        cells: what each cell's name stands for, kept beside the numbers.
        rules: the cells that can be recommended: neither the baseline nor a peer, with the published teachers.
    """
    done = [job for job in jobs if job not in failed]
    if not done:
        return
    runs = [describe(job) for job in done]
    result = {
        "name": "Ablation",
        "note": NOTE + verdict(runs, rules),
        "image": f"images/{path.stem}.png",
        "head": HEAD,
        "rows": table(done, runs),
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

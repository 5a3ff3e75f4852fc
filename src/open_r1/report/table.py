"""Table 1: the paper's numbers, and beside them the means and spreads of finished runs."""

import statistics
from collections.abc import Sequence

import numpy as np

from open_r1.report.published import COLUMNS, METHODS, OTHER_MODELS, QWEN2_VL
from open_r1.report.runs import Run, of, tasks_of
from open_r1.schema import UserError
from open_r1.tasks import TASKS


def table(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of Table 1: the paper's numbers, then ours as mean ± standard deviation over seeds.

    A task's `mean` is our own average: the mean of its sets. The paper's averages mix formulas and are not repeated.
    Raises UserError where a run lacks a set of the table.
    """
    for run in runs:
        lacking = [name for task, name, _ in COLUMNS if task == run.key[0] and name not in run.summary["final"]]
        if lacking:
            raise UserError(
                f"{run.folder} has the test sets {', '.join(run.summary['final'])} and not {', '.join(lacking)}, which"
                " the table compares; leave out runs on data of your own"
            )
    model = runs[0].summary["model"]
    head = ["model", "method", "source", "seeds"]
    for task in TASKS:
        head += [*(name for of_task, _, name in COLUMNS if of_task == task), f"mean {TASKS[task].title.lower()}"]
    rows = [[name, "", "paper", "", *_paper(cells)] for name, cells in OTHER_MODELS.items()]
    for (size, method), cells in QWEN2_VL.items():
        if model in ("tiny", size):
            rows.append([f"Qwen2-VL-{size.upper()}", METHODS[method], "paper", "3", *_paper(cells)])
    known = [*METHODS, *sorted({run.key[1] for run in runs} - set(METHODS))]
    for method in known:
        group = [run for run in runs if run.key[1] == method]
        if group:
            cells = [cell for task in TASKS for cell in _ours(of(runs, task, method), task)]
            rows.append([model, METHODS.get(method, method), "ours", _seeds(group), *cells])
    return head, rows


def _seeds(group: Sequence[Run]) -> str:
    """The seeds of a method's runs: "0 1 2"; by task where the tasks differ."""
    by_task = {
        task: " ".join(map(str, sorted(run.summary["seed"] for run in group if run.key[0] == task)))
        for task in tasks_of(group)
    }
    if len(set(by_task.values())) == 1:
        return next(iter(by_task.values()))
    return ", ".join(f"{task} {seeds}" for task, seeds in by_task.items())


def _paper(cells: Sequence[float]) -> list[str]:
    """The published numbers of a row, each task's followed by their mean."""
    cells_of_tasks = []
    for task in TASKS:
        values = [cell for cell, (of_task, _, _) in zip(cells, COLUMNS, strict=True) if of_task == task]
        cells_of_tasks += [f"{value:.1f}" for value in [*values, statistics.fmean(values)]]
    return cells_of_tasks


def _ours(group: Sequence[Run], task: str) -> list[str]:
    """The same of our runs; empty cells where there is no run."""
    names = [name for of_task, name, _ in COLUMNS if of_task == task]
    values_SR = [[100 * run.summary["final"][name]["accuracy"] for run in group] for name in names]
    return [_spread(values) for values in [*values_SR, np.mean(values_SR, axis=0) if group else []]]


def _spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds: "45.3 ± 1.2"; the mean alone of one seed."""
    if len(values) == 0:
        return ""
    mean = statistics.fmean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"

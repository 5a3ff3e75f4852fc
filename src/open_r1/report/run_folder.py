"""summary.json: what a run did, what it took, its accuracy before and after; and the table that is printed of it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from rich.console import Console
from rich.table import Table

from open_r1.evaluation.results import SetResult, SetScores, with_pooled_ood
from open_r1.schema import POLICY, UserError
from open_r1.utils.files import JsonObject, read_jsonl, write_json
from open_r1.utils.provenance import git_commit, install_seconds, peak_rss_mib

TIMED = ("install", "data", "base", "train", "eval")  # the keys of summary.json's `seconds`
Metrics = list[JsonObject]  # metrics.jsonl, one entry per logged step (docs/METRICS.md)


class Summary(TypedDict):
    """What summary.json holds (docs/METRICS.md)."""

    task: str
    model: str
    method: str
    seed: int
    commit: str
    argv: list[str]
    prompts: int
    steps: int
    seconds: dict[str, float | None]
    peak_rss_mib: float
    distributed: Mapping[str, object] | None
    base_weights: str | None
    base: dict[str, SetScores]
    final: dict[str, SetScores]
    dead_groups: dict[str, float] | None
    kept_share: dict[str, dict[str, float]] | None
    warnings: list[Mapping[str, object]]


def read_metrics(run: Path) -> Metrics:
    """Read a run's metrics.jsonl; raises UserError naming the file, and the line that is no JSON object."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{path} is missing: a run's folder holds one line per logged step; give the folder of a run")
    metrics: Metrics = read_jsonl(path)
    if not metrics:
        raise UserError(f"{path} is empty: no step was logged; train at least one step")
    return metrics


def column(metrics: Metrics, key: str) -> np.ndarray:
    """One metric over the logged steps (S,); NaN where a step has none, KeyError where no step has it."""
    if not any(key in row for row in metrics):
        raise KeyError(key)
    return np.array([row.get(key, math.nan) for row in metrics], dtype=float)


def sources(metrics: Metrics) -> list[str]:
    """Every source that stands in kept_share/<source>: the policy first, the external models by name."""
    prefix = "kept_share/"
    names = {key.removeprefix(prefix) for row in metrics for key in row if key.startswith(prefix)}
    return [POLICY, *sorted(names - {POLICY})]


def _kept_share(metrics: Metrics) -> dict[str, dict[str, float]]:
    """Mean share per source over the first and the last tenth of the lines that have shares, at least one line each.

    Steps that train on an earlier step's candidates once more have none.
    """
    metrics = [line for line in metrics if f"kept_share/{POLICY}" in line]
    tenth = max(1, len(metrics) // 10)
    ends = {"start": metrics[:tenth], "end": metrics[-tenth:]}
    return {
        end: {s: float(np.mean([line.get(f"kept_share/{s}") or 0.0 for line in lines])) for s in sources(metrics)}
        for end, lines in ends.items()
    }


def write_summary(
    run: Path,
    *,
    task: str,
    model: str,
    method: str,
    seed: int,
    argv: Sequence[str],
    seconds: Mapping[str, float | None],
    base: Mapping[str, SetResult],
    final: Mapping[str, SetResult],
    stages: Sequence[Path] | None = None,
    base_weights: str | None = None,
    warnings: Sequence[Mapping[str, object]] = (),
    distributed: Mapping[str, object] | None = None,
) -> Summary:
    """Write `run`/summary.json and return what it holds; steps, dead groups and shares come from metrics.jsonl.

    `seconds` has every one of TIMED but `install`, None for a stage that was not needed. `base` and `final` are the
    results before and after training by test set; `stages` are the folders of the training stages, by default `run`
    alone; `base_weights` says which policy training began with (`weights_digest`); `warnings` are
    those of the run; `distributed` how many processes trained and what they shared. Dead groups and shares are None
    where no stage keeps candidates. Raises UserError where a stage's metrics.jsonl cannot be read.
    """
    assert set(seconds) == set(TIMED[1:]), f"seconds must have exactly {TIMED[1:]}, not {tuple(seconds)}"
    logs = [read_metrics(folder) for folder in ([run] if stages is None else stages)]
    kept = next((log for log in reversed(logs) if any("dead_groups/after" in row for row in log)), None)
    dead = (
        None
        if kept is None
        else {when: float(np.nanmean(column(kept, f"dead_groups/{when}"))) for when in ("before", "after")}
    )
    summary: Summary = {
        "task": task,
        "model": model,
        "method": method,
        "seed": seed,
        "commit": git_commit(),
        "argv": list(argv),
        "prompts": sum(log[-1]["prompts"] for log in logs),
        "steps": sum(log[-1]["step"] for log in logs),
        "seconds": {"install": install_seconds(), **seconds},
        "peak_rss_mib": peak_rss_mib(),
        "distributed": distributed,
        "base_weights": base_weights,
        "base": {name: result.as_json() for name, result in with_pooled_ood(base).items()},
        "final": {name: result.as_json() for name, result in with_pooled_ood(final).items()},
        "dead_groups": dead,
        "kept_share": None if kept is None else _kept_share(kept),
        "warnings": list(warnings),
    }
    write_json(run / "summary.json", summary)
    return summary


def print_table(summary: Summary, run: Path) -> None:
    """Print accuracy and format before and after on each test set, in percent, and the paths of what `run` holds."""
    what = f"{summary['task']} {summary['model']} {summary['method']} seed {summary['seed']}"
    table = Table(title=f"{what}, {summary['prompts']} prompts; percent", box=None, title_justify="left")
    table.add_column("test set")
    for head in ("accuracy before", "accuracy after", "gain", "format before", "format after", "n"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, after in summary["final"].items():
        before = summary["base"][name]
        gain = f"{100 * (after['accuracy'] - before['accuracy']):+.1f}"
        cells = [f"{100 * result[part]:.1f}" for part in ("accuracy", "format") for result in (before, after)]
        table.add_row(name, *cells[:2], gain, *cells[2:], str(after["n"]))
    console = Console(width=100, highlight=False, soft_wrap=True)
    console.print(table)
    for warning in summary["warnings"]:
        console.print(f"warning at step {warning['step']}: {warning['warning']}", markup=False)
    for path in sorted(run.iterdir()):
        console.print(f"{path}{'/' if path.is_dir() else ''}", markup=False)

"""Finished runs as a report reads them: their folders, curves and pass@k, and where a curve passes a baseline."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from open_r1.evaluation.results import CurveLine, Scores
from open_r1.report.run_folder import Metrics, Summary, read_metrics
from open_r1.schema import UserError
from open_r1.tasks import TASKS
from open_r1.utils.files import read_jsonl


@dataclass(frozen=True)
class Run:
    """A finished run's folder and what stands in its summary.json."""

    folder: Path
    summary: Summary

    @property
    def key(self) -> tuple[str, str]:
        """Task and method."""
        return self.summary["task"], self.summary["method"]

    @property
    def metrics(self) -> Metrics:
        """Its metrics.jsonl, of the last stage."""
        return read_metrics(self.folder)

    @property
    def curve(self) -> list[CurveLine]:
        """Its curve.jsonl: accuracy on the test sets as training went on; empty where `curve_every` was 0."""
        path = self.folder / "curve.jsonl"
        return [CurveLine(**line) for line in read_jsonl(path)] if path.is_file() else []

    def on_curve_rows(self, when: str, name: str) -> float:
        """Mean accuracy "before" or "after" training on those rows of a test set that the curve has points of.

        A curve has the first `curve_rows` rows; the whole set's score beside them would compare other questions.
        Raises UserError where the run's replies are not there.
        """
        replies, step = self.folder / "replies", self.curve[0]["step"]
        scores = []
        for part in sorted(replies.glob(f"step{step}-{name}*.jsonl")):  # out of domain may be several files
            ids = {line["id"] for line in read_jsonl(part)}
            whole = replies / part.name.replace(f"step{step}", when)
            scores += [line["accuracy"] for line in read_jsonl(whole) if line["id"] in ids] if whole.is_file() else []
        if not scores:
            raise UserError(f"{replies} lacks the replies of {when} and of step {step} to set {name}; put them back")
        return statistics.fmean(scores)

    @property
    def passes(self) -> Scores | None:
        """The scores.json of an evaluation kept in the run's folder `passk`."""
        path = self.folder / "passk" / "scores.json"
        return json.loads(path.read_text()) if path.is_file() else None


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """Read runs, or every finished run right below a folder of runs.

    Raises:
        UserError: a folder is missing or holds no finished run, a run is given twice, or models are mixed.
    """
    runs: list[Run] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder; a report is made of run folders; give RUNS='runs/a runs/b'")
        found = (
            [folder] if (folder / "summary.json").is_file() else sorted(p.parent for p in folder.glob("*/summary.json"))
        )
        found = [place for place in found if ".old" not in place.suffix]  # replaced by a study
        if not found:
            raise UserError(f"{folder} holds no summary.json: only finished runs are reported; let the run end")
        runs += [Run(place, json.loads((place / "summary.json").read_text())) for place in found]
    if not runs:
        raise UserError("no runs; a report is made of run folders; give RUNS='runs/a runs/b' or a folder of runs")
    seen: dict[tuple, Path] = {}
    for run in runs:
        name = (*run.key, run.summary["seed"])
        if name in seen:
            raise UserError(f"{run.folder} and {seen[name]} are both {' '.join(map(str, name))}; leave one of them out")
        seen[name] = run.folder
    if len(models := sorted({run.summary["model"] for run in runs})) > 1:
        raise UserError(f"runs of different models ({', '.join(models)}) in one report; make one report per model")
    return runs


def of(runs: Sequence[Run], task: str, method: str) -> list[Run]:
    """The runs of one task and method, one per seed."""
    return [run for run in runs if run.key == (task, method)]


def tasks_of(runs: Sequence[Run]) -> list[str]:
    """The tasks that the runs are of, in the table's order."""
    return [task for task in TASKS if any(run.key[0] == task for run in runs)]


def curve_points(run: Run, name: str) -> list[tuple[float, float]]:
    """(prompts seen, accuracy) of one set from the base policy to the run's end, all on the same rows."""
    end = run.summary["prompts"]
    during = [(line["prompts"], line["sets"][name]["accuracy"]) for line in run.curve if line["prompts"] < end]
    return [(0, run.on_curve_rows("before", name)), *during, (end, run.on_curve_rows("after", name))]


def mean_curve(group: Sequence[Run], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompts, mean accuracy and its spread (S,) over seeds, at the points that every seed has."""
    curves = [dict(curve_points(run, name)) for run in group]
    prompts = sorted(set.intersection(*map(set, curves)))
    values_RS = np.array([[curve[x] for x in prompts] for curve in curves])
    return np.array(prompts, dtype=float), values_RS.mean(axis=0), values_RS.std(axis=0)


def passing_share(group: Sequence[Run], baseline: Sequence[Run], name: str) -> dict[str, float | None] | None:
    """Where the mean curve of `group` first reaches the final score of `baseline`, on the curves' rows of one test set.

    Returns:
        `level`, that score; `prompts` of the group until it is reached and their `share` of the baseline's, both None
        where it never is. None where either has no run, or a run no curve.
    """
    if not group or not baseline or not all(run.curve for run in (*group, *baseline)):
        return None
    level = statistics.fmean(run.on_curve_rows("after", name) for run in baseline)
    total = statistics.fmean(run.summary["prompts"] for run in baseline)
    prompts_S, mean_S, _ = mean_curve(group, name)
    at = prompts_S[mean_S >= level - 1e-9]  # means of floats
    prompts = float(at[0]) if at.size else None
    return {"level": level, "prompts": prompts, "share": None if prompts is None else prompts / total}

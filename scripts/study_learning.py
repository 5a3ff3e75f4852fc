"""The learning study: train tasks x methods x seeds with the tiny policy and keep what they reached in results/.

    python scripts/study_learning.py                                  # results/learning.json
    python scripts/study_learning.py --name weak_teachers --args "--external_models[0].accuracy .3"

Every run is `python -m open_r1.launch` in a process of its own, one thread each. Runs lie in runs/studies/ under a name
made of what they are, so all studies (this one, scripts/reproduce.py, scripts/study_ablation.py) share them: a run that
has its summary.json and was made from the same recipe and base policy is not made again, by whichever study. So a
stopped study also goes on where it stood. Nothing is deleted: a run that was cut, or made from something else, is put
aside as <folder>.old1, .old2, ...
"""

import argparse
import datetime
import hashlib
import json
import shlex
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from open_r1.recipe.merge import merge_recipe, parse_overrides, read_yaml
from open_r1.recipe.rules import check_recipe
from open_r1.schema import UserError
from open_r1.tasks import TASKS
from open_r1.utils.files import write_json
from open_r1.utils.processes import Command, hold, run_side_by_side
from open_r1.utils.provenance import hardware, weights_digest

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = (sys.executable, "-m", "open_r1.launch")
RUNS = ROOT / "runs/studies"
RESULTS = ROOT / "results"
CURVE = ("--curve_every", "10")  # every run has a curve of its test scores; of 80 steps 7 points between the ends
# Of the recipe that a run keeps: what launch.py adds, a name, and (in two spellings) how much is evaluated at once.
ASIDE = {"argv", "output_dir", "method", "eval_batch_size", "eval_rows_at_once"}
RUN_KEYS = ("task", "method", "seed", "base", "final", "dead_groups", "kept_share", "seconds", "peak_rss_mib")


@dataclass(frozen=True)
class Job:
    """One run; `extra` are words passed on to launch.py, `cell` what they make of the method, for people."""

    task: str
    method: str
    seed: int
    extra: tuple[str, ...] = ()
    cell: str = ""

    @property
    def name(self) -> str:
        """What the run is called in messages and paths: task, method, a digest of the further words, seed."""
        digest = hashlib.sha256(shlex.join(self.extra).encode()).hexdigest()[:6]
        return "-".join([self.task, self.method, *([digest] if self.extra else []), f"s{self.seed}"])

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return RUNS / self.name

    @property
    def words(self) -> tuple[str, ...]:
        """The overrides of the method's recipe, as launch.py takes them."""
        return (*CURVE, *self.extra)

    @property
    def command(self) -> Command:
        """The command line that makes the run."""
        choice = ["--task", self.task, "--model", "tiny", "--method", self.method, "--seed", str(self.seed)]
        words = (*LAUNCH, *choice, "--output_dir", str(self.folder), *self.words)
        return Command(words, self.folder.with_name(f"{self.name}.log"))

    def finished(self) -> bool:
        """Whether the run is there, whole, and made from the recipe and the base policy that would be used now.

        Raises UserError where that recipe cannot be merged, so that a wrong name in --args shows before any training.
        """
        wanted = merge_recipe(self.task, "tiny", self.method, [f"seed={self.seed}", *parse_overrides(self.words)])
        recipe = check_recipe(wanted)
        if not (self.folder / "summary.json").is_file():
            return False
        began_with = json.loads((self.folder / "summary.json").read_text()).get("base_weights")
        if began_with not in (None, weights_digest(ROOT / recipe.untrained)):  # None: made before runs said it
            return False
        made_from = read_yaml(self.folder / "recipe.yaml")
        # the rate of supervised stages is sft.learning_rate
        unused = set() if "rl" in recipe.stages else {"learning_rate"}
        keys = (made_from.keys() | wanted.keys()) - ASIDE - unused
        return all(made_from.get(key) == wanted.get(key) for key in keys)

    def put_aside(self) -> None:
        """Move what stands in the folder's place out of the way; launch.py never writes over a run."""
        old = (self.folder.with_name(f"{self.folder.name}.old{k}") for k in range(1, 10_000))
        if self.folder.exists():
            self.folder.rename(next(path for path in old if not path.exists()))


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, extremes and sample standard deviation over seeds; no deviation of a single one.

    >>> spread([0.25, 0.75])
    {'mean': 0.5, 'min': 0.25, 'max': 0.75, 'sd': 0.3535533905932738}
    """
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "min": min(values), "max": max(values), "sd": sd}


def table(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Summarise runs over their seeds, one entry per task x method with base, final and gain on ID and OOD."""
    rows = []
    for task, method in dict.fromkeys((run["task"], run["method"]) for run in runs):
        group = [run for run in runs if (run["task"], run["method"]) == (task, method)]
        row: dict[str, Any] = {"task": task, "method": method, "runs": len(group)}
        for name in ("id", "ood"):
            base = [run["base"][name]["accuracy"] for run in group]
            final = [run["final"][name]["accuracy"] for run in group]
            gain = [after - before for before, after in zip(base, final, strict=True)]
            row |= {f"base_{name}": spread(base), f"final_{name}": spread(final), f"gain_{name}": spread(gain)}
        rows.append(row)
    return rows


def side_by_side(
    commands: Mapping[str, Command], what: str, at_once: int, deadline_s: float, done: int = 0
) -> dict[str, str]:
    """Run the commands with a bar that begins at `done`; returns the reason for each that failed."""
    often_s = 1.0 if sys.stderr.isatty() else 60.0  # a log file gets a line a minute
    with tqdm(
        total=done + len(commands), initial=done, desc=f"{what}s", unit=what, mininterval=often_s, miniters=0
    ) as bar:
        return run_side_by_side(commands, at_once=at_once, deadline_s=deadline_s, cwd=ROOT, bar=bar)


def make_runs(jobs: Sequence[Job], at_once: int, deadline_s: float) -> dict[Job, str]:
    """Make the runs that are missing and return those that failed with the reason in one line.

    Raises UserError where another study is making runs: the two could make the same one.
    """
    RUNS.mkdir(parents=True, exist_ok=True)
    with hold(RUNS / "study.lock"):
        missing = {job.name: job for job in jobs if not job.finished()}
        for job in missing.values():
            job.put_aside()
        commands = {name: job.command for name, job in missing.items()}
        failed = side_by_side(commands, "run", at_once, deadline_s, done=len(jobs) - len(missing))
    for name, job in missing.items():
        if not (job.folder / "summary.json").is_file():
            failed.setdefault(name, "ended without a summary.json")
    return {missing[name]: reason for name, reason in failed.items()}


def evaluate_passes(jobs: Sequence[Job], k: int, rows: int, at_once: int, deadline_s: float) -> list[str]:
    """Have at least `k` replies to each of the first `rows` in-domain rows of every finished run, in its passk/.

    Returns what failed, one line each.
    """
    commands = {}
    for job in jobs:
        scores = job.folder / "passk/scores.json"
        there = scores.is_file() and str(k) in json.loads(scores.read_text())["sets"]["id"]["pass_at_k"]
        if (job.folder / "summary.json").is_file() and not there:
            words = [sys.executable, "-m", "open_r1.evaluate", "--task", job.task, "--split", "id"]
            words += ["--model_path", str(job.folder), "--k", str(k), "--rows", str(rows)]
            words += ["--output", str(job.folder / "passk")]
            commands[job.name] = Command(tuple(words), job.folder.with_name(f"{job.name}.passk.log"))
    failed = side_by_side(commands, "evaluation", at_once, deadline_s)
    return [f"pass@k of {name}: {reason}; see {commands[name].log}" for name, reason in failed.items()]


def teachers(task: str, accuracy: float) -> tuple[str, ...]:
    """Words that give every external model of the task this accuracy on all questions, in place of the published ones.

    Their failures go together by half, as hard questions make them.
    """
    names = [model["name"] for model in merge_recipe(task, "tiny", "ekipl")["external_models"]]
    models = ", ".join(f"{{name: {name}, accuracy: {accuracy}, correlation: 0.5}}" for name in names)
    return ("--external_models", f"[{models}]")


def write_results(name: str, command: str, jobs: Sequence[Job], failed: Mapping[Job, str], **more: Any) -> None:
    """Write results/<name>.json of the runs that did not fail; where none is left, nothing is written.

    `more` is kept as well: `title`, `report` (a path from docs/) and `images` (by caption) of its section on the page.
    """
    summaries = [json.loads((job.folder / "summary.json").read_text()) for job in jobs if job not in failed]
    if not summaries:
        return
    result = {
        "command": command,
        "commit": ", ".join(sorted({summary["commit"] for summary in summaries})),  # of the runs, not of this moment
        "hardware": hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seeds": list(dict.fromkeys(job.seed for job in jobs)),
        "runs": [{key: summary[key] for key in RUN_KEYS} for summary in summaries],
        "table": table(summaries),
        "failed": [{"task": j.task, "method": j.method, "seed": j.seed, "reason": why} for j, why in failed.items()],
        **more,
    }
    write_json(RESULTS / f"{name}.json", result)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; exit status 1 where a run failed, 2 where something given cannot be meant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=["grpo", "ekipl"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--deadline_s", type=float, default=1800.0, help="seconds after which a run counts as failed")
    parser.add_argument("--args", default="", help="passed on to launch.py; write --args='--key value'")
    parser.add_argument("--name", default="learning", help="results/<name>.json")
    parser.add_argument("--title", help="of its section in docs/RESULTS.md (default: Learning: <name>)")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs are stopped too
    jobs = [
        Job(task, method, seed, tuple(shlex.split(args.args)))
        for seed in args.seeds  # seeds outermost: a study that is stopped early has every task and method
        for task in args.tasks
        for method in args.methods
    ]
    words = sys.argv[1:] if argv is None else argv
    try:
        failed = make_runs(jobs, args.jobs, args.deadline_s)
        titled = {"title": args.title} if args.title else {}
        write_results(args.name, shlex.join(["python", "scripts/study_learning.py", *words]), jobs, failed, **titled)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for job, reason in failed.items():
        print(f"{job.name} failed: {reason}; see {job.command.log}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

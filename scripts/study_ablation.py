"""The ablation: which selection, baseline, weight and teachers pay, each cell a few overrides of a method's recipe.

    make ablation                                         # results/ablation.json
    python scripts/study_ablation.py --tasks clevr_math --seeds 0 --cells grpo ekipl max_variance
    python scripts/study_ablation.py --finished           # of what a stopped one has made; trains nothing

In two rounds: the first seed for every cell, the others for the cells of ALWAYS and for the rules that did best
(successive halving, Jamieson and Talwalkar 2016). What is recommended is the best rule by seeds that chose nothing.
Runs are those of scripts/study_learning.py, shared with the other studies; the results are written after each round.
docs/RESULTS.md is made from them by scripts/results_page.py.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import study_learning as learning
from ablation_results import PASS, ranking, scores_of, write_results
from open_r1.schema import UserError
from open_r1.tasks import TASKS
from open_r1.utils.names import unknown_name
from study_learning import Job

PASS_ROWS = 60  # rows that pass@16 is taken over, the first of the set


class Cell(NamedTuple):
    """One setting of the ablation."""

    method: str
    overrides: str = ""
    accuracy: float | None = None  # of every teacher, in place of the published ones
    without: tuple[str, ...] = ()  # tasks that it cannot be had for


MAX = "--selection max_variance"
CELLS = {
    "grpo": Cell("grpo"),
    "ekipl": Cell("ekipl"),
    "ekipl, baseline pool": Cell("ekipl", "--advantage_baseline pool"),
    "max_variance": Cell("ekipl", MAX),
    "max_variance, baseline policy": Cell("ekipl_plus"),
    "max_variance, max_external 4": Cell("ekipl", f"{MAX} --max_external 4"),
    "max_variance, luffy": Cell("ekipl", f"{MAX} --external_weight luffy"),
    # scripted teachers do not know their log-probs on spatial rows
    "max_variance, snis": Cell("ekipl", f"{MAX} --external_weight snis", without=("trance",)),
    "peer: luffy": Cell("luffy"),
    "peer: sft_term": Cell("sft_term"),
    "peer: hpt": Cell("hpt"),
    "ekipl, teachers .3": Cell("ekipl", accuracy=0.3),
    "ekipl, teachers .9": Cell("ekipl", accuracy=0.9),
    "ekipl_plus, teachers .3": Cell("ekipl_plus", accuracy=0.3),
    "ekipl_plus, teachers .9": Cell("ekipl_plus", accuracy=0.9),
}
ALWAYS = ("grpo", "ekipl", "max_variance, baseline policy")  # the baseline, the paper's rule, and ekipl_plus
RULES = tuple(cell for cell in CELLS if cell.startswith(("ekipl", "max_variance")) and CELLS[cell].accuracy is None)
FINALISTS = 2  # rules beside those of ALWAYS that get every seed


def words(cell: Cell, task: str) -> tuple[str, ...]:
    """The overrides of a cell as launch.py takes them."""
    told = () if cell.accuracy is None else learning.teachers(task, cell.accuracy)
    return (*shlex.split(cell.overrides), *told)


def jobs_of(tasks: Sequence[str], seeds: Sequence[int], cells: Sequence[str]) -> list[Job]:
    """List the runs of one round, seeds outermost."""
    return [
        Job(task, CELLS[cell].method, seed, words(CELLS[cell], task), cell)
        for seed in seeds
        for task in tasks
        for cell in cells
        if task not in CELLS[cell].without
    ]


def finalists(jobs: Sequence[Job], cells: Sequence[str]) -> list[str]:
    """The cells that get every seed: those of ALWAYS and the best rules by the first round's finished runs."""
    best = [cell for cell, _ in ranking(scores_of(jobs)) if cell in RULES and cell not in ALWAYS]
    return [cell for cell in cells if cell in ALWAYS or cell in best[:FINALISTS]]


Made = tuple[list[Job], dict[Job, str], list[str]]  # all runs so far, why some failed, what else went wrong


def both_rounds(args: argparse.Namespace) -> Iterator[Made]:
    """Make the runs of one round, then of the other; yields after each."""
    jobs, failed = planned(args, args.seeds[:1], args.cells), {}
    failed |= learning.make_runs(jobs, args.jobs, args.deadline_s)
    passes = learning.evaluate_passes(jobs, int(PASS), PASS_ROWS, args.jobs, args.deadline_s)
    yield jobs, failed, passes
    if args.seeds[1:]:
        more = planned(args, args.seeds[1:], finalists([job for job in jobs if job not in failed], args.cells))
        failed |= learning.make_runs(more, args.jobs, args.deadline_s)
        yield jobs + more, failed, passes


def finished(args: argparse.Namespace) -> Iterator[Made]:
    """The runs that are there; a cell that lacks the first seed's is named as not run."""
    jobs = [job for job in planned(args, args.seeds, args.cells) if job.finished() or job.seed == args.seeds[0]]
    yield jobs, {job: "not run" for job in jobs if not job.finished()}, []


def planned(args: argparse.Namespace, seeds: Sequence[int], cells: Sequence[str]) -> list[Job]:
    """The runs of these seeds and cells, with the words that --args has for all."""
    extra = tuple(shlex.split(args.args))
    return [replace(job, extra=job.extra + extra) for job in jobs_of(args.tasks, seeds, cells)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ablation; exit status 1 where a run failed, 2 where something given cannot be meant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cells", nargs="+", default=list(CELLS), help="; ".join(CELLS))
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--deadline_s", type=float, default=1800.0, help="seconds after which a run counts as failed")
    parser.add_argument("--args", default="", help="passed on to every run; write --args='--key value'")
    parser.add_argument("--name", default="ablation", help="results/<name>.json")
    parser.add_argument(
        "--finished", action="store_true", help="write the results of the runs that are there; make none"
    )
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs are stopped too
    try:
        for cell in args.cells:
            if cell not in CELLS:
                raise unknown_name("cell", cell, CELLS)
        command = shlex.join(["python", "scripts/study_ablation.py", *(sys.argv[1:] if argv is None else argv)])
        rounds = finished(args) if args.finished else both_rounds(args)
        problems = []
        for jobs, failed, passes in rounds:
            write_results(learning.RESULTS / f"{args.name}.json", command, jobs, failed, CELLS, RULES)
            problems = [
                f"{job.cell} ({job.name}): {why}; see {job.command.log}" for job, why in failed.items()
            ] + passes
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for line in problems:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

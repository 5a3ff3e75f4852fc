"""`make reproduce`: everything that docs/RESULTS.md says of the methods; goes on where it was stopped.

    python scripts/reproduce.py                                # about 3 hours on two cores
    python scripts/reproduce.py --tasks clevr_math --seeds 0   # a part of it

The paper's seven methods and EKIPL+, three tasks, three seeds with the tiny policy, each run with a curve of its test
scores; EKIPL with weak and with strong external models; 64 replies a row of base policy, GRPO, EKIPL and EKIPL+; then
the report in docs/report, what came of the paper's claims in results/shape.json, the README's picture, and the page
docs/RESULTS.md. Its runs are those of scripts/study_learning.py, shared with the other studies.
"""

import argparse
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np

import results_page
from open_r1.report.published import METHODS
from open_r1.report.report import write_report
from open_r1.report.run_folder import column, sources
from open_r1.report.runs import Run, mean_curve, of, passing_share, read_runs, tasks_of
from open_r1.report.study_figures import draw_study
from open_r1.schema import POLICY, UserError
from open_r1.tasks import TASKS, get_task
from open_r1.utils.provenance import figure, write_figures
from study_learning import RESULTS, ROOT, Job, evaluate_passes, make_runs, teachers, write_results

NAME = "reproduce"
PASSES = ("zero_shot", "grpo", "ekipl", "ekipl_plus")
TEACHERS = {"weak": 0.3, "strong": 0.9}  # mean accuracy of every external model, in place of the published ones
IMAGES = {  # of the page's section
    "Figure 3: accuracy against training prompts": "report/figure3.png",
    "Figure 4: sources of the kept candidates": "report/figure4.png",
    "Figure 5: pass@k": "report/figure5.png",
    "EKIPL with external models of different accuracy": "report/teachers.png",
}
ENDS = 16  # steps at either end of a run over which its policy's accuracy is taken: a fifth of 80
PROMPTS_TARGETS = {"id": "<= 25", "ood": "<= 12"}  # percent of GRPO's: the paper's claim against Reason-RFT


def study(args: argparse.Namespace) -> list[Job]:
    """The runs of Table 1 and figures 3 and 4; seeds outermost, so that a study that is stopped has every method."""
    return [Job(task, method, seed) for seed in args.seeds for task in args.tasks for method in args.methods]


def teacher_study(args: argparse.Namespace) -> dict[str, list[Job]]:
    """EKIPL with external models of another accuracy; first seed only."""
    return {
        f"teachers_{name}": [Job(task, "ekipl", args.seeds[0], teachers(task, accuracy)) for task in args.tasks]
        for name, accuracy in TEACHERS.items()
    }


def passes(args: argparse.Namespace, jobs: Sequence[Job]) -> list[Job]:
    """The runs that figure 5 needs several replies a row of: four methods with the first seed."""
    return [job for job in jobs if job.method in PASSES and job.seed == args.seeds[0]]


def shape(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The paper's claims as figures with targets: prompts to GRPO's final score, external share, pass@k.

    Prompts and shares are means over seeds; a score that is never reached has the value None. Pass@k is taken at the k
    where the method is worst off. What the runs do not tell is left out.
    """
    lines = []
    for task, method in product(tasks_of(runs), ("grpo", "ekipl", "ekipl_plus")):
        ours = method != "grpo"  # of GRPO there is only what becomes of its pass@k
        group, grpo = of(runs, task, method), of(runs, task, "grpo")
        told = f"{get_task(task).title}, {METHODS[method]}"
        for name, target in PROMPTS_TARGETS.items() if ours else ():
            if found := passing_share(group, grpo, name):
                share = None if found["share"] is None else 100 * found["share"]
                what = "prompts to GRPO's final score"
                if share == 0:  # no merit of the method
                    what, target = "GRPO ended no better than the base", None
                lines.append(figure(f"{told}: {what}, {name.upper()}", share, "% of GRPO's prompts", target))
        if group and ours:
            kept = [run.summary["kept_share"] for run in group]
            change = 100 * fmean(share["start"][POLICY] - share["end"][POLICY] for share in kept)
            lines.append(figure(f"{told}: change of the external share of the kept", change, "points", "< 0"))
        for other, whose in (("zero_shot", "the base's"), ("grpo", "GRPO's")):
            leads = pass_leads(group, of(runs, task, other)) if method != other else {}
            if leads:
                k, lead = min(leads.items(), key=lambda item: item[1])
                what = f"{told}: pass@k over {whose}, at worst (k = {k})"
                lines.append(figure(what, 100 * lead, "points", ">= 0" if ours else None))
    return lines


def pass_leads(group: Sequence[Run], others: Sequence[Run]) -> dict[str, float]:
    """By how much the first run with pass@k has more of it in domain than the first of the others, for every k."""
    ours, theirs = (next((run.passes for run in some if run.passes), None) for some in (group, others))
    if ours is None or theirs is None:
        return {}
    mine, other = (scores["sets"]["id"]["pass_at_k"] for scores in (ours, theirs))
    return {k: mine[k]["mean"] - other[k]["mean"] for k in mine if k in other}


def strengths(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """How often policy and external models are right on the training prompts, percent, means over steps and seeds.

    Help from outside can only help where it is better: GRPO's policy at both ends of its runs, beside every
    external model of EKIPL.
    """
    lines = []
    for task in tasks_of(runs):
        told = f"{get_task(task).title}, right on the training prompts"
        own = [column(run.metrics, f"{POLICY}/accuracy") for run in of(runs, task, "grpo")]
        for when, part in (("first", slice(None, ENDS)), ("last", slice(-ENDS, None))) if own else ():
            value = fmean(float(np.nanmean(accuracy[part])) for accuracy in own)
            lines.append(figure(f"{told}: GRPO's policy, {when} {ENDS} steps", 100 * value, "%", None))
        helped = [run.metrics for run in of(runs, task, "ekipl")]
        for name in sources(helped[0])[1:] if helped else ():
            value = fmean(float(np.nanmean(column(metrics, f"external/{name}/accuracy"))) for metrics in helped)
            lines.append(figure(f"{told}: {name}", 100 * value, "%", None))
    return lines


def write_all(studies: Mapping[str, Sequence[Job]], failed: Mapping[Job, str], command: str) -> None:
    """Write the results files, the report, the README's picture and the page."""
    for name, jobs in studies.items():
        more: dict[str, Any] = {"title": "All methods", "report": "report/report.md", "images": IMAGES}
        if name != NAME:
            strength = name.removeprefix("teachers_")
            more = {"title": f"EKIPL with {strength} external models, right {TEACHERS[strength]} of the time"}
        write_results(name, command, jobs, {job: why for job, why in failed.items() if job in jobs}, **more)
    found = {name: read_runs([job.folder for job in jobs if job not in failed]) for name, jobs in studies.items()}
    runs, folder = found.pop(NAME), ROOT / "docs" / "report"
    shutil.rmtree(folder, ignore_errors=True)
    for line in write_report(runs, folder, {name.removeprefix("teachers_"): some for name, some in found.items()}):
        print(f"left out: {line}")
    commits = ", ".join(sorted({run.summary["commit"] for run in runs}))
    seeds = sorted({run.summary["seed"] for run in runs})
    origin = {"command": command, "commit": commits, "seeds": seeds}
    write_figures(
        RESULTS / "shape.json", "The paper's claims", shape(runs) + strengths(runs), **origin, drawn=drawn(runs)
    )
    results_page.main([])
    try:
        draw_study(RESULTS / f"{NAME}.json", ROOT / "docs/images/learning.png")
    except UserError as error:  # of a part of the methods
        print(f"left out: {error}")


def drawn(runs: Sequence[Run]) -> dict[str, Any]:
    """What figures 3 and 5 show: by task and method mean curves, {set: [[prompts, accuracy], ...]}, and pass@k."""
    told: dict[str, Any] = {"curves": {}, "pass_at_k": {}}
    for task, method in dict.fromkeys(run.key for run in runs):
        group = of(runs, task, method)
        if all(run.curve for run in group):
            points = {name: mean_curve(group, name)[:2] for name in PROMPTS_TARGETS}
            curves = {name: np.stack(columns, axis=1).round(4).tolist() for name, columns in points.items()}
            told["curves"].setdefault(task, {})[method] = curves
        if passes := next((run.passes for run in group if run.passes), None):
            cells = passes["sets"]["id"]["pass_at_k"]
            told["pass_at_k"].setdefault(task, {})[method] = {k: cell["mean"] for k, cell in cells.items()}
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing; exit status 1 where something failed, 2 where something given cannot be meant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--k", type=int, default=64, help="replies per row for pass@k")
    parser.add_argument("--pass_rows", type=int, default=60, help="rows of them, the first of the set")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--deadline_s", type=float, default=3600.0, help="for one run or evaluation")
    parser.add_argument("--no_teachers", action="store_true", help="leave out the study of weak and strong teachers")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs are stopped too
    command = shlex.join(["python", "scripts/reproduce.py", *(sys.argv[1:] if argv is None else argv)])
    studies = {NAME: study(args)} | ({} if args.no_teachers else teacher_study(args))
    try:
        failed = make_runs([job for jobs in studies.values() for job in jobs], args.jobs, args.deadline_s)
        problems = [f"{job.name}: {reason}; see {job.command.log}" for job, reason in failed.items()]
        problems += evaluate_passes(passes(args, studies[NAME]), args.k, args.pass_rows, args.jobs, args.deadline_s)
        write_all(studies, failed, command)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for line in problems:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

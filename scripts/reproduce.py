"""`make reproduce`: everything that docs/RESULTS.md says of the methods; goes on where it was stopped.

    python scripts/reproduce.py                                # about 3 hours on two cores
    python scripts/reproduce.py --tasks clevr_math --seeds 0   # a part of it

Seven methods, three tasks, three seeds with the tiny policy (runs/studies/reproduce), GRPO and EKIPL with a curve of
their test scores; EKIPL with weak and with strong external models; 64 replies a row of the base policy, GRPO and EKIPL;
then the report in docs/report and the page docs/RESULTS.md.
"""

import argparse
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

# The script also runs where the package is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import results_page
from open_r1.published import METHODS
from open_r1.recipe import merge_recipe
from open_r1.report import main as report
from open_r1.schema import UserError
from open_r1.tasks import TASKS
from open_r1.utils.processes import Command, run_side_by_side
from study_learning import ROOT, RUNS, Job, make_runs, write_results

NAME = "reproduce"
CURVE = ("--curve_every", "10")  # of 80 steps: every eighth of the prompts
CURVES = ("grpo", "ekipl")
PASSES = ("zero_shot", "grpo", "ekipl")
TEACHERS = {"weak": 0.3, "strong": 0.9}  # mean accuracy of every external model, in place of the published ones


def study(args: argparse.Namespace) -> list[Job]:
    """The runs of Table 1 and figures 3 and 4; seeds outermost, so that a study that is stopped has every method."""
    return [
        Job(NAME, task, method, seed, CURVE if method in CURVES else ())
        for seed in args.seeds
        for task in args.tasks
        for method in args.methods
    ]


def teacher_study(args: argparse.Namespace) -> dict[str, list[Job]]:
    """EKIPL with external models of another accuracy, spread evenly over questions; first seed only."""
    studies = {}
    for name, accuracy in TEACHERS.items():
        studies[f"teachers_{name}"] = [
            Job(f"teachers_{name}", task, "ekipl", args.seeds[0], (f"--external_models={_models(task, accuracy)}",))
            for task in args.tasks
        ]
    return studies


def _models(task: str, accuracy: float) -> str:
    names = [model["name"] for model in merge_recipe(task, "tiny", "ekipl")["external_models"]]
    return "[" + ", ".join(f"{{name: {name}, accuracy: {accuracy}}}" for name in names) + "]"


def evaluations(args: argparse.Namespace, jobs: Sequence[Job]) -> dict[str, Command]:
    """The evaluations of figure 5 for the first seed, each in its run's folder."""
    made = {}
    for job in jobs:
        if job.method in PASSES and job.seed == args.seeds[0] and (job.folder / "summary.json").is_file():
            words = [sys.executable, str(ROOT / "src/open_r1/evaluate.py"), "--task", job.task, "--split", "id"]
            words += ["--model_path", str(job.folder), "--k", str(args.k), "--rows", str(args.pass_rows)]
            words += ["--output", str(job.folder / "passk")]
            made[job.name] = Command(tuple(words), job.folder.with_name(f"{job.name}.passk.log"))
    return made


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
    problems = []
    try:
        for name, jobs in studies.items():
            failed = make_runs(jobs, args.jobs, args.deadline_s)
            write_results(name, command, jobs, failed)
            problems += [f"{job.name}: {reason}; see {job.command.log}" for job, reason in failed.items()]
        commands = evaluations(args, studies[NAME])
        with tqdm(total=len(commands), desc="pass@k", unit="model") as bar:
            late = run_side_by_side(commands, at_once=args.jobs, deadline_s=args.deadline_s, cwd=ROOT, bar=bar)
        problems += [f"pass@k of {name}: {reason}; see {commands[name].log}" for name, reason in late.items()]
        folder = ROOT / "docs" / "report"
        shutil.rmtree(folder, ignore_errors=True)
        words = [str(RUNS / NAME), "--output", str(folder)]
        if len(studies) > 1:
            words += [
                "--teachers",
                *(f"{name.removeprefix('teachers_')}={RUNS / name}" for name in studies if name != NAME),
            ]
        report(words)
        results_page.main([])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for line in problems:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

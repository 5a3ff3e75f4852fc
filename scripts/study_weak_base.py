"""The study again from bases that hardly ever reason rightly, where the paper's policies begin: does help come sooner?

    python scripts/study_weak_base.py                # results/weak_0.1.json, weak_0.1_shape.json, weak_0.1_probe.json
    python scripts/study_weak_base.py --right 0      # the same from bases that were shown wrong procedures alone

A weak base is the shipped one after some more steps on its own kind of rows, where only a tenth of those by the right
procedure still show it, or none. It sees as well as before and reasons worse, so that there is more to find than GRPO's
own samples hold. Afterwards base and policies are probed: do they see better, or choose better? One hour each; the runs
are those of scripts/study_learning.py, and a stopped study goes on.
"""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import results_page
from open_r1.report.paper_figures import draw_samples
from open_r1.report.runs import read_runs
from open_r1.schema import UserError
from open_r1.tasks import TASKS
from open_r1.utils.processes import Command
from open_r1.utils.provenance import write_figures
from reproduce import drawn, shape, strengths
from study_learning import RESULTS, ROOT, Job, make_runs, side_by_side, write_results

BASES = Path("runs/bases")  # from the checkout, so that a run's recipe is the same in every one
STEPS = ("--max_steps", "400", "--learning_rate", "5e-4", "--warmup_steps", "20", "--phases", "[{}]")
PROBE_ROWS = 200
PROBED = (  # what is told of a probe
    "id exact",
    "parts of the picture read rightly",
    "replies that choose the right procedure",
    "right answers among replies by the right procedure",
    "right answers among replies by the wrong procedure",
)
CURVES = "Accuracy against training prompts, from weak bases"


class Study(NamedTuple):
    """One study, told by the share of the rows by the right procedure that its bases were still shown."""

    right: float

    @property
    def name(self) -> str:
        """What its results are called, and the folder of its bases."""
        return f"weak_{self.right:g}"

    @property
    def title(self) -> str:
        """Of its sections in docs/RESULTS.md."""
        return f"From bases that were shown {self.right:g} of the right procedure's rows"

    def base(self, task: str) -> Path:
        """Folder of a task's weak base."""
        return BASES / self.name / task


def base_command(study: Study, task: str) -> Command:
    """The command line that makes the weak base of a task from the shipped one."""
    words = [sys.executable, "-m", "open_r1.sft", "--base", "--task", task]
    words += ["--output", str(study.base(task)), "--start", f"bases/{task}", "--right", str(study.right), *STEPS]
    return Command(tuple(words), ROOT / study.base(task).with_suffix(".log"))


def make_bases(study: Study, tasks: Sequence[str], at_once: int, deadline_s: float) -> dict[str, str]:
    """Make the bases that are missing; returns those that failed with the reason."""
    there = {task for task in tasks if (ROOT / study.base(task) / "model.safetensors").is_file()}
    missing = {task: base_command(study, task) for task in tasks if task not in there}
    (ROOT / BASES / study.name).mkdir(parents=True, exist_ok=True)
    return side_by_side(missing, "base", at_once, deadline_s)


def probes(study: Study, jobs: Sequence[Job]) -> dict[str, tuple[Path, Path]]:
    """By "<task>-<policy>", of every base and the first seed's policies: the folder, and where its figures go."""
    asked = {f"{task}-base": study.base(task) for task in dict.fromkeys(job.task for job in jobs)}
    asked |= {f"{job.task}-{job.method}": job.folder / "model" for job in jobs if job.seed == jobs[0].seed}
    return {name: (folder, ROOT / BASES / study.name / f"probe-{name}.json") for name, folder in asked.items()}


def probe(study: Study, jobs: Sequence[Job], command: str, at_once: int, deadline_s: float) -> dict[str, str]:
    """Write results/<study>_probe.json; returns the probes that failed with the reason. Each is made once."""
    wanted, commands = probes(study, jobs), {}
    for name, (folder, output) in wanted.items():
        if not output.is_file() or output.stat().st_mtime < (ROOT / folder / "model.safetensors").stat().st_mtime:
            words = [sys.executable, str(ROOT / "scripts/probe_base.py"), "--tasks", name.split("-")[0]]
            words += ["--bases", str(folder), "--n", str(PROBE_ROWS), "--output", str(output)]
            commands[name] = Command(tuple(words), output.with_suffix(".log"))
    failed = side_by_side(commands, "probe", at_once, deadline_s)
    lines = []
    for name, (_, output) in wanted.items():
        for line in json.loads(output.read_text())["figures"] if name not in failed else ():
            title, what = line["label"].split(": ", 1)
            if what in PROBED:
                lines.append(line | {"label": f"{title}, {name.split('-')[1]}: {what}", "target": None})
    write_figures(RESULTS / f"{study.name}_probe.json", f"{study.title}: sight and procedure", lines, command=command)
    return failed


def write_all(study: Study, jobs: Sequence[Job], failed: dict[Job, str], command: str) -> None:
    """Write the results of the runs, their curves, and the page."""
    done = [job for job in jobs if job not in failed]
    runs = read_runs([job.folder for job in done])
    curves = ROOT / "docs/images" / study.name
    curves.mkdir(parents=True, exist_ok=True)
    draw_samples(runs, curves)
    images = {CURVES: f"images/{study.name}/figure3.png"}
    write_results(study.name, command, jobs, failed, title=study.title, images=images)
    commits = ", ".join(sorted({run.summary["commit"] for run in runs}))
    origin = {"command": command, "commit": commits, "seeds": sorted({job.seed for job in done})}
    lines = shape(runs) + strengths(runs)
    write_figures(
        RESULTS / f"{study.name}_shape.json", f"{study.title}: the claims", lines, **origin, drawn=drawn(runs)
    )
    results_page.main([])


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing; exit status 1 where something failed, 2 where something given cannot be meant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--right", type=float, default=0.1, help="share of the right procedure's rows that show it")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=["grpo", "ekipl", "ekipl_plus"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--deadline_s", type=float, default=3600.0, help="for one base or run")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs are stopped too
    command = shlex.join(["python", "scripts/study_weak_base.py", *(sys.argv[1:] if argv is None else argv)])
    study = Study(args.right)
    jobs = [
        Job(task, method, seed, ("--base_path", str(study.base(task))))
        for seed in args.seeds
        for task in args.tasks
        for method in args.methods
    ]
    try:
        without = make_bases(study, args.tasks, args.jobs, args.deadline_s)
        failed = {job: f"no base: {without[job.task]}" for job in jobs if job.task in without}
        failed |= make_runs([job for job in jobs if job not in failed], args.jobs, args.deadline_s)
        done = [job for job in jobs if job not in failed]
        unseen = probe(study, done, command, args.jobs, args.deadline_s) if done else {}
        write_all(study, jobs, failed, command)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for job, reason in failed.items():
        print(f"failed: {job.name}: {reason}; see {job.command.log}", file=sys.stderr)
    for name, reason in unseen.items():
        print(f"failed: probe of {name}: {reason}; see {BASES / study.name}/probe-{name}.log", file=sys.stderr)
    return 1 if failed or unseen else 0


if __name__ == "__main__":
    sys.exit(main())

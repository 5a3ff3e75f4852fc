"""Measures two processes against one, and what checkpoints and going on cost, into results/processes.json.

    python scripts/benchmark_processes.py [--pairs 3] [--steps 100]        # about 10 minutes on two quiet cores

The tiny recipe of counting without its evaluations, each process with one thread. One process and two take turns, so
that a ratio is within one stretch of time; both get the same 64 rows a step. A run saves every 20 steps; afterwards it
goes on from its last checkpoint, and what passes until its next step begins is the cost of going on.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from open_r1.launch import launch_command, run_environment
from open_r1.recipe.merge import merge_recipe, parse_overrides
from open_r1.schema import UserError
from open_r1.utils.files import write_json
from open_r1.utils.processes import Command, run_side_by_side
from open_r1.utils.provenance import ROOT, figure, write_figures

ROWS = 64  # kept candidates a step, over all processes
DEADLINE_S = 1800  # for one run
SAVES = 20


def measure(config_path: Path) -> None:
    """Train as one process of a run, go on from its last checkpoint for one step; process 0 writes the seconds."""
    from accelerate import PartialState
    from transformers import TrainerCallback

    from open_r1 import grpo
    from open_r1.configs import load_config
    from open_r1.data.prepare import prepare_rows
    from open_r1.policy.loading import load_policy
    from open_r1.tasks import get_task
    from open_r1.training.checkpoints import newest_whole
    from open_r1.training.stopping import StopCallback

    class Clock(TrainerCallback):
        first_step_at = 0.0

        def on_step_begin(self, args, state, control, **kwargs):
            self.first_step_at = self.first_step_at or time.monotonic()

    def trained(resume: Path | None) -> dict[str, float]:
        """Seconds of one call of train(): all, in saving, until the first step began."""
        model, processor = load_policy(grpo.base_policy(config.recipe, task), config.recipe.max_pixels)
        trainer, clock, spent = grpo.build_trainer(config, task, model, processor, rows), Clock(), [0.0]
        trainer.add_callback(StopCallback())
        trainer.add_callback(clock)
        save = trainer._save_checkpoint

        def timed_save(*args: Any) -> None:
            began = time.monotonic()
            save(*args)
            spent[0] += time.monotonic() - began

        trainer._save_checkpoint = timed_save
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        return {"all": time.monotonic() - began, "saving": spent[0], "until_step": clock.first_step_at - began}

    config = load_config(config_path)
    task, state = get_task(config.recipe.task), PartialState()
    rows = prepare_rows(task, config, ["train"])["train"]
    folder = Path(str(config.output_dir))
    fresh = trained(None)
    again = trained(newest_whole(folder, PartialState().num_processes))
    if state.is_main_process:
        seconds = fresh | {"going_on": again["until_step"] - fresh["until_step"], "processes": state.num_processes}
        write_json(folder / "seconds.json", seconds)
    state.destroy_process_group()


def run(processes: int, steps: int, folder: Path, bar: tqdm) -> dict[str, float]:
    """Run `measure` in `processes` processes as `make train` would start them; returns its seconds."""
    words = [f"--output_dir={folder}", f"--max_steps={steps}", f"--save_steps={SAVES}", "--disable_tqdm=true"]
    words += [f"--per_device_train_batch_size={ROWS // processes}", "--num_test_rows=1"]
    recipe = merge_recipe("clevr_math", "tiny", "ekipl", parse_overrides(words))
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    *start, _entry, _flag, config = launch_command(recipe, folder / "recipe.yaml", processes)
    os.environ.update(run_environment(recipe, processes))
    command = Command((*start, __file__, "--measure", config), folder / "log")
    if failed := run_side_by_side({"run": command}, at_once=1, deadline_s=DEADLINE_S, cwd=ROOT, bar=bar):
        print(*(folder / "log").read_text().splitlines()[-60:], sep="\n", file=sys.stderr)  # the folder will be deleted
        raise UserError(f"{processes} processes: {failed['run']}")
    seconds = json.loads((folder / "seconds.json").read_text())
    assert seconds["processes"] == processes, "the launcher started another number of processes"
    return seconds


def main() -> None:
    """Take turns, take ratios, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="how often one process and two are measured")
    parser.add_argument("--steps", type=int, default=100, help=f"steps of a run, more than {SAVES}")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "processes.json")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure)
        return
    with tempfile.TemporaryDirectory() as folder, tqdm(total=2 * args.pairs, desc="runs", unit="run") as bar:
        pairs = [
            tuple(run(processes, args.steps, Path(folder, f"{pair}-{processes}"), bar) for processes in (1, 2))
            for pair in range(args.pairs)
        ]
    one = [first for first, _ in pairs]
    ratios = [(a["all"] - a["saving"]) / (b["all"] - b["saving"]) for a, b in pairs]
    per_second = statistics.median(ROWS * args.steps / (a["all"] - a["saving"]) for a in one)
    cost = [100 * (a["saving"] + a["going_on"]) / (a["all"] - a["saving"]) for a in one]
    spread = f"median of {args.pairs} pairs ({min(ratios):.2f} to {max(ratios):.2f})"
    saving = f"saving every {SAVES} of {args.steps} steps, and going on once"
    figures = [
        figure("one process", per_second, "kept candidates/s"),
        figure(f"two processes over one, {spread}", statistics.median(ratios), "x", ">= 1.5"),
        figure(saving, statistics.median(cost), "% of the steps", "< 5"),
    ]
    write_figures(args.output, "Several processes", figures, seeds=[0])


if __name__ == "__main__":
    main()

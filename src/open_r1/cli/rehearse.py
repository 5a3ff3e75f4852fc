"""Go once through everything that a true-size run does, with random weights of the real widths and vocabulary.

    python -m open_r1.cli.rehearse --model 2b --layers 2             # `make rehearse`; without --layers all of them

A checkpoint of the exact configuration, full-size pictures, then by LoRA and on every weight: evaluation, a supervised
stage, an EKIPL stage, a checkpoint, a resume from it, the adapter merged, `make eval` of what came out. Two candidates
a prompt and 16 new tokens: it tries paths and memory, and trains nothing worth having. First thing on a new cluster.
"""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from open_r1.preflight.fit import load_of, need_of
from open_r1.preflight.memory import GIB
from open_r1.preflight.missing import gpus
from open_r1.recipe.merge import merge_recipe, parse_overrides
from open_r1.recipe.rules import check_recipe
from open_r1.schema import UserError
from open_r1.utils.entry import command_parser, run_entry
from open_r1.utils.files import write_json
from open_r1.utils.markdown import markdown
from open_r1.utils.processes import Command, run_side_by_side
from open_r1.utils.provenance import ROOT, git_commit, hardware

DEADLINE_S = 7200  # of one step of the rehearsal
LIBRARIES_GIB = 1.0  # resident before any weight is
HOST_SHARE = 0.85  # of the machine's memory that a rehearsal on CPUs may plan for
METHOD = "cot_sft_ekipl"  # both stages
KINDS = {"lora": ["--lora.r", "16"], "full": []}


def short_run(model_path: Path, processes: int, on_cpu: bool, sharding: str) -> list[str]:
    """The overrides of a run of two steps in each stage: two candidates a prompt, 16 new tokens, full-size pictures."""
    settings: dict[str, Any] = {
        "model_path": model_path, "data_path": "", "data_size": "full", "num_train_rows": 4 * processes,
        "sft_rows": 2 * processes, "num_test_rows": 2 * processes, "prompts_per_step": processes, "num_generations": 2,
        "per_device_train_batch_size": 2, "sft.per_device_train_batch_size": 1, "max_completion_length": 16,
        "eval_max_completion_length": 16, "eval_rows_at_once": 2, "save_steps": 1,
    }  # fmt: skip
    if on_cpu:
        settings |= {"use_cpu": "true", "dataloader_pin_memory": "false"}
    if sharding:
        settings["accelerate_config"] = sharding
    return [f"--{key}={value}" for key, value in settings.items()]


class Rehearsal:
    """Runs the steps one after the other, each a command of its own with a log and a deadline."""

    def __init__(self, folder: Path):
        self.folder, self.seconds = folder, {}

    def step(self, name: str, module: str, *words: str) -> None:
        """Run `python -m open_r1.<module> words`; raises UserError with the log where it fails."""
        log = self.folder / f"{name}.log"
        began = time.monotonic()
        with tqdm(total=1, desc=name, unit="step") as bar:
            command = Command((sys.executable, "-m", f"open_r1.{module}", *words), log)
            failed = run_side_by_side({name: command}, at_once=1, deadline_s=DEADLINE_S, cwd=ROOT, bar=bar)
        if failed:
            raise UserError(f"{name} failed: {failed[name]}; all of it: {log}")
        self.seconds[name] = round(time.monotonic() - began, 1)


def rehearse(kind: str, steps: Rehearsal, common: list[str], words: list[str], processes: int) -> dict[str, Any]:
    """Train, resume and evaluate by LoRA or on every weight; returns the measured beside the planned."""
    run = steps.folder / kind
    train = [*common, "--method", METHOD, "--num_processes", str(processes), "--output_dir", str(run), *words]
    steps.step(f"{kind} train", "launch", *train)
    first = json.loads((run / "summary.json").read_text())
    shutil.rmtree(run / "model")  # as if the run had been killed after its last checkpoint
    (run / "summary.json").unlink()
    steps.step(f"{kind} resume", "launch", *train)
    again = json.loads((run / "summary.json").read_text())
    if again["steps"] != first["steps"]:
        raise UserError(f"{run}: {first['steps']} steps, after a resume {again['steps']}; report it")
    evaluated = steps.folder / f"{kind} eval"
    precision = [word for word in words if word.startswith("--use_cpu")]
    steps.step(f"{kind} eval", "evaluate", *common, "--model_path", str(run), "--rows", "2", "--output", str(evaluated),
               "--data_size=full", "--data_path=", "--eval_max_completion_length=16", *precision)  # fmt: skip
    return {"steps": first["steps"], "distributed": first["distributed"], "peak_rss_gib": first["peak_rss_mib"] / 1024}


def planned(common: Sequence[str], words: list[str], processes: int, gib: float) -> tuple[float, int]:
    """GiB per process and tokens a row at most, by the plan."""
    named = dict(zip(common[::2], common[1::2], strict=True))
    recipe = check_recipe(merge_recipe(named["--task"], named["--model"], METHOD, parse_overrides(words)), processes)
    return need_of(recipe, processes, gib).total / GIB, load_of(recipe, processes).tokens


def main(argv: Sequence[str]) -> None:
    """Rehearse and print a table; raises UserError with the step that failed."""
    parser = command_parser(__doc__, task=None, output="folder of logs and runs (default: rehearsals/...)")
    parser.add_argument("--model", default="2b", choices=("2b", "7b"), help="whose configuration")
    parser.add_argument("--layers", type=int, help="text layers, with four vision blocks; default: all of both")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), help="what is trained")
    parser.add_argument("--accelerate_config", default="", help="file in recipes/accelerate_configs")
    parser.add_argument("--num_processes", type=int, default=0, help="default: one per visible GPU")
    args = parser.parse_args(argv)
    visible = gpus()
    processes, on_cpu = args.num_processes or max(1, len(visible)), not visible
    name = f"{args.model}-{args.layers or 'all'}"
    folder = args.output or ROOT / "rehearsals" / f"{name}-{args.accelerate_config or 'default'}-{processes}"
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; a rehearsal starts anew; give another OUTPUT or remove it")
    steps, base = Rehearsal(folder), ROOT / "rehearsals" / f"checkpoint-{name}"
    if not (base / "config.json").is_file():
        steps.step("checkpoint", "cli.full_size", "--model", args.model, "--output", str(base),
                   *(["--layers", str(args.layers)] if args.layers else []))  # fmt: skip
    common = ["--task", args.task, "--model", args.model]
    short = short_run(base, processes, on_cpu, args.accelerate_config)
    gib = min(visible, default=psutil.virtual_memory().total / GIB * HOST_SHARE / processes - LIBRARIES_GIB)
    found: dict[str, Any] = {}
    for kind in args.kinds:
        words = [*short, *KINDS[kind]]
        need, tokens = planned(common, words, processes, gib)
        if need > gib:
            found[kind] = {"skipped": f"needs {need:.1f} GiB a process, there are {gib:.1f}", "plan_gib": need}
            continue
        found[kind] = {"plan_gib": need, "tokens_a_row": tokens} | rehearse(kind, steps, common, words, processes)
    origin = {"commit": git_commit(), "hardware": hardware(), "argv": list(argv)}
    write_json(folder / "rehearsal.json", {**origin, "seconds": steps.seconds, "kinds": found})
    heads = ["trained", "steps", "GiB by plan", f"GiB resident ({LIBRARIES_GIB:g} of libraries)", "skipped"]
    cells = [
        [kind, str(part.get("steps", "")), f"{part['plan_gib']:.1f}", f"{part.get('peak_rss_gib', 0):.1f}",
         part.get("skipped", "")]
        for kind, part in found.items()
    ]  # fmt: skip
    sys.stdout.write(markdown(heads, cells) + f"{folder}/rehearsal.json\n")


if __name__ == "__main__":
    run_entry(main)

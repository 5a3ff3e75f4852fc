"""What `make train` runs: merge the recipe, check it and the machine, make the run folder, start grpo.py.

    python -m open_r1.launch --task trance --model 2b --method ekipl --dry_run
    python -m open_r1.launch --learning_rate 1e-6 --external_models[0].accuracy .9

It imports neither torch nor TRL: a dry run and every refusal take a few seconds. The training process takes its place
(exec), so signals of a terminal or a scheduler reach the trainer itself.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from open_r1.preflight.fit import accelerate_config
from open_r1.preflight.folder import RECIPE, check_continues, check_place, make_folder, name_folder, near
from open_r1.preflight.missing import gpus, missing
from open_r1.preflight.nodes import machine_options, wait_for_recipe, write_recipe
from open_r1.recipe.merge import merge_recipe, parse_overrides, to_yaml
from open_r1.recipe.rules import Recipe
from open_r1.recipe.settings import RECIPES
from open_r1.schema import UserError
from open_r1.utils.entry import command_parser, run_entry

TRAINING, REHEARSAL = ("-m", "open_r1.grpo"), ("-m", "open_r1.training.rehearsal")
REHEARSAL_S = 300  # a machine that has not imported the libraries by then is stuck


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the launcher's own options; everything else is an override of the recipe."""
    about = "Train. Any further --key value, --key=value or key=value overrides the recipe."
    parser = command_parser(about, task=None, model=None, method=None, teachers=None, dry_run=None)
    parser.add_argument("--output_dir", default="", help="the run's folder (default: runs/<time>-<what>)")
    parser.add_argument("--num_processes", type=int, default=0, help="in all; default: one per visible GPU")
    parser.add_argument("--num_machines", type=int, default=1, help="nodes that train together (slurm/train.slurm)")
    parser.add_argument("--main_address", default="127.0.0.1", help="address of node 0")
    parser.add_argument("--main_port", default="29500", help="a free port of node 0")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run or show what the command line asks for; raises UserError for invalid or missing input."""
    args, words = build_parser().parse_known_args(argv)
    merged = merge_recipe(args.task, args.model, args.method, parse_overrides(words), args.teachers)
    chosen = args.output_dir or merged.pop("output_dir", "")
    recipe = Recipe.read(merged | {"argv": list(argv)})
    gpus_gib = [] if recipe.use_cpu else gpus()
    processes = args.num_processes or max(len(gpus_gib), 1) * args.num_machines
    rank, machines = machine_options(args)
    recipe.check_processes(processes)
    environment = run_environment(recipe, processes)
    os.environ.update(environment)  # before looking for weights: a tiny run asks no hub
    folder = Path(chosen) if chosen else name_folder(recipe)
    lacking = missing(recipe, processes, gpus_gib)
    if args.dry_run:
        command = launch_command(recipe, folder / RECIPE, processes, machines)
        show(recipe, folder, processes, command_line(command, environment), lacking)
        check_place(folder)
        rehearse(recipe, processes)
        return
    if lacking:
        raise UserError("\n".join(lacking))
    check_place(folder)
    if rank == 0:
        changed = check_continues(folder, recipe) if chosen else None
        folder = make_folder(folder, chosen=bool(chosen))
        write_recipe(recipe.given(), folder / RECIPE)
        if changed is not None:
            print(f"going on with the unfinished run in {near(folder)}{f' with {changed}' if changed else ''}")
    else:
        wait_for_recipe(recipe.given(), folder / RECIPE)
    start(launch_command(recipe, folder / RECIPE, processes, machines), environment)


def run_environment(recipe: Recipe, processes: int) -> dict[str, str]:
    """Variables the training process gets beyond ours; what the user has set in WANDB_MODE stays."""
    environment = {"TOKENIZERS_PARALLELISM": "false"}
    if recipe.model == "tiny":
        environment["HF_HUB_OFFLINE"] = "1"  # a tiny run downloads nothing
        # Two threads gain nothing on tensors this small and crawl when anything else runs (docs/LOG.md).
        environment["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    if "wandb" not in recipe.trackers:
        environment["WANDB_MODE"] = os.environ.get("WANDB_MODE", "disabled")
    configuration = accelerate_config(recipe, processes)
    if recipe.use_cpu and configuration == "ddp":
        environment["ACCELERATE_USE_CPU"] = "true"  # without it accelerate starts them but syncs no gradients
    elif recipe.use_cpu and configuration:  # DeepSpeed asks what device there is
        environment |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    return environment


def launch_command(recipe: Recipe, config: Path, processes: int, machines: Sequence[str] = ()) -> list[str]:
    """Build the training command: plain Python for one process, accelerate for several."""
    train = [*TRAINING, "--config", str(config)]
    configuration = accelerate_config(recipe, processes)
    if configuration is None:
        return [str(near(Path(sys.executable))), *train]
    accelerate = Path(sys.executable).with_name("accelerate")  # beside our Python, on the PATH or not
    settings = RECIPES / "accelerate_configs" / f"{configuration}.yaml"
    half = ["--mixed_precision", "bf16" if recipe.half_precision else "no"]  # the recipe decides, not the file
    where = machines or ["--main_process_port", "0"]  # on one node any free port: two runs do not meet
    options = ["--config_file", str(near(settings)), "--num_processes", str(processes), *half, *where]
    return [str(near(accelerate)), "launch", *options, *train]


def command_line(command: Sequence[str], environment: dict[str, str]) -> str:
    """The command as one line that can be pasted into a shell."""
    return shlex.join([*(f"{key}={value}" for key, value in environment.items()), *command])


def show(recipe: Recipe, folder: Path, processes: int, command: str, lacking: list[str]) -> None:
    """Print a dry run: the merged recipe as YAML, and as its comments the batch, the command and what is missing."""
    written = recipe.given() | {"output_dir": str(folder)}
    print(to_yaml(written), end="")
    prompts, step = recipe.prompts_per_generation(processes), recipe.step(processes)
    print(
        f"# batch: {processes} processes x {prompts} prompts x G = {recipe.num_generations} candidates;"
        f" {step.micro_batches} x {step.rows} rows per process and optimizer step"
    )
    print(f"# command: {command}")
    for line in lacking or ["nothing"]:
        print(f"# missing: {line}")


def rehearse(recipe: Recipe, processes: int) -> None:
    """Build all that the run will build, in a process of its own: the libraries take seconds to import.

    Raises:
        UserError: what they refuse, in one line.
    """
    command = [sys.executable, *REHEARSAL, str(processes)]
    done = subprocess.run(
        command, input=to_yaml(recipe.given()), capture_output=True, text=True, timeout=REHEARSAL_S, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
        raise UserError(said[-1] if done.returncode == 2 else done.stderr.strip())


def start(command: list[str], environment: dict[str, str]) -> NoReturn:
    """Say what runs, and become the training process."""
    print(command_line(command, environment), flush=True)
    os.execvpe(command[0], command, os.environ)


if __name__ == "__main__":
    run_entry(main)

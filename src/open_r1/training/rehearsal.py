"""The dry run that is the run: everything that a training needs is built, short of starting it.

    python -m open_r1.training.rehearsal PROCESSES < recipe.yaml       (launch.py --dry_run starts this)

The training process calls `rehearse` first, so that a dry run and a run meet the same checks. Nothing is written, no
weights are read, no server is asked.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from transformers import AutoProcessor, get_scheduler
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.sft_config import SFTConfig

from open_r1.data.prompts import conversations
from open_r1.data.rows import load_rows
from open_r1.policy.checkpoint import checkpoint_faults
from open_r1.recipe.rules import Recipe, check_recipe
from open_r1.recipe.settings import RECIPES
from open_r1.schema import UserError
from open_r1.tasks import get_task
from open_r1.training.supervised import lora_config
from open_r1.utils.entry import run_entry

ROWS = 20  # that go through loader, prompt, processor and grader


def rehearse(recipe: Recipe, processes: int, rows: bool = True) -> None:
    """Build what the run will build, as the libraries build it; with `rows`, read the first rows of the data too.

    Raises:
        UserError: one line for the first thing that they refuse.
    """
    hardware: dict[str, Any] = (
        {"bf16": False, "fp16": False} if not torch.cuda.is_available() else {}
    )  # refused without a GPU
    _built("TRL's GRPOConfig", lambda: _trainer_config(recipe, processes, hardware))
    if "sft" in recipe.stages:
        given: dict[str, Any] = {"use_cpu": recipe.use_cpu, **recipe.sft.given(), **hardware}
        _built("the setting sft", lambda: SFTConfig("unused", **given))
    if recipe.lora is not None:
        _built("the setting lora", lambda: lora_config(recipe))
    _built("lr_scheduler_type", lambda: _schedule(recipe))
    _built(f"accelerate_config {recipe.accelerate_config}", lambda: _launch_config(recipe.accelerate_config))
    folder = Path(recipe.untrained)
    for fault in checkpoint_faults(folder) if folder.is_dir() else ():
        raise UserError(fault)
    if rows:
        rehearse_rows(recipe, folder)


def rehearse_rows(recipe: Recipe, policy: Path) -> None:
    """Send the first rows of the recipe's data through loader, prompt, processor and grader; raises UserError."""
    if not recipe.data_path or not Path(recipe.data_path).exists():
        return  # synthetic data are made, and the hub's fetched, when the run begins
    task = get_task(recipe.task)
    rows = load_rows(task, recipe.data_path, "train", skip_bad_rows=recipe.skip_bad_rows, verify_images="exists").rows[
        :ROWS
    ]
    if (policy / "tokenizer.json").is_file():
        processor = _built(f"the processor in {policy}", lambda: AutoProcessor.from_pretrained(str(policy)))
        text = conversations(rows[:1], task, recipe.prompt_kind)
        _built("the prompt of the first row", lambda: processor.apply_chat_template(text[0], tokenize=False))
    for row in rows:
        task.grade(f"<think></think><answer>{row.answer}</answer>", row.answer, recipe.training_grader)


def _trainer_config(recipe: Recipe, processes: int, hardware: dict[str, Any]) -> GRPOConfig:
    rows, micro_batches = recipe.step(processes)
    step: dict[str, Any] = {
        "output_dir": "unused",
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": micro_batches,
    }
    if recipe.generation_batch_size is not None:
        step["generation_batch_size"] = recipe.generation_batch_size // processes
    return GRPOConfig(**(step | recipe.for_trl() | step | hardware))


def _schedule(recipe: Recipe) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    kwargs = recipe.given().get("lr_scheduler_kwargs") or None
    get_scheduler(recipe.lr_scheduler_type, optimizer, 1, 10, scheduler_specific_kwargs=kwargs)


def _launch_config(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    load_config_from_file(str(RECIPES / "accelerate_configs" / f"{name}.yaml"))


def _built(what: str, build: Callable[[], Any]) -> Any:
    """Build it, and say in one line what the library refuses."""
    try:
        return build()
    except UserError:
        raise
    except (ValueError, TypeError, OSError, ImportError, KeyError, NotImplementedError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: {said}; correct the recipe (--dry_run shows it)") from error


def main(argv: Sequence[str]) -> None:
    """Rehearse the recipe on stdin for so many processes."""
    os.environ.pop("WORLD_SIZE", None)
    values = OmegaConf.to_container(OmegaConf.create(sys.stdin.read()))
    assert isinstance(values, dict)
    rehearse(check_recipe({str(key): value for key, value in values.items()}, int(argv[0])), int(argv[0]))


if __name__ == "__main__":
    run_entry(main)

"""The rules that let every run go on after a kill: what its checkpoints would not hold is refused."""

from collections.abc import Mapping
from typing import Any

from open_r1.schema import UserError

SHARDED = ("zero3", "zero3_offload", "fsdp2")  # where no process has a whole reference to save


def check_resuming(recipe: Mapping[str, Any], processes: int) -> None:
    """Refuse TRL's settings under which a run that goes on would not be the run that was begun."""
    for where, settings in (("", recipe), ("sft.", recipe["sft"])):
        if settings.get("resume_from_checkpoint"):
            raise UserError(
                f"{where}resume_from_checkpoint is {settings['resume_from_checkpoint']!r}; a run goes on by itself from"
                " its newest whole checkpoint when it is started again with the same output_dir; leave the setting out;"
                " to begin a new run with a checkpoint's weights give MODEL_PATH=folder"
            )
        if settings.get("save_only_model"):
            raise UserError(
                f"{where}save_only_model is true; a checkpoint without optimizer, schedule and random states cannot be"
                " gone on with; leave it out (run/model has the weights alone), or save none: save_strategy: 'no'"
            )
        if settings.get("ignore_data_skip"):
            raise UserError(
                f"{where}ignore_data_skip is true; a resumed run would train on rows that it has seen; leave it out"
            )
        if settings.get("restore_callback_states_from_checkpoint"):
            raise UserError(
                f"{where}restore_callback_states_from_checkpoint is true; the loggers of a run restore themselves from"
                " its files; leave it out"
            )
    if recipe.get("sync_ref_model") and processes > 1 and recipe["accelerate_config"] in SHARDED:
        raise UserError(
            f"sync_ref_model is true with accelerate_config {recipe['accelerate_config']}; the moving reference is in"
            " the checkpoints only where each process holds all of it; set accelerate_config: zero2 or ddp"
        )

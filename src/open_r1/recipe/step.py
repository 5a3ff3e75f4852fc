"""How one optimizer step is cut: its prompts over the processes, the rows of a process into micro-batches.

A recipe says how many prompts a step has (`prompts_per_step`) and how many rows fit into memory at once
(`per_device_train_batch_size`). `gradient_accumulation_steps` follows from the number of processes, here and nowhere
else, so that a step holds the same prompts on one GPU as on eight.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from open_r1.schema import UserError

# TRL's defaults of the keys that our rules need, here and in checks*.py; held by tests/test_configs.py.
TRL_DEFAULTS = {
    "per_device_train_batch_size": 8,
    "steps_per_generation": None,
    "generation_batch_size": None,
    "num_generations": 8,
    "scale_rewards": "group",
    "multi_objective_aggregation": "sum_then_normalize",
    "reward_weights": None,
    "ddp_timeout": 1800,
}


class Step(NamedTuple):
    """The rows that one process computes gradients of, for one optimizer step: `rows` at a time, `micro_batches` times.

    Example: 16 prompts x G = 8 on 4 processes with at most 8 rows at a time are Step(rows=8, micro_batches=4).
    """

    rows: int
    micro_batches: int


def cut_step(recipe: Mapping[str, Any], processes: int) -> Step:
    """Cut one optimizer step; without `prompts_per_step` the two settings of transformers stand as they are.

    With it, a process that has fewer rows than `per_device_train_batch_size` takes them all at once.

    Raises:
        UserError: the prompts do not divide, or `gradient_accumulation_steps` says something else.
    """
    at_once = recipe["per_device_train_batch_size"]
    if recipe["prompts_per_step"] is None:
        return Step(at_once, recipe["gradient_accumulation_steps"] or 1)
    asked = f"prompts_per_step = {recipe['prompts_per_step']} x num_generations = {recipe['num_generations']}"
    own, left_over = divmod(recipe["prompts_per_step"] * recipe["num_generations"], processes)
    at_once = min(at_once, own)
    if left_over or at_once < 1 or own % at_once:
        raise UserError(
            f"{asked} on {processes} processes: {own} rows each ({left_over} left over), {at_once} at a time; both must"
            " divide without rest; change prompts_per_step, per_device_train_batch_size or the number of processes"
        )
    step = Step(at_once, own // at_once)
    if recipe["gradient_accumulation_steps"] not in (None, step.micro_batches):
        raise UserError(
            f"gradient_accumulation_steps is {recipe['gradient_accumulation_steps']}, but {asked} on {processes}"
            f" processes, {at_once} rows at a time, make it {step.micro_batches}; leave it out"
        )
    return step


def check_batch(recipe: Mapping[str, Any], processes: int) -> int:
    """Check that each process generates whole groups of G rows; returns the prompts per process and generation."""
    device, micro_batches = cut_step(recipe, processes)
    group = recipe["num_generations"]
    if recipe["generation_batch_size"] is not None:
        if recipe["steps_per_generation"] is not None:
            raise UserError("generation_batch_size and steps_per_generation are both set; they are one; leave out one")
        rows, left_over = divmod(recipe["generation_batch_size"], processes)
    else:
        rows, left_over = device * (recipe["steps_per_generation"] or micro_batches), 0
    if left_over or rows < 1 or rows % group or rows % max(device, 1):
        raise UserError(
            f"each of {processes} processes would generate {rows} rows ({left_over} left over) in batches of {device};"
            f" that must be whole groups of num_generations = {group} and whole batches; set prompts_per_step to a"
            f" multiple of {processes}"
        )
    return rows // group

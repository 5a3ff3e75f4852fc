"""How one optimizer step is cut: its prompts over the processes, the rows of a process into micro-batches.

A recipe says how many prompts a step has (`prompts_per_step`) and how many rows fit into memory at once
(`per_device_train_batch_size`). `gradient_accumulation_steps` follows from the number of processes, here and nowhere
else, so that a step holds the same prompts on one GPU as on eight.
"""

from typing import NamedTuple, Protocol

from open_r1.schema import UserError


class Step(NamedTuple):
    """The rows that one process computes gradients of, for one optimizer step: `rows` at a time, `micro_batches` times.

    Example: 16 prompts x G = 8 on 4 processes with at most 8 rows at a time are Step(rows=8, micro_batches=4).
    """

    rows: int
    micro_batches: int


class StepSettings(Protocol):
    """What a cut is made from: a recipe, or the sft stage's own settings."""

    @property
    def prompts_per_step(self) -> int | None: ...  # noqa: D102
    @property
    def num_generations(self) -> int: ...  # noqa: D102
    @property
    def per_device_train_batch_size(self) -> int: ...  # noqa: D102
    @property
    def gradient_accumulation_steps(self) -> int | None: ...  # noqa: D102


class GenerationSettings(StepSettings, Protocol):
    """The same, with what says how many rows are generated at once."""

    @property
    def generation_batch_size(self) -> int | None: ...  # noqa: D102
    @property
    def steps_per_generation(self) -> int | None: ...  # noqa: D102


def cut_step(settings: StepSettings, processes: int) -> Step:
    """Cut one optimizer step; without `prompts_per_step` the two settings of transformers stand as they are.

    With it, a process that has fewer rows than `per_device_train_batch_size` takes them all at once.

    Raises:
        UserError: the prompts do not divide, or `gradient_accumulation_steps` says something else.
    """
    at_once = settings.per_device_train_batch_size
    if settings.prompts_per_step is None:
        return Step(at_once, settings.gradient_accumulation_steps or 1)
    asked = f"prompts_per_step = {settings.prompts_per_step} x num_generations = {settings.num_generations}"
    own, left_over = divmod(settings.prompts_per_step * settings.num_generations, processes)
    at_once = min(at_once, own)
    if left_over or at_once < 1 or own % at_once:
        raise UserError(
            f"{asked} on {processes} processes: {own} rows each ({left_over} left over), {at_once} at a time; both must"
            " divide without rest; change prompts_per_step, per_device_train_batch_size or the number of processes"
        )
    step = Step(at_once, own // at_once)
    if settings.gradient_accumulation_steps not in (None, step.micro_batches):
        raise UserError(
            f"gradient_accumulation_steps is {settings.gradient_accumulation_steps}, but {asked} on {processes}"
            f" processes, {at_once} rows at a time, make it {step.micro_batches}; leave it out"
        )
    return step


def check_batch(settings: GenerationSettings, processes: int) -> int:
    """Check that each process generates whole groups of G rows; returns the prompts per process and generation."""
    device, micro_batches = cut_step(settings, processes)
    group = settings.num_generations
    if settings.generation_batch_size is not None:
        if settings.steps_per_generation is not None:
            raise UserError("generation_batch_size and steps_per_generation are both set; they are one; leave out one")
        rows, left_over = divmod(settings.generation_batch_size, processes)
    else:
        rows, left_over = device * (settings.steps_per_generation or micro_batches), 0
    if left_over or rows < 1 or rows % group or rows % max(device, 1):
        raise UserError(
            f"each of {processes} processes would generate {rows} rows ({left_over} left over) in batches of {device};"
            f" that must be whole groups of num_generations = {group} and whole batches; set prompts_per_step to a"
            f" multiple of {processes}"
        )
    return rows // group

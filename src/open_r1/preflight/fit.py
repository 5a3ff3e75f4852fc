"""Whether a recipe fits into a number of GPUs of a size, and what to set where it does not.

Joins a recipe to the arithmetic of `memory.py`; `make plan`, the dry run and the launcher's refusal ask here.
"""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from open_r1.policy.checkpoint import ADAPTER
from open_r1.preflight.memory import AUTOCAST, DEEPSPEED, FLOAT32, GIB, SHARDINGS, Load, Need, Setup, training_memory
from open_r1.preflight.shape import PATCH, SHAPES, Shape, adapter_parameters, read_shape
from open_r1.recipe.rules import Recipe
from open_r1.recipe.settings import LORA_TARGETS
from open_r1.schema import UserError
from open_r1.tasks import get_task

SIZES = (1, 2, 4, 8, 16, 32)  # numbers of GPUs that are tried in turn
TINY_PIXELS = 84 * 84  # of a synthetic picture of data_size tiny
CHARACTERS_PER_TOKEN = 3  # of a prompt's text: fewer than English has, so that the count is above the truth
QUESTION_TOKENS = 256  # of the system turn, the question and the chat format, above the truth as well


def shape_of(recipe: Recipe) -> Shape:
    """The policy's shape: its config.json where the weights are here, else the built-in one of its model."""
    base = recipe.untrained
    adapter = Path(base) / ADAPTER
    if adapter.is_file():  # it is merged into its base
        base = str(json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path", base))
    if (Path(base) / "config.json").is_file():
        return read_shape(Path(base))
    if recipe.model not in SHAPES:
        raise UserError(f"no config.json in {base}, and MODEL={recipe.model} has no built-in shape; make base")
    return SHAPES[recipe.model]


def load_of(recipe: Recipe, processes: int) -> Load:
    """What one process works on: whole pictures of max_pixels, replies of full length."""
    task, step = get_task(recipe.task), recipe.step(processes)
    synthetic = recipe.data_size == "tiny" and not recipe.data_path
    return Load(
        rows=step.rows,
        generated=recipe.prompts_per_generation(processes) * recipe.num_generations,
        pictures=1 if task.images_per_row is None else task.images_per_row,
        patches=(min(recipe.max_pixels, TINY_PIXELS) if synthetic else recipe.max_pixels) // PATCH**2,
        text_tokens=len(task.instruction) // CHARACTERS_PER_TOKEN + QUESTION_TOKENS,
        completion_tokens=recipe.max_completion_length,
    )


def accelerate_config(recipe: Recipe, processes: int) -> str | None:
    """Name the file of recipes/accelerate_configs that the recipe is launched with; None for plain Python.

    One process needs none, unless DeepSpeed is to keep the optimizer in the host's memory. FSDP2 runs on GPUs only:
    on a CPU accelerate makes DDP of it without a word.
    """
    name = recipe.accelerate_config
    if recipe.use_cpu and "accelerate_config" not in recipe.given():
        name = "ddp"
    if recipe.use_cpu and name == "fsdp2":
        raise UserError("accelerate_config is fsdp2 with use_cpu, which accelerate cannot do; set zero3 or ddp")
    return name if processes > 1 or SHARDINGS[name].offload else None


def setup_of(recipe: Recipe, processes: int, gib: float) -> Setup:
    """How `launch.py` would start the recipe: one process is plain Python, several are accelerate's configuration."""
    sharding = accelerate_config(recipe, processes) or "ddp"
    half = DEEPSPEED if sharding.startswith("zero") else AUTOCAST
    colocated = recipe.use_vllm and recipe.vllm_mode == "colocate"
    return Setup(
        precision=half if recipe.half_precision else FLOAT32,
        sharding=sharding,
        processes=processes,
        reference=recipe.beta != 0,
        checkpointing=recipe.gradient_checkpointing,
        fused_optimizer=recipe.optim == "adamw_torch_fused",
        generates=not recipe.use_vllm,
        in_turn=0 < (recipe.steps_per_generation or 0) < recipe.step(processes).micro_batches,
        vllm=recipe.vllm_gpu_memory_utilization * gib * GIB if colocated else 0,
        on_gpu=not recipe.use_cpu,
        adapter=adapter_of(recipe),
    )


def adapter_of(recipe: Recipe) -> int | None:
    """Parameters of the adapter that the recipe trains; None where every weight is trained."""
    if recipe.lora is None:
        return None
    return adapter_parameters(shape_of(recipe), recipe.lora.r, recipe.lora.given().get("target_modules", LORA_TARGETS))


def need_of(recipe: Recipe, processes: int, gib: float) -> Need:
    """Bytes that each of `processes` GPUs of `gib` GiB needs to train the recipe."""
    return training_memory(shape_of(recipe), load_of(recipe, processes), setup_of(recipe, processes, gib))


def fits(recipe: Recipe, processes: int, gib: float) -> bool:
    """Whether the highest moment of training stays below the memory there is."""
    return need_of(recipe, processes, gib).total <= gib * GIB


def remedies(recipe: Recipe, processes: int) -> Iterator[dict[str, int | str]]:
    """Settings that need less memory and compute the same update, fewest and cheapest changes first."""
    step, given = recipe.step(processes), recipe.accelerate_config
    rows = [rows for rows in (32, 16, 8, 4, 2, 1) if rows < step.rows and step.rows % rows == 0]
    shardings = ["zero3", "zero3_offload"] if given in ("zero2", "zero3") else []
    if processes == 1:  # sharing the weights helps nobody there
        shardings = shardings[1:]
    options = product(["", *shardings], [0, *rows], [False, True])
    for sharding, at_once, in_turn in sorted(options, key=lambda option: (option[0], sum(map(bool, option)))):
        changed: dict[str, int | str] = {}
        if in_turn:  # sample one prompt's group after another, not all of a step at once
            changed["steps_per_generation"] = max(1, recipe.num_generations // (at_once or step.rows))
        if at_once:
            changed["per_device_train_batch_size"] = at_once
        if sharding and sharding != given:
            changed["accelerate_config"] = sharding
        if changed:
            yield changed


def remedy(recipe: Recipe, processes: int, gib: float) -> dict[str, int | str] | None:
    """The first settings with which the recipe fits and keeps every rule; None where none of them is enough."""
    for changed in remedies(recipe, processes):
        try:
            if fits(recipe.changed(**changed), processes, gib):
                return changed
        except UserError:  # e.g. rows that do not make whole groups
            continue
    return None


def adapter_remedy(recipe: Recipe, processes: int, gib: float) -> list[str]:
    """Words that train LoRA's matrices in place of every weight, another update, and fit; none where they do not."""
    lora = recipe.changed(lora={"r": 64})
    changed = {} if fits(lora, processes, gib) else remedy(lora, processes, gib)
    if changed is None:
        return []
    return ["--lora.r 64", *(f"--{key} {value}" for key, value in changed.items())]


def fewest_gpus(recipe: Recipe, gib: float) -> int | None:
    """The smallest number of such GPUs on which the recipe fits, as it is or with a remedy."""
    for processes in SIZES:
        try:
            if fits(recipe, processes, gib) or remedy(recipe, processes, gib):
                return processes
        except UserError:  # its step cannot be shared by so many
            continue
    return None


def refusal(recipe: Recipe, gpus: int, gib: float) -> str:
    """Why the recipe cannot run there, and what to change."""
    need = need_of(recipe, gpus, gib).total / GIB
    changed = remedy(recipe, gpus, gib)
    if changed:
        todo = 'set ARGS="' + " ".join(f"--{key} {value}" for key, value in changed.items()) + '"'
    else:
        more = fewest_gpus(recipe, gib)
        instead = f"take GPUS={more}" if more else "take GPUs with more memory"
        if recipe.lora is None and (adapters := adapter_remedy(recipe, gpus, gib)):
            instead += ', or train adapters: ARGS="' + " ".join(adapters) + '"'
        todo = f"no setting that keeps the update is enough; {instead}"
    return f"MODEL={recipe.model} needs {need:.0f} GiB on each of {gpus} GPUs, they have {gib:g}; {todo}"

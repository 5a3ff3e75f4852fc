"""What a run costs: seconds of a step, hours, dollars of the external models; and the table of docs/HARDWARE.md.

Memory is arithmetic held against measurements (results/plan.json); hours are an estimate from a GPU's published speed
that nothing here has been held against.
"""

import math
from typing import NamedTuple

from open_r1.preflight.fit import fits, load_of, need_of, remedy, setup_of, shape_of
from open_r1.preflight.memory import GIB, Load
from open_r1.preflight.shape import PATCHES_PER_TOKEN, Shape
from open_r1.recipe.merge import merge_recipe
from open_r1.recipe.rules import Recipe
from open_r1.utils.markdown import markdown

TRAIN_ROWS = {"clevr_math": 35_000, "geomath": 4_500, "trance": 60_000}  # Reason-RFT-CoT-Dataset
QUERY_USD = (0.01, 0.03)  # what a query to GPT-4o or Gemini costs, arXiv 2506.06856
TOKEN_S = 0.03  # transformers' generate needs about as long for a token of any batch, however fast the GPU is
COMPUTE_SHARE, BANDWIDTH_SHARE = 0.35, 0.6  # of the published speed that is usually reached
TABLE = [(model, gpus, gib) for model in ("2b", "7b") for gpus in (1, 4, 8) for gib in (24, 40, 80)]


class Speed(NamedTuple):
    """A GPU's published speed: products in bfloat16 and memory."""

    flops: float  # per second
    bandwidth: float  # bytes per second


SPEEDS = {24: Speed(125e12, 0.6e12), 40: Speed(312e12, 1.55e12), 80: Speed(312e12, 2.0e12)}  # A10, A100, A100


def forward_flops(shape: Shape, load: Load, tokens: int) -> float:
    """Operations of one forward pass over a row of `tokens` tokens, its pictures among them."""
    H, D, patches = shape.hidden_size, shape.embed_dim, load.patches
    heads = 1 if shape.tie_word_embeddings else 2
    matrices = shape.text_parameters - heads * shape.vocab_size * H
    text = 2 * tokens * matrices + 2 * shape.num_hidden_layers * tokens**2 * H  # causal: half of all pairs
    vision = 2 * patches * shape.vision_parameters + 4 * shape.depth * patches**2 * D
    head = 2 * load.completion_tokens * shape.vocab_size * H
    return text + load.pictures * vision + head


def step_seconds(recipe: Recipe, gpus: int, gib: float) -> float:
    """Seconds of one optimizer step with transformers' own sampling: generation, reference, update."""
    shape, load, setup = shape_of(recipe), load_of(recipe, gpus), setup_of(recipe, gpus, gib)
    step = recipe.step(gpus)
    speed = SPEEDS[max((size for size in SPEEDS if size <= gib), default=min(SPEEDS))]
    flops, bandwidth = speed.flops * COMPUTE_SHARE, speed.bandwidth * BANDWIDTH_SHARE
    rows = step.rows * step.micro_batches
    passes = 3 + setup.checkpointing + setup.reference  # forward, backward (two), computed again, reference
    update = rows * passes * forward_flops(shape, load, load.tokens) / flops
    cache = load.generated * load.tokens * shape.num_hidden_layers * shape.kv_size * 2 * setup.precision.compute
    token = max(TOKEN_S, (setup.precision.weight * shape.parameters + cache) / bandwidth)
    sampling = rows / load.generated * load.completion_tokens * token
    return sampling + rows * forward_flops(shape, load, load.prompt_tokens) / flops + update


def describe(recipe: Recipe, gpus: int, gib: float) -> list[str]:
    """The plan as lines: memory per GPU, one step, the whole run, the external models' bill."""
    need, load, step = need_of(recipe, gpus, gib), load_of(recipe, gpus), recipe.step(gpus)
    lines = [f"{recipe.model} on {gpus} x {gib:g} GiB, {recipe.task}, {setup_of(recipe, gpus, gib).sharding}: GiB each"]
    lines += [f"  {name:<16}{size / GIB:8.1f}" for name, size in need.stays.items() if size]
    highest = max(need.peaks, key=lambda name: need.peaks[name])
    lines += [
        f"  + {name:<14}{size / GIB:8.1f}{'  <- the highest moment' if name == highest else ''}"
        for name, size in need.peaks.items()
    ]
    lines += [f"  {'in all':<16}{need.total / GIB:8.1f}  of {gib:g}"]
    rows = step.rows * step.micro_batches * gpus
    prompts = rows // recipe.num_generations
    picture = load.patches // PATCHES_PER_TOKEN
    lines += [
        f"one step: {prompts} prompts x {recipe.num_generations} = {rows} rows, {step.micro_batches} x {step.rows}"
        f" on each GPU; {load.tokens:,} tokens a row at most ({load.pictures} x {picture} for pictures),"
        f" {rows * load.tokens:,} a step"
    ]
    available = recipe.num_train_rows or TRAIN_ROWS[recipe.task]
    steps = recipe.max_steps if recipe.max_steps > 0 else math.ceil(available * recipe.num_train_epochs / prompts)
    seconds = step_seconds(recipe, gpus, gib)
    lines += [
        f"training: {steps:,} steps of about {seconds:.0f} s, {steps * seconds / 3600:.0f} hours with replies of full"
        " length (an estimate from published speeds, not measured; vLLM samples faster)"
    ]
    return [*lines, bill(recipe, min(available, steps * prompts))]


def bill(recipe: Recipe, prompts: int) -> str:
    """What the external models cost for one pass over the prompts."""
    models = recipe.external_models
    low, high = (len(models) * prompts * usd for usd in QUERY_USD)
    hosted = [model.name for model in models if model.provider != "scripted"]
    costs = f"about ${low:,.0f} to ${high:,.0f} at the paper's ${QUERY_USD[0]} to ${QUERY_USD[1]} a query"
    if not models:
        return "external models: none, $0"
    if not hosted:
        return f"external models: {len(models)}, scripted, $0; hosted ones would be {costs}"
    return f"external models: {', '.join(hosted)}: {costs}, {prompts:,} prompts each"


def hardware_table() -> str:
    """Markdown: for each model and set of GPUs the highest moment, and what has to be set for it to fit."""
    rows = []
    for model, gpus, gib in TABLE:
        recipe = Recipe.read(merge_recipe("trance", model, "ekipl"))
        changed = {} if fits(recipe, gpus, gib) else remedy(recipe, gpus, gib)
        need = need_of(recipe.changed(**(changed or {})), gpus, gib).total / GIB
        how = "as it is" if changed == {} else "does not fit"
        if changed:
            how = ", ".join(f"`{key}: {value}`" for key, value in changed.items())
        rows.append([model, str(gpus), str(gib), f"{need:.1f}", how])
    return markdown(["model", "GPUs", "GiB each", "GiB needed", "setting"], rows)

"""Every rule a recipe must keep, checked before anything heavy is imported: value, rule, remedy, in one line.

`check_recipe` is called by `launch.py` on the merged mapping and by `EKIPLConfig` on its own fields, so a recipe that
was edited by hand meets the same rules.
"""

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from open_r1.method.advantages import BASELINES
from open_r1.method.selection import SELECTIONS
from open_r1.recipe import merge as recipes
from open_r1.recipe.rules_external import check_provider
from open_r1.recipe.rules_method import check_group, check_weights, external_samples
from open_r1.recipe.rules_resuming import check_resuming
from open_r1.recipe.rules_stages import check_stages, check_type
from open_r1.recipe.settings import (
    DATA_SIZES,
    EXTERNAL_WEIGHTS,
    GRACE_S,
    MODELS,
    PROMPT_KINDS,
    PROVIDERS,
    WEIGHT_LEVELS,
    WEIGHT_PROPOSALS,
    ExternalModelConfig,
    Settings,
)
from open_r1.recipe.step import TRL_DEFAULTS, check_batch
from open_r1.schema import POLICY, UserError
from open_r1.tasks import get_task
from open_r1.utils.names import unknown_name
from open_r1.utils.secrets import check_secrets

PASS_RATE = "policy_pass_rate_below"  # the one key of external_when
SHARES = ("accuracy", "correlation", "format_rate", "fail_rate")


def check_recipe(recipe: Mapping[str, Any], processes: int = 1) -> None:
    """Raise UserError for the first rule that the recipe breaks.

    Args:
        recipe: settings by key; a key that is absent has its default.
        processes: how many processes will train (each must hold whole groups).
    """
    check_secrets(recipe)
    for key, value in recipe.items():
        check_type(value, recipes.field_types()[key], key)
    full = with_defaults(recipe)
    check_names(full)
    check_stages(full)
    check_externals(full["external_models"])
    check_asking(full)
    check_counts(full)
    check_group(full)
    check_weights(full)
    check_batch(full, processes)
    check_resuming(full, processes)


def with_defaults(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe with our defaults, and those of TRL's that the rules read, for the keys it leaves out."""
    return {**TRL_DEFAULTS, **vars(Settings()), **recipe}


def check_names(recipe: Mapping[str, Any]) -> None:
    """Check the settings whose value is one of a few names."""
    task = get_task(recipe["task"])
    graders = ("", *task.settings)
    for key, valid in (
        ("model", MODELS),
        ("method", recipes.recipe_names("methods")),
        ("accelerate_config", recipes.recipe_names("accelerate_configs")),
        ("data_size", DATA_SIZES),
        ("prompt_kind", PROMPT_KINDS),
        ("selection", SELECTIONS),
        ("advantage_baseline", BASELINES),
        ("external_weight", EXTERNAL_WEIGHTS),
        ("weight_level", WEIGHT_LEVELS),
        ("weight_proposal", WEIGHT_PROPOSALS),
        ("grader_setting", graders),
        ("eval_setting", graders),
    ):
        if recipe[key] not in valid:
            raise unknown_name(key, recipe[key], [name for name in valid if name])


def check_externals(models: list[Any]) -> None:
    """Check each entry of `external_models`: keys, types, ranges, and names that tell the sources apart."""
    types, seen = _external_types(), set()
    for index, model in enumerate(models):
        where = f"external_models[{index}]"
        if not isinstance(model, Mapping):
            raise UserError(f"{where} is {model!r}; it must be a mapping with at least `name`; write `- name: ...`")
        for key, value in model.items():
            if key not in types:
                raise unknown_name("key", str(key), types, where)
            check_type(value, types[key], f"{where}.{key}")
        _check_external(ExternalModelConfig(**model), where, seen)
        check_provider(model, where)
        seen.add(model["name"])


@cache
def _external_types() -> dict[str, frozenset[str]]:
    return recipes.class_types(Path(__file__).with_name("settings.py"), "ExternalModelConfig")


def _check_external(model: ExternalModelConfig, where: str, seen: set[str]) -> None:
    if model.provider not in PROVIDERS:
        raise unknown_name("provider", model.provider, PROVIDERS, where)
    if not model.name or model.name == POLICY or model.name in seen:
        reason = "is used twice" if model.name in seen else "names no external source"
        raise UserError(f"{where}.name '{model.name}' {reason}; names are unique, not empty, not '{POLICY}'; rename it")
    shares = {key: getattr(model, key) for key in SHARES}
    shares |= {f"accuracy_by_kind.{kind}": share for kind, share in model.accuracy_by_kind.items()}
    for key, share in shares.items():
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UserError(f"{where}.{key} is {share}; it is a share in [0, 1]; write 68 % as 0.68")
    if model.correlation == 1:
        raise UserError(f"{where}.correlation is 1; it lies in [0, 1); give at most 0.99")
    if model.n is not None and model.n < 1:
        raise UserError(f"{where}.n is {model.n}; it must be at least 1; leave the model out to ask it nothing")
    if model.latency_s < 0 or model.timeout_s <= 0:
        raise UserError(f"{where} has latency_s {model.latency_s}, timeout_s {model.timeout_s}; give seconds above 0")


def check_asking(recipe: Mapping[str, Any]) -> None:
    """Check when external models are asked, how far ahead, and for how much."""
    when = recipe["external_when"]
    share = when.get(PASS_RATE) if isinstance(when, Mapping) and list(when) == [PASS_RATE] else None
    if when != "always" and (not isinstance(share, int | float) or not 0 < share <= 1):
        rule = f"it is `always` or {{{PASS_RATE}: x}} with 0 < x <= 1"
        raise UserError(f"external_when is {when!r}; {rule}; write e.g. {{{PASS_RATE}: 0.5}}")
    if recipe["external_prefetch_steps"] < 0:
        steps = recipe["external_prefetch_steps"]
        raise UserError(f"external_prefetch_steps is {steps}; it must be 0 or more; 0 asks nothing ahead")
    budget = recipe["external_budget_usd"]
    if budget is not None and not 0 <= budget < math.inf:
        raise UserError(f"external_budget_usd is {budget}; it must be 0 or more dollars; leave out for no cap")
    if recipe["store_read_only"] and not recipe["store_path"]:
        raise UserError("store_read_only is true without store_path; name the file whose replies are to be taken")


def check_counts(recipe: Mapping[str, Any]) -> None:
    """Check N, K and G against one another, and that amounts are amounts."""
    group = recipe["num_generations"]
    if group is None or group < 2:
        raise UserError(f"num_generations is {group}; a group needs 2 candidates to have an advantage; set 2 or more")
    for key in (
        "num_policy_samples",
        "num_external_samples",
        "num_train_rows",
        "num_test_rows",
        "max_pixels",
        "eval_batch_size",
        "prompts_per_step",
        "log_candidates_prompts",
        "curve_rows",
        "sft_rows",
    ):
        if recipe[key] is not None and recipe[key] < 1:
            raise UserError(f"{key} is {recipe[key]}; it must be at least 1; leave it out for its default")
    for key in ("log_candidates_every", "curve_every"):
        if recipe[key] < 0:
            raise UserError(f"{key} is {recipe[key]}; it must be at least 0; 0 does it never")
    if recipe["external_deadline_s"] <= 0:
        raise UserError(f"external_deadline_s is {recipe['external_deadline_s']}; it must be above 0; give seconds")
    if recipe["external_deadline_s"] + GRACE_S >= recipe["ddp_timeout"]:
        raise UserError(
            f"external_deadline_s is {recipe['external_deadline_s']}; with {GRACE_S:g} s of grace it must stay below"
            f" ddp_timeout = {recipe['ddp_timeout']}, or processes that wait would be given up; raise ddp_timeout"
        )
    samples = recipe["num_policy_samples"] or group
    pool = samples + external_samples(recipe)
    if group > pool:
        raise UserError(
            f"num_generations (G) is {group} but the pool holds K = {pool} candidates per prompt; G must be at most K;"
            " lower num_generations or raise num_policy_samples"
        )
    if samples < group and not recipe["external_required"]:
        raise UserError(
            f"num_policy_samples (N) is {samples}, fewer than num_generations (G) = {group}: a failing external model"
            " would leave a group short; raise num_policy_samples, or set external_required to stop at a failure"
        )

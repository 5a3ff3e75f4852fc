"""The rules between selection, advantages and weights: what a group of G can be made of, and how it is trained on.

Apart from `checks.py`, which calls it, for length alone.
"""

from collections.abc import Mapping
from typing import Any

from open_r1.recipe.settings import Settings
from open_r1.schema import UserError
from open_r1.tasks.trance import TRANCE

WEIGHT_KEYS = {  # which kinds of external_weight read a key
    "weight_level": ("is", "snis"),
    "weight_proposal": ("is", "snis"),
    "luffy_gamma": ("luffy",),
    "sft_coef": ("sft",),
}


def external_samples(recipe: Mapping[str, Any]) -> int:
    """External candidates per prompt when every call succeeds."""
    each = recipe["num_external_samples"] or recipe["num_policy_samples"] or recipe["num_generations"]
    return sum(model.get("n") or each for model in recipe["external_models"])


def check_group(recipe: Mapping[str, Any]) -> None:
    """Check that the group can be chosen as told, and that its advantages mean what the setting says."""
    group, cap = recipe["num_generations"], recipe["max_external"]
    samples = recipe["num_policy_samples"] or group
    if cap is not None and not 0 <= cap <= group:
        raise UserError(f"max_external is {cap}; a group holds 0 to num_generations = {group}; leave it out")
    if cap is not None and samples + cap < group:
        raise UserError(
            f"max_external is {cap} and num_policy_samples (N) {samples}: together fewer than num_generations (G) ="
            f" {group}; raise one of them"
        )
    if recipe["advantage_baseline"] == "kept":
        return
    for key, valid in (
        ("scale_rewards", ("group", "none", True, False)),
        ("multi_objective_aggregation", ("sum_then_normalize",)),
        ("reward_weights", (None,)),
    ):
        if recipe[key] not in valid:
            raise UserError(
                f"{key} is {recipe[key]!r} with advantage_baseline '{recipe['advantage_baseline']}', which knows the"
                f" plain sum of the rewards per group only; leave {key} out, or set advantage_baseline to kept"
            )


def check_weights(recipe: Mapping[str, Any]) -> None:
    """Check that external candidates can be weighted as told: every number that a weight needs must exist."""
    kind, defaults = recipe["external_weight"], vars(Settings())
    corrected = kind in ("is", "snis")
    for key, read_by in WEIGHT_KEYS.items():
        if kind not in read_by and recipe[key] != defaults[key]:
            raise UserError(
                f"{key} is {recipe[key]!r}, but external_weight '{kind}' does not read it; leave it out, or set"
                f" external_weight to {' or '.join(read_by)}"
            )
    for key in ("luffy_gamma", "sft_coef"):
        if recipe[key] <= 0:
            raise UserError(f"{key} is {recipe[key]}; it must be above 0; leave it out for {defaults[key]}")
    if not corrected:
        return
    for index, model in enumerate(recipe["external_models"]):
        where = f"external_models[{index}] '{model['name']}'"
        if not model.get("logprobs", True):
            raise UserError(
                f"{where} gives no log-probs (logprobs: false), and external_weight '{kind}' needs them of every"
                " external model; leave logprobs out where its API returns them, or set external_weight to luffy"
            )
        if model.get("provider", "scripted") == "scripted" and recipe["task"] == TRANCE.name:
            raise UserError(
                f"{where} is scripted, and on {TRANCE.name} scripted models do not know their log-probs;"
                f" external_weight '{kind}' is for the other tasks there; set luffy or uncorrected"
            )
        if recipe["weight_level"] == "token" and not model.get("same_tokenizer"):
            raise UserError(
                f"{where} has a tokenizer of its own, and weight_level 'token' needs log-probs of the policy's tokens;"
                " set weight_level: sequence, or same_tokenizer: true where the two are the same"
            )

"""The rules between selection, advantages and the batch's groups: what a group of G can be made of, and how it is read.

Apart from `checks.py`, which calls it, for length alone.
"""

from collections.abc import Mapping
from typing import Any

from open_r1.schema import UserError


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

"""What the rewards of the kept candidates are worth: advantages, and the groups that have none (pure numpy).

Every function takes all groups of a batch at once, or one without the axis P; NaN is a candidate that could not be
scored, or padding. docs/METHOD.md says which equation is which function.
"""

import numpy as np
from numpy.typing import ArrayLike

from open_r1.method.selection import TOLERANCE, Bools, Floats, Indices

BASELINES = ("kept", "pool", "policy")  # the recipe's `advantage_baseline`: over whose rewards the mean is taken


def is_dead(rewards_PK: ArrayLike) -> Bools:
    """Whether a pool or group teaches nothing, (P,): its scored rewards are equal, or fewer than two are scored."""
    rewards_PK = np.asarray(rewards_PK, dtype=float)
    unscored_PK = np.isnan(rewards_PK)
    highest_P, lowest_P = (
        np.where(unscored_PK, -np.inf, rewards_PK).max(-1),
        np.where(unscored_PK, np.inf, rewards_PK).min(-1),
    )
    return highest_P - lowest_P <= TOLERANCE  # of none scored -inf, of one 0


def group_advantages(
    rewards_PG: ArrayLike,
    eps: float = 1e-4,
    *,
    mean_of: ArrayLike | None = None,
    std_of: ArrayLike | None = None,
    scaled: bool = True,
) -> Floats:
    """A_i = (r_i - mean) / (std + eps), shape (P, G): by default over the kept group, Eq. 1 as TRL 1.16 computes it.

    With that default the trainer takes its advantages from TRL, and this is the reference that tests hold them against.
    Unlike Eq. 1 there is an `eps`, so that a dead group gives 0 and not 0/0. The std is the sample's (one less in the
    denominator); unscored (NaN) candidates are left out of mean and std and get 0, and so does a group of one.

    Args:
        rewards_PG: rewards of the kept candidates.
        eps: what is added to the std.
        mean_of: rewards that the mean is taken over, (P, any); None: `rewards_PG`.
        std_of: rewards that the std is taken over, (P, any); None: `rewards_PG`.
        scaled: whether to divide by the std at all (TRL's `scale_rewards`: group or none).
    """
    rewards_PG = np.asarray(rewards_PG, dtype=float)
    centres_P, mean_P, _ = _moments(rewards_PG if mean_of is None else np.asarray(mean_of, dtype=float))
    spreads_P, _, std_P = _moments(rewards_PG if std_of is None else np.asarray(std_of, dtype=float))
    above_PG = rewards_PG - mean_P[..., None]
    teaches_PG = (np.abs(above_PG) > TOLERANCE) & ((centres_P > 0) & (spreads_P > 1))[..., None]
    above_PG = np.where(teaches_PG, above_PG, 0.0)  # NaN is larger than nothing
    return above_PG / (std_P[..., None] + eps) if scaled else above_PG


def _moments(values_PK: Floats) -> tuple[Indices, Floats, Floats]:
    """Count, mean and sample standard deviation (P,) of the values that are not NaN; 0 where there are too few."""
    known_PK = ~np.isnan(values_PK)
    count_P = known_PK.sum(-1)
    mean_P = np.where(known_PK, values_PK, 0.0).sum(-1) / np.maximum(count_P, 1)
    above_PK = np.where(known_PK, values_PK - mean_P[..., None], 0.0)
    return count_P, mean_P, np.sqrt((above_PK**2).sum(-1) / np.maximum(count_P - 1, 1))


def baseline_advantages(
    baseline: str, rewards_PK: ArrayLike, external_PK: ArrayLike, kept_PG: ArrayLike, scaled: bool = True
) -> Floats:
    """Advantages (P, G) of the kept candidates against the mean of those that `baseline` names, one of BASELINES.

    "kept" is the paper's. With "pool" and "policy" a group of equal rewards still teaches, as long as the pool was not
    all-equal: it is better, or worse, than what it was chosen from. Their std is the pool's: the policy's own is 0
    where it is never right, and 2 / 1e-4 would be an advantage of 20,000.
    """
    rewards_PK = np.asarray(rewards_PK, dtype=float)
    rewards_PG = np.take_along_axis(rewards_PK, np.asarray(kept_PG, dtype=np.intp), -1)
    if baseline == "kept":
        return group_advantages(rewards_PG, scaled=scaled)
    own_PK = np.where(np.asarray(external_PK, dtype=bool), np.nan, rewards_PK)
    mean_of = {"pool": rewards_PK, "policy": own_PK}[baseline]
    return group_advantages(rewards_PG, mean_of=mean_of, std_of=rewards_PK, scaled=scaled)

"""Selection: which G of a prompt's K candidates are trained on, and what their rewards are worth (pure numpy).

Axis letters: K candidates in the pool, G kept. Rewards are R(o) of Eq. 7 in arXiv 2506.06856; NaN is a candidate that
could not be scored. docs/METHOD.md says what each function is in the paper and what goes wrong with top-G.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 1e-8  # two rewards closer than this are equal; real differences are hundredths


def top_g(rewards_K: ArrayLike, external_K: ArrayLike | Sequence[bool], G: int) -> NDArray[np.intp]:
    """Return the indices (G,) of the G best candidates, ascending: the paper's rule, with a rule for ties of our own.

    Candidates are ranked by reward, descending. Departure: the paper is silent about ties, which are the normal case;
    here policy candidates come before external ones, then sample order decides. Unscored (NaN) candidates come last of
    all and are kept only where nothing else is left. The ascending order makes a policy-only pool with K = G the
    identity, so that the method without external models is GRPO to the bit.

    Example: rewards [1, 2, 2, 2], external [no, no, yes, yes], G = 2 keeps [1, 2].

    Args:
        rewards_K: reward of each candidate, shape (K,).
        external_K: whether an external model wrote it, shape (K,).
        G: how many to keep.

    Raises:
        ValueError: fewer than G candidates, or the two arrays differ in length.
    """
    rewards_K, external_K = np.asarray(rewards_K, dtype=float), np.asarray(external_K, dtype=bool)
    if rewards_K.shape != external_K.shape or rewards_K.ndim != 1:
        raise ValueError(f"rewards {rewards_K.shape} and external {external_K.shape} must both have shape (K,)")
    if not 1 <= G <= len(rewards_K):
        raise ValueError(f"cannot keep G = {G} of K = {len(rewards_K)} candidates; 1 <= G <= K is required")
    unscored_K = np.isnan(rewards_K)
    descending_K = -np.where(unscored_K, 0.0, rewards_K)
    ranked_K = np.lexsort((external_K, descending_K, unscored_K))  # last key first; stable: sample order breaks ties
    return np.sort(ranked_K[:G])


Selection = Callable[[ArrayLike, ArrayLike, int], NDArray[np.intp]]
SELECTIONS: dict[str, Selection] = {"top_g": top_g}  # the recipe's `selection:` by name


def is_dead(rewards: ArrayLike) -> bool:
    """Whether all scored rewards are equal (or fewer than two are scored): then every advantage is 0."""
    values = np.asarray(rewards, dtype=float)
    values = values[~np.isnan(values)]
    return values.size < 2 or bool(np.ptp(values) <= TOLERANCE)


def tied_at_cut(rewards_K: ArrayLike, kept_G: ArrayLike) -> int:
    """Count the candidates that were not kept although their reward equals the lowest kept one.

    Above 0 the tie rule, not the reward, decided who is trained on. Unscored candidates are not counted.
    """
    rewards_K, kept_G = np.asarray(rewards_K, dtype=float), np.asarray(kept_G, dtype=np.intp)
    lowest = np.nanmin(rewards_K[kept_G]) if not np.isnan(rewards_K[kept_G]).all() else np.nan
    left_out = np.delete(rewards_K, kept_G)
    return int(np.count_nonzero(np.abs(left_out - lowest) <= TOLERANCE))


def group_advantages(rewards_G: ArrayLike, eps: float = 1e-4) -> NDArray[np.float64]:
    """A_i = (r_i - mean) / (std + eps) over the kept group, shape (G,): Eq. 1 as TRL 1.16 computes it.

    The trainer takes its advantages from TRL; this is the reference that tests hold them against. Unlike Eq. 1 there
    is an `eps`, so that a dead group gives 0 and not 0/0. The std is the sample's (G - 1 in the denominator); unscored
    (NaN) candidates are left out of mean and std and get 0, and so does a group of one.
    """
    rewards_G = np.asarray(rewards_G, dtype=float)
    scored_G = ~np.isnan(rewards_G)
    advantages_G = np.zeros_like(rewards_G)
    if np.count_nonzero(scored_G) > 1:
        scored = rewards_G[scored_G]
        advantages_G[scored_G] = (scored - scored.mean()) / (scored.std(ddof=1) + eps)
    return advantages_G

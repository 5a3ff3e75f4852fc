"""Selection: which G of a prompt's K candidates are trained on, and what their rewards are worth (pure numpy).

Axis letters: K candidates in the pool, G kept. Rewards are R(o) of Eq. 7 in arXiv 2506.06856; NaN is a candidate that
could not be scored. docs/METHOD.md says what each function is in the paper and what goes wrong with top-G.

One pool at a time: pools differ in length as soon as a call fails, and a pool of 24 takes a tenth of a millisecond.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 1e-8  # two rewards closer than this are equal; real differences are hundredths


def top_g(
    rewards_K: ArrayLike, external_K: ArrayLike | Sequence[bool], G: int, max_external: int | None = None
) -> NDArray[np.intp]:
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
        max_external: how many of them may be external; None sets no limit.

    Raises:
        ValueError: the pool cannot fill the group, or the two arrays differ in length.
    """
    rewards_K, external_K, cap = _checked(rewards_K, external_K, G, max_external)
    ranked_K = ranking(rewards_K, external_K)
    within_cap = ~external_K[ranked_K] | (np.cumsum(external_K[ranked_K]) <= cap)
    return np.sort(ranked_K[within_cap][:G])


def ranking(rewards_K: ArrayLike, external_K: ArrayLike | Sequence[bool]) -> NDArray[np.intp]:
    """Return the indices (K,) from the best candidate to the worst, by the order of `top_g`."""
    rewards_K, external_K = np.asarray(rewards_K, dtype=float), np.asarray(external_K, dtype=bool)
    unscored_K = np.isnan(rewards_K)
    descending_K = -np.where(unscored_K, 0.0, rewards_K)
    return np.lexsort((external_K, descending_K, unscored_K))  # last key first; stable: sample order breaks ties


def max_variance(
    rewards_K: ArrayLike, external_K: ArrayLike | Sequence[bool], G: int, max_external: int | None = None
) -> NDArray[np.intp]:
    """Return the indices (G,), ascending, of the group whose rewards have the largest variance (arXiv 2504.13818).

    Such a group is some best and some worst candidates, of either source: variance is convex in each reward, so
    exchanging one that lies between two others of its source for one of the two never lowers it. All splits into best
    and worst are compared at once. Equal variance: the group with fewest external candidates, then with most of the
    best. Unscored (NaN) candidates fill the group only where the scored ones cannot. Arguments and errors: see `top_g`.

    Example: rewards [0, 0, 2, 2, 2], external [no, no, no, yes, yes], G = 4 keeps [0, 1, 2, 3].
    """
    rewards_K, external_K, cap = _checked(rewards_K, external_K, G, max_external)
    ranked_K = ranking(rewards_K, external_K)
    scored_K = ~np.isnan(rewards_K)
    own = ranked_K[scored_K[ranked_K] & ~external_K[ranked_K]]
    others = ranked_K[scored_K[ranked_K] & external_K[ranked_K]]
    wanted = min(G, len(own) + min(cap, len(others)))
    # a best and b worst of the external ones, c best and d worst of the policy's: every way to take `wanted`
    a, b, c = np.indices((wanted + 1,) * 3).reshape(3, -1)
    d = wanted - a - b - c
    possible = (d >= 0) & (c + d <= len(own)) & (a + b <= min(cap, len(others)))
    a, b, c, d = a[possible], b[possible], c[possible], d[possible]
    centred_K = rewards_K - np.mean(rewards_K[scored_K]) if scored_K.any() else rewards_K
    first, second = (
        _running(values[others])[a] + _running(values[others][::-1])[b]
        + _running(values[own])[c] + _running(values[own][::-1])[d]
        for values in (centred_K, centred_K**2)
    )  # fmt: skip
    squares = second - first**2 / max(wanted, 1)  # G times the variance
    best = np.lexsort((-(a + c), a + b, squares < squares.max() - TOLERANCE))[0]
    kept = [others[: a[best]], others[len(others) - b[best] :], own[: c[best]], own[len(own) - d[best] :]]
    if wanted < G:  # every scored candidate that may be kept is; the policy's unscored ones come before external ones
        unscored = ranked_K[~scored_K[ranked_K]]
        kept.append(unscored[: G - wanted])
    return np.sort(np.concatenate(kept))


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the first 0, 1, 2 ... values."""
    return np.concatenate(([0.0], np.cumsum(values)))


def _checked(
    rewards_K: ArrayLike, external_K: ArrayLike | Sequence[bool], G: int, max_external: int | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """Return the arrays and the limit of external candidates as a number."""
    rewards_K, external_K = np.asarray(rewards_K, dtype=float), np.asarray(external_K, dtype=bool)
    if rewards_K.shape != external_K.shape or rewards_K.ndim != 1:
        raise ValueError(f"rewards {rewards_K.shape} and external {external_K.shape} must both have shape (K,)")
    if not 1 <= G <= len(rewards_K):
        raise ValueError(f"cannot keep G = {G} of K = {len(rewards_K)} candidates; 1 <= G <= K is required")
    cap = G if max_external is None else max_external
    if np.count_nonzero(~external_K) + cap < G:
        raise ValueError(f"cannot keep G = {G}: {np.count_nonzero(~external_K)} of the policy and {cap} external")
    return rewards_K, external_K, cap


Selection = Callable[[ArrayLike, ArrayLike, int, int | None], NDArray[np.intp]]
SELECTIONS: dict[str, Selection] = {"top_g": top_g, "max_variance": max_variance}  # the recipe's `selection:` by name


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


BASELINES = ("kept", "pool", "policy")  # the recipe's `advantage_baseline`: over whose rewards the mean is taken


def group_advantages(
    rewards_G: ArrayLike,
    eps: float = 1e-4,
    *,
    mean_of: ArrayLike | None = None,
    std_of: ArrayLike | None = None,
    scaled: bool = True,
) -> NDArray[np.float64]:
    """A_i = (r_i - mean) / (std + eps), shape (G,): by default over the kept group, Eq. 1 as TRL 1.16 computes it.

    With that default the trainer takes its advantages from TRL, and this is the reference that tests hold them against.
    Unlike Eq. 1 there is an `eps`, so that a dead group gives 0 and not 0/0. The std is the sample's (one less in the
    denominator); unscored (NaN) candidates are left out of mean and std and get 0, and so does a group of one.

    Args:
        rewards_G: rewards of the kept candidates.
        eps: what is added to the std.
        mean_of: rewards that the mean is taken over; None: `rewards_G`.
        std_of: rewards that the std is taken over; None: `rewards_G`.
        scaled: whether to divide by the std at all (TRL's `scale_rewards`: group or none).
    """
    rewards_G = np.asarray(rewards_G, dtype=float)
    centre, spread = (
        values[~np.isnan(values)]
        for values in (rewards_G if of is None else np.asarray(of, dtype=float) for of in (mean_of, std_of))
    )
    if len(centre) == 0 or len(spread) < 2:
        return np.zeros_like(rewards_G)
    above_G = rewards_G - centre.mean()
    above_G[np.isnan(above_G) | (np.abs(above_G) <= TOLERANCE)] = 0.0
    return above_G / (spread.std(ddof=1) + eps) if scaled else above_G


def baseline_advantages(
    baseline: str, rewards_K: ArrayLike, external_K: ArrayLike, kept_G: ArrayLike, scaled: bool = True
) -> NDArray[np.float64]:
    """Advantages (G,) of the kept candidates against the mean of those that `baseline` names, one of BASELINES.

    "kept" is the paper's. With "pool" and "policy" a group of equal rewards still teaches, as long as the pool was not
    all-equal: it is better, or worse, than what it was chosen from. Their std is the pool's: the policy's own is 0
    where it is never right, and 2 / 1e-4 would be an advantage of 20,000.
    """
    rewards_K = np.asarray(rewards_K, dtype=float)
    rewards_G = rewards_K[np.asarray(kept_G, dtype=np.intp)]
    if baseline == "kept":
        return group_advantages(rewards_G, scaled=scaled)
    mean_of = {"pool": rewards_K, "policy": rewards_K[~np.asarray(external_K, dtype=bool)]}[baseline]
    return group_advantages(rewards_G, mean_of=mean_of, std_of=rewards_K, scaled=scaled)

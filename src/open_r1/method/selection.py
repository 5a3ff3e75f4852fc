"""Selection: which G of every prompt's K candidates are trained on (pure numpy).

Axis letters: P prompts, K candidates in the pool, G kept. Every function takes all pools of a batch at once, or one
without the axis P. Rewards are R(o) of Eq. 7 in arXiv 2506.06856; NaN is a candidate that could not be scored. Pools
differ in length as soon as a call fails: `pad` fills them up, and `there_PK` says where somebody is. docs/METHOD.md
says what each function is in the paper and what goes wrong with top-G.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

TOLERANCE = 1e-8  # two rewards closer than this are equal; real differences are hundredths


def pad(pools: Sequence[Sequence[float]], fill: float = np.nan) -> Floats:
    """Return pools of different length as one array (P, K), K of the longest, with `fill` behind the shorter ones."""
    padded_PK = np.full((len(pools), max(map(len, pools), default=0)), fill)
    for row_K, values in zip(padded_PK, pools, strict=True):
        row_K[: len(values)] = values
    return padded_PK


def top_g(
    rewards_PK: ArrayLike,
    external_PK: ArrayLike,
    G: int,
    max_external: int | None = None,
    there_PK: ArrayLike | None = None,
) -> Indices:
    """Return the indices (P, G) of the G best candidates, ascending: the paper's rule, with a rule for ties of our own.

    Candidates are ranked by reward, descending. Departure: the paper is silent about ties, which are the normal case;
    here policy candidates come before external ones, then sample order decides. Unscored (NaN) candidates come last of
    all and are kept only where nothing else is left. The ascending order makes a policy-only pool with K = G the
    identity, so that the method without external models is GRPO to the bit.

    Example: rewards [1, 2, 2, 2], external [no, no, yes, yes], G = 2 keeps [1, 2].

    Args:
        rewards_PK: reward of each candidate, shape (P, K) or (K,).
        external_PK: whether an external model wrote it, the same shape.
        G: how many to keep.
        max_external: how many of them may be external; None sets no limit.
        there_PK: False where a shorter pool is padded; None: every pool is whole.

    Raises:
        ValueError: a pool cannot fill the group, or the arrays differ in shape.
    """
    rewards_PK, external_PK, there_PK, cap = _checked(rewards_PK, external_PK, G, max_external, there_PK)
    ranked_PK = ranking(rewards_PK, external_PK, there_PK)
    others_PK = np.take_along_axis(external_PK, ranked_PK, -1)
    allowed_PK = np.take_along_axis(there_PK, ranked_PK, -1) & (~others_PK | (others_PK.cumsum(-1) <= cap))
    first_PK = allowed_PK & (allowed_PK.cumsum(-1) <= G)
    return np.sort(ranked_PK[first_PK].reshape(*rewards_PK.shape[:-1], G), axis=-1)


def ranking(rewards_PK: ArrayLike, external_PK: ArrayLike, there_PK: ArrayLike | None = None) -> Indices:
    """Return the indices (P, K) from the best candidate to the worst, by the order of `top_g`; padding comes last."""
    rewards_PK, external_PK = np.asarray(rewards_PK, dtype=float), np.asarray(external_PK, dtype=bool)
    absent_PK = np.zeros_like(external_PK) if there_PK is None else ~np.asarray(there_PK, dtype=bool)
    unscored_PK = np.isnan(rewards_PK)
    descending_PK = -np.where(unscored_PK, 0.0, rewards_PK)
    # last key first; stable: sample order breaks ties
    return np.lexsort((external_PK, descending_PK, unscored_PK, absent_PK), axis=-1)


def max_variance(
    rewards_PK: ArrayLike,
    external_PK: ArrayLike,
    G: int,
    max_external: int | None = None,
    there_PK: ArrayLike | None = None,
) -> Indices:
    """Return the indices (P, G), ascending, of the group whose rewards have the largest variance (arXiv 2504.13818).

    Such a group is some best and some worst candidates, of either source: variance is convex in each reward, so
    exchanging one that lies between two others of its source for one of the two never lowers it. All splits into best
    and worst are compared at once. Equal variance: the group with fewest external candidates, then with most of the
    best. Unscored (NaN) candidates fill the group only where the scored ones cannot. Arguments and errors: see `top_g`.

    Example: rewards [0, 0, 2, 2, 2], external [no, no, no, yes, yes], G = 4 keeps [0, 1, 2, 3].
    """
    rewards_PK, external_PK, there_PK, cap = _checked(rewards_PK, external_PK, G, max_external, there_PK)
    ranked_PK = ranking(rewards_PK, external_PK, there_PK)
    unscored_PK = np.isnan(rewards_PK) & there_PK
    own = _Source.of(there_PK & ~unscored_PK & ~external_PK, ranked_PK)
    others = _Source.of(there_PK & ~unscored_PK & external_PK, ranked_PK)
    wanted_P1 = np.minimum(G, own.count_P1 + np.minimum(others.count_P1, cap))
    a, b, c, d = _best_split(rewards_PK, own, others, wanted_P1, G, cap)
    # every scored candidate that may be kept is; the policy's unscored ones come before external ones
    rest = _Source.of(unscored_PK, ranked_PK)
    kept_PK = others.ends(a, b) | own.ends(c, d) | rest.ends(G - wanted_P1, np.zeros_like(d))
    return np.nonzero(kept_PK)[-1].reshape(*rewards_PK.shape[:-1], G)


def _best_split(
    rewards_PK: Floats, own: "_Source", others: "_Source", wanted_P1: Indices, G: int, cap: int
) -> tuple[Indices, Indices, Indices, Indices]:
    """How many to take, (P, 1) each: a best and b worst external ones, c best and d worst of the policy's.

    Of all ways S to take `wanted` the one of largest variance; of equal ones that with the fewest external candidates,
    then with most of the best, then the first.
    """
    a, b, c = np.indices((G + 1,) * 3).reshape(3, -1)
    d = wanted_P1 - a - b - c
    possible_PS = (d >= 0) & (c + d <= own.count_P1) & (a + b <= np.minimum(others.count_P1, cap))
    scored_PK = own.member_PK | others.member_PK
    count_P1 = np.maximum(scored_PK.sum(-1, keepdims=True), 1)
    centred_PK = rewards_PK - np.where(scored_PK, rewards_PK, 0).sum(-1, keepdims=True) / count_P1
    sums_PS = others.sums(centred_PK, a, b) + own.sums(centred_PK, c, d)
    squares_PS = others.sums(centred_PK**2, a, b) + own.sums(centred_PK**2, c, d)
    spread_PS = np.where(possible_PS, squares_PS - sums_PS**2 / np.maximum(wanted_P1, 1), -np.inf)  # G x variance
    smaller_PS = spread_PS < spread_PS.max(-1, keepdims=True) - TOLERANCE
    few_external_S, many_best_S = a + b, a + c
    keys = np.broadcast_arrays(-many_best_S, few_external_S, smaller_PS)  # the last decides first
    first_P1 = np.lexsort(keys, axis=-1)[..., :1]
    a, b, c, d = (np.take_along_axis(np.broadcast_to(x, possible_PS.shape), first_P1, -1) for x in (a, b, c, d))
    return a, b, c, d


class _Source(NamedTuple):
    """Some of each pool's candidates, in the order of `ranking`: how many, and who is the first, second, ..."""

    member_PK: Bools
    count_P1: Indices
    place_PK: Indices  # of a member among the members; 0 is the best
    order_PK: Indices  # the members, best first, then everybody else

    @classmethod
    def of(cls, member_PK: Bools, ranked_PK: Indices) -> "_Source":
        """The candidates for which `member_PK` holds."""
        place_PK = np.empty_like(ranked_PK)
        np.put_along_axis(place_PK, ranked_PK, np.take_along_axis(member_PK, ranked_PK, -1).cumsum(-1) - 1, -1)
        order_PK = np.where(member_PK, place_PK, member_PK.shape[-1]).argsort(-1, kind="stable")
        return cls(member_PK, member_PK.sum(-1, keepdims=True), place_PK, order_PK)

    def sums(self, values_PK: Floats, best: Indices, worst: Indices) -> Floats:
        """Sums (P, S) of the values of so many best and so many worst members, for each of S ways."""
        ordered_PK = np.take_along_axis(np.where(self.member_PK, values_PK, 0.0), self.order_PK, -1)
        running = np.concatenate([np.zeros_like(ordered_PK[..., :1]), ordered_PK.cumsum(-1)], axis=-1)
        shape = np.broadcast_shapes((*self.count_P1.shape[:-1], 1), best.shape, worst.shape)
        first, left = (np.broadcast_to(x, shape) for x in (best, np.clip(self.count_P1 - worst, 0, None)))
        return (
            np.take_along_axis(running, first, -1)
            + running[..., -1:]
            - np.take_along_axis(running, np.minimum(left, running.shape[-1] - 1), -1)
        )

    def ends(self, best: Indices, worst: Indices) -> Bools:
        """Which candidates (P, K) are among so many best or so many worst members."""
        return self.member_PK & ((self.place_PK < best) | (self.place_PK >= self.count_P1 - worst))


def _checked(
    rewards_PK: ArrayLike, external_PK: ArrayLike, G: int, max_external: int | None, there_PK: ArrayLike | None
) -> tuple[Floats, Bools, Bools, int]:
    """Return the arrays and the limit of external candidates as a number."""
    rewards_PK, external_PK = np.asarray(rewards_PK, dtype=float), np.asarray(external_PK, dtype=bool)
    there_PK = np.ones_like(external_PK) if there_PK is None else np.asarray(there_PK, dtype=bool)
    if not rewards_PK.shape == external_PK.shape == there_PK.shape or rewards_PK.ndim < 1:
        raise ValueError(f"rewards {rewards_PK.shape} and external {external_PK.shape} must have one shape, (P, K)")
    cap = G if max_external is None else max_external
    own_P, all_P = (there_PK & ~external_PK).sum(-1), there_PK.sum(-1)
    if not 1 <= G <= all_P.min(initial=G):
        raise ValueError(f"cannot keep G = {G} of K = {all_P.min()} candidates; 1 <= G <= K is required")
    if own_P.min(initial=G) + cap < G:
        raise ValueError(f"cannot keep G = {G}: {own_P.min()} of the policy and {cap} external")
    return rewards_PK, external_PK, there_PK, cap


Selection = Callable[[ArrayLike, ArrayLike, int, int | None, ArrayLike | None], Indices]
SELECTIONS: dict[str, Selection] = {"top_g": top_g, "max_variance": max_variance}  # the recipe's `selection:` by name


def tied_at_cut(rewards_PK: ArrayLike, kept_PG: ArrayLike) -> Indices:
    """Count, per pool, the candidates that were not kept although their reward equals the lowest kept one.

    Above 0 the tie rule, not the reward, decided who is trained on. Unscored candidates are not counted.
    """
    rewards_PK, kept_PG = np.asarray(rewards_PK, dtype=float), np.asarray(kept_PG, dtype=np.intp)
    kept_rewards_PG = np.take_along_axis(rewards_PK, kept_PG, -1)
    lowest_P1 = np.where(np.isnan(kept_rewards_PG), np.inf, kept_rewards_PG).min(-1, keepdims=True)
    left_PK = rewards_PK.copy()
    np.put_along_axis(left_PK, kept_PG, np.nan, -1)
    return np.count_nonzero(np.abs(left_PK - lowest_P1) <= TOLERANCE, axis=-1)

"""What a sample of replies says about a model: pass@k without bias, and standard errors by bootstrap (pure numpy)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 1000  # bootstrap samples: the standard error is itself known to about 1 / sqrt(2 x 1000) = 2 %


def pass_at_k(right: ArrayLike, n: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return the probability that at least one of k replies is right, for each of B questions, shape (B,).

    The unbiased estimator of Chen et al. (arXiv 2107.03374, section 2.1): of n sampled replies c were right, so
    1 - C(n - c, k) / C(n, k). It is computed as 1 - prod over the wrong ones' places, which does not overflow.

    Example: pass_at_k([1], [2], 1) is [0.5], pass_at_k([1], [2], 2) is [1.0].

    Args:
        right: c, the right replies to each question, shape (B,).
        n: replies sampled for each question, shape (B,).
        k: replies that a user would draw.

    Raises:
        ValueError: fewer than k replies to a question, or more right ones than replies.
    """
    c_B, n_B = np.asarray(right, dtype=float), np.asarray(n, dtype=float)
    if k < 1 or (n_B < k).any() or (c_B > n_B).any():
        raise ValueError(f"pass@{k} needs 1 <= k <= n and c <= n; n goes down to {n_B.min():g}")
    drawn_k = np.arange(k)
    left_Bk = np.clip(n_B[:, None] - c_B[:, None] - drawn_k, 0, None)  # 0 once the wrong replies are used up
    return 1 - np.prod(left_Bk / (n_B[:, None] - drawn_k), axis=1)


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4 ... up to `most`, which is the last: 6 gives [1, 2, 4, 6]."""
    return [*(2**i for i in range(most.bit_length()) if 2**i < most), most]


def standard_error(values: ArrayLike, seed: int = 0) -> float:
    """Return the standard error of the mean of one value per question (B,), by a seeded bootstrap over questions.

    Replies to one question are not independent, questions are: so a question is drawn with all its replies.
    """
    values_B = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = [values_B[rng.integers(len(values_B), size=len(values_B))].mean() for _ in range(DRAWS)]
    return float(np.std(means))

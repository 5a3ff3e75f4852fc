"""Importance weights of external candidates: appendix A of arXiv 2506.06856, and LUFFY's shaping in their place.

An external candidate o was drawn from a proposal q, not from the policy pi_old. The unbiased weight is
w = pi_old(o) / q(o), Eq. 8; leaving it out ("uncorrected", the paper's main runs) is biased by at most
2 max|g| TV(pi_old, q), Eq. 10. A weight is a positive factor on the advantage, so TRL's loss stays as it is.

Everything happens in log space: a reply of 2,000 tokens has a probability of about e^-2000, which no float holds.
Log-ratios are clamped at +-20 before `exp`. Axis letters: B kept rows, T tokens; S sources, the policy first; C is T
(a weight per token) or 1 (a weight per reply).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LOG_LIMIT = 20.0  # e^20 = 5e8: beyond it a ratio says nothing but "never" or "only"


@dataclass(frozen=True)
class Weighting:
    """How external candidates are weighted; the values are the recipe's, `settings.py` says what each means."""

    kind: str = "uncorrected"
    level: str = "sequence"
    proposal: str = "own"
    luffy_gamma: float = 0.1
    sft_coef: float = 0.1
    weight_max: float | None = None  # "is": most that w may be; None sets no limit

    @property
    def needs_logprobs(self) -> bool:
        """Whether a candidate without log-probs of the model that wrote it has no weight."""
        return self.kind in ("is", "snis")

    @property
    def needs_others(self) -> bool:
        """Whether it matters how likely a candidate is under external models that did not write it."""
        return self.needs_logprobs and self.proposal == "mixture"


def log_weights(logps_BC: Tensor, proposal_BC: Tensor) -> Tensor:
    """Log w = log pi_old(o) - log q(o), Eq. 8, clamped."""
    return (logps_BC - proposal_BC).clamp(-LOG_LIMIT, LOG_LIMIT)


def mixture_log_weights(logps_BC: Tensor, proposals_SBC: Tensor, shares_SB: Tensor) -> Tensor:
    """Log w against the mixture that the pool was drawn from, q = sum_s share_s q_s (A.5, there with equal shares).

    Never above -log share_0: with M models of N samples each w <= M + 1, however improbable the policy finds o. A
    component that is not known (NaN) is left out, which makes q smaller and w an upper bound, within the same limit.

    Args:
        logps_BC: log-probs under the policy.
        proposals_SBC: log-probs under every other source, S = M of them; NaN where a source cannot score a candidate.
        shares_SB: share of each source in the row's pool, the policy's first (M + 1 of them); they sum to 1.
    """
    log_shares = shares_SB.log().unsqueeze(-1)
    ratios = (proposals_SBC - logps_BC).clamp(-LOG_LIMIT, LOG_LIMIT).nan_to_num(nan=-torch.inf)
    terms = torch.cat([log_shares[:1].expand(1, *logps_BC.shape), log_shares[1:] + ratios])
    return -torch.logsumexp(terms, dim=0)


def self_normalised(log_w_BC: Tensor, mask_BC: Tensor, G: int) -> Tensor:
    """Weights over their mean in each group of G rows, masked entries only: J_SNIS = sum(w g) / sum(w) as a factor."""
    groups = log_w_BC.masked_fill(~mask_BC, -torch.inf).view(-1, G * log_w_BC.shape[1])
    count = mask_BC.view(groups.shape).sum(dim=1, keepdim=True)
    return ((groups - torch.logsumexp(groups, dim=1, keepdim=True)).exp() * count).view(log_w_BC.shape)


def luffy_weights(logps_BT: Tensor, gamma: float) -> Tensor:
    """Gradient of f(p) = p / (p + gamma) by log p, gamma p / (p + gamma)^2: LUFFY's shaping (arXiv 2504.14945).

    There q is taken as 1 and the loss is -A f(p), so per unit of A grad log p this is the weight of a token: .083 at
    p = .01 where the raw ratio would be .01, .25 at p = gamma, and .083 at p = 1.
    """
    p = logps_BT.exp()
    return gamma * p / (p + gamma) ** 2


def effective_share(w_BC: Tensor, mask_BC: Tensor, G: int) -> Tensor:
    """ESS / n = (sum w)^2 / (n sum w^2) of each group, (P,): 1 where all weigh alike, 1/n where one weighs all."""
    w = torch.where(mask_BC, w_BC, 0.0).view(-1, G * w_BC.shape[1])
    w = w / w.amax(dim=1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)  # squares of e^20 still fit, e^45 do not
    return w.sum(dim=1) ** 2 / (mask_BC.view(w.shape).sum(dim=1) * (w**2).sum(dim=1)).clamp(min=1e-12)


def total_variation(w: Tensor) -> Tensor:
    """TV(pi_old, q) = E_q[max(0, 1 - w)], estimated from weights of samples of q: half of the bias bound of Eq. 10."""
    return (1 - w).clamp(min=0).mean()

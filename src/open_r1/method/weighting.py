"""From kept candidates to the factor on their advantages: joins log-probs of policy and external models in weights.py.

Axis letters: B kept rows, G in a row per prompt; T tokens; C is T (weight_level token, luffy) or 1 (sequence).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from open_r1.method.weights import (
    Weighting,
    effective_share,
    log_weights,
    luffy_weights,
    mixture_log_weights,
    self_normalised,
    total_variation,
)
from open_r1.schema import POLICY, Answers, Candidate, Failure, UserError


def has_weight(weighting: Weighting, candidate: Candidate) -> bool:
    """Whether the candidate brings the log-probs that its weight needs; a policy sample always does."""
    if not weighting.needs_logprobs or not candidate.external:
        return True
    given = candidate.logprobs
    return given is not None and (weighting.level == "sequence" or len(given) == len(candidate.token_ids))


def count_unweighted(
    weighting: Weighting, answers_P: Sequence[Answers], pools: Sequence[Sequence[Candidate]]
) -> dict[str, int]:
    """Count, per model, the replies that are in no pool because they brought no log-probs.

    Raises:
        UserError: a model brought none with any of its replies; the run would be another method's.
    """
    if not weighting.needs_logprobs:
        return {}
    missing = {}
    for name in answers_P[0]:
        came = sum(len(answer) for answers in answers_P if not isinstance(answer := answers[name], Failure))
        missing[name] = came - sum(c.source == name for pool in pools for c in pool)
        if came and missing[name] == came:
            raise UserError(
                f"external model '{name}' sent {came} replies and no log-probs for weight_level '{weighting.level}';"
                f" external_weight '{weighting.kind}' cannot weigh them; set external_weight to luffy or uncorrected"
            )
    return missing


def weigh(
    weighting: Weighting,
    advantages_B: Tensor,
    policy_logps: Callable[[], Tensor],
    mask_BT: Tensor,
    pools: Sequence[Sequence[Candidate]],
    kept_PG: Sequence[Sequence[int]],
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted advantages, (B, C), and metrics `weights/*`; rows of the policy keep theirs under luffy, sft.

    Args:
        weighting: the recipe's; not "uncorrected", which needs no weighing.
        advantages_B: of the kept rows, G in a row per prompt.
        policy_logps: computes their tokens' log-probs (B, T) under the policy that sampled, pi_old; not called for sft.
        mask_BT: 1 for their tokens, 0 for padding.
        pools: the P pools that they were chosen from.
        kept_PG: indices into them.
    """
    kept = [pool[k] for pool, kept_G in zip(pools, kept_PG, strict=True) for k in kept_G]
    G = len(kept_PG[0])
    external_B1 = torch.tensor([[c.external] for c in kept], device=advantages_B.device)
    advantages_B1 = advantages_B.unsqueeze(1)
    if weighting.kind == "sft":
        right_B1 = torch.tensor([[c.score.accuracy] for c in kept]).to(advantages_B)
        return torch.where(external_B1, weighting.sft_coef * right_B1, advantages_B1), {}
    mask_BT, logps_BT = mask_BT.bool(), policy_logps().float()  # bf16 has 8 bits: no sums over 2,000 tokens
    if weighting.kind == "luffy":
        factors = torch.where(external_B1, luffy_weights(logps_BT, weighting.luffy_gamma), 1.0)
        return advantages_B1 * factors, _describe(factors, mask_BT, external_B1, G)

    logps_BC, mask_BC, proposals_BC = _at_level(weighting.level, logps_BT, mask_BT, kept)
    if weighting.proposal == "mixture":
        shares_SB, proposals_SBC = _mixture(weighting.level, logps_BT.shape[1], pools, kept, G)
        proposals_SBC = proposals_SBC.to(logps_BC)
        log_w_BC = mixture_log_weights(logps_BC, proposals_SBC, shares_SB.to(logps_BC))
    else:
        log_w_BC = torch.where(external_B1, log_weights(logps_BC, proposals_BC), 0.0)
    metrics = _describe(log_w_BC.exp(), mask_BC, external_B1, G)
    if weighting.proposal == "mixture":
        metrics["weights/known"] = 1 - proposals_SBC.isnan().float().mean().item()
    else:
        metrics["weights/tv"] = total_variation(log_w_BC.exp()[external_B1 & mask_BC]).item()
    if weighting.kind == "snis":
        return advantages_B1 * self_normalised(log_w_BC, mask_BC, G), metrics
    # Selection makes the proposal q 1{o in S} / Z, hence w Z; Z, the share of q that is kept, is estimated by G / K.
    Z_B1 = torch.tensor([[G / len(pool)] for pool in pools for _ in range(G)], device=logps_BT.device)
    return advantages_B1 * log_w_BC.exp() * Z_B1, metrics


def _at_level(
    level: str, logps_BT: Tensor, mask_BT: Tensor, kept: Sequence[Candidate]
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs under the policy, mask, and log-probs under the writer (0 for the policy's own), each (B, C)."""
    T = logps_BT.shape[1]
    entries = [_entries(level, T, c, c.logprobs if c.external else (0.0,) * len(c.token_ids)) for c in kept]
    proposals_BC = torch.tensor(entries, device=logps_BT.device)
    if level == "token":
        return logps_BT, mask_BT, proposals_BC
    logps_B1 = torch.where(mask_BT, logps_BT, 0.0).sum(dim=1, keepdim=True)
    return logps_B1, torch.ones_like(logps_B1, dtype=torch.bool), proposals_BC


def _entries(level: str, T: int, candidate: Candidate, given: Sequence[float] | None) -> list[float]:
    """One candidate's row of log-probs, (C,): NaN where they are not known, 0 on padding."""
    tokens = len(candidate.token_ids)
    if level == "sequence":
        return [math.nan if given is None else math.fsum(given)]
    if given is None or len(given) != tokens:
        given = [math.nan] * tokens
    return [*given, *[0.0] * (T - tokens)]


def _mixture(
    level: str, T: int, pools: Sequence[Sequence[Candidate]], kept: Sequence[Candidate], G: int
) -> tuple[Tensor, Tensor]:
    """Shares of the sources in each row's pool, (M + 1, B), and components, (M, B, C), NaN where one is not known.

    The writer's is known, and those of models that were asked about others' replies.
    """
    sources = [POLICY, *sorted({c.source for pool in pools for c in pool if c.external})]
    shares_PS = [[sum(c.source == source for c in pool) / len(pool) for source in sources] for pool in pools]
    shares_SB = torch.tensor(shares_PS).repeat_interleave(G, dim=0).T
    components_SBC = [
        [_entries(level, T, c, c.logprobs if c.source == source else c.others.get(source)) for c in kept]
        for source in sources[1:]
    ]
    C = 1 if level == "sequence" else T
    return shares_SB, torch.tensor(components_SBC).view(len(sources) - 1, len(kept), C)


def _describe(w_BC: Tensor, mask_BC: Tensor, external_B1: Tensor, G: int) -> dict[str, float]:
    """ESS as a share of the group, and the external weights' 95th percentile and maximum; NaN where none was kept."""
    external = w_BC[external_B1 & mask_BC]
    none = len(external) == 0
    return {
        "weights/ess": effective_share(w_BC, mask_BC, G).mean().item(),
        "weights/p95": math.nan if none else external.quantile(0.95).item(),
        "weights/max": math.nan if none else external.max().item(),
    }

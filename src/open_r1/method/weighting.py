"""From kept candidates to the factor on their advantages: joins log-probs of policy and external models in weights.py.

Axis letters: B kept rows, G in a row per prompt; T tokens; S external models; C is T (weight_level token, luffy) or 1
(sequence).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_r1.method.weights import Weighting, log_weights, luffy_weights, mixture_log_weights, self_normalised
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
    missing: dict[str, int] = {}
    for name in answers_P[0]:
        came = sum(len(answer) for answers in answers_P if not isinstance(answer := answers[name], Failure))
        missing[name] = came - sum(c.source == name for pool in pools for c in pool)
        if came and missing[name] == came:
            raise UserError(
                f"external model '{name}' sent {came} replies and no log-probs for weight_level '{weighting.level}';"
                f" external_weight '{weighting.kind}' cannot weigh them; set external_weight to luffy or uncorrected"
            )
    return missing


@dataclass(frozen=True)
class Weights:
    """The weights of a batch, before `is` bounds them and multiplies by Z, and before `snis` divides by their mean.

    Attributes:
        w_BC: one per kept reply or per token.
        mask_BC: False for padding.
        external_B: which rows external models wrote.
        known: `weight_proposal: mixture`: how many components of q were known, and how many there are.
    """

    w_BC: Tensor
    mask_BC: Tensor
    external_B: Tensor
    known: tuple[int, int] | None = None

    @property
    def external(self) -> Tensor:
        """The external candidates' weights in one row."""
        return self.w_BC[self.external_B.unsqueeze(1) & self.mask_BC]


def weigh(
    weighting: Weighting,
    advantages_B: Tensor,
    policy_logps: Callable[[], Tensor],
    mask_BT: Tensor,
    pools: Sequence[Sequence[Candidate]],
    kept_PG: Sequence[Sequence[int]],
) -> tuple[Tensor, Weights | None]:
    """Return the weighted advantages, (B, C), and the weights; rows of the policy keep theirs under luffy and sft.

    Args:
        weighting: the recipe's; not "uncorrected", which needs no weighing.
        advantages_B: of the kept rows, G in a row per prompt.
        policy_logps: computes their tokens' log-probs (B, T) under the policy that sampled, pi_old; not called for sft.
        mask_BT: 1 for their tokens, 0 for padding.
        pools: the P pools that they were chosen from.
        kept_PG: indices into them.
    """
    kept = [pool[k] for pool, kept_G in zip(pools, kept_PG, strict=True) for k in kept_G]
    external_B = torch.tensor([c.external for c in kept], device=advantages_B.device)
    external_B1, advantages_B1, G = external_B.unsqueeze(1), advantages_B.unsqueeze(1), len(kept_PG[0])
    if weighting.kind == "sft":
        right_B1 = torch.tensor([[c.score.accuracy] for c in kept]).to(advantages_B)
        return torch.where(external_B1, weighting.sft_coef * right_B1, advantages_B1), None
    mask_BT, logps_BT = mask_BT.bool(), policy_logps().float()  # bf16 has 8 bits: no sums over 2,000 tokens
    if weighting.kind == "luffy":
        factors_BT = torch.where(external_B1, luffy_weights(logps_BT, weighting.luffy_gamma), 1.0)
        return advantages_B1 * factors_BT, Weights(factors_BT, mask_BT, external_B)

    logps_BC, mask_BC = _at_level(weighting.level, logps_BT, mask_BT)
    if weighting.proposal == "mixture":
        log_w_BC, known = _mixture(weighting.level, logps_BC, mask_BC, pools, kept_PG)
    else:
        log_w_BC, known = _against_writers(weighting.level, logps_BC, kept), None
    weights = Weights(log_w_BC.exp(), mask_BC, external_B, known)
    if weighting.kind == "snis":
        return advantages_B1 * self_normalised(log_w_BC, mask_BC, G), weights
    # Selection makes the proposal q 1{o in S} / Z, hence w Z; Z, the share of q that is kept, is estimated by G / K.
    Z_B1 = torch.tensor([[G / len(pool)] for pool in pools for _ in range(G)], device=logps_BT.device)
    limit = math.inf if weighting.weight_max is None else weighting.weight_max
    return advantages_B1 * weights.w_BC.clamp(max=limit) * Z_B1, weights


def proposal_weights(level: str, candidates: Sequence[Candidate], logps_BT: Tensor, mask_BT: Tensor) -> Weights:
    """The weights of any rows of candidates, against the models that wrote them; what `weights/tv` is estimated from.

    Args:
        level: the recipe's `weight_level`.
        candidates: one per row (B), each of which `has_weight`.
        logps_BT: log-probs of their tokens under the policy that sampled.
        mask_BT: 1 for their tokens, 0 for padding.
    """
    logps_BC, mask_BC = _at_level(level, logps_BT.float(), mask_BT.bool())
    external_B = torch.tensor([c.external for c in candidates], device=logps_BT.device)
    return Weights(_against_writers(level, logps_BC, candidates).exp(), mask_BC, external_B)


def _at_level(level: str, logps_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probs under the policy and their mask, (B, C)."""
    if level == "token":
        return logps_BT, mask_BT
    logps_B1 = torch.where(mask_BT, logps_BT, 0.0).sum(dim=1, keepdim=True)
    return logps_B1, torch.ones_like(logps_B1, dtype=torch.bool)


def _against_writers(level: str, logps_BC: Tensor, candidates: Sequence[Candidate]) -> Tensor:
    """Log w against the model that wrote each candidate; 0 for the policy's own."""
    entries = [_entries(level, logps_BC.shape[1], c, c.logprobs if c.external else None) for c in candidates]
    own_B1 = torch.tensor([[not c.external] for c in candidates], device=logps_BC.device)
    return log_weights(logps_BC, torch.tensor(entries, device=logps_BC.device)).masked_fill(own_B1, 0.0)


def _entries(level: str, T: int, candidate: Candidate, given: Sequence[float] | None) -> list[float]:
    """One candidate's row of log-probs, (C,): NaN where they are not known, 0 on padding."""
    tokens = len(candidate.token_ids)
    if level == "sequence":
        return [math.nan if given is None else math.fsum(given)]
    if given is None or len(given) != tokens:
        given = [math.nan] * tokens
    return [*given, *[0.0] * (T - tokens)]


def _mixture(
    level: str,
    logps_BC: Tensor,
    mask_BC: Tensor,
    pools: Sequence[Sequence[Candidate]],
    kept_PG: Sequence[Sequence[int]],
) -> tuple[Tensor, tuple[int, int]]:
    """Log w against the mixture that each row's pool was drawn from, and how many of its components are known.

    The writer's is known, and those of models that were asked about others' replies. A model without a reply in the
    pool is no component of it; nor is padding anything to know.
    """
    kept = [pool[k] for pool, kept_G in zip(pools, kept_PG, strict=True) for k in kept_G]
    sources = [POLICY, *sorted({c.source for pool in pools for c in pool if c.external})]
    shares_PS = [[sum(c.source == source for c in pool) / len(pool) for source in sources] for pool in pools]
    shares_SB = torch.tensor(shares_PS).repeat_interleave(len(kept_PG[0]), dim=0).T.to(logps_BC)
    components = [
        [_entries(level, logps_BC.shape[1], c, c.logprobs if c.source == s else c.others.get(s)) for c in kept]
        for s in sources[1:]
    ]
    components_SBC = torch.tensor(components).view(len(sources) - 1, *logps_BC.shape).to(logps_BC)
    there_SBC = (shares_SB[1:] > 0).unsqueeze(2) & mask_BC
    known = (there_SBC & ~components_SBC.isnan()).sum()
    return mixture_log_weights(logps_BC, components_SBC, shares_SB), (int(known), int(there_SBC.sum()))

"""Importance weights against exact sums: a policy and two teachers, vocabulary 5 and length 3, so 125 sequences."""

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from open_r1.method.weighting import count_unweighted, has_weight, proposal_weights, weigh
from open_r1.method.weights import (
    Weighting,
    effective_share,
    log_weights,
    luffy_weights,
    mixture_log_weights,
    self_normalised,
    total_variation,
)
from open_r1.schema import POLICY, Candidate, Failure, Reply, Score, UserError
from open_r1.training.metrics import count_variation, count_weights
from open_r1.training.tally import Tally

SEQUENCES = torch.tensor(list(itertools.product(range(5), repeat=3)))  # (125, 3)


def sequence_model(seed: int, scale: float = 1.0) -> torch.Tensor:
    """Log-probs (125, 3) of every sequence's tokens under a model whose next token depends on all before it."""
    random = torch.Generator().manual_seed(seed)
    tables = [torch.log_softmax(scale * torch.randn(*[5] * (i + 1), generator=random), dim=-1) for i in range(3)]
    return torch.stack([tables[i][tuple(SEQUENCES[:, : i + 1].T)] for i in range(3)], dim=1)


POLICY_LOGPS, TEACHER, OTHER = (sequence_model(seed) for seed in range(3))
pi, q, other = (logps.sum(dim=1, keepdim=True) for logps in (POLICY_LOGPS, TEACHER, OTHER))  # (125, 1)
g = torch.randn(125, 1, generator=torch.Generator().manual_seed(9)) + 1
TRUE = (pi.exp() * g).sum().item()  # J = E_pi[g]
ONE = torch.ones(125, 1, dtype=torch.bool)


def test_the_toy_models_are_distributions_that_differ():
    for logps in (pi, q, other):
        assert logps.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    assert abs((q.exp() * g).sum().item() - TRUE) > 0.1  # so that leaving the weight out shows


def test_the_weight_has_mean_1_and_gives_the_expectation_under_the_policy():
    w = log_weights(pi, q).exp()
    assert (q.exp() * w).sum().item() == pytest.approx(1.0, abs=1e-5)
    assert (q.exp() * w * g).sum().item() == pytest.approx(TRUE, abs=1e-5)


def test_importance_sampling_is_unbiased_within_monte_carlo_error():
    drawn = torch.multinomial(q.exp().flatten(), 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    values = (log_weights(pi, q).exp() * g)[drawn]
    error = values.std().item() / len(values) ** 0.5
    assert values.mean().item() == pytest.approx(TRUE, abs=4 * error) and error < 0.02
    assert abs(g[drawn].mean().item() - TRUE) > 10 * error  # uncorrected is not


def test_the_bias_of_self_normalised_weights_falls_as_1_over_n():
    """n bias(n) tends to -E_q[w^2 (g - J)]; q is half policy, half teacher, so that w <= 2, and g is w itself."""
    mixture = ((pi.exp() + q.exp()) / 2).log()
    w = log_weights(pi, mixture)
    truth = (pi.exp() * w.exp()).sum().item()
    limit = -(pi.exp() * w.exp() * (w.exp() - truth)).sum().item()
    scaled = {}
    for n, runs in ((4, 100_000), (16, 100_000)):
        random = torch.Generator().manual_seed(n)
        drawn = torch.multinomial(mixture.exp().flatten(), n * runs, replacement=True, generator=random)
        factors = self_normalised(w[drawn], torch.ones(n * runs, 1, dtype=torch.bool), n)
        estimates = (factors * w.exp()[drawn]).view(runs, n).mean(dim=1)
        scaled[n] = n * (estimates.double().mean().item() - truth)
    assert limit < -0.1
    assert scaled[16] == pytest.approx(limit, rel=0.15)  # -.29 against -.27, give or take .007
    assert abs(scaled[4] / 4) > 4 * abs(scaled[16] / 16)


def test_against_a_mixture_of_known_models_the_weight_is_exact_and_at_most_m_plus_1():
    shares = torch.full((3, 125), 1 / 3)
    w = mixture_log_weights(pi, torch.stack([q, other]), shares).exp()
    mixture = (pi.exp() + q.exp() + other.exp()) / 3
    torch.testing.assert_close(w, pi.exp() / mixture, rtol=1e-4, atol=1e-6)
    assert (mixture * w * g).sum().item() == pytest.approx(TRUE, abs=1e-5)
    known = mixture_log_weights(pi, torch.stack([q, torch.full_like(q, math.nan)]), shares).exp()
    assert (known >= w - 1e-5).all()  # a component that is not known leaves an upper bound
    sharp = 50 * sequence_model(3).sum(dim=1, keepdim=True)  # log-probs down to -900
    assert mixture_log_weights(sharp, torch.stack([q, other]), shares).exp().max().item() <= 3 + 1e-5
    assert mixture_log_weights(q, torch.full((2, 125, 1), math.nan), shares).exp().max().item() <= 3 + 1e-5


def test_a_model_that_failed_has_no_share_and_does_not_count():
    shares = torch.tensor([[0.5], [0.5], [0.0]]).expand(3, 125)
    both = mixture_log_weights(pi, torch.stack([q, other]), shares)
    torch.testing.assert_close(both, (2 / (1 + (q - pi).exp())).log(), rtol=1e-4, atol=1e-5)


def test_total_variation_is_half_the_summed_difference_and_bounds_the_bias():
    w = log_weights(pi, q).exp()
    exact = 0.5 * (pi.exp() - q.exp()).abs().sum().item()
    drawn = torch.multinomial(q.exp().flatten(), 100_000, replacement=True, generator=torch.Generator().manual_seed(1))
    assert total_variation(w[drawn]).item() == pytest.approx(exact, abs=0.01)
    assert abs((q.exp() * g).sum().item() - TRUE) <= 2 * g.abs().max().item() * exact


@pytest.mark.parametrize(("p", "weight"), [(0.001, 0.0098), (0.01, 0.0826), (0.1, 0.25), (0.5, 0.1389), (1.0, 0.0826)])
def test_luffy_s_weight_is_the_gradient_of_its_shaping(p, weight):
    logp = torch.tensor(math.log(p), dtype=torch.float64, requires_grad=True)
    shaped = logp.exp() / (logp.exp() + 0.1)
    (gradient,) = torch.autograd.grad(shaped, logp)
    assert luffy_weights(logp.detach(), 0.1).item() == pytest.approx(gradient.item()) == pytest.approx(weight, abs=1e-4)


def test_effective_share_is_1_for_equal_weights_and_1_over_n_where_one_weighs_all():
    w = torch.tensor([[2.0], [2.0], [2.0], [2.0], [1e30], [0.0], [0.0], [0.0]])
    mask = torch.ones(8, 1, dtype=torch.bool)
    assert effective_share(w, mask, 4).tolist() == pytest.approx([1.0, 0.25])
    halved = torch.tensor([[1.0, 1.0], [1.0, 1.0]])  # two of four tokens are padding
    assert effective_share(halved, torch.tensor([[True, False], [True, False]]), 2).item() == pytest.approx(1.0)


@given(st.lists(st.floats(-20, 20), min_size=4, max_size=4))
def test_self_normalised_weights_have_mean_1_in_every_group(log_w):
    factors = self_normalised(torch.tensor([[x] for x in [*log_w, 0.0, -20.0, 20.0, 3.0]]), torch.ones(8, 1).bool(), 4)
    assert factors.view(2, 4).mean(dim=1).tolist() == pytest.approx([1.0, 1.0], abs=1e-5) and (factors >= 0).all()


def candidate(source: str, length: int, reward: float = 1.0, logprobs: tuple[float, ...] | None = None) -> Candidate:
    return Candidate(source, "text", (1,) * length, Score(reward, 0.0), logprobs=logprobs)


def one_group(weighting: Weighting, logps: list[list[float]], candidates: list[Candidate], pool_size: int = 0):
    """Weigh a group that holds all candidates, advantages 1, out of a pool that held `pool_size`."""
    length = max(map(len, logps))
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in logps])
    padded = torch.tensor([row + [0.0] * (length - len(row)) for row in logps])
    pool = [*candidates, *[candidate(POLICY, 1)] * (max(0, pool_size - len(candidates)))]
    group = [pool], [list(range(len(candidates)))]
    return counted(weighting, weigh(weighting, torch.ones(len(logps)), lambda: padded, mask, *group), len(candidates))


def counted(weighting: Weighting, weighed, G: int):
    """The weighted advantages and what is logged of the weights."""
    weighted, weights = weighed
    tally = Tally()
    if weights is not None:
        count_weights(tally, weighting, weights, G)
    return weighted, tally.take()


def test_a_policy_sample_weighs_1_and_an_external_reply_its_ratio_both_times_the_kept_share():
    group = [candidate(POLICY, 2), candidate("a", 2, logprobs=(-0.25, -0.25))]
    weighted, metrics = one_group(Weighting("is"), [[-3.0, -1.0], [-1.0, -0.5]], group, pool_size=4)
    assert weighted.flatten().tolist() == pytest.approx([0.5, 0.5 * math.exp(-1.0)])  # Z = G / K = 1/2
    assert metrics["weights/max"] == metrics["weights/p95"] == pytest.approx(math.exp(-1.0))
    weighted, _ = one_group(Weighting("snis"), [[-3.0, -1.0], [-1.0, -0.5]], group, pool_size=4)
    total = 1 + math.exp(-1.0)
    assert weighted.flatten().tolist() == pytest.approx([2 / total, 2 * math.exp(-1.0) / total])  # Z cancels


def test_at_token_level_every_token_has_a_weight_of_its_own():
    group = [candidate(POLICY, 1), candidate("a", 2, logprobs=(-0.5, -2.0))]
    weighted, _ = one_group(Weighting("is", level="token"), [[-3.0], [-1.0, -1.0]], group)
    assert weighted[0, 0].item() == 1.0
    assert weighted[1].tolist() == pytest.approx([math.exp(-0.5), math.exp(1.0)])


def test_the_mixture_bounds_the_policy_s_weight_by_the_inverse_of_its_share():
    group = [candidate(POLICY, 1), candidate("a", 1, logprobs=(-1.0,)), candidate("b", 1, logprobs=(-3.0,))]
    weighting = Weighting("is", proposal="mixture")
    weighted, _ = one_group(weighting, [[-1.0], [-1.0], [-30.0]], group)
    assert weighted.flatten().tolist() == pytest.approx([3.0, 1.5, 3 / (1 + math.exp(20))])  # clamped at 20


def test_the_mixture_is_exact_where_every_model_scored_every_candidate():
    """A pool of one each: w = pi / mean(pi, a, b). With a and b as likely as pi w is 1; with b impossible 3 / 2."""
    own = replace(candidate(POLICY, 1), others={"a": (-1.0,), "b": (-1.0,)})
    from_a = replace(candidate("a", 1, logprobs=(-1.0,)), others={"b": (-math.inf,)})
    from_b = replace(candidate("b", 1, logprobs=(-3.0,)), others={"a": (-3.0,)})
    weighting = Weighting("is", proposal="mixture")
    weighted, metrics = one_group(weighting, [[-1.0], [-1.0], [-2.0]], [own, from_a, from_b])
    expected = [1.0, 1.5, 3 / (1 + 2 * math.exp(-1.0))]
    assert weighted.flatten().tolist() == pytest.approx(expected, abs=1e-6) and metrics["weights/known"] == 1.0
    half = [own, replace(from_a, others={}), replace(from_b, others={})]
    weighted, metrics = one_group(weighting, [[-1.0], [-1.0], [-2.0]], half)
    assert metrics["weights/known"] == pytest.approx(4 / 6)
    assert all(bound >= exact - 1e-6 for bound, exact in zip(weighted.flatten().tolist(), expected, strict=True))
    token = replace(candidate(POLICY, 2), others={"a": (-1.0, -2.0), "b": (-3.0,)})  # b counts other tokens
    pair = [token, candidate("a", 1, logprobs=(-1.0,)), candidate("b", 1, logprobs=(-1.0,))]
    weighted, _ = one_group(Weighting("is", "token", "mixture"), [[-1.0, -1.0], [-1.0], [-1.0]], pair)
    assert weighted[0].tolist() == pytest.approx([1.5, 3 / (1 + math.exp(-1.0))])


def test_without_any_external_reply_the_mixture_is_the_policy_and_weighs_1():
    group = [candidate(POLICY, 1), candidate(POLICY, 2)]
    for kind in ("is", "snis"):
        weighted, metrics = one_group(Weighting(kind, proposal="mixture"), [[-1.0], [-1.0, -2.0]], group)
        assert weighted.flatten().tolist() == [1.0, 1.0] and metrics["weights/ess"] == 1.0
        assert math.isnan(metrics["weights/known"]) and math.isnan(metrics["weights/max"])


def test_luffy_weighs_external_tokens_and_sft_replaces_external_advantages():
    group = [candidate(POLICY, 2), candidate("a", 2, reward=0.5), candidate("a", 2, reward=0.0)]
    logps = [[math.log(0.1)] * 2] * 3
    weighted, metrics = one_group(Weighting("luffy"), logps, group)
    torch.testing.assert_close(weighted, torch.tensor([[1.0, 1.0], [0.25, 0.25], [0.25, 0.25]]))
    assert metrics["weights/max"] == pytest.approx(0.25)
    weighted, _ = one_group(Weighting("sft", sft_coef=0.2), logps, group)
    assert weighted.flatten().tolist() == pytest.approx([1.0, 0.1, 0.0])  # a wrong reply is not imitated


@pytest.mark.parametrize("kind", ["is", "snis", "luffy"])
@pytest.mark.parametrize("level", ["sequence", "token"])
@pytest.mark.parametrize("proposal", ["own", "mixture"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replies_of_2000_tokens_overflow_nowhere(kind, level, proposal, dtype):
    """Policy log-probs of -16,000 against -200, and the other way round."""
    teacher = [candidate("a", 2000, logprobs=(x,) * 2000) for x in (-0.1, -8.0)]
    pool = [candidate(POLICY, 2000), *teacher, candidate(POLICY, 1)]
    logps = torch.tensor([-0.1, -8.0, -0.1, -1.0]).unsqueeze(1).expand(4, 2000).to(dtype)
    weighting = Weighting(kind, level=level, proposal=proposal)
    weighed = weigh(weighting, torch.ones(4), lambda: logps, torch.ones(4, 2000), [pool], [[0, 1, 2, 3]])
    weighted, metrics = counted(weighting, weighed, 4)
    assert weighted.isfinite().all() and (weighted >= 0).all()
    assert all(math.isfinite(value) for value in metrics.values()) and 0 < metrics["weights/ess"] <= 1 + 1e-6
    if proposal == "mixture" and kind == "is":
        assert weighted.max().item() <= 2 + 1e-5


def test_after_selection_the_weights_estimate_the_sum_over_the_selected_set():
    """S holds the 60 sequences of largest g; whoever of 32 drawn from q lies in S is kept; Z is estimated by G / K."""
    inside = torch.zeros(125, dtype=torch.bool)
    inside[g.flatten().argsort(descending=True)[:60]] = True
    exact = (pi.exp() * g)[inside].sum().item()
    random = torch.Generator().manual_seed(0)
    estimates = []
    for _ in range(600):
        drawn = torch.multinomial(q.exp().flatten(), 32, replacement=True, generator=random)
        pool = [candidate("a", 3, logprobs=tuple(TEACHER[i].tolist())) for i in drawn.tolist()]
        kept = torch.nonzero(inside[drawn]).flatten()
        rows, mask = drawn[kept], torch.ones(len(kept), 3)
        values, _ = weigh(
            Weighting("is"), g[rows, 0], partial(POLICY_LOGPS.__getitem__, rows), mask, [pool], [kept.tolist()]
        )
        estimates.append(values.mean().item())
    error = torch.tensor(estimates).std().item() / 600**0.5
    assert torch.tensor(estimates).mean().item() == pytest.approx(exact, abs=4 * error) and error < 0.1


def test_only_is_and_snis_ask_for_log_probs_and_a_token_level_for_one_per_token():
    bare, whole, single = (candidate("a", 2, logprobs=given) for given in (None, (-1.0, -1.0), (-2.0,)))
    assert all(has_weight(Weighting(kind), bare) for kind in ("uncorrected", "luffy", "sft"))
    assert not has_weight(Weighting("is"), bare) and has_weight(Weighting("is"), candidate(POLICY, 2))
    assert has_weight(Weighting("snis"), single) and not has_weight(Weighting("snis", level="token"), single)
    assert has_weight(Weighting("is", level="token"), whole)


def test_replies_without_log_probs_are_counted_and_a_model_that_brings_none_is_named():
    pools = [[candidate(POLICY, 1), candidate("a", 1, logprobs=(-1.0,))], [candidate(POLICY, 1)]]
    answers = [{"a": [Reply("x"), Reply("y")]}, {"a": Failure("a", "timeout", "late")}]
    assert count_unweighted(Weighting("is"), answers, pools) == {"a": 1}
    assert count_unweighted(Weighting("luffy"), answers, pools) == {}
    with pytest.raises(UserError, match="external model 'a' sent 2 replies and no log-probs"):
        count_unweighted(Weighting("is"), answers, [pools[1], pools[1]])


def test_weight_max_bounds_a_weight_and_counts_how_often():
    """The policy is e^19 times surer of the second reply than its writer: bounded by 10 it weighs 10 Z = 5."""
    group = [candidate(POLICY, 1), candidate("a", 1, logprobs=(-20.0,)), candidate("a", 1, logprobs=(-1.0,))]
    weighted, metrics = one_group(Weighting("is", weight_max=10.0), [[-3.0], [-1.0], [-2.0]], group, pool_size=6)
    assert weighted.flatten().tolist() == pytest.approx([0.5, 5.0, 0.5 * math.exp(-1.0)])
    assert metrics["weights/max"] == pytest.approx(math.exp(19)) and metrics["weights/bounded"] == 0.5
    weighted, metrics = one_group(Weighting("is"), [[-3.0], [-1.0], [-2.0]], group, pool_size=6)
    assert weighted[1].item() == pytest.approx(0.5 * math.exp(19)) and "weights/bounded" not in metrics
    weighted, _ = one_group(Weighting("snis", weight_max=10.0), [[-3.0], [-1.0], [-2.0]], group)
    assert weighted[1].item() == pytest.approx(3.0, abs=1e-4)  # snis is bounded by the group's size itself


def test_a_component_is_known_or_not_where_it_is_one_and_there_is_a_token():
    """Token level; b gave no reply in the first pool."""
    first = [candidate(POLICY, 1), candidate("a", 3, logprobs=(-1.0,) * 3)]
    second = [candidate(POLICY, 1), replace(candidate("b", 2, logprobs=(-1.0,) * 2), others={"a": (-1.0, -1.0)})]
    second.append(candidate("a", 1, logprobs=(-1.0,)))
    mask = torch.tensor([[1, 0, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]])
    weighting = Weighting("is", level="token", proposal="mixture")
    weighed = weigh(weighting, torch.ones(4), lambda: torch.full((4, 3), -1.0), mask, [first, second], [[0, 1], [0, 1]])
    # components: a of 1 + 3 tokens; a and b of 1 + 2 tokens each: 10. Unknown: a of the policy's token, a and b of the
    # other policy's token
    assert weighed[1] is not None and weighed[1].known == (7, 10)


def test_the_total_variation_is_estimated_from_replies_that_nobody_has_selected():
    """TV(pi, q) over 125 sequences, exactly; of 20,000 draws from q, kept or not, the logged mean is that."""
    exact = 0.5 * (pi.exp() - q.exp()).abs().sum().item()
    drawn = torch.multinomial(q.exp().flatten(), 20_000, replacement=True, generator=torch.Generator().manual_seed(1))
    replies = [candidate("a", 3, logprobs=tuple(TEACHER[i].tolist())) for i in drawn.tolist()]
    replies.append(candidate(POLICY, 3))  # fills a row where there are too few; not counted
    logps, tally = torch.cat([POLICY_LOGPS[drawn], torch.zeros(1, 3)]), Tally()
    count_variation(tally, proposal_weights("sequence", replies, logps, torch.ones_like(logps)))
    assert tally.take()["weights/tv"] == pytest.approx(exact, abs=0.01)

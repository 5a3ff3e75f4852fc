"""Selection: hand-made ties, laws of the rules, advantages by hand, and the numbers that docs/METHOD.md quotes."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom

from open_r1.method import selection
from open_r1.method.advantages import BASELINES, baseline_advantages, group_advantages, is_dead
from open_r1.method.selection import SELECTIONS, max_variance, pad, ranking, tied_at_cut, top_g

NAN = float("nan")
POOL = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0, 1.5, 2.0]), st.booleans()), min_size=1, max_size=24)


@st.composite
def pools(draw):
    pool = draw(POOL)
    return [r for r, _ in pool], [e for _, e in pool], draw(st.integers(1, len(pool)))


def test_the_better_reward_wins_whoever_wrote_it():
    assert top_g([0, 1, 2, 1.5], [False, False, True, True], 2).tolist() == [2, 3]


def test_at_a_tie_the_policy_comes_before_external_models():
    assert top_g([2, 2, 2, 2], [True, True, False, False], 2).tolist() == [2, 3]


def test_at_a_tie_within_a_source_sample_order_decides():
    assert top_g([2, 2, 2, 2], [True, True, True, False], 3).tolist() == [0, 1, 3]


def test_kept_indices_come_back_in_the_order_of_the_pool():
    assert top_g([0, 2, 1], [False] * 3, 2).tolist() == [1, 2]
    assert top_g([1, 2, 0], [False] * 3, 2).tolist() == [0, 1]


def test_unscored_candidates_are_kept_only_when_nothing_else_is_left():
    assert top_g([NAN, 0, NAN, 0], [False, True, False, True], 2).tolist() == [1, 3]
    assert top_g([NAN, 0, NAN, -1], [True, True, False, True], 3).tolist() == [1, 2, 3]


@pytest.mark.parametrize("G", [0, 4, -1])
def test_a_pool_that_cannot_fill_the_group_is_refused_with_the_numbers(G):
    with pytest.raises(ValueError, match=rf"G = {G} of K = 3"):
        top_g([0, 1, 2], [False] * 3, G)


def test_rewards_and_sources_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        top_g([0, 1, 2], [False] * 2, 1)


@given(pools())
def test_the_kept_are_distinct_members_of_the_pool_with_the_g_largest_rewards(pool):
    rewards_K, external_K, G = pool
    kept_G = top_g(rewards_K, external_K, G).tolist()
    assert kept_G == sorted(set(kept_G)) and len(kept_G) == G and kept_G[0] >= 0 and kept_G[-1] < len(rewards_K)
    assert sorted(rewards_K[i] for i in kept_G) == sorted(rewards_K)[-G:]


@pytest.mark.parametrize("rule", SELECTIONS.values(), ids=SELECTIONS)
@given(pool=pools(), random=st.randoms(use_true_random=False), cap=st.integers(0, 24))
def test_shuffling_samples_changes_no_sources_kept_rewards(rule, pool, random, cap):
    rewards_K, external_K, G = pool
    assume(external_K.count(False) + cap >= G)
    order = list(range(len(rewards_K)))
    random.shuffle(order)

    def kept(order):
        rewards, external = [rewards_K[i] for i in order], [external_K[i] for i in order]
        return Counter((external[i], rewards[i]) for i in rule(rewards, external, G, cap))

    assert kept(order) == kept(range(len(rewards_K)))


@given(pools())
def test_no_external_candidate_is_kept_while_an_equal_policy_candidate_is_left_out(pool):
    rewards_K, external_K, G = pool
    for rule in SELECTIONS.values():
        kept = set(rule(rewards_K, external_K, G).tolist())
        left_policy = {r for i, r in enumerate(rewards_K) if i not in kept and not external_K[i]}
        assert left_policy.isdisjoint(rewards_K[i] for i in kept if external_K[i])
    kept = set(top_g(rewards_K, external_K, G).tolist())
    best_left_policy = max((r for i, r in enumerate(rewards_K) if i not in kept and not external_K[i]), default=-1)
    assert all(rewards_K[i] > best_left_policy for i in kept if external_K[i])


@pytest.mark.parametrize("rule", SELECTIONS.values(), ids=SELECTIONS)
@given(rewards_K=st.lists(st.just(NAN) | st.floats(0, 2), min_size=1, max_size=16))
def test_a_policy_only_pool_of_g_is_left_as_it_is(rule, rewards_K):
    assert rule(rewards_K, [False] * len(rewards_K), len(rewards_K)).tolist() == list(range(len(rewards_K)))


def test_the_papers_rule_is_found_by_name():
    assert SELECTIONS["top_g"] is top_g


def test_the_group_of_largest_variance_keeps_both_ends_and_policy_candidates_at_equal_variance():
    policy, teacher = False, True
    # three right and five wrong suffice of the policy's: 4 right, 4 wrong need one right reply of the teacher's
    rewards, who = [2, 2, 2, 0, 0, 0, 0, 0] + [2] * 8, [policy] * 8 + [teacher] * 8
    assert max_variance(rewards, who, 8).tolist() == [0, 1, 2, 3, 4, 5, 6, 8]
    assert max_variance([0, 0, 2, 2, 2], [policy] * 3 + [teacher] * 2, 4).tolist() == [0, 1, 2, 3]
    # two against one either way: with as many external candidates, more of the best; equal ones in sample order
    assert max_variance([0, 0, 2, 2], [policy] * 4, 3).tolist() == [0, 2, 3]


def test_at_most_max_external_external_candidates_are_kept():
    policy, teacher = False, True
    rewards, who = [0, 0, 0, 0, 2, 2, 2, 2], [policy] * 4 + [teacher] * 4
    assert top_g(rewards, who, 4, 1).tolist() == max_variance(rewards, who, 4, 1).tolist() == [0, 1, 2, 4]
    assert top_g(rewards, who, 4, 0).tolist() == max_variance(rewards, who, 4, 0).tolist() == [0, 1, 2, 3]
    assert top_g(rewards, who, 4, 4).tolist() == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="4 of the policy and 1 external"):
        top_g(rewards, who, 6, 1)


@st.composite
def capped_pools(draw):
    """Up to 12 candidates with unscored ones, a G and a limit that the pool can meet."""
    pool = draw(st.lists(st.tuples(st.sampled_from([NAN, 0.0, 0.3, 1.0, 2.0]), st.booleans()), min_size=1, max_size=12))
    rewards_K, external_K = [r for r, _ in pool], [e for _, e in pool]
    G, cap = draw(st.integers(1, len(pool))), draw(st.integers(0, len(pool)))
    assume(external_K.count(False) + cap >= G)
    return rewards_K, external_K, G, cap


@pytest.mark.parametrize("rule", SELECTIONS.values(), ids=SELECTIONS)
@given(batch=st.lists(capped_pools(), min_size=1, max_size=5))
def test_a_batch_of_pools_of_different_length_is_what_each_pool_is_alone(rule, batch):
    G, cap = min(G for *_, G, _ in batch), max(cap for *_, cap in batch)  # what every pool can meet
    rewards = [rewards_K for rewards_K, *_ in batch]
    external_PK, there_PK = (
        pad(values, fill=0).astype(bool) for values in ([e for _, e, *_ in batch], [[1] * len(r) for r in rewards])
    )
    rewards_PK = pad(rewards)
    kept_PG = rule(rewards_PK, external_PK, G, cap, there_PK)
    assert kept_PG.tolist() == [rule(r, e, G, cap).tolist() for r, e, *_ in batch]
    assert ranking(rewards_PK, external_PK, there_PK)[0, : len(rewards[0])].tolist() == ranking(*batch[0][:2]).tolist()
    assert is_dead(rewards_PK).tolist() == [bool(is_dead(r)) for r in rewards]
    assert tied_at_cut(rewards_PK, kept_PG).tolist() == [
        int(tied_at_cut(r, kept_G)) for r, kept_G in zip(rewards, kept_PG, strict=True)
    ]
    for baseline in BASELINES:
        advantages_PG = baseline_advantages(baseline, rewards_PK, external_PK, kept_PG)
        alone = [baseline_advantages(baseline, r, e, kept_G) for (r, e, *_), kept_G in zip(batch, kept_PG, strict=True)]
        np.testing.assert_allclose(advantages_PG, alone, atol=1e-9)


@given(capped_pools())
def test_no_group_that_is_allowed_has_more_scored_candidates_or_a_larger_variance(pool):
    rewards_K, external_K, G, cap = pool

    def worth(kept):
        scored = [rewards_K[i] for i in kept if not np.isnan(rewards_K[i])]
        return len(scored), round(float(np.var(scored)), 9) if scored else 0.0

    kept = max_variance(rewards_K, external_K, G, cap).tolist()
    groups = (g for g in combinations(range(len(rewards_K)), G) if sum(external_K[i] for i in g) <= cap)
    assert len(set(kept)) == G and sum(external_K[i] for i in kept) <= cap
    assert worth(kept) == max(worth(group) for group in groups)


@given(capped_pools())
def test_no_group_that_is_allowed_has_more_scored_candidates_or_a_larger_sum(pool):
    rewards_K, external_K, G, cap = pool

    def worth(kept):
        return sum(not np.isnan(rewards_K[i]) for i in kept), round(float(np.nansum([rewards_K[i] for i in kept])), 9)

    kept = top_g(rewards_K, external_K, G, cap).tolist()
    groups = (g for g in combinations(range(len(rewards_K)), G) if sum(external_K[i] for i in g) <= cap)
    assert len(set(kept)) == G and sum(external_K[i] for i in kept) <= cap
    assert worth(kept) == max(worth(group) for group in groups)


@given(pools())
def test_a_group_of_largest_variance_is_dead_only_where_the_whole_pool_is(pool):
    rewards_K, external_K, G = pool
    assume(G > 1)
    assert is_dead(np.array(rewards_K)[max_variance(rewards_K, external_K, G)]) == is_dead(rewards_K)


def test_the_ranking_goes_from_the_best_to_the_worst():
    assert ranking([0, 2, NAN, 2], [False, True, False, False]).tolist() == [3, 1, 0, 2]


def test_a_group_is_dead_when_its_scored_rewards_are_equal():
    assert is_dead([1, 1, 1 + 1e-9]) and is_dead([2, NAN, 2]) and is_dead([NAN, NAN]) and is_dead([1, NAN])
    assert not is_dead([1, 1, 1.001]) and not is_dead([0, NAN, 2])


def test_ties_at_the_cut_count_those_left_out_with_the_lowest_kept_reward():
    assert tied_at_cut([2, 2, 1, 1, 1, 0], [0, 1, 2]) == 2
    assert tied_at_cut([2, 2, 1], [0, 1]) == 0
    assert tied_at_cut([1, NAN, 1, NAN], [0, 1]) == 1  # a kept NaN is no cut
    assert tied_at_cut([NAN, NAN], [0]) == 0


def test_advantages_are_eq_1_with_the_sample_standard_deviation():
    # mean 1, deviations -1, 0, 1, sample std 1
    np.testing.assert_allclose(group_advantages([0, 1, 2], eps=0), [-1, 0, 1])
    # one success among four: mean .25, std .5
    np.testing.assert_allclose(group_advantages([0, 0, 0, 1], eps=0), [-0.5, -0.5, -0.5, 1.5])
    np.testing.assert_allclose(group_advantages([0, 0, 0, 1]), np.array([-0.25, -0.25, -0.25, 0.75]) / 0.5001)


def test_dead_single_and_unscored_candidates_get_no_advantage():
    assert group_advantages([2, 2, 2]).tolist() == [0, 0, 0]
    assert group_advantages([2]).tolist() == [0]
    np.testing.assert_allclose(group_advantages([0, NAN, 2], eps=0), [-(0.5**0.5), 0, 0.5**0.5])


def test_the_mean_may_be_the_pool_s_or_the_policy_s():
    rewards, external, kept = [0, 0, 0, 2, 2, 2, 2, 2], [False] * 4 + [True] * 4, [4, 5, 6, 7]
    std = np.std(rewards, ddof=1) + 1e-4  # 1.0351
    assert baseline_advantages("kept", rewards, external, kept).tolist() == [0, 0, 0, 0]  # a dead group
    np.testing.assert_allclose(baseline_advantages("pool", rewards, external, kept), [(2 - 1.25) / std] * 4)
    np.testing.assert_allclose(baseline_advantages("policy", rewards, external, kept), [(2 - 0.5) / std] * 4)
    np.testing.assert_allclose(baseline_advantages("policy", rewards, external, kept, scaled=False), [1.5] * 4)
    np.testing.assert_allclose(baseline_advantages("kept", rewards, external, [2, 3], scaled=False), [-1, 1])


@pytest.mark.parametrize("baseline", BASELINES)
@given(pool=pools())
def test_an_all_equal_pool_teaches_nothing_and_no_advantage_explodes(baseline, pool):
    rewards_K, external_K, G = pool
    kept_G = top_g(rewards_K, external_K, G)
    advantages_G = baseline_advantages(baseline, rewards_K, external_K, kept_G)
    assert not advantages_G.any() or not is_dead(rewards_K)
    assert np.abs(advantages_G).max() <= 2 * len(rewards_K) ** 0.5  # a spread of d has std >= d / sqrt(2 K)


def dead_shares(policy, teacher, n=8):
    """Exact share of dead groups, binary rewards, independent samples: (GRPO, top-G) for N = G = n and one teacher."""
    right_policy, right_teacher = binom(n, policy), binom(n, teacher)
    full = sum(right_policy.pmf(i) * right_teacher.sf(n - 1 - i) for i in range(n + 1))  # i + j >= n
    return right_policy.pmf(0) + right_policy.pmf(n), right_policy.pmf(0) * right_teacher.pmf(0) + full


@pytest.mark.parametrize(
    ("row", "policy", "teacher"),
    [
        ("Clevr-Math, 2B", 0.824, 0.681),
        ("Super-CLEVR, 2B", 0.320, 0.343),
        ("GeoMath, 2B", 0.259, 0.502),
        ("GeoMath, 7B", 0.433, 0.502),
        ("TRANCE, 2B", 0.038, 0.426),
        ("TRANCE, 7B", 0.135, 0.426),
    ],
)
def test_the_dead_group_table_of_the_method_page_is_what_the_formula_gives(row, policy, teacher):
    page = (Path(__file__).resolve().parents[1] / "docs" / "METHOD.md").read_text(encoding="utf-8")
    grpo, top = dead_shares(policy, teacher)
    assert f"| {row} | {policy:.3f} | {teacher:.3f} | {grpo:.2f} | {top:.2f} |" in page


def test_the_dead_share_of_the_formula_is_what_selection_gives_on_drawn_groups():
    rng = np.random.default_rng(0)
    policy, teacher, external_K = 0.26, 0.50, np.arange(16) >= 8
    rewards_PK = (rng.random((4000, 16)) < np.where(external_K, teacher, policy)).astype(float)
    dead = np.mean([is_dead(rewards_K[top_g(rewards_K, external_K, 8)]) for rewards_K in rewards_PK])
    assert dead == pytest.approx(dead_shares(policy, teacher)[1], abs=0.02)  # 3 standard errors


def test_the_rule_that_contributing_shows_is_one():
    text = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = dict(vars(selection))
    exec(text.split("```python\n")[1].split("```")[0], names)  # our own text
    assert names["SELECTIONS"].keys() == {*SELECTIONS, "bottom_g"}
    assert names["bottom_g"]([2, 0, 1, 0], [False, True, False, False], 2).tolist() == [1, 3]

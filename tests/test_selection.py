"""Selection: hand-made ties, laws of top-G, the reference advantages, and the numbers that docs/METHOD.md quotes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from open_r1.selection import SELECTIONS, group_advantages, is_dead, tied_at_cut, top_g

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


@given(pools(), st.randoms(use_true_random=False))
def test_shuffling_samples_changes_no_sources_kept_rewards(pool, random):
    rewards_K, external_K, G = pool
    order = list(range(len(rewards_K)))
    random.shuffle(order)

    def kept(order):
        rewards, external = [rewards_K[i] for i in order], [external_K[i] for i in order]
        return Counter((external[i], rewards[i]) for i in top_g(rewards, external, G))

    assert kept(order) == kept(range(len(rewards_K)))


@given(pools())
def test_no_external_candidate_is_kept_while_an_equal_policy_candidate_is_left_out(pool):
    rewards_K, external_K, G = pool
    kept = set(top_g(rewards_K, external_K, G).tolist())
    best_left_policy = max((r for i, r in enumerate(rewards_K) if i not in kept and not external_K[i]), default=-1)
    assert all(rewards_K[i] > best_left_policy for i in kept if external_K[i])


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=16))
def test_a_policy_only_pool_of_g_is_left_as_it_is(rewards_K):
    assert top_g(rewards_K, [False] * len(rewards_K), len(rewards_K)).tolist() == list(range(len(rewards_K)))


def test_the_papers_rule_is_found_by_name():
    assert SELECTIONS["top_g"] is top_g


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

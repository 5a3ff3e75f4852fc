"""pass@k against all its draws written out, and the bootstrap against what is known of a share."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_r1.evaluation.pass_at_k import pass_at_k, powers_of_two, standard_error


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_right_reply(case):
    n, right, k = case
    draws = list(combinations([True] * right + [False] * (n - right), k))
    assert pass_at_k([right], [n], k)[0] == pytest.approx(sum(map(any, draws)) / len(draws))


def test_one_right_of_two_is_half_at_one_and_certain_at_two():
    assert pass_at_k([1, 0, 2], [2, 2, 2], 1).tolist() == [0.5, 0.0, 1.0]
    assert pass_at_k([1, 0, 2], [2, 2, 2], 2).tolist() == [1.0, 0.0, 1.0]


def test_more_draws_than_replies_are_refused():
    with pytest.raises(ValueError, match="pass@3"):
        pass_at_k([1], [2], 3)


def test_k_goes_by_powers_of_two_and_ends_at_what_there_is():
    assert powers_of_two(16) == [1, 2, 4, 8, 16] and powers_of_two(6) == [1, 2, 4, 6] and powers_of_two(1) == [1]


def test_fifty_of_a_hundred_right_have_a_standard_error_of_five_points():
    values = np.repeat([0.0, 1.0], 50)
    assert standard_error(values) == pytest.approx(0.05, rel=0.1)
    assert standard_error(values, seed=1) == standard_error(values, seed=1) != standard_error(values, seed=2)


def test_equal_values_have_no_error():
    assert standard_error([0.25] * 7) == 0.0

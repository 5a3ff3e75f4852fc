"""The look-ahead yields what the sampler yields, and tells the coming prompts of each process and no others."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer.utils import RepeatSampler

from open_r1.training.lookahead import LookAhead


class Given:
    """A sampler of given epochs."""

    def __init__(self, *epochs: list[int]):
        self.epochs = iter(epochs)

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[int]:
        return iter(next(self.epochs, []))


def test_the_coming_prompts_are_those_of_the_next_generations_each_once():
    ahead = LookAhead(Given([7, 7, 3, 3, 5, 5, 1, 1, 4, 4, 2, 2]), rows_per_block=4)  # 2 prompts x G = 2
    list(ahead)
    assert ahead.coming(7, steps=1) == [5, 1]
    assert ahead.coming(3, steps=2) == [5, 1, 4, 2]
    assert ahead.coming(1, steps=5) == [4, 2]
    assert ahead.coming(4, steps=1) == []


def test_a_block_that_serves_several_updates_is_one_generation():
    ahead = LookAhead(Given([7, 7, 3, 3] * 3 + [5, 5, 1, 1] * 3), rows_per_block=4)
    list(ahead)
    assert ahead.coming(7, steps=1) == [5, 1] and ahead.coming(5, steps=1) == []


def test_the_end_of_an_epoch_sees_the_beginning_of_the_next():
    ahead = LookAhead(Given([1, 1, 2, 2], [2, 2, 1, 1], [2, 2, 1, 1]), rows_per_block=2)
    assert list(ahead) == [1, 1, 2, 2]
    assert ahead.coming(2, steps=1) == [2]
    assert list(ahead) == [2, 2, 1, 1]
    assert ahead.coming(2, steps=1) == [1]


def test_a_resumed_run_that_skipped_blocks_sees_only_what_follows():
    ahead = LookAhead(Given([1, 1, 2, 2, 3, 3, 4, 4]), rows_per_block=2)
    list(ahead)
    assert ahead.coming(3, steps=9) == [4]


@pytest.mark.parametrize(("process", "share"), [(0, [3, 4]), (1, [5, 6])])
def test_each_process_sees_its_own_part_of_a_block(process, share):
    order = [1, 1, 2, 2, 7, 7, 8, 8, 3, 3, 4, 4, 5, 5, 6, 6]
    ahead = LookAhead(Given(order), rows_per_block=8, process=process, processes=2)
    list(ahead)
    assert ahead.coming(1, steps=1) == share


def test_before_the_first_epoch_nothing_is_known():
    assert LookAhead(Given([1, 1]), rows_per_block=2).coming(1, steps=3) == []


@settings(deadline=None)
@given(
    rows=st.integers(1, 12),
    G=st.integers(1, 3),
    prompts=st.integers(1, 4),
    repeats=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_trl_s_sampler_gives_the_same_order_epoch_after_epoch_with_and_without_it(rows, G, prompts, repeats, seed):
    def sampler() -> RepeatSampler:
        return RepeatSampler(range(rows), G, prompts, repeats, shuffle=True, seed=seed)

    plain, ahead = sampler(), LookAhead(sampler(), rows_per_block=prompts * G)
    assert len(ahead) == len(plain)
    for _ in range(3):
        order = list(plain)
        assert list(ahead) == order
        trained = list(dict.fromkeys(order))  # RepeatSampler draws each prompt once per epoch
        for now in range(0, len(trained) - prompts, prompts):
            coming = trained[now + prompts : now + 2 * prompts]
            assert ahead.coming(trained[now], steps=1) == coming

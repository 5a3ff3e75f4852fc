"""One optimizer step holds the same prompts on any number of processes, and says so where it cannot."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_r1.configs import EKIPLConfig
from open_r1.recipe.merge import merge_recipe
from open_r1.recipe.rules import Recipe, check_recipe
from open_r1.recipe.step import Step, check_batch, cut_step
from open_r1.schema import UserError


def recipe(**keys: Any) -> Recipe:
    return Recipe.read({"num_generations": 8, **keys})


@pytest.mark.parametrize("task", ["clevr_math", "geomath", "trance"])
@pytest.mark.parametrize(("model", "at_once"), [("2b", 8), ("7b", 2)])
def test_a_step_of_the_large_recipes_has_16_prompts_on_1_4_8_and_16_gpus(task, model, at_once):
    full = Recipe.read(merge_recipe(task, model, "ekipl"))
    for processes in (1, 4, 8, 16):
        check_recipe(merge_recipe(task, model, "ekipl"), processes)
        step = cut_step(full, processes)
        assert step.rows == at_once and processes * step.rows * step.micro_batches == 16 * 8
        assert check_batch(full, processes) * processes == 16


def test_the_tiny_recipes_step_is_shared_by_two_processes_and_not_doubled():
    full = Recipe.read(merge_recipe("clevr_math", "tiny", "ekipl"))
    assert cut_step(full, 1) == Step(rows=64, micro_batches=1)
    assert cut_step(full, 2) == Step(rows=32, micro_batches=1)


@given(
    prompts=st.integers(1, 64),
    group=st.integers(2, 16),
    at_once=st.integers(1, 64),
    processes=st.sampled_from([1, 2, 3, 8]),
)
def test_every_row_of_a_step_is_computed_exactly_once_or_the_step_is_refused(prompts, group, at_once, processes):
    asked = recipe(prompts_per_step=prompts, num_generations=group, per_device_train_batch_size=at_once)
    try:
        step = cut_step(asked, processes)
    except UserError as error:
        own = prompts * group / processes
        assert own % 1 or own % min(at_once, own)
        assert "\n" not in str(error)
    else:
        assert step.rows <= at_once and step.rows * step.micro_batches * processes == prompts * group


def test_without_prompts_per_step_the_settings_of_transformers_stand():
    assert cut_step(recipe(per_device_train_batch_size=4, gradient_accumulation_steps=6), 8) == Step(4, 6)
    assert cut_step(recipe(per_device_train_batch_size=4), 8) == Step(4, 1)


def test_accumulation_that_contradicts_the_prompts_is_refused_with_what_it_should_be():
    asked = recipe(prompts_per_step=16, per_device_train_batch_size=8, gradient_accumulation_steps=2)
    assert cut_step(asked, 8) == Step(8, 2)  # 16 x 8 = 128 rows: 2 x 8 on each of 8
    with pytest.raises(UserError, match="on 1 processes, 8 rows at a time, make it 16; leave it out"):
        cut_step(asked, 1)


def test_prompts_that_processes_cannot_share_are_refused():
    with pytest.raises(UserError, match=r"on 3 processes: 42 rows each \(2 left over\)"):
        cut_step(recipe(prompts_per_step=16), 3)
    with pytest.raises(UserError, match="each of 16 processes would generate 4 rows"):
        check_batch(recipe(prompts_per_step=8), 16)


def test_the_trainer_s_configuration_gets_the_accumulation_it_needs(tmp_path):
    keys: dict[str, Any] = {"use_cpu": True, "bf16": False, "prompts_per_step": 4}
    for at_once, expected in ((8, (8, 4)), (64, (32, 1))):  # 4 x 8 = 32 rows on one process
        config = EKIPLConfig(output_dir=str(tmp_path), per_device_train_batch_size=at_once, **keys)
        assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == expected
        assert config.generation_batch_size == 32

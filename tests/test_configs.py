"""The rules of a recipe, each broken once, and EKIPLConfig on top of TRL's own configuration."""

import re
from dataclasses import MISSING, fields
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.sft_config import SFTConfig

from open_r1.configs import EKIPLConfig, load_config
from open_r1.recipe.keys import COMPUTED, grpo_keys, lora_keys, sft_keys
from open_r1.recipe.merge import merge_recipe
from open_r1.recipe.rules import Recipe, check_recipe
from open_r1.recipe.settings import Settings
from open_r1.recipe.trl import TRLSettings
from open_r1.schema import UserError

ONE: dict[str, Any] = {"name": "one", "accuracy": 0.5}
HOSTED: dict[str, Any] = {"name": "one", "provider": "litellm", "model": "gpt-4o"}
PRICES: dict[str, Any] = {"usd_per_million_in": 1, "usd_per_million_out": 1}
OWN: dict[str, Any] = HOSTED | {"model": "hosted_vllm/m", "api_base": "http://x/v1"} | PRICES
CPU: dict[str, Any] = {"use_cpu": True, "bf16": False}


@pytest.mark.parametrize(("keys", "config"), [(grpo_keys, GRPOConfig), (sft_keys, SFTConfig), (lora_keys, LoraConfig)])
def test_names_and_defaults_read_from_source_are_those_of_the_libraries(keys, config):
    real = {field.name: field for field in fields(config)}
    assert set(keys()) <= set(real) and (config is LoraConfig or set(keys()) == set(real))
    for name, key in keys().items():
        default = real[name].default if real[name].default_factory is MISSING else real[name].default_factory()
        assert key.default in (COMPUTED, default), name


def test_a_default_that_trl_computes_is_what_it_computes_here():
    computed = {name for name in TRLSettings.model_fields if grpo_keys()[name].default is COMPUTED}
    real = {field.name: field.default for field in fields(GRPOConfig)}
    assert computed == {"optim"} and TRLSettings.model_fields["optim"].default == real["optim"]


def test_every_setting_has_a_help_line():
    assert all((field.description or "").endswith(".") for field in Settings.model_fields.values())


def test_a_recipe_has_trl_s_defaults_as_typed_attributes():
    recipe = check_recipe({})
    assert (recipe.num_generations, recipe.per_device_train_batch_size, recipe.learning_rate) == (8, 8, 1e-6)
    assert recipe.half_precision and recipe.given() == {} and recipe.changed(beta=0.1).given() == {"beta": 0.1}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"task": "trnce"}, "did you mean 'trance'"),
        ({"model": "3b"}, "unknown model '3b'"),
        ({"method": "ekip"}, "did you mean 'ekipl'"),
        ({"external_deadline_s": 1770.0}, "must stay below ddp_timeout = 1800"),  # 30 s of grace come on top
        ({"selection": "top-g"}, "did you mean 'top_g'"),
        ({"advantage_baseline": "polcy"}, "did you mean 'policy'"),
        ({"max_external": 9}, "a group holds 0 to num_generations = 8"),
        (
            {"max_external": 1, "num_policy_samples": 4, "external_models": [ONE], "external_required": True},
            "together fewer than num_generations (G) = 8",
        ),
        ({"num_external_samples": 0}, "num_external_samples is 0; it must be at least 1"),
        ({"advantage_baseline": "pool", "scale_rewards": "batch"}, "scale_rewards is 'batch' with advantage_baseline"),
        ({"advantage_baseline": "pool", "scale_rewards": "batch"}, "set advantage_baseline to kept"),
        ({"reward_weights": [1.0]}, "write two"),
        ({"num_policy_samples": 16, "multi_objective_aggregation": "normalize_then_sum"}, "weighted sum"),
        ({"weight_max": 5.0}, "set external_weight to is"),
        ({"external_weight": "is", "weight_max": 0.0}, "above 0"),
        ({"loss_level": "replies"}, "did you mean"),
        ({"loss_level": "reply", "loss_type": "dr_grpo"}, "set loss_type: grpo"),
        ({"loss_level": "reply", "loss_type": "grpo", "external_weight": "luffy"}, "weighs tokens"),
        ({"external_weight": "iss"}, "did you mean 'is'"),
        ({"weight_level": "word"}, "unknown weight_level 'word'"),
        ({"weight_proposal": "mixtur"}, "did you mean 'mixture'"),
        ({"weight_level": "token"}, "external_weight 'uncorrected' does not read it"),
        ({"external_weight": "luffy", "weight_proposal": "mixture"}, "set external_weight to is or snis"),
        ({"external_weight": "is", "luffy_gamma": 0.2}, "set external_weight to luffy"),
        ({"external_weight": "luffy", "luffy_gamma": 0.0}, "luffy_gamma is 0.0; it must be above 0"),
        (
            {"external_weight": "snis", "external_models": [ONE, ONE | {"name": "two", "logprobs": False}]},
            "external_models[1] 'two' gives no log-probs",
        ),
        (
            {"external_weight": "is", "task": "trance", "external_models": [ONE]},
            "on trance scripted models do not know their log-probs",
        ),
        (
            {"external_weight": "is", "weight_level": "token", "external_models": [ONE]},
            "external_models[0] 'one' has a tokenizer of its own",
        ),
        ({"prompt_kind": "reason"}, "did you mean 'reasoning'"),
        ({"grader_setting": "ful"}, "valid: exact, tolerant"),
        ({"accelerate_config": "zero1"}, "did you mean 'zero"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast' (str); it must be float"),
        ({"max_steps": 1.5}, "max_steps is 1.5 (float); it must be int"),
        ({"max_steps": True}, "max_steps is True (bool); it must be int"),
        ({"num_generations": 1}, "a group needs 2 candidates"),
        ({"num_policy_samples": 0}, "num_policy_samples is 0; it must be at least 1"),
        ({"num_policy_samples": 4}, "G must be at most K"),
        ({"num_policy_samples": 4, "external_models": [ONE]}, "would leave a group short"),
        ({"external_deadline_s": 0}, "must be above 0"),
        ({"external_when": "never"}, "external_when is 'never'; it is `always` or {policy_pass_rate_below: x}"),
        ({"external_when": {"policy_pass_rate_below": 0}}, "with 0 < x <= 1"),
        ({"external_when": {"policy_pass_rate": 0.5}}, "write e.g. {policy_pass_rate_below: 0.5}"),
        ({"external_prefetch_steps": -1}, "external_prefetch_steps is -1; it must be 0 or more"),
        ({"external_budget_usd": -1.0}, "external_budget_usd is -1.0; it must be 0 or more dollars"),
        ({"store_read_only": True}, "store_read_only is true without store_path"),
        ({"per_device_train_batch_size": 12}, "would generate 12 rows"),
        ({"generation_batch_size": 12}, "would generate 12 rows"),
        ({"generation_batch_size": 8, "steps_per_generation": 1}, "leave out one"),
        ({"external_models": ["gpt-4o"]}, "must be a mapping"),
        ({"external_models": [{}]}, "names no external source"),
        ({"external_models": [{"name": "policy"}]}, "not 'policy'"),
        ({"external_models": [ONE, ONE]}, "external_models[1].name 'one' is used twice"),
        ({"external_models": [ONE | {"provider": "scriptd"}]}, "did you mean 'scripted'"),
        ({"external_models": [ONE | {"accuracy": 68}]}, "write 68 % as 0.68"),
        ({"external_models": [ONE | {"accuracy": "high"}]}, "must be float"),
        ({"external_models": [ONE | {"accuracy_by_kind": {"add": 1.1}}]}, "accuracy_by_kind.add is 1.1"),
        ({"external_models": [ONE | {"acuracy": 0.5}]}, "did you mean 'accuracy'"),
        ({"external_models": [ONE | {"correlation": 1}]}, "lies in [0, 1)"),
        ({"external_models": [ONE | {"n": 0}]}, "external_models[0].n is 0"),
        ({"external_models": [HOSTED | {"scores": True}]}, "only a vLLM server says how likely"),
        ({"external_models": [OWN | {"scores": True}]}, "no budget counts such calls"),
        ({"external_models": [ONE | {"timeout_s": 0}]}, "give seconds above 0"),
        ({"resume_from_checkpoint": "runs/a"}, "started again with the same output_dir; leave the setting out"),
        ({"save_only_model": True}, "save_only_model is true; a checkpoint without optimizer"),
        ({"sft": {"save_only_model": True}}, "sft.save_only_model is true"),
        ({"ignore_data_skip": True}, "would train on rows that it has seen"),
        ({"restore_callback_states_from_checkpoint": True}, "leave it out"),
    ],
)
def test_a_broken_rule_names_value_rule_and_remedy_in_one_line(broken, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        check_recipe(broken)
    assert "\n" not in str(error.value)


def test_a_moving_reference_that_no_process_holds_whole_is_refused():
    moving = {"sync_ref_model": True, "beta": 0.04, "prompts_per_step": 2, "accelerate_config": "zero3"}
    check_recipe(moving)  # one process does not share its weights
    with pytest.raises(UserError, match="set accelerate_config: zero2 or ddp"):
        check_recipe(moving, processes=2)
    check_recipe(moving | {"accelerate_config": "zero2"}, processes=2)


def test_fewer_policy_samples_than_kept_are_allowed_when_a_failure_stops_the_run():
    check_recipe({"num_policy_samples": 4, "external_models": [ONE], "external_required": True})


def test_weights_are_accepted_where_every_number_they_need_exists():
    check_recipe({"external_weight": "is", "external_models": [ONE], "weight_proposal": "mixture"})
    check_recipe(
        {"external_weight": "snis", "weight_level": "token", "external_models": [ONE | {"same_tokenizer": True}]}
    )
    check_recipe({"external_weight": "luffy", "luffy_gamma": 0.3, "task": "trance", "external_models": [ONE]})


@pytest.mark.parametrize(
    "secret",
    [
        {"hub_token": "anything"},
        {"run_name": "sk-abcdefghijklmnop1234"},
        {"argv": ["--run_name", "hf_abcdefghijklmnopqrst"]},
        {"external_models": [ONE | {"api_key": "xyz"}]},
    ],
)
def test_a_literal_key_is_refused_and_not_repeated(secret):
    with pytest.raises(UserError, match="looks like a literal key") as error:
        check_recipe(secret)
    assert not any(text in str(error.value) for text in ("anything", "sk-abc", "hf_abc", "xyz"))


def test_what_only_resembles_a_key_is_let_through():
    check_recipe({"hub_token": None, "data_path": "runs/task-0123456789abcdef01", "run_name": "hf_demo"})


@given(
    device=st.integers(1, 40), steps=st.integers(1, 8), group=st.integers(2, 16), processes=st.sampled_from([1, 2, 8])
)
def test_a_batch_is_accepted_exactly_when_each_process_holds_whole_groups(device, steps, group, processes):
    keys = {"per_device_train_batch_size": device, "num_generations": group, "steps_per_generation": steps}
    recipe = Recipe.read(keys)
    if device * steps % group == 0:
        assert recipe.prompts_per_generation(processes) * group == device * steps
    else:
        with pytest.raises(UserError):
            recipe.prompts_per_generation(processes)


def test_a_generation_batch_is_shared_by_the_processes_in_whole_groups():
    recipe = Recipe.read({"per_device_train_batch_size": 4, "generation_batch_size": 112})
    assert recipe.prompts_per_generation(1) == 14  # 14 prompts x 8 = 112
    with pytest.raises(UserError, match="each of 8 processes would generate 14 rows"):
        recipe.prompts_per_generation(8)  # Reason-RFT's 112 completions on 8 GPUs: 14 each, not a multiple of 8


def test_the_recipe_fills_in_what_was_left_empty():
    recipe = check_recipe({"task": "trance", "external_models": [ONE, {"name": "two", "n": 3}]})
    assert (recipe.training_grader, recipe.evaluation_grader) == ("full", "partial")
    assert recipe.num_samples == 8 and [model.n for model in recipe.teachers] == [8, 3]
    assert recipe.pool_size == 8 + 8 + 3
    assert check_recipe({"external_models": [ONE], "num_external_samples": 1}).pool_size == 8 + 1
    plain = check_recipe({})
    assert plain.evaluation_grader == "exact" and plain.pool_size == plain.num_generations == 8


def test_a_merged_recipe_loads_as_the_trainer_s_configuration(tmp_path):
    recipe = merge_recipe("clevr_math", "tiny", "ekipl") | {"output_dir": str(tmp_path), "argv": ["--seed", "1"]}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    config = load_config(path)
    assert config.learning_rate == recipe["learning_rate"] and config.recipe.argv == ["--seed", "1"]
    assert config.generation_batch_size == recipe["per_device_train_batch_size"] and len(config.recipe.teachers) == 2


@pytest.mark.parametrize(
    ("extra", "message"),
    [({"teacher": 1}, "unknown key 'teacher'"), ({"save_strategy": "nope"}, "nope"), ({"task": "x"}, "unknown task")],
)
def test_a_recipe_edited_by_hand_meets_the_same_rules(tmp_path, extra, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"output_dir": str(tmp_path), **CPU, **extra}))
    with pytest.raises(UserError, match=message):
        load_config(path)


def test_groups_must_be_whole_on_each_of_several_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="each of 2 processes would generate 4 rows"):
        EKIPLConfig(output_dir=str(tmp_path), per_device_train_batch_size=4, generation_batch_size=8, **CPU)

"""Every key of TRL's that a recipe may hold is used as TRL documents it, or refused with the reason."""

import json
from typing import Any

import pytest

from open_r1.configs import EKIPLConfig
from open_r1.policy.loading import load_policy
from open_r1.preflight.missing import missing
from open_r1.recipe.keys import COMPUTED, grpo_keys, sft_keys
from open_r1.recipe.rules import Recipe, check_recipe
from open_r1.recipe.settings import Settings
from open_r1.recipe.trl import REFUSED, REFUSED_IN_RL, UNBOUND, TRLSettings, lacking_packages
from open_r1.schema import UserError

CPU: dict[str, Any] = {"use_cpu": True, "bf16": False}
USED = sorted((TRLSettings.model_fields.keys() | UNBOUND) & grpo_keys().keys())
# A value that is not the default, where one cannot be made from the key's type alone, and what has to stand beside it.
VALUES: dict[str, Any] = {
    "report_to": ["tensorboard"], "log_level": "info", "log_level_replica": "info", "logging_strategy": "epoch",
    "save_strategy": "epoch", "debug": "underflow_overflow", "model_init_kwargs": {"attn_implementation": "eager"},
    "lr_scheduler_type": "constant", "optim": "adafactor", "loss_type": "dr_grpo",
    "importance_sampling_level": "sequence",
    "scale_rewards": "none", "multi_objective_aggregation": "normalize_then_sum", "reward_weights": [1.0, 2.0],
    "dataloader_multiprocessing_context": "spawn", "ddp_backend": "gloo", "vllm_mode": "server",
    "vllm_model_impl": "transformers", "vllm_importance_sampling_mode": "token_mask", "pad_to_multiple_of": 8,
    "optim_target_modules": ["q_proj"], "gradient_checkpointing_kwargs": {"use_reentrant": True}, "tf32": False,
    "lr_scheduler_kwargs": {"num_cycles": 2}, "generation_kwargs": {"no_repeat_ngram_size": 3},
    "num_generations": 4, "per_device_train_batch_size": 16,
    "generation_batch_size": 16, "delta": 2.5, "top_p": 0.5, "top_entropy_quantile": 0.5,
    "entropy_coef_max": 2.0, "adam_beta1": 0.5, "adam_beta2": 0.5, "vllm_gpu_memory_utilization": 0.5,
    "ref_model_mixup_alpha": 0.5, "vllm_importance_sampling_clip_max": 4.0, "min_p": 0.5, "fp16": True,
    "entropy_coef_min": 0.5, "save_steps": 7, "logging_steps": 7, "warmup_steps": 7, "max_steps": 7, "bf16": False,
}  # fmt: skip
BESIDE: dict[str, dict[str, Any]] = {
    key: beside
    for keys, beside in (
        ("sapo_temperature_neg sapo_temperature_pos", {"loss_type": "sapo"}),
        (
            "vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg",
            {"loss_type": "vespo", "vllm_importance_sampling_mode": "token_mask", "use_vllm": True},
        ),
        ("ref_model_mixup_alpha ref_model_sync_steps", {"sync_ref_model": True, "beta": 0.1}),
        ("sync_ref_model", {"beta": 0.1}),
        ("entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target", {"use_adaptive_entropy": True}),
        ("log_multimodal log_unique_prompts num_completions_to_print", {"log_completions": True}),
        ("trackio_space_id trackio_bucket_id trackio_static_space_id", {"report_to": "trackio"}),
        ("optim_target_modules", {"optim": "galore_adamw"}),
        (
            "dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context",
            {"dataloader_num_workers": 1},
        ),
        ("lr_scheduler_kwargs", {"lr_scheduler_type": "cosine_with_restarts"}),
    )
    for key in keys.split()
}


def another(key: str) -> Any:
    """A valid value of the key that is not its default."""
    types, default = grpo_keys()[key]
    if key in VALUES:
        return VALUES[key]
    if isinstance(default, bool) or types <= {"bool", "None"}:
        return not default
    if types & {"int", "float"}:
        return (default or 0) + 1 if isinstance(default, int | float) or default is None else 1
    return "text"


def test_every_key_of_trl_is_used_or_refused_and_none_is_both():
    ours = {"gradient_accumulation_steps"}  # with another default, see Settings
    assert set(grpo_keys()) == set(USED) | (REFUSED.keys() & grpo_keys().keys()) | REFUSED_IN_RL.keys() | ours
    assert not set(USED) & (REFUSED.keys() | REFUSED_IN_RL.keys()) and not REFUSED.keys() & REFUSED_IN_RL.keys()
    assert not UNBOUND & TRLSettings.model_fields.keys() and grpo_keys().keys() >= UNBOUND
    assert (
        not TRLSettings.model_fields.keys() - grpo_keys().keys()
        and ours == Settings.model_fields.keys() & grpo_keys().keys()
    )


@pytest.mark.parametrize("key", USED)
def test_a_key_that_is_used_reaches_the_trainer_s_configuration(key, tmp_path):
    value, beside = another(key), BESIDE.get(key, {})
    vllm = {"use_vllm": True} if key.startswith("vllm_") else {}
    keys = {"output_dir": str(tmp_path)} | CPU | vllm | beside | {key: value}
    if key == "ddp_backend":  # it would start talking to other processes
        assert check_recipe(keys).for_trl()[key] == value
        return
    config = EKIPLConfig(**keys)
    held = getattr(config, key)
    expected = {"debug": ["underflow_overflow"], "dataloader_pin_memory": False}.get(key, value)
    assert (getattr(held, "value", held) if key != "debug" else [option.value for option in held]) == expected
    assert value != grpo_keys()[key].default or grpo_keys()[key].default is COMPUTED


@pytest.mark.parametrize("key", sorted((REFUSED.keys() | REFUSED_IN_RL.keys()) & grpo_keys().keys()))
def test_a_key_that_is_refused_says_why_and_its_default_is_let_through(key):
    types, default = grpo_keys()[key]
    check_recipe({key: default})
    value: Any = (
        {"dict": {"a": 1}, "list": ["a"]}.get(next(iter(types)), "text") if types & {"dict", "list"} else "text"
    )
    value = not default if types <= {"bool", "None"} else ((default or 0) + 1 if types & {"int", "float"} else value)
    with pytest.raises(UserError) as error:
        Recipe.read({key: value} if key != "hub_token" else {"hub_token": "x"})
    said = str(error.value)
    assert said.startswith(key) and "\n" not in said and (key == "hub_token" or (REFUSED | REFUSED_IN_RL)[key] in said)


@pytest.mark.parametrize("key", sorted(REFUSED.keys() & sft_keys().keys() - {"hub_token"}))
def test_the_sft_stage_s_keys_are_refused_for_the_same_reasons(key):
    types, default = sft_keys()[key]
    value: Any = not default if types <= {"bool", "None"} else ((default or 0) + 1 if types & {"int", "float"} else "x")
    with pytest.raises(UserError, match=rf"^sft\.{key} is "):
        Recipe.read({"sft": {key: [value] if "list" in types else value}})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"temperature": 0}, "temperature is 0; it must be above 0"),
        ({"temperature": float("nan")}, "temperature is nan; it must be"),
        ({"top_k": -1}, "top_k is -1; it must be 0 or more; 0 cuts nothing"),
        ({"top_p": 1.5}, "top_p is 1.5; it is a share in (0, 1]"),
        ({"top_p": 0}, "top_p is 0; it is a share in (0, 1]"),
        ({"min_p": 2}, "min_p is 2; it is a share in [0, 1]"),
        ({"learning_rate": -1e-4}, "learning_rate is -0.0001; it must be 0 or more"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; it must be a finite number"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
        ({"seed": 2**32}, "it must be at most 4294967295"),
        ({"beta": -1}, "beta is -1; it must be 0 or more"),
        ({"max_completion_length": 0}, "max_completion_length is 0; it must be at least 1"),
        ({"max_completion_length": None}, "max_completion_length is None (NoneType); it must be int"),
        ({"max_steps": 0}, "max_steps is 0; it is at least 1, or -1"),
        ({"num_train_epochs": 0}, "num_train_epochs is 0; it must be above 0"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size is 0; it must be at least 1"),
        ({"num_iterations": 0}, "num_iterations is 0; it must be at least 1"),
        ({"loss_type": "grpoo"}, "did you mean 'grpo'"),
        ({"scale_rewards": "groups"}, "did you mean 'group'"),
        ({"reward_weights": [1.0]}, "reward_weights is [1.0]; a reply has two rewards"),
        ({"reward_weights": [1.0, "x"]}, "reward_weights[1] is 'x' (str); it must be float"),
        ({"report_to": "wandbb"}, "did you mean 'wandb'"),
        ({"report_to": ["tensorbord"]}, "did you mean 'tensorboard'"),
        ({"report_to": 5}, "report_to is 5 (int)"),
        ({"eval_strategy": "steps"}, "set curve_every"),
        ({"optim": "adamw"}, "unknown optim 'adamw'; valid:"),
        ({"lr_scheduler_type": "cosin"}, "did you mean 'cosine'"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "follows a loss that no run has"),
        ({"remove_unused_columns": True}, "the trainer reads the columns id, answer and images"),
        ({"sync_ref_model": True}, "beta is 0 and keeps no reference"),
        ({"sync_ref_model": True, "beta": 0.1, "lora": {"r": 4}}, "sync_ref_model is true with lora"),
        ({"fp16": True, "bf16": True}, "fp16 and bf16 are both true"),
        ({"logging_steps": 1.5}, "logging_steps is 1.5; above 1 it is a number of steps"),
        ({"save_strategy": "best"}, "unknown save_strategy 'best'; valid: epoch, no, steps"),
        ({"save_total_limit": 0}, "save_total_limit is 0; it must be at least 1"),
        ({"delta": 1.0}, "delta is 1.0; it must be above 1 + epsilon = 1.2"),
        ({"vllm_mode": "serve"}, "did you mean 'server'"),
        ({"vllm_mode": "server"}, "vllm_mode is 'server', but it is read with use_vllm: true only"),
        ({"vespo_k_pos": 3.0}, "it is read with loss_type: vespo only"),
        ({"ref_model_sync_steps": 5}, "it is read with sync_ref_model: true only"),
        ({"dataloader_prefetch_factor": 2}, "but dataloader_num_workers is 0"),
        ({"model_init_kwargs": {"device_map": "auto"}}, "model_init_kwargs holds device_map"),
        ({"eval_top_p": 0}, "eval_top_p is 0; it is a share in (0, 1]"),
        ({"eval_temperature": -1}, "eval_temperature is -1; it must be 0 or more"),
    ],
)
def test_a_value_that_trl_would_refuse_or_misuse_is_refused_in_one_line(broken, message):
    with pytest.raises(UserError) as error:
        check_recipe(broken)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_no_is_a_strategy_and_not_false():
    recipe = check_recipe({"save_strategy": False, "sft": {"save_strategy": False}})
    assert recipe.save_strategy == "no" and recipe.given() == {"save_strategy": "no", "sft": {"save_strategy": "no"}}


def test_an_optimizer_s_and_a_tracker_s_package_that_is_not_installed_is_named():
    recipe = Recipe.read({**CPU, "optim": "adamw_bnb_8bit", "report_to": ["mlflow"]})
    assert [line.split(";")[0] for line in lacking_packages(recipe)] == [
        "package bitsandbytes: not installed, and optim adamw_bnb_8bit needs it",
        "package mlflow: not installed, and report_to mlflow needs it",
    ] and set(lacking_packages(recipe)) <= set(missing(recipe, 1, []))
    assert lacking_packages(Recipe.read({"report_to": "none"})) == []


def test_the_attention_that_is_asked_for_reaches_the_policy(tiny_folder):
    recipe = Recipe.read({"model_init_kwargs": {"attn_implementation": "eager"}})
    assert load_policy(str(tiny_folder), **recipe.policy_options)[0].config._attn_implementation == "eager"
    assert load_policy(str(tiny_folder))[0].config._attn_implementation == "sdpa"
    json.dumps(recipe.given())

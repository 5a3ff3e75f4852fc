"""TRL's keys: types, bounds and rules of those that a run reads, and the reason for each that it may not change.

Names and defaults are TRL's own (`keys.py`). Every key of GRPOConfig is an attribute of `TRLSettings`, stands in
`UNBOUND` (taken as it is, whatever value of its type) or in a table of refusals; `tests/test_trl_keys.py` walks them.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal, Self

from pydantic import ConfigDict, ValidationInfo, field_validator, model_validator

from open_r1.recipe.keys import Key, check_type, grpo_keys, optimizer_names, scheduler_names, tracker_names
from open_r1.recipe.reading import Checked, Ruled, bounded, refused
from open_r1.schema import UserError
from open_r1.utils.files import JsonObject, is_list, is_object
from open_r1.utils.names import unknown_name

EVALUATION = "a run evaluates by itself, before, after and every curve_every steps; set curve_every and the eval_* keys"
HUB = "a run is written to its own folder and uploaded nowhere; leave it out and upload run/model yourself"
LAUNCH = "how processes share a model is said by accelerate_config, a file of recipes/accelerate_configs; set that"
KERNELS = "the model's forward pass is shared between the rows of a group and cannot be replaced; leave it out"
NO_TOOLS = "the policy has no tools here; leave it out"
# Keys of TRL's configurations that no run may change, in the rl stage and in the setting `sft`.
REFUSED = {
    "resume_from_checkpoint": (
        "a run goes on by itself from its newest whole checkpoint when it is started again with the same output_dir;"
        " leave the setting out; to begin a new run with a checkpoint's weights give MODEL_PATH=folder"
    ),
    "save_only_model": (
        "a checkpoint without optimizer, schedule and random states cannot be gone on with; leave it out (run/model has"
        " the weights alone), or save none: save_strategy: 'no'"
    ),
    "ignore_data_skip": "a resumed run would train on rows that it has seen; leave it out",
    "restore_callback_states_from_checkpoint": "the loggers of a run restore themselves from its files; leave it out",
    "enable_jit_checkpoint": "a signal already ends a run with a checkpoint; leave it out",
    "auto_find_batch_size": "a smaller batch would break the groups; lower per_device_train_batch_size instead",
    **dict.fromkeys(("do_train", "do_predict"), "nothing reads it: what is done is said by stages; leave it out"),
    **dict.fromkeys(
        (
            *("do_eval", "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "eval_accumulation_steps"),
            *("per_device_eval_batch_size", "prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object"),
            *("include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval"),
            *("load_best_model_at_end", "metric_for_best_model", "greater_is_better", "num_generations_eval"),
        ),
        EVALUATION,
    ),
    **dict.fromkeys(
        (
            *("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push"),
            *("hub_revision", "log_completions_hub_repo"),
        ),
        HUB,
    ),
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "accelerator_config", "parallelism_config"), LAUNCH),
    "local_rank": "the launcher says it to each process; leave it out",
    **dict.fromkeys(
        ("use_liger_kernel", "liger_kernel_config", "torch_compile", "torch_compile_backend", "torch_compile_mode"),
        KERNELS,
    ),
    "use_cache": "nothing is generated in a training pass, where a cache only takes memory; leave it out",
    "trust_remote_code": "the policy is transformers' own Qwen2-VL, no code is loaded; leave it out",
    "router_aux_loss_coef": "the policy is no mixture of experts; leave it out",
    "max_tool_calling_iterations": NO_TOOLS,
    "include_num_input_tokens_seen": "transformers cannot count these batches; metrics.jsonl has the tokens",
}
# The same, in the rl stage alone.
REFUSED_IN_RL = {
    "remove_unused_columns": "the trainer reads the columns id, answer and images; leave it out",
    "label_names": "the rl stage has no labels; leave it out",
    "label_smoothing_factor": "the loss of GRPO has no labels to smooth; leave it out",
    "neftune_noise_alpha": "noise would give the loss other log-probs than those that were sampled; leave it out",
    "data_seed": "TRL orders the prompts by seed; set seed",
    **dict.fromkeys(
        ("train_sampling_strategy", "length_column_name"), "TRL orders the prompts itself, in groups; leave it out"
    ),
    "chat_template_kwargs": "evaluation and external models would be given another prompt; leave it out",
    "cache_implementation": "sampling keeps its own cache, a prompt's once for its group; leave it out",
    **dict.fromkeys(
        (
            *("use_transformers_continuous_batching", "transformers_continuous_batching_config"),
            "use_transformers_paged",
        ),
        "TRL has it for models without pictures only; set use_vllm where sampling is to be faster",
    ),
    "vllm_importance_sampling_cap": "TRL calls it vllm_importance_sampling_clip_max now; set that",
}
# Taken as they are: any value of the key's type is used as TRL documents it.
UNBOUND = frozenset(
    (
        *("lr_scheduler_kwargs", "optim_args", "optim_target_modules", "average_tokens_across_devices", "tf32"),
        *("gradient_checkpointing_kwargs", "logging_first_step", "log_on_each_node", "logging_nan_inf_filter"),
        *("run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        *("save_on_each_node", "full_determinism", "dataloader_drop_last", "dataloader_pin_memory"),
        *("dataloader_in_order", "ddp_find_unused_parameters", "ddp_broadcast_buffers", "ddp_static_graph"),
        *("skip_memory_metrics", "disable_dropout", "cast_lm_head_to_fp32", "ds3_gather_for_generation"),
        *("shuffle_dataset", "generation_kwargs", "mask_truncated_completions", "use_bias_correction_kl"),
        *("log_completions", "log_multimodal", "log_unique_prompts", "entropy_coef"),
        *("vllm_enable_sleep_mode", "vllm_structured_outputs_regex", "vllm_server_host"),
    )
)
# Keys that are read only beside another one: the other key, and its values.
READ_WITH: dict[str, tuple[str, tuple[object, ...]]] = {
    **dict.fromkeys(("sapo_temperature_neg", "sapo_temperature_pos"), ("loss_type", ("sapo",))),
    **dict.fromkeys(("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"), ("loss_type", ("vespo",))),
    **dict.fromkeys(("ref_model_mixup_alpha", "ref_model_sync_steps"), ("sync_ref_model", (True,))),
    **dict.fromkeys(
        ("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
        ("use_adaptive_entropy", (True,)),
    ),
    **dict.fromkeys(("log_multimodal", "log_unique_prompts", "num_completions_to_print"), ("log_completions", (True,))),
    **dict.fromkeys(("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), ("report_to", ("trackio",))),
    "optim_target_modules": ("optim", tuple(name for name in optimizer_names() if name[:6] in ("galore", "apollo"))),
}
POLICY_OPTIONS = ("attn_implementation", "revision")  # of model_init_kwargs: what loading the policy takes
OPTIMIZER_PACKAGES = {  # by the beginning of the optimizer's name; what needs none is not here
    "adamw_torch_xla": "torch_xla",
    "adamw_torch_npu": "torch_npu",
    "adamw_torch_4bit": "torchao",
    "adamw_torch_8bit": "torchao",
    "adamw_anyprecision": "torchdistx",
    **dict.fromkeys(("adamw_bnb", "adamw_8bit", "ademamix", "lion", "paged", "rmsprop_bnb"), "bitsandbytes"),
    "galore": "galore_torch",
    **dict.fromkeys(("lomo", "adalomo"), "lomo_optim"),
    "grokadamw": "grokadamw",
    "schedule_free": "schedulefree",
    "apollo": "apollo_torch",
    "stable_adamw": "optimi",
}
TRACKER_PACKAGES = {  # by the tracker's name: what transformers imports for it
    **{name: name for name in ("wandb", "mlflow", "trackio", "codecarbon", "clearml", "dagshub", "dvclive", "swanlab")},
    **{"tensorboard": "tensorboard", "comet_ml": "comet_ml", "neptune": "neptune", "azure_ml": "azureml"},
    **{"flyte": "flytekit"},
}
WORKER_KEYS = (
    *("dataloader_persistent_workers", "dataloader_prefetch_factor"),
    "dataloader_multiprocessing_context",
)
SHARE_OF_1: Ruled = {"rule": "it is a share in [0, 1]", "ge": 0, "le": 1}
NUCLEUS: Ruled = {"rule": "it is a share in (0, 1]", "remedy": "1.0 cuts nothing", "gt": 0, "le": 1}


def check_refused(values: Mapping[str, object], keys: Mapping[str, Key], also: Mapping[str, str] | None = None) -> None:
    """Refuse keys of TRL's under which a run would not be what it says, unless they have their default."""
    for key, reason in (REFUSED | dict(also or {})).items():
        if key in values and key in keys and values[key] != keys[key].default:
            shown = str(values[key]).lower() if isinstance(values[key], bool) else repr(values[key])
            raise UserError(f"{key} is {shown}; {reason}")


def plain_no(values: Mapping[str, object]) -> dict[str, object]:
    """Read `no` as the name that it is in these keys, in the setting `sft` as well, where YAML takes it for false."""
    named = ("save_strategy", "logging_strategy", "eval_strategy")

    def plain(key: str, value: object) -> object:
        return plain_no(value) if is_object(value) else "no" if value is False and key in named else value

    return {key: plain(key, value) for key, value in values.items()}


class TRLSettings(Checked):
    """Keys of GRPOConfig as attributes, each with the default that TRL gives it."""

    model_config = ConfigDict(extra="allow")

    output_dir: str | None
    seed: int = bounded(ge=0, le=2**32 - 1)
    use_cpu: bool
    disable_tqdm: bool | None
    report_to: str | list[str] | None
    log_level: Literal["passive", "debug", "info", "warning", "error", "critical"]
    log_level_replica: Literal["passive", "debug", "info", "warning", "error", "critical"]
    logging_strategy: Literal["steps", "epoch"]
    logging_steps: float = bounded(gt=0)
    num_completions_to_print: int | None = bounded(ge=1)
    save_strategy: Literal["steps", "epoch", "no"]
    save_steps: float = bounded(gt=0)
    save_total_limit: int | None = bounded(ge=1)
    debug: str | list[str]
    model_init_kwargs: JsonObject | str | None

    num_generations: int = bounded(ge=2, rule="a group needs 2 candidates to have an advantage", remedy="set 2 or more")
    max_completion_length: int = bounded(ge=1)
    temperature: float = bounded(
        gt=0, remedy="the candidates of a group must differ; 1.0 samples by the policy's own odds"
    )
    top_p: float = bounded(**NUCLEUS)
    top_k: int = bounded(ge=0, remedy="0 cuts nothing")
    min_p: float | None = bounded(**SHARE_OF_1)
    repetition_penalty: float = bounded(gt=0, remedy="1.0 penalises nothing")
    pad_to_multiple_of: int | str | None

    per_device_train_batch_size: int = bounded(ge=1)
    generation_batch_size: int | None = bounded(ge=1)
    steps_per_generation: int | None = bounded(ge=1)
    num_iterations: int = bounded(ge=1)
    max_steps: int
    num_train_epochs: float = bounded(gt=0)

    learning_rate: float = bounded(ge=0)
    lr_scheduler_type: str
    warmup_steps: float = bounded(ge=0)
    optim: str = "adamw_torch_fused"  # computed in transformers' source
    weight_decay: float = bounded(ge=0)
    adam_beta1: float = bounded(ge=0, lt=1)
    adam_beta2: float = bounded(ge=0, lt=1)
    adam_epsilon: float = bounded(ge=0)
    max_grad_norm: float = bounded(ge=0, remedy="0 clips nothing")

    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"]
    beta: float = bounded(ge=0, remedy="0 keeps no reference")
    epsilon: float = bounded(gt=0)
    epsilon_high: float | None = bounded(gt=0)
    delta: float | None = bounded(gt=0)
    importance_sampling_level: Literal["token", "sequence"]
    scale_rewards: Literal["group", "batch", "none"]
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"]
    reward_weights: list[float] | None
    off_policy_mask_threshold: float | None = bounded(ge=0)
    sapo_temperature_neg: float = bounded(gt=0)
    sapo_temperature_pos: float = bounded(gt=0)
    vespo_k_pos: float = bounded(ge=0)
    vespo_lambda_pos: float = bounded(ge=0)
    vespo_k_neg: float = bounded(ge=0)
    vespo_lambda_neg: float = bounded(ge=0)
    top_entropy_quantile: float = bounded(rule="it is a share in (0, 1]", remedy="1.0 takes every token", gt=0, le=1)
    use_adaptive_entropy: bool
    entropy_coef_min: float
    entropy_coef_max: float
    entropy_coef_delta: float = bounded(ge=0)
    entropy_target: float = bounded(ge=0)
    sync_ref_model: bool
    ref_model_mixup_alpha: float = bounded(**SHARE_OF_1)
    ref_model_sync_steps: int = bounded(ge=1)

    bf16: bool | None
    fp16: bool
    gradient_checkpointing: bool
    torch_empty_cache_steps: int | None = bounded(ge=1)
    dataloader_num_workers: int = bounded(ge=0)
    dataloader_persistent_workers: bool
    dataloader_prefetch_factor: int | None = bounded(ge=1)
    dataloader_multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None
    ddp_timeout: int = bounded(ge=1)
    ddp_bucket_cap_mb: int | None = bounded(ge=1)
    ddp_backend: Literal["nccl", "gloo", "mpi", "ccl", "hccl", "cncl", "mccl"] | None

    use_vllm: bool
    vllm_mode: Literal["colocate", "server"]
    vllm_model_impl: Literal["vllm", "transformers"]
    vllm_server_base_url: str | None
    vllm_server_port: int = bounded(ge=1, le=65_535)
    vllm_group_port: int = bounded(ge=1, le=65_535)
    vllm_server_timeout: float = bounded(gt=0)
    vllm_max_model_length: int | None = bounded(ge=1)
    vllm_tensor_parallel_size: int = bounded(ge=1)
    vllm_gpu_memory_utilization: float = bounded(rule="it is a share in (0, 1]", gt=0, le=1)
    vllm_importance_sampling_correction: bool
    vllm_importance_sampling_mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
    vllm_importance_sampling_clip_max: float | None = bounded(gt=0)
    vllm_importance_sampling_clip_min: float | None = bounded(ge=0)

    @classmethod
    def known_keys(cls) -> frozenset[str]:
        """Our own keys and every one of GRPOConfig."""
        return super().known_keys() | frozenset(grpo_keys())

    @model_validator(mode="before")
    @classmethod
    def _take_defaults_of_trl(cls, values: dict[str, object]) -> dict[str, object]:
        defaults = {name: grpo_keys()[name].default for name, field in cls.model_fields.items() if field.is_required()}
        return defaults | values

    @field_validator("optim", "lr_scheduler_type")
    @classmethod
    def _check_library_s_name(cls, name: str, info: ValidationInfo) -> str:
        valid = optimizer_names() if info.field_name == "optim" else scheduler_names()
        if name not in valid:
            raise unknown_name(str(info.field_name), name, valid)
        if name in ("reduce_lr_on_plateau", "greedy"):
            raise UserError(f"lr_scheduler_type is '{name}', which follows a loss that no run has; set cosine")
        return name

    @field_validator("report_to", mode="before")
    @classmethod
    def _check_trackers(cls, given: object) -> object:
        check_type(given, grpo_keys()["report_to"].types, "report_to")
        for name in given if is_list(given) else [] if given is None else [given]:
            if name not in ("none", "all", *tracker_names()):
                raise unknown_name("report_to", str(name), ["none", "all", *tracker_names()])
        return given

    @field_validator("model_init_kwargs", mode="before")
    @classmethod
    def _check_policy_options(cls, given: object) -> object:
        for key in given if is_object(given) else ():
            if key not in POLICY_OPTIONS:
                rule = f"the policy's loading takes {' and '.join(POLICY_OPTIONS)}; its weights are float32"
                raise UserError(f"model_init_kwargs holds {key}; {rule}; leave it out")
        if isinstance(given, str):
            raise refused("model_init_kwargs", given, "it is a mapping", "write {attn_implementation: sdpa}")
        return given

    @field_validator("pad_to_multiple_of", "debug", mode="before")
    @classmethod
    def _check_text_or_number(cls, given: object, info: ValidationInfo) -> object:
        if info.field_name == "debug":
            if given not in ("", [], "underflow_overflow", ["underflow_overflow"]):
                raise refused("debug", given, "the one that is used here is underflow_overflow", "leave it out")
        elif given not in (None, "auto") and not (type(given) is int and given >= 1):
            raise refused("pad_to_multiple_of", given, "it is a number of tokens, at least 1, or auto", "leave it out")
        return given

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if self.max_steps < 1 and self.max_steps != -1:
            raise refused("max_steps", self.max_steps, "it is at least 1, or -1 for num_train_epochs", "leave it out")
        for key in ("logging_steps", "save_steps", "warmup_steps"):
            steps = getattr(self, key)
            if steps > 1 and steps != int(steps):
                raise refused(key, steps, "above 1 it is a number of steps, below it a share of all", "give it whole")
        return self

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if self.delta is not None and self.delta <= 1 + self.epsilon:
            rule = f"it must be above 1 + epsilon = {1 + self.epsilon:g}, where the upper clip begins"
            raise refused("delta", self.delta, rule, "raise it, or leave it out")
        if self.entropy_coef_min > self.entropy_coef_max:
            rule = f"it must be at most entropy_coef_max = {self.entropy_coef_max:g}"
            raise refused("entropy_coef_min", self.entropy_coef_min, rule, "lower it")
        if self.sync_ref_model and self.beta == 0:
            raise UserError("sync_ref_model is true, but beta is 0 and keeps no reference; set beta, or leave it out")
        if self.fp16 and self.bf16:
            raise UserError("fp16 and bf16 are both true; a product has one precision; leave out one")
        return self

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        for key in WORKER_KEYS:
            if getattr(self, key) and not self.dataloader_num_workers:
                raise UserError(
                    f"{key} is {getattr(self, key)!r}, but dataloader_num_workers is 0; set that, or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _check_vllm_clip(self) -> Self:
        low, high = self.vllm_importance_sampling_clip_min, self.vllm_importance_sampling_clip_max
        if low is not None and high is not None and low >= high:
            rule = f"it must be below vllm_importance_sampling_clip_max = {high:g}"
            raise refused("vllm_importance_sampling_clip_min", low, rule, "lower it")
        if low is None and high is None and self.vllm_importance_sampling_mode.endswith("truncate"):
            rule = "a mode that truncates needs a limit"
            where = "vllm_importance_sampling_clip_max"
            raise refused(where, None, rule, f"set {where}, or vllm_importance_sampling_mode: sequence_mask")
        if self.loss_type == "vespo" and self.use_vllm and not self.vllm_importance_sampling_mode.startswith("token"):
            rule = "loss_type vespo with use_vllm takes token_truncate or token_mask"
            raise refused("vllm_importance_sampling_mode", self.vllm_importance_sampling_mode, rule, "set one of them")
        return self

    @model_validator(mode="after")
    def _check_it_is_read(self) -> Self:
        """A key that is read only beside another one would do nothing without it."""
        values = {**self.__dict__, **(self.model_extra or {})}
        for key in sorted(values.keys() & grpo_keys().keys()):
            needed, valid = READ_WITH.get(key, ("use_vllm", (True,)) if key.startswith("vllm_") else ("", ()))
            if not needed or values[key] == grpo_keys()[key].default:
                continue
            given: object = values.get(needed, grpo_keys()[needed].default)
            if not any(value in valid for value in (given if is_list(given) else [given])):
                shown = " or ".join(str(value).lower() for value in valid)
                raise UserError(
                    f"{key} is {values[key]!r}, but it is read with {needed}: {shown} only; set that, or leave it out"
                )
        return self


def lacking_packages(recipe: TRLSettings) -> list[str]:
    """Say, one line each, which packages an optimizer or a tracker of the recipe needs that are not installed."""
    wanted = {f"optim {recipe.optim}": package for start, package in OPTIMIZER_PACKAGES.items()
              if recipe.optim.startswith(start)}  # fmt: skip
    trackers = [recipe.report_to] if isinstance(recipe.report_to, str) else recipe.report_to or []
    wanted |= {f"report_to {name}": TRACKER_PACKAGES[name] for name in trackers if name in TRACKER_PACKAGES}
    return [
        f"package {package}: not installed, and {what} needs it; install it into .venv, or leave that out"
        for what, package in wanted.items()
        if find_spec(package) is None
    ]

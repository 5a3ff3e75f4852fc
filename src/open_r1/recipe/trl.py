"""TRL's keys that our code reads, or that have a rule here: types and bounds. Names and defaults are TRL's own.

`rules.Recipe` takes every other key of TRL's as well, by name and type.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, model_validator

from open_r1.recipe.keys import Key, grpo_keys
from open_r1.recipe.reading import Checked, bounded
from open_r1.schema import UserError

# Keys of TRL's configurations that no run may change, and why; of the setting `sft` as well.
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
    "restore_callback_states_from_checkpoint": ("the loggers of a run restore themselves from its files; leave it out"),
}


def check_refused(values: Mapping[str, object], keys: Mapping[str, Key]) -> None:
    """Refuse keys of TRL's under which a run would not be what it says, unless they have their default."""
    for key, reason in REFUSED.items():
        if key in values and key in keys and values[key] != keys[key].default:
            shown = str(values[key]).lower() if isinstance(values[key], bool) else repr(values[key])
            raise UserError(f"{key} is {shown}; {reason}")


class TRLSettings(Checked):
    """Keys of GRPOConfig as attributes, each with the default that TRL gives it."""

    model_config = ConfigDict(extra="allow")

    output_dir: str | None
    seed: int
    use_cpu: bool
    disable_tqdm: bool | None
    report_to: str | list[str] | None
    model_init_kwargs: dict[str, Any] | str | None

    num_generations: int = bounded(ge=2, rule="a group needs 2 candidates to have an advantage", remedy="set 2 or more")
    max_completion_length: int
    temperature: float

    per_device_train_batch_size: int
    generation_batch_size: int | None
    steps_per_generation: int | None
    num_iterations: int
    max_steps: int
    num_train_epochs: float
    learning_rate: float
    beta: float
    loss_type: str
    sync_ref_model: bool
    scale_rewards: str
    multi_objective_aggregation: str
    reward_weights: list[float] | None

    bf16: bool | None
    fp16: bool
    gradient_checkpointing: bool
    optim: str = "adamw_torch_fused"  # computed in transformers' source
    ddp_timeout: int

    use_vllm: bool
    vllm_mode: Literal["colocate", "server"]
    vllm_server_base_url: str | None
    vllm_tensor_parallel_size: int
    vllm_gpu_memory_utilization: float

    @classmethod
    def known_keys(cls) -> frozenset[str]:
        """Our own keys and every one of GRPOConfig."""
        return super().known_keys() | frozenset(grpo_keys())

    @model_validator(mode="before")
    @classmethod
    def _take_defaults_of_trl(cls, values: dict[str, object]) -> dict[str, object]:
        defaults = {name: grpo_keys()[name].default for name, field in cls.model_fields.items() if field.is_required()}
        return defaults | values

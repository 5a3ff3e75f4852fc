"""The sft stage of a method: its trainer, what it takes over from the run, and the adapter that a recipe asks for."""

from pathlib import Path
from typing import NamedTuple

from peft import LoraConfig
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from open_r1.configs import EKIPLConfig
from open_r1.data.prompts import to_dataset
from open_r1.policy.sharding import deepspeed_on_cpu
from open_r1.recipe.rules import Recipe
from open_r1.recipe.settings import LORA_TARGETS
from open_r1.recipe.step import cut_step
from open_r1.schema import Row
from open_r1.tasks import Task
from open_r1.training.checkpoints import WholeCheckpoints
from open_r1.training.metrics import JsonLinesCallback
from open_r1.utils.files import JsonObject

# What the sft stage takes over from the run; everything else is TRL's default or the recipe's `sft`.
SHARED = (
    *("seed", "use_cpu", "ddp_backend", "bf16", "gradient_checkpointing", "dataloader_pin_memory", "disable_tqdm"),
    "report_to",
    *("optim", "lr_scheduler_type", "warmup_steps", "logging_steps", "save_strategy", "save_steps", "save_total_limit"),
)


def lora_config(recipe: Recipe) -> LoraConfig | None:
    """Return what the recipe's `lora` describes; None where every weight is trained."""
    if recipe.lora is None:
        return None
    return LoraConfig(**({"target_modules": list(LORA_TARGETS), "task_type": "CAUSAL_LM"} | recipe.lora.given()))


class StepOfRows(NamedTuple):
    """One step of the sft stage: as many prompts as in the rl stage, one row each."""

    prompts_per_step: int | None
    per_device_train_batch_size: int
    gradient_accumulation_steps: int | None
    num_generations: int = 1


class WholeSFTTrainer(WholeCheckpoints, SFTTrainer):
    """TRL's SFTTrainer with checkpoints that are whole or not there."""


def build_sft(
    config: EKIPLConfig,
    task: Task,
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    rows: list[Row],
    folder: Path,
) -> WholeSFTTrainer:
    """Return the trainer of the sft stage; it logs to `folder`/metrics.jsonl.

    Raises UserError where reasoning is to be taught and a row has none.
    """
    settings: JsonObject = {name: getattr(config, name) for name in SHARED}
    # max_length None: cutting a sequence could cut a picture's tokens from their features
    ours: JsonObject = {"num_train_epochs": 1, "max_length": None, "completion_only_loss": True}
    recipe, sft = config.recipe, config.recipe.sft
    step = StepOfRows(recipe.prompts_per_step, sft.per_device_train_batch_size, sft.gradient_accumulation_steps)
    at_once, micro_batches = cut_step(step, config.world_size)
    batch: JsonObject = {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": micro_batches}
    with deepspeed_on_cpu():
        args = SFTConfig(str(folder), **(settings | ours | sft.given() | batch))
    return WholeSFTTrainer(
        model=model,
        args=args,
        train_dataset=to_dataset(rows, task, recipe.prompt_kind, targets=True),
        processing_class=processor,
        peft_config=lora_config(recipe),
        callbacks=[JsonLinesCallback(folder / "metrics.jsonl", at_once * micro_batches * config.world_size)],
    )

"""Supervised fine-tuning: the sft stage of a method, and as an entry the tiny base policy (`make base TASK=...`).

    python src/open_r1/sft.py --base --task clevr_math [--seed 0] [--output bases/clevr_math]

The stage teaches the policy the completions of its rows by TRL's SFTTrainer: the loss is on the completion alone, which
is reasoning and answer (CoT-SFT) or, with the direct prompt, the answer (ANS-SFT).

The base policy stands in for a pre-trained model where no weights can be downloaded: a freshly initialised tiny
Qwen2-VL is taught, on synthetic rows, to describe the picture well and to reason in a mixture of procedures of which
the right one has a small share (synthetic/<task>.py, RIGHT_SHARE). It sees well and reasons badly: what RL then has to
do is what it has to do with a real model.
"""

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from peft import LoraConfig
from transformers import set_seed
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from open_r1.batch import TRL_DEFAULTS, cut_step
from open_r1.checkpoints import WholeCheckpoints, last_checkpoint
from open_r1.configs import EKIPLConfig
from open_r1.metrics import JsonLinesCallback
from open_r1.prompts import PromptKind, to_dataset
from open_r1.recipe import RECIPES, parse_overrides
from open_r1.rows import load_rows
from open_r1.schema import Row, UserError
from open_r1.synthetic.write import generator_version, own_folder, write_dataset
from open_r1.tasks import Task, get_task
from open_r1.utils.provenance import ROOT
from open_r1.utils.tiny import build_model, build_processor

# What the sft stage takes over from the run; everything else is TRL's default or the recipe's `sft`.
SHARED = (
    *("seed", "use_cpu", "bf16", "gradient_checkpointing", "dataloader_pin_memory", "disable_tqdm", "report_to"),
    *("optim", "lr_scheduler_type", "warmup_steps", "logging_steps", "save_strategy", "save_steps", "save_total_limit"),
)
# The projections of the language model; the vision tower's are called otherwise and stay as they are.
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora_config(config: EKIPLConfig) -> LoraConfig | None:
    """Return what the recipe's `lora` describes; None where every weight is trained."""
    if not config.lora:
        return None
    return LoraConfig(**({"target_modules": LORA_TARGETS, "task_type": "CAUSAL_LM"} | config.lora))


class WholeSFTTrainer(WholeCheckpoints, SFTTrainer):
    """TRL's SFTTrainer with checkpoints that are whole or not there."""


def build_sft(
    config: EKIPLConfig, task: Task, model: Any, processor: Any, rows: list[Row], folder: Path
) -> WholeSFTTrainer:
    """Return the trainer of the sft stage; it logs to `folder`/metrics.jsonl.

    Raises UserError where reasoning is to be taught and a row has none.
    """
    settings: dict[str, Any] = {name: getattr(config, name) for name in SHARED}
    # max_length None: cutting a sequence could cut a picture's tokens from their features
    ours: dict[str, Any] = {"num_train_epochs": 1, "max_length": None, "completion_only_loss": True}
    # as many prompts in a step as in the rl stage, one row each
    step = {"prompts_per_step": config.prompts_per_step, "num_generations": 1, "gradient_accumulation_steps": None}
    at_once, micro_batches = cut_step(TRL_DEFAULTS | step | config.sft, config.world_size)
    batch: dict[str, Any] = {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": micro_batches}
    args = SFTConfig(str(folder), **(settings | ours | config.sft | batch))
    return WholeSFTTrainer(
        model=model,
        args=args,
        train_dataset=to_dataset(rows, task, cast(PromptKind, config.prompt_kind), targets=True),
        processing_class=processor,
        peft_config=lora_config(config),
        callbacks=[JsonLinesCallback(folder / "metrics.jsonl", at_once * micro_batches * config.world_size)],
    )


def base_rows(task: Task, count: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Return the base's own synthetic rows, and the same pictures' exercises (empty where the task has none)."""
    counts = {"base": count}
    data = own_folder(task.name, "tiny", counts)
    write_dataset(task.name, data, "tiny", seed, counts)
    files = sorted((data / "train_jsons" / "base").glob("*.json"))
    assert len(files) == 1, files
    rows = load_rows(task, files[0], "train", image_folder=data / "images" / "train_images").rows
    asked = [item.get("exercise") for item in json.loads(files[0].read_text(encoding="utf-8"))]
    return rows, [replace(row, **exercise) for row, exercise in zip(rows, asked, strict=True) if exercise]


def mix(rows: Sequence[Row], exercises: Sequence[Row], share: float) -> list[Row]:
    """Ask the exercise in that share of the rows, evenly spread.

    Raises UserError where a share is wanted of a task that has no exercises.

    >>> mix("abcd", "ABCD", 0.5)
    ['a', 'B', 'c', 'D']
    """
    if share and not exercises:
        raise UserError(f"recipes/base: exercises: {share} of the rows, but this task has no exercises; exercises: 0.0")
    return [exercises[i] if int((i + 1) * share) > int(i * share) else row for i, row in enumerate(rows)]


def make_base(task: Task, recipe: dict[str, Any], seed: int, output: Path) -> Path:
    """Pre-train the tiny base policy of `task` and save it in half precision to `output`; same seed, same weights.

    The recipe's `phases` follow one another, each with keys of its own. Until the last has ended they leave checkpoints
    in folders beside `output`, named by what they were made from; a later start goes on from there.
    """
    set_seed(seed)
    given = recipe.pop("phases")
    made_from = [recipe | {"seed": seed, "generator": generator_version()}]
    rows, exercises = base_rows(task, recipe["rows"], recipe["data_seed"])
    recipe = {key: value for key, value in recipe.items() if key not in ("rows", "data_seed")}
    phases = [recipe | phase for phase in given]
    mixtures = [mix(rows, exercises, phase.pop("exercises")) for phase in phases]
    corpus = (text for row in mixtures[0] for text in (row.problem, row.cot or "", row.answer))
    processor = build_processor(corpus, task)
    model = build_model(processor, seed)
    for k, (phase, mixture) in enumerate(zip(phases, mixtures, strict=True), start=1):
        made_from.append(given[k - 1])
        digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:8]
        folder = output.with_name(f"{output.name}.phase{k}-{digest}")
        model = teach(model, processor, to_dataset(mixture, task, targets=True), phase | {"seed": seed}, folder)
    model.half().save_pretrained(output)
    processor.save_pretrained(output)
    for folder in output.parent.glob(f"{output.name}.phase*"):
        shutil.rmtree(folder)
    return output


def teach(model: Any, processor: Any, dataset: Any, settings: dict[str, Any], folder: Path) -> Any:
    """Return the policy after one phase, whose checkpoints lie in `folder`; a phase that has ended is not run again."""
    ended = folder / "model"
    if ended.is_dir():
        return type(model).from_pretrained(ended).float()
    config = SFTConfig(output_dir=str(folder), **settings)
    trainer = WholeSFTTrainer(model=model, args=config, train_dataset=dataset, processing_class=processor)
    last = last_checkpoint(folder)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.save_whole_model(ended)
    return trainer.model


def read_recipe(task: Task, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return recipes/base/tiny.yaml, the task's own file over it where there is one, and overrides "key=value"."""
    files = (RECIPES / "base" / f"{name}.yaml" for name in ("tiny", task.name))
    layers = [OmegaConf.load(file) for file in files if file.is_file()]
    plain = OmegaConf.to_container(OmegaConf.merge(*layers, OmegaConf.from_dotlist(list(overrides))))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and make the base."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--base", action="store_true", required=True, help="make the tiny base policy")
    parser.add_argument("--task", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args, overrides = parser.parse_known_args(argv)
    task = get_task(args.task)
    output = args.output or ROOT / "bases" / task.name
    began = time.monotonic()
    make_base(task, read_recipe(task, parse_overrides(overrides)), args.seed, output)
    print(f"base policy of {task.name}: {output} ({time.monotonic() - began:.0f} s, {torch.get_num_threads()} threads)")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")

"""Supervised fine-tuning entry; `make base TASK=...` makes the tiny base policy with it.

    python src/open_r1/sft.py --base --task clevr_math [--seed 0] [--output bases/clevr_math]

The base policy stands in for a pre-trained model where no weights can be downloaded: a freshly initialised tiny
Qwen2-VL is taught, on synthetic rows, to describe the picture well and to reason in a mixture of procedures of which
the right one has a small share (synthetic/<task>.py, RIGHT_SHARE). It sees well and reasons badly: what RL then has to
do is what it has to do with a real model.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from transformers import set_seed
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from open_r1.prompts import to_dataset
from open_r1.recipe import RECIPES, parse_overrides
from open_r1.rows import load_rows
from open_r1.schema import Row, UserError
from open_r1.synthetic.write import own_folder, write_dataset
from open_r1.tasks import Task, get_task
from open_r1.utils.provenance import ROOT
from open_r1.utils.tiny import build_model, build_processor


def base_rows(task: Task, count: int, seed: int) -> list[Row]:
    """Write (or reuse) `count` synthetic pre-training rows, each from some procedure, and return them."""
    counts = {"base": count}
    data = own_folder(task.name, "tiny", counts)
    write_dataset(task.name, data, "tiny", seed, counts)
    files = sorted((data / "train_jsons" / "base").glob("*.json"))
    assert len(files) == 1, files
    return load_rows(task, files[0], "train", image_folder=data / "images" / "train_images").rows


def make_base(task: Task, recipe: dict[str, Any], seed: int, output: Path) -> Path:
    """Pre-train the tiny base policy of `task` and save it in half precision to `output`; same seed, same weights."""
    set_seed(seed)
    rows = base_rows(task, recipe.pop("rows"), seed=recipe.pop("data_seed"))
    processor = build_processor((text for row in rows for text in (row.problem, row.cot or "", row.answer)), task)
    model = build_model(processor, seed)
    config = SFTConfig(output_dir=str(output), seed=seed, **recipe)
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=to_dataset(rows, task, targets=True),
        processing_class=processor,
    )
    trainer.train()
    model.half().save_pretrained(output)
    processor.save_pretrained(output)
    return output


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

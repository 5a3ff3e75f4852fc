"""Base policy."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset
from omegaconf import OmegaConf
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor, set_seed
from trl.trainer.sft_config import SFTConfig

from open_r1.data.prompts import to_dataset
from open_r1.data.rows import load_rows
from open_r1.policy.loading import Policy, load_policy
from open_r1.policy.tiny import build_model, build_processor
from open_r1.recipe.settings import RECIPES
from open_r1.schema import Row, UserError
from open_r1.synthetic.write import generator_version, own_folder, write_dataset
from open_r1.tasks import Task
from open_r1.training.checkpoints import newest_whole
from open_r1.training.supervised import WholeSFTTrainer
from open_r1.utils.files import JsonObject, is_object
from open_r1.utils.provenance import weights_digest


class BaseRows(NamedTuple):
    """The base's own synthetic rows, with what may stand in their place."""

    rows: list[Row]
    instead: list[Row | None]  # of a row by the right procedure: the same question by a wrong one
    exercises: list[Row]  # about the same pictures; empty where the task has none


def base_rows(task: Task, count: int, seed: int) -> BaseRows:
    """Make the base's own synthetic rows and read them."""
    counts = {"base": count}
    data = own_folder(task.name, "tiny", counts)
    write_dataset(task.name, data, "tiny", seed, counts)
    files = sorted((data / "train_jsons" / "base").glob("*.json"))
    assert len(files) == 1, files
    rows = load_rows(task, files[0], "train", image_folder=data / "images" / "train_images").rows
    items = json.loads(files[0].read_text(encoding="utf-8"))

    def other(key: str) -> list[Row | None]:
        pairs = zip(rows, items, strict=True)
        return [replace(row, **item[key]) if key in item else None for row, item in pairs]

    return BaseRows(rows, other("instead"), [row for row in other("exercise") if row])


def mix(made: BaseRows, right: float = 1.0, exercises: float = 0.0) -> list[Row]:
    """Return the rows of one phase, what stands in a row's place evenly spread over those that it can replace.

    Args:
        made: what there is to choose from.
        right: share of the rows by the right procedure that keep it; the others show a wrong one.
        exercises: share of all rows that ask the exercise.

    Raises UserError where a share is none, or exercises are wanted of a task that has none.

    >>> mix(BaseRows("abcd", ["?", None, "?", None], "ABCD"), right=0.5)
    ['?', 'b', 'c', 'd']
    >>> mix(BaseRows("abcd", [None] * 4, "ABCD"), exercises=0.5)
    ['a', 'B', 'c', 'D']
    """
    for key, share in (("right", right), ("exercises", exercises)):
        if not 0 <= share <= 1:
            raise UserError(f"recipes/base: {key}: {share}, but it is a share of the rows, from 0 to 1")
    if exercises and not made.exercises:
        raise UserError(
            f"recipes/base: exercises: {exercises} of the rows, but this task has no exercises; exercises: 0.0"
        )
    replaceable = [i for i, row in enumerate(made.instead) if row is not None]
    kept = {i for i, chosen in zip(replaceable, spread_evenly(right, len(replaceable)), strict=True) if chosen}
    rows = [row if other is None or i in kept else other for i, (row, other) in enumerate(zip(*made[:2], strict=True))]
    asked = spread_evenly(exercises, len(rows))
    return [made.exercises[i] if asks else row for i, (row, asks) in enumerate(zip(rows, asked, strict=True))]


def spread_evenly(share: float, count: int) -> list[bool]:
    """Choose that share of `count` places, as far apart as they can be.

    >>> spread_evenly(0.5, 5)
    [False, True, False, True, False]
    """
    return [int((i + 1) * share) > int(i * share) for i in range(count)]


def make_base(task: Task, recipe: JsonObject, seed: int, output: Path) -> Path:
    """Pre-train the tiny base policy of `task` and save it in half precision to `output`; same seed, same weights.

    The recipe's `phases` follow one another, each with keys of its own. Until the last has ended they leave checkpoints
    in folders beside `output`, named by what they were made from; a later start goes on from there. They begin with
    fresh weights, or with those of the base policy that `start` names.
    """
    set_seed(seed)
    given, start = recipe.pop("phases"), recipe.pop("start")
    begins = {"start": weights_digest(Path(start))} if start else {}
    made_from = [recipe | {"seed": seed, "generator": generator_version()} | begins]
    made = base_rows(task, recipe["rows"], recipe["data_seed"])
    recipe = {key: value for key, value in recipe.items() if key not in ("rows", "data_seed")}
    phases = [recipe | phase for phase in given]
    mixtures = [mix(made, phase.pop("right"), phase.pop("exercises")) for phase in phases]
    model, processor = load_policy(start) if start else fresh_policy(task, mixtures[0], seed)
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


def fresh_policy(task: Task, rows: Sequence[Row], seed: int) -> Policy:
    """Return a tiny model with random weights, and a processor whose tokenizer knows the words of these rows."""
    corpus = (text for row in rows for text in (row.problem, row.cot or "", row.answer))
    processor = build_processor(corpus, task)
    return build_model(processor, seed), processor


def teach(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    dataset: Dataset,
    settings: JsonObject,
    folder: Path,
) -> Qwen2VLForConditionalGeneration:
    """Return the policy after one phase, whose checkpoints lie in `folder`; a phase that has ended is not run again."""
    ended = folder / "model"
    if ended.is_dir():
        return type(model).from_pretrained(ended).float()
    config = SFTConfig(output_dir=str(folder), **settings)
    trainer = WholeSFTTrainer(model=model, args=config, train_dataset=dataset, processing_class=processor)
    last = newest_whole(folder)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.save_whole_model(ended)
    assert isinstance(trainer.model, Qwen2VLForConditionalGeneration)
    return trainer.model


def read_recipe(task: Task, overrides: Sequence[str] = ()) -> JsonObject:
    """Return recipes/base/tiny.yaml, the task's own file over it where there is one, and overrides "key=value"."""
    files = (RECIPES / "base" / f"{name}.yaml" for name in ("tiny", task.name))
    layers = [OmegaConf.load(file) for file in files if file.is_file()]
    plain: object = OmegaConf.to_container(OmegaConf.merge(*layers, OmegaConf.from_dotlist(list(overrides))))
    assert is_object(plain)
    return {str(key): value for key, value in plain.items()}

"""The tiny base policy is pre-trained in phases; a finished one is not made again, and the seed fixes the weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from open_r1 import sft
from open_r1.schema import UserError
from open_r1.tasks import get_task

TASK = get_task("trance")


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a base of 6 rows in two phases of one step; a second phase at another rate with `learning_rate`."""
    monkeypatch.setattr(sft, "own_folder", lambda *_: tmp_path / "data")

    def call(name: str, learning_rate: float = 1e-3) -> Path:
        recipe = sft.read_recipe(TASK, ["rows=6", "max_steps=1", "per_device_train_batch_size=2", "warmup_steps=0"])
        recipe["phases"] = [{"exercises": 0.5}, {"exercises": 0.0, "learning_rate": learning_rate}]
        return sft.make_base(TASK, recipe, 0, tmp_path / name)

    return call


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_base_stopped_in_its_second_phase_goes_on_from_the_first_and_ends_the_same(make, tmp_path, monkeypatch):
    whole, sets = weights(make("whole")), []
    assert list(tmp_path.glob("*.phase*")) == []
    taught, datasets = sft.SFTTrainer.train, sft.to_dataset
    monkeypatch.setattr(sft, "to_dataset", lambda rows, *a, **k: sets.append(rows) or datasets(rows, *a, **k))

    def train_once(trainer):
        if len(sets) == 2:
            raise KeyboardInterrupt
        return taught(trainer)

    monkeypatch.setattr(sft.SFTTrainer, "train", train_once)
    with pytest.raises(KeyboardInterrupt):
        make("cut")
    asked = [[row.problem == "What do the pictures show?" for row in rows] for rows in sets]
    assert asked == [[False, True] * 3, [False] * 6]
    assert len(list(tmp_path.glob("cut.phase1-*"))) == 1 and not (tmp_path / "cut/model.safetensors").exists()
    monkeypatch.setattr(sft.SFTTrainer, "train", taught)
    assert same(weights(make("cut")), whole) and len(sets) == 3  # the second phase alone
    assert list(tmp_path.glob("*.phase*")) == []


def test_a_phase_made_by_another_recipe_is_not_taken_up(make, tmp_path, monkeypatch):
    taught, steps = sft.SFTTrainer.train, []

    def train(trainer):
        steps.append(trainer.args.learning_rate)
        if len(steps) == 2:
            raise KeyboardInterrupt
        return taught(trainer)

    monkeypatch.setattr(sft.SFTTrainer, "train", train)
    with pytest.raises(KeyboardInterrupt):
        make("base")
    make("base", learning_rate=2e-3)
    assert steps == [1.5e-3, 1e-3, 1.5e-3, 2e-3]


def test_exercises_are_refused_where_a_task_has_none():
    with pytest.raises(UserError, match=r"recipes/base: exercises: 0.5 of the rows, but this task has no exercises"):
        sft.mix([], [], 0.5)

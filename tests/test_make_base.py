"""The tiny base policy is pre-trained in phases; stopped it goes on to the same weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from open_r1.schema import UserError
from open_r1.tasks import get_task
from open_r1.training import base_policy

TASK = get_task("trance")


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a base of 4 rows in two phases of 4 steps, two an epoch; `learning_rate` is the second's."""
    monkeypatch.setattr(base_policy, "own_folder", lambda *_: tmp_path / "data")

    def call(name: str, learning_rate: float = 1e-3, start: str = "") -> Path:
        recipe = base_policy.read_recipe(
            TASK, ["rows=4", "max_steps=4", "per_device_train_batch_size=2", "save_steps=1", "warmup_steps=0"]
        )
        recipe["start"] = start
        recipe["phases"] = [{"exercises": 0.5}, {"exercises": 0.0, "learning_rate": learning_rate}]
        return base_policy.make_base(TASK, recipe, 0, tmp_path / name)

    return call


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_base_stopped_in_its_second_phase_goes_on_where_it_was_and_ends_the_same(make, tmp_path, monkeypatch):
    whole, sets, steps = weights(make("whole")), [], []
    assert list(tmp_path.glob("*.phase*")) == []
    step, datasets = base_policy.WholeSFTTrainer.training_step, base_policy.to_dataset

    def stop_at(count):
        def one(trainer, *args):
            if len(steps) == count:
                raise KeyboardInterrupt
            steps.append(trainer.args.learning_rate)
            return step(trainer, *args)

        return one

    monkeypatch.setattr(base_policy, "to_dataset", lambda rows, *a, **k: sets.append(rows) or datasets(rows, *a, **k))
    seventh = stop_at(4 + 3)  # in the second epoch of the second phase
    monkeypatch.setattr(base_policy.WholeSFTTrainer, "training_step", seventh)
    with pytest.raises(KeyboardInterrupt):
        make("cut")
    asked = [[row.problem == "What do the pictures show?" for row in rows] for rows in sets]
    assert asked == [[False, True] * 2, [False] * 4]
    assert len(list(tmp_path.glob("cut.phase*"))) == 2 and not (tmp_path / "cut").exists()
    monkeypatch.setattr(base_policy.WholeSFTTrainer, "training_step", stop_at(None))
    assert same(weights(make("cut")), whole) and steps == [1.5e-3] * 4 + [1e-3] * 4
    assert list(tmp_path.glob("*.phase*")) == []


def test_a_longer_second_phase_takes_up_the_first_and_not_the_second(make, monkeypatch):
    rates, step = [], base_policy.WholeSFTTrainer.training_step

    def one(trainer, *args):
        if len(rates) == 6:
            raise KeyboardInterrupt
        rates.append(trainer.args.learning_rate)
        return step(trainer, *args)

    monkeypatch.setattr(base_policy.WholeSFTTrainer, "training_step", one)
    with pytest.raises(KeyboardInterrupt):
        make("base")
    rates.append(None)
    make("base", learning_rate=2e-3)
    assert rates == [1.5e-3] * 4 + [1e-3] * 2 + [None] + [2e-3] * 4


def test_exercises_are_refused_where_a_task_has_none():
    with pytest.raises(UserError, match=r"recipes/base: exercises: 0.5 of the rows, but this task has no exercises"):
        base_policy.mix(base_policy.BaseRows([], [], []), exercises=0.5)


def test_a_share_above_one_is_refused():
    with pytest.raises(UserError, match=r"recipes/base: right: 1.5, but it is a share of the rows, from 0 to 1"):
        base_policy.mix(base_policy.BaseRows([], [], []), right=1.5)


def test_of_the_rows_by_the_right_procedure_a_tenth_can_keep_it(tmp_path, monkeypatch):
    """The others show a wrong procedure of the same question; rows that showed one already stay as they are."""
    monkeypatch.setattr(base_policy, "own_folder", lambda *_: tmp_path / "data")
    made = base_policy.base_rows(get_task("clevr_math"), 100, 0)
    mixed = base_policy.mix(made, right=0.1)
    right = [i for i, other in enumerate(made.instead) if other]
    changed = [i for i in range(100) if mixed[i] != made.rows[i]]
    assert 15 < len(right) < 45 and set(changed) < set(right)
    assert len(changed) == len(right) - len(right) // 10
    assert all(mixed[i] == made.instead[i] and mixed[i].problem == made.rows[i].problem for i in changed)
    assert all(mixed[i].cot.split(";")[0] != made.rows[i].cot.split(";")[0] for i in changed)


def test_a_base_can_go_on_from_another_one(make, tmp_path):
    first = make("first")
    again = weights(make("again", start=str(first)))
    assert not same(again, weights(first)) and same(again, weights(make("once more", start=str(first))))
    assert (tmp_path / "again/tokenizer.json").read_text() == (first / "tokenizer.json").read_text()

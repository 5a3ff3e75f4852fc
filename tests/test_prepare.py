"""Training and test rows of a recipe: no test row is a training row, whatever the data are."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from open_r1.data import prepare
from open_r1.data.held_out import hold_out, repeats
from open_r1.data.prepare import prepare_rows
from open_r1.evaluation.results import SetResult, with_pooled_ood
from open_r1.recipe.settings import Settings
from open_r1.schema import Row, UserError
from open_r1.tasks import get_task

TASK = get_task("clevr_math")


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return str(path)


def draw(folder: Path, **colours: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, colour in colours.items():
        Image.new("RGB", (28, 28), colour).save(folder / f"{name}.png")


def item(name: str, problem: str, image: str = "red.png") -> dict[str, Any]:
    return {"id": name, "image": image, "problem": problem, "answer": "4"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """red.png and again.png hold the same bytes, blue.png others."""
    draw(tmp_path, red="red", again="red", blue="blue")
    return tmp_path


def prepared(splits=("train", "test"), **settings: Any) -> dict[str, list[str]]:
    rows = prepare_rows(TASK, Settings(**settings), splits)
    return {name: [row.id for row in found] for name, found in rows.items()}


def test_of_one_file_a_share_is_held_out_by_a_seed_and_said_so(folder, caplog):
    path = write(folder / "mine.json", *(item(f"r{i}", f"question {i}") for i in range(20)))
    assert prepare.test_sets(TASK, Settings(data_path=path)) == ["test"]
    with caplog.at_level(logging.WARNING):
        first = prepared(data_path=path)
    assert len(first["train"]) == 18 and len(first["test"]) == 2 and not set(first["train"]) & set(first["test"])
    assert "2 of its 20 rows are held out as set 'test' (test_share 0.1, test_seed 0)" in caplog.text
    assert "give test data as TEST_PATH" in caplog.text
    assert first == prepared(data_path=path)
    assert prepared(data_path=path, test_seed=1)["test"] != first["test"]
    assert len(prepared(data_path=path, test_share=0.5)["test"]) == 10
    assert prepared(["train"], data_path=path)["train"] == first["train"]  # what is collected is what is trained on
    assert prepared(["test"], data_path=path)["test"] == first["test"]  # and a later evaluation asks the same
    assert prepared(data_path=path, num_train_rows=3)["test"] == first["test"]


def test_rows_that_repeat_a_question_are_held_out_together(folder):
    rows = [item(f"{image}{i}", f"question {i}", f"{image}.png") for i in range(10) for image in ("red", "again")]
    held = prepared(data_path=write(folder / "mine.json", *rows), test_share=0.2)
    numbers = {name: {row[-1] for row in ids} for name, ids in held.items()}
    assert not numbers["train"] & numbers["test"]
    assert len(held["test"]) == 4


def test_test_rows_that_are_training_rows_are_left_out_and_said_so(folder, caplog):
    train = write(folder / "train.json", item("a", "How many?"), item("b", "How many  cubes?"))
    test = write(
        folder / "others.json",
        item("other-id", "How many?", "again.png"),  # the same question about the same pixels
        item("a", "How many?", "blue.png"),  # the same id only
        item("c", "How many balls?"),
    )
    with caplog.at_level(logging.WARNING):
        assert prepared(data_path=train, test_path=test) == {"train": ["a", "b"], "test": ["a", "c"]}
    assert (
        "1 of 3 rows of test set 'test' are training rows (same pictures and question; first: 'other-id')"
        in caplog.text
    )
    copy = write(folder / "copy.json", item("x", "How many?"), item("y", "How many cubes?", "again.png"))
    with pytest.raises(UserError, match=r"every row of test set 'test' is a training row \(same pictures and question"):
        prepared(data_path=train, test_path=copy)


def test_the_layout_s_test_sets_hold_no_training_row_either(folder):
    images = folder / "layout" / "images"
    draw(images / "train_images", red="red")
    draw(images / "test_images", red="red")
    write(folder / "layout/train_jsons/A3-Visual-Counting-train-1.json", item("a", "p"))
    for split in ("id", "ood"):
        write(folder / f"layout/test_jsons/Visual-Counting-{split}-test-1.json", item("b", "p"), item("c", "q"))
    settings = Settings(data_path=str(folder / "layout"))
    assert prepare.test_sets(TASK, settings) == ["id", "ood"]
    rows = prepare_rows(TASK, settings, ["train", "id", "ood"])
    assert [row.id for row in rows["id"]] == [row.id for row in rows["ood"]] == ["c"]


def test_a_folder_of_files_named_train_and_test_holds_both_sets(folder):
    write(folder / "data" / "train-00000.json", item("a", "p"))
    write(folder / "data" / "test-00000.json", item("b", "q"))
    draw(folder / "data", red="red")
    assert prepared(data_path=str(folder)) == {"train": ["a"], "test": ["b"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_path": "mine.json", "test_path": "./mine.json"}, "test_path is data_path .*held out"),
        ({"test_path": "mine.json"}, "test_path is given without data_path"),
        ({"data_path": "mine.json", "test_path": "gone.json"}, "gone.json does not exist"),
        ({"data_path": "one.json"}, "holds 1 row\\(s\\) of one question, too few to hold out"),
        ({"data_path": "empty"}, "empty has no file train_jsons"),
    ],
)
def test_data_without_test_rows_are_refused_in_one_line(folder, monkeypatch, settings, message):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    write(folder / "mine.json", item("a", "p"), item("b", "q"))
    write(folder / "one.json", item("a", "p"))
    with pytest.raises(UserError, match=message) as caught:
        prepared(**settings)
    assert "\n" not in str(caught.value)


rows = st.lists(st.integers(0, 8), min_size=2, max_size=40).map(
    lambda numbers: [Row(f"r{i}", "t", (), f"question {number}", "4") for i, number in enumerate(numbers)]
)


@given(rows, st.floats(0.01, 0.99), st.integers(0, 3))
def test_held_out_rows_and_training_rows_are_all_rows_and_share_no_question(rows, share, seed):
    train, test = hold_out(rows, share, seed)
    assert sorted(row.id for row in train + test) == sorted(row.id for row in rows)
    assert test and not repeats(train, test)
    backwards = hold_out(rows[::-1], share, seed)[1]
    assert sorted(row.id for row in backwards) == sorted(row.id for row in test)


def test_results_are_ordered_whatever_sets_a_task_has():
    one, other = SetResult(100, 0.5, 1.0), SetResult(300, 0.1, 1.0)
    assert with_pooled_ood({"test": one}) == {"test": one}
    assert with_pooled_ood({"id": one}) == {"id": one}
    assert list(with_pooled_ood({"test": one, "ood": one, "id": one})) == ["id", "ood", "test"]
    pooled = with_pooled_ood({"ood_left": one, "ood_right": other, "id": one})
    assert list(pooled) == ["id", "ood", "ood_left", "ood_right"]
    assert pooled["ood"].accuracy == pytest.approx(0.2)

"""One prompt per task, held word for word: a change of a prompt is a change of every result."""

from pathlib import Path

import pytest

from open_r1.data.prompts import messages, prompt_text, to_dataset
from open_r1.schema import Row
from open_r1.tasks import TASKS

GOLDEN = Path(__file__).parent / "golden"


def row(task: str) -> Row:
    images = tuple(Path(f"{i}.png") for i in range(TASKS[task].images_per_row))
    return Row("r1", task, images, "How many cubes are left?", "4", cot="5 - 1 = 4")


@pytest.mark.parametrize("kind", ["reasoning", "direct"])
@pytest.mark.parametrize("task", TASKS)
def test_the_prompt_is_the_golden_one(task, kind):
    assert prompt_text(row(task), TASKS[task], kind) + "\n" == (GOLDEN / f"{task}-{kind}.txt").read_text()


@pytest.mark.parametrize("task", TASKS)
def test_external_models_get_the_pictures_in_order_and_the_policy_s_text(task):
    (turn,) = messages(row(task), TASKS[task])
    pictures, text = turn["content"][:-1], turn["content"][-1]
    assert [part["image"] for part in pictures] == list(row(task).images)
    dataset = to_dataset([row(task)], TASKS[task])
    assert dataset.data.to_pydict()["prompt"] == [[{"role": "user", "content": text["text"]}]]


def test_a_training_target_has_think_tags_around_cot_and_answer_tags_around_answer():
    dataset = to_dataset([row("clevr_math")], TASKS["clevr_math"], targets=True)
    (turn,) = dataset.data.to_pydict()["completion"][0]
    assert turn == {"role": "assistant", "content": "<think>5 - 1 = 4</think>\n<answer>4</answer>"}

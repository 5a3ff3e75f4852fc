"""Rows to prompts: one prompt per task, the same messages for the policy and for every external model."""

from typing import Any, Literal

from datasets import Dataset, Features, Image, List, Value

from open_r1.rewards.tags import format_reply
from open_r1.schema import Row, UserError
from open_r1.tasks import Task

PromptKind = Literal["reasoning", "direct"]


def prompt_text(row: Row, task: Task, kind: PromptKind = "reasoning") -> str:
    """Return the user's turn: the problem as it stands in the data, then the task's instruction."""
    return row.problem + task.instruction_for(kind)


def messages(row: Row, task: Task, kind: PromptKind = "reasoning") -> list[dict[str, Any]]:
    """Return the conversation with the images' paths in place, first the images, then the text.

    Example: [{"role": "user", "content": [{"type": "image", "image": Path("12.png")}, {"type": "text", "text": ...}]}]
    """
    content: list[dict[str, Any]] = [{"type": "image", "image": path} for path in row.images]
    content.append({"type": "text", "text": prompt_text(row, task, kind)})
    return [{"role": "user", "content": content}]


_TURNS = List({"role": Value("string"), "content": Value("string")})


def to_dataset(rows: list[Row], task: Task, kind: PromptKind = "reasoning", *, targets: bool = False) -> Dataset:
    """Return the rows in the columns that TRL reads: `prompt`, `images` (opened when a row is read), `answer`, `id`.

    With `targets` there is a `completion` as well, what SFT teaches: for the reasoning prompt think tags around cot and
    answer tags around answer, for the direct one the answer alone. Raises UserError for reasoning that a row lacks.
    """
    columns: dict[str, list[Any]] = {
        "prompt": [[{"role": "user", "content": prompt_text(row, task, kind)}] for row in rows],
        "images": [[str(path) for path in row.images] for row in rows],
        "answer": [row.answer for row in rows],
        "id": [row.id for row in rows],
    }
    features = {"prompt": _TURNS, "images": List(Image()), "answer": Value("string"), "id": Value("string")}
    if targets:
        lacking = [row.id for row in rows if not row.cot]
        if lacking and kind == "reasoning":
            raise UserError(
                f"{len(lacking)} of {len(rows)} training rows have no cot (first: '{lacking[0]}'), and CoT-SFT teaches"
                " reasoning; give rows that have it, or METHOD=ans_sft"
            )
        replies = [row.answer if kind == "direct" else format_reply(row.cot or "", row.answer) for row in rows]
        columns["completion"] = [[{"role": "assistant", "content": reply}] for reply in replies]
        features["completion"] = _TURNS
    return Dataset.from_dict(columns, features=Features(features))

"""Rows to prompts: one prompt per task, the same messages and pictures for the policy and for every external model."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value
from datasets.features.features import register_feature
from PIL.Image import Image as Pixels

from open_r1.recipe.settings import PromptKind
from open_r1.rewards.tags import format_reply
from open_r1.schema import Row, UserError
from open_r1.tasks import Task
from open_r1.utils.images import open_picture


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


def conversations(
    rows: Iterable[Row],
    task: Task,
    kind: PromptKind,
    part: Callable[[Pixels], dict[str, Any]] = lambda image: {"type": "image", "image": image},
) -> list[list[dict[str, Any]]]:
    """Return each row's messages with the opened pictures in place of their paths; each file is opened once.

    `part` makes the piece of the message that holds a picture, for whoever spells it otherwise than transformers does.
    Raises UserError for a picture that cannot be opened.
    """
    asked = [messages(row, task, kind) for row in rows]
    parts = [part_ for turns in asked for turn in turns for part_ in turn["content"] if part_["type"] == "image"]
    opened = {path: part(open_picture(path).image) for path in dict.fromkeys(part_["image"] for part_ in parts)}

    def shown(piece: dict[str, Any]) -> dict[str, Any]:
        return opened[piece["image"]] if piece["type"] == "image" else piece

    return [[turn | {"content": [shown(piece) for piece in turn["content"]]} for turn in turns] for turns in asked]


@dataclass
class PictureFeature(Image):
    """A column of pictures that opens them as everyone else does; `datasets` alone would leave transparency in them."""

    _type: str = field(default="PictureFeature", init=False, repr=False)  # under which a copied data set finds it

    def decode_example(self, value: dict[str, Any], token_per_repo_id: Any = None) -> Pixels:
        """Open the picture when its row is read; raises UserError for one that cannot be opened."""
        return open_picture(Path(value["path"])).image


with warnings.catch_warnings():  # it says that it is experimental; tests/test_images.py says that it works
    warnings.simplefilter("ignore")
    register_feature(PictureFeature, "PictureFeature")

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
    features = {"prompt": _TURNS, "images": List(PictureFeature()), "answer": Value("string"), "id": Value("string")}
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

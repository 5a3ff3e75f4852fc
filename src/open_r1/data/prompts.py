"""Rows to prompts: one prompt per task, the same messages and pictures for the policy and for every external model."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from datasets import Dataset, Features, Image, List, Value  # pyright: ignore[reportMissingTypeStubs]
from datasets.features.features import (  # pyright: ignore[reportMissingTypeStubs]
    register_feature,  # pyright: ignore[reportUnknownVariableType]
)
from PIL.Image import Image as Pixels

from open_r1.data.columns import IMAGE
from open_r1.recipe.settings import PromptKind
from open_r1.rewards.tags import format_reply
from open_r1.schema import Row, UserError
from open_r1.tasks import Task, answers_of
from open_r1.utils.images import open_picture

Part = Mapping[str, object]  # of a message: {"type": "text", "text": ...}, or a picture


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: list[Part]


def prompt_text(row: Row, task: Task, kind: PromptKind = "reasoning") -> str:
    """Return the user's turn: the problem as it stands in the data, then the task's instruction."""
    return row.problem + task.instruction_for(kind)


def _of_path(picture: Path) -> Part:
    return {"type": "image", "image": picture}


def messages(
    row: Row, task: Task, kind: PromptKind = "reasoning", part: Callable[[Path], Part] = _of_path
) -> list[Message]:
    """Return the conversation with the images' paths in place: where the problem marks them, else in front of the text.

    Example: [{"role": "user", "content": [{"type": "image", "image": Path("12.png")}, {"type": "text", "text": ...}]}]
    """
    pictures = map(part, row.images)
    content = [next(pictures) if piece["type"] == "image" else piece for piece in _parts(row, task, kind)]
    return [{"role": "user", "content": content}]


def _parts(row: Row, task: Task, kind: PromptKind) -> list[dict[str, str]]:
    """The user's turn as pieces, with {"type": "image"} where a picture stands."""
    text = prompt_text(row, task, kind)
    if not _is_placed(row):
        return [*({"type": "image"} for _ in row.images), {"type": "text", "text": text}]
    first, *others = text.split(IMAGE)
    pieces = [{"type": "text", "text": first}]
    for piece in others:
        pieces += [{"type": "image"}, {"type": "text", "text": piece}]
    return [piece for piece in pieces if piece["type"] == "image" or piece["text"]]


def _is_placed(row: Row) -> bool:
    """Whether the problem says where the pictures stand (the loader sees to it that it does for all or for none)."""
    return bool(row.images) and row.problem.count(IMAGE) == len(row.images)


def _of_picture(picture: Pixels) -> Part:
    return {"type": "image", "image": picture}


def conversations(
    rows: Sequence[Row], task: Task, kind: PromptKind, part: Callable[[Pixels], Part] = _of_picture
) -> list[list[Message]]:
    """Return each row's messages with the opened pictures in place of their paths; each file is opened once.

    `part` makes the piece of the message that holds a picture, for whoever spells it otherwise than transformers does.
    Raises UserError for a picture that cannot be opened.
    """
    paths = dict.fromkeys(path for row in rows for path in row.images)
    opened = {path: part(open_picture(path).image) for path in paths}
    return [messages(row, task, kind, opened.__getitem__) for row in rows]


@dataclass
class PictureFeature(Image):
    """A column of pictures that opens them as everyone else does; `datasets` alone would leave transparency in them."""

    _type: str = field(default="PictureFeature", init=False, repr=False)  # under which a copied data set finds it

    def decode_example(self, value: Mapping[str, str], token_per_repo_id: object = None) -> Pixels:
        """Open the picture when its row is read; raises UserError for one that cannot be opened."""
        return open_picture(Path(value["path"])).image


with warnings.catch_warnings():  # it says that it is experimental; tests/test_images.py says that it works
    warnings.simplefilter("ignore")
    register_feature(PictureFeature, "PictureFeature")

_TURNS = List({"role": Value("string"), "content": Value("string")})
_PLACED_TURNS = List({"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})})


def to_dataset(rows: list[Row], task: Task, kind: PromptKind = "reasoning", *, targets: bool = False) -> Dataset:
    """Return the rows in the columns that TRL reads: `prompt`, `images` (opened when a row is read), `answer`, `id`.

    With `targets` there is a `completion` as well, what SFT teaches: for the reasoning prompt think tags around cot and
    answer tags around answer, for the direct one the answer alone. Raises UserError for reasoning that a row lacks.
    """
    # TRL puts pictures in front of a text by itself; one row that has them elsewhere makes all prompts lists of pieces.
    placed = any(map(_is_placed, rows))

    def turn(row: Row) -> object:
        return [{"text": ""} | piece for piece in _parts(row, task, kind)] if placed else prompt_text(row, task, kind)

    columns: dict[str, Sequence[object]] = {
        "prompt": [[{"role": "user", "content": turn(row)}] for row in rows],
        "images": [[str(path) for path in row.images] for row in rows],
        "answer": [row.answer for row in rows],
        "id": [row.id for row in rows],
    }
    features = {
        "prompt": _PLACED_TURNS if placed else _TURNS,
        "images": List(PictureFeature()),
        "answer": Value("string"),
        "id": Value("string"),
    }
    if targets:
        lacking = [row.id for row in rows if not row.cot]
        if lacking and kind == "reasoning":
            raise UserError(
                f"{len(lacking)} of {len(rows)} training rows have no cot (first: '{lacking[0]}'), and CoT-SFT teaches"
                " reasoning; give rows that have it, or METHOD=ans_sft"
            )
        answers = [answers_of(row.answer)[0] for row in rows]  # of several that count the first is taught
        replies = [
            answer if kind == "direct" else format_reply(row.cot or "", answer)
            for row, answer in zip(rows, answers, strict=True)
        ]
        columns["completion"] = [[{"role": "assistant", "content": reply}] for reply in replies]
        features["completion"] = _TURNS
    return Dataset.from_dict(columns, features=Features(features))  # pyright: ignore[reportUnknownMemberType]

"""One row of a data file: every spelling that is accepted, and every rule about its texts and image names."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_r1.data.image_files import locate
from open_r1.rewards.tags import format_reply, parse_reply, reasoning_fault
from open_r1.schema import Row, UserError

if TYPE_CHECKING:
    from open_r1.tasks.task import Task

SPECIAL_TOKEN = re.compile(r"<\|\w+\|>")  # Qwen2-VL's special tokens all look like <|im_end|>


def read_list(file: Path) -> list[Any]:
    """Read the file's list of rows. Numbers are kept as their text: answer 4.50 stays "4.50"."""
    rule = "a data file is one JSON list of rows, [{...}, {...}]; convert it"
    try:
        # NaN is what pandas writes for a missing value
        items = json.loads(file.read_bytes(), parse_int=str, parse_float=str, parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as JSON ({error}); {rule}") from error
    if not isinstance(items, list):
        raise UserError(f"{file} holds a JSON {_json_type(items)}, not a list; {rule}")
    return items


def row_id(item: Any, file: Path, index: int) -> str:
    """The row's id, or one made of file name and place where it has none."""
    given = item.get("id") if isinstance(item, dict) else None  # a number has become its text
    return given if isinstance(given, str) and given else f"{file.stem}-{index}"


def parse_row(item: Any, name: str, task: "Task", folder: Path) -> Row:
    """Make a row, or raise UserError with what is wrong with it. Texts are handed on as they are, never "cleaned"."""
    if not isinstance(item, dict):
        raise UserError(f"is a JSON {_json_type(item)}; every row is a mapping {{...}}; fix it")
    _check_encodes("id", name)
    problem = _text(item, "problem")
    answer = _text(item, "answer", "solution")
    if answer.lstrip().startswith("<answer>"):
        answer = parse_reply(answer).answer or ""
    for field, text in (("problem", problem), ("answer", answer)):
        if not text.strip():
            raise UserError(f"no {field}; every row has one that is not empty; add it or remove the row")
    cot = _text(item, "cot")
    if cot.lstrip().startswith("<think>"):
        think = parse_reply(cot).think
        if think is None:
            raise UserError("'cot' opens a think tag and never closes it; reasoning is bare or wrapped; fix the tag")
        cot = think
    for fault in (reasoning_fault(cot), _grading_fault(answer, task)):
        if fault:
            raise UserError(fault)
    names = image_names(item)
    if len(names) != task.images_per_row:
        raise UserError(
            f"has {len(names)} image name(s); a row of {task.name} has {task.images_per_row}; fix 'image'"
            " (a file name or a list of them) or choose another task"
        )
    _check_encodes("image", "".join(names))
    images = tuple(locate(folder, name) for name in names)
    return Row(name, task.name, images, problem, answer, cot=cot or None, kind=_text(item, "kind") or None)


def _grading_fault(answer: str, task: "Task") -> str | None:
    """Why a reply that gives exactly the row's answer would not earn 1; None where it does."""
    why = task.gradable(answer)
    if why is None and task.grade(format_reply("", answer), answer, task.settings[0]).accuracy != 1:
        why = "does not earn 1 when a reply repeats it, so that none can; correct the row's answer"
    return why and f"'answer' {answer[:80]!r}: {why}"


def _text(item: dict[str, Any], *keys: str) -> str:
    """The text under the first of the keys that is there; "" if none is."""
    key, value = next(((key, item[key]) for key in keys if item.get(key) is not None), (keys[0], ""))
    if not isinstance(value, str):
        raise UserError(f"'{key}' is a JSON {_json_type(value)}; it must be a text or a number; fix it")
    if "<|" in value and (token := SPECIAL_TOKEN.search(value)):
        raise UserError(
            f"'{key}' contains the chat special token {token[0]}, which would break the prompt apart; remove it"
        )
    _check_encodes(key, value)
    return value


def _check_encodes(key: str, value: str) -> None:
    """Half a surrogate pair, which JSON can bring, is in no file and no database."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"'{key}' contains half a surrogate pair, which cannot be encoded; fix the text") from None


def image_names(item: dict[str, Any]) -> list[str]:
    """The image names of a row: a name, {"path": name}, or a list of these, under `image` or `images`."""
    value = item.get("image") if item.get("image") is not None else item.get("images")
    entries = value if isinstance(value, list) else [] if value is None else [value]
    names = [entry.get("path") if isinstance(entry, dict) else entry for entry in entries]
    return [name for name in names if isinstance(name, str) and name]


def _json_type(value: object) -> str:
    return {dict: "mapping", list: "list", str: "text", bool: "boolean", type(None): "null"}[type(value)]

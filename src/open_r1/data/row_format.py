"""One row of a data file: every spelling that is accepted, and every rule about its texts and image names."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from open_r1.data.choices import add_choices
from open_r1.data.columns import IMAGE, Columns, find, read_fields
from open_r1.data.image_files import keep_picture, locate
from open_r1.data.sources import json_type
from open_r1.rewards.tags import format_reply, parse_reply, reasoning_fault
from open_r1.schema import Row, UserError
from open_r1.tasks.task import ANY_OF
from open_r1.utils.files import JsonObject, is_list, is_object

if TYPE_CHECKING:
    from open_r1.tasks.task import Task

# Qwen's special tokens all look like <|im_end|>; Gemma's and others' are named.
SPECIAL_TOKEN = re.compile(r"<\|[\w-]+\|>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>")
# Where a picture stands, as data sets and processors spell it; `<image 2>` says which.
PICTURE_MARK = re.compile(
    r"<image(?:[ _-]?(\d+))?>|\[(?:IMG|IMAGE)\]|<IMG_CONTEXT>|<image_soft_token>|<start_of_image>|<image_placeholder>",
    re.IGNORECASE,
)
VIDEO_MARK = re.compile(r"<video>|<video_soft_token>|<VIDEO_CONTEXT>", re.IGNORECASE)


def row_id(item: object, file: Path, index: int, columns: Columns = Columns()) -> str:  # noqa: B008  # frozen
    """The row's id, or one made of file name and place where it has none."""
    made = f"{file.stem}-{index}"
    if not is_object(item):
        return made
    try:
        _, given = find(item, "id", columns.id)
    except UserError:
        return made  # parse_row says so
    return given if isinstance(given, str) and given else made


def parse_row(
    item: object,
    name: str,
    task: "Task",
    folder: Path,
    columns: Columns = Columns(),  # noqa: B008  # frozen
) -> Row:
    """Make a row, or raise UserError with what is wrong with it. Texts are handed on as they are, never "cleaned"."""
    if not is_object(item):
        raise UserError(f"is a JSON {json_type(item)}; every row is a mapping {{...}}; fix it")
    if columns.id:
        find(item, "id", columns.id)
    _check_encodes("id", name)
    fields = read_fields(item, columns)
    problem, answers = _text(*fields.problem), _answers(*fields.answer)
    for field, text in (("problem", problem), ("answer", "".join(answers))):
        if not text.strip():
            hint = f"add it, name its column as {field}_key, or remove the row"
            raise UserError(f"no {field}; every row has one that is not empty; {hint}")
    if fields.choices[1]:
        problem, answers = add_choices(problem, answers, *fields.choices)
    answer, cot = ANY_OF.join(answers), _reasoning(item)
    for field, text in (("cot", cot), ("answer", answer)):
        if mark := PICTURE_MARK.search(text):
            raise UserError(f"the {field} holds the picture mark {mark[0]}; pictures stand in problems; remove it")
    for fault in (reasoning_fault(cot), *(_grading_fault(one, task) for one in answers)):
        if fault:
            raise UserError(fault)
    pictures = _pictures(fields.images, folder, task)
    problem, pictures = _placed(problem, pictures)
    return Row(
        name, task.name, pictures, problem, answer, cot=cot or None, kind=_text("kind", item.get("kind")) or None
    )


def _reasoning(item: JsonObject) -> str:
    cot = _text("cot", item.get("cot"))
    if not cot.lstrip().startswith("<think>"):
        return cot
    think = parse_reply(cot).think
    if think is None:
        raise UserError("'cot' opens a think tag and never closes it; reasoning is bare or wrapped; fix the tag")
    return think


def _answers(key: str, value: object) -> list[str]:
    """The answers of which any counts; most rows have one."""
    values = value if is_list(value) else [value]
    texts = [_text(key, one) for one in values]
    if ANY_OF in "".join(texts):
        raise UserError(f"'{key}' contains {ANY_OF}, which stands between answers here; remove it")
    bare = [parse_reply(text).answer or "" if text.lstrip().startswith("<answer>") else text for text in texts]
    return list(dict.fromkeys(bare))


def _pictures(entries: Sequence[object], folder: Path, task: "Task") -> tuple[Path, ...]:
    """The files of a row's pictures; those that stand in the row as bytes are kept in a file."""
    found = [entry for entry in map(_picture_entry, entries) if entry]
    if task.images_per_row is not None and len(found) != task.images_per_row:
        raise UserError(
            f"has {len(found)} image name(s); a row of {task.name} has {task.images_per_row}; fix 'image'"
            " (a file name or a list of them) or choose another task"
        )
    _check_encodes("image", "".join(entry for entry in found if isinstance(entry, str)))
    return tuple(locate(folder, entry) if isinstance(entry, str) else keep_picture(entry) for entry in found)


def _picture_entry(entry: object) -> str | bytes | None:
    """A picture's name or bytes: a name, bytes, or a mapping {"path": name, "bytes": ...} as `datasets` writes it."""
    if is_object(entry):
        content: object = entry.get("bytes")
        return content if isinstance(content, bytes) else _picture_entry(entry.get("path"))
    return entry if isinstance(entry, str | bytes) and entry else None


def image_names(item: JsonObject, columns: Columns = Columns()) -> list[str]:  # noqa: B008  # frozen
    """The image names of a row; none where they cannot be found."""
    try:
        entries = read_fields(item, columns).images
    except UserError:
        return []
    return [entry for entry in map(_picture_entry, entries) if isinstance(entry, str)]


def _placed(problem: str, pictures: tuple[Path, ...]) -> tuple[str, tuple[Path, ...]]:
    """Spell every mark of a picture's place as IMAGE, with the pictures in that order; marks in front say nothing."""
    if VIDEO_MARK.search(problem):
        raise UserError("the problem names a video, and videos are not read; give some of its frames as pictures")
    marks = list(PICTURE_MARK.finditer(problem))
    if not marks:
        return problem, pictures
    if len(marks) != len(pictures):
        raise UserError(
            f"the problem marks {len(marks)} picture(s) ({marks[0][0]}) and the row has {len(pictures)}; every picture"
            " has one mark, or none has; fix the problem or the pictures"
        )
    numbers = [int(mark[1] or 0) for mark in marks]
    if any(numbers):
        if sorted(numbers) != list(range(1, len(pictures) + 1)):
            has = ", ".join(map(str, numbers))
            raise UserError(f"the problem marks pictures {has} of {len(pictures)}; each comes once; fix the marks")
        pictures = tuple(pictures[number - 1] for number in numbers)
    rest = PICTURE_MARK.sub(IMAGE, problem)
    behind = re.sub(rf"^(?:\s*{IMAGE})+\n?", "", rest)
    return (rest if IMAGE in behind else behind), pictures


def _grading_fault(answer: str, task: "Task") -> str | None:
    """Why a reply that gives exactly the row's answer would not earn 1; None where it does."""
    why = task.gradable(answer)
    if why is None and task.grade(format_reply("", answer), answer, task.settings[0]).accuracy != 1:
        why = "does not earn 1 when a reply repeats it, so that none can; correct the row's answer"
    return why and f"'answer' {answer[:80]!r}: {why}"


def _text(key: str, value: object) -> str:
    """A column's text; "" where it has none."""
    value = "" if value is None else value
    if not isinstance(value, str):
        raise UserError(f"'{key}' is a JSON {json_type(value)}; it must be a text or a number; fix it")
    if ("<" in value or "[" in value) and (token := SPECIAL_TOKEN.search(value)):
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

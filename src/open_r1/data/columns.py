"""Which column of a row is what: the names that data sets use, or those that the settings give."""

from typing import NamedTuple

from open_r1.data.sources import json_type
from open_r1.schema import UserError
from open_r1.utils.files import JsonObject, is_list, is_object

# The names that are recognised, in the order in which they are looked for.
USUAL = {
    "id": ("id", "question_id", "qid"),
    "problem": ("problem", "question", "query", "prompt", "messages", "conversations"),
    "answer": ("answer", "solution", "label", "answers", "ground_truth"),
    "images": ("image", "images", "imgname", "img", "image_path", "image_paths", "file_name"),
    "choices": ("choices", "options"),
}
VIDEOS = ("video", "videos")
USERS, ASSISTANTS = ("user", "human"), ("assistant", "gpt")
IMAGE = "<image>"  # where a picture stands in a problem


class Columns(NamedTuple):
    """Names of columns, as the settings problem_key, ... give them; "" recognises the usual ones.

    A dot leads into a mapping: reward_model.ground_truth.
    """

    problem: str = ""
    answer: str = ""
    images: str = ""
    choices: str = ""
    id: str = ""


class Fields(NamedTuple):
    """What a row holds, before it is checked; each with the name of its column for messages."""

    problem: tuple[str, object]
    answer: tuple[str, object]
    images: list[object]
    choices: tuple[str, object]


def read_fields(item: JsonObject, columns: Columns) -> Fields:
    """Find a row's fields. Raises UserError for a named column that is not there, a video, or several turns."""
    for key in VIDEOS:
        if item.get(key):
            raise UserError(
                f"has a video ('{key}'), and videos are not read; give some of its frames as a list of pictures"
            )
    problem, answer = find(item, "problem", columns.problem), find(item, "answer", columns.answer)
    _, pictures = find(item, "images", columns.images)
    if is_list(problem[1]):
        asked, reply, shown = _read_turns(problem[0], problem[1])
        problem = (problem[0], asked)
        answer = answer if answer[1] is not None else (problem[0], reply)
        pictures = shown if pictures is None else pictures
    entries = pictures if is_list(pictures) else [] if pictures is None else [pictures]
    return Fields(problem, answer, entries, find(item, "choices", columns.choices))


def find(item: JsonObject, field: str, given: str = "") -> tuple[str, object]:
    """The column's name and value: the one that is given, or the first usual one that has a value."""
    if not given:
        usual = USUAL[field]
        return next(((key, item[key]) for key in usual if item.get(key) is not None), (usual[0], None))
    value: object = item
    for key in [given] if given in item else given.split("."):
        if not is_object(value) or key not in value:
            has = ", ".join(sorted(item)[:12])
            raise UserError(
                f"has no column '{given}', which {field}_key names; its columns are {has}; name one of them"
            )
        value = value[key]
    return given, value


def _read_turns(key: str, turns: list[object]) -> tuple[str, str | None, list[object] | None]:
    """The one user's turn of a conversation, the assistant's behind it, and the pictures in the turns.

    Spelled {"role", "content"} or {"from", "value"}; a content is a text or a list of parts.
    """
    asked: list[str] = []
    replies: list[str] = []
    pictures: list[object] = []
    for turn in turns:
        if not is_object(turn):
            raise UserError(f"'{key}' holds a JSON {json_type(turn)}; a turn is {{role: ..., content: ...}}; fix it")
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        text = _join_parts(key, content, pictures)
        if role in USERS:
            asked.append(text)
        elif role in ASSISTANTS:
            replies.append(text)
        elif text.strip():
            raise UserError(f"'{key}' has a turn of '{role}'; the prompt is the task's own; leave that turn out")
    if len(asked) != 1 or len(replies) > 1:
        raise UserError(
            f"'{key}' has {len(asked)} turns of the user and {len(replies)} of the assistant; a row is one question and"
            " its answer; make a row of each"
        )
    return asked[0], replies[0] if replies else None, pictures or None


def _join_parts(key: str, content: object, pictures: list[object]) -> str:
    """A turn's text; its pictures are added to `pictures`, with IMAGE in their place."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in content if is_list(content) else [content]:
        if not is_object(part) or part.get("type") not in ("text", "image"):
            kind = part.get("type") if is_object(part) else json_type(part)
            raise UserError(f"'{key}' has a part of type '{kind}'; parts are text or image; leave it out")
        if part["type"] == "text":
            texts.append(str(part.get("text") or ""))
            continue
        texts.append(IMAGE)
        found = next((part[name] for name in ("image", "path", "url") if part.get(name) is not None), None)
        pictures += [] if found is None else [found]
    return "".join(texts)

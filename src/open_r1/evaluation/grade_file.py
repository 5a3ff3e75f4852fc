"""Grade replies that exist already, a JSON line each, as training grades them."""

import dataclasses
import json
from pathlib import Path

from tqdm import tqdm

from open_r1.schema import Score, UserError
from open_r1.tasks import Task, get_task
from open_r1.utils.files import JsonObject, write_jsonl
from open_r1.utils.names import unknown_name

_SHOWN_ERRORS = 3  # bad lines spelled out in a message; the others are counted


def _checked_item(line: str) -> JsonObject:
    """Parse one line; raises UserError (without the place) where it is no item to grade."""
    try:
        item = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"not JSON ({error})") from error
    if not isinstance(item, dict):
        raise UserError(f"holds a JSON {type(item).__name__}, not an object")
    for key, allowed, rule in (("reply", (str, type(None)), "a string or null"), ("answer", (str,), "a string")):
        if key not in item:
            raise UserError(f'has no key "{key}"')
        if not isinstance(item[key], allowed):
            raise UserError(f'key "{key}" holds {json.dumps(item[key])[:40]}, which is not {rule}')
    return item


def _check_setting(task: Task, setting: str | None) -> str:
    """The grader's variant to use: the task's first where none is named."""
    if setting is not None and setting not in task.settings:
        raise unknown_name("setting", setting, task.settings, where=f"task {task.name}")
    return setting or task.settings[0]


def grade_item(item: JsonObject, task: Task, setting: str) -> JsonObject:
    """Grade one item; a failed one (reply null) is graded as an empty reply, which every grader takes for wrong."""
    failed = item["reply"] is None
    score: Score = task.grade(item["reply"] or "", item["answer"], setting)
    parts = {name: part for name, part in dataclasses.asdict(score).items() if part is not None}
    return item | parts | {"failed": failed}


def grade_file(path: Path, task: Task, setting: str) -> list[JsonObject]:
    """Grade every line of a JSON lines file; blank lines are skipped.

    Raises:
        UserError: the file cannot be read, is empty, or has bad lines; all are counted, the first ones named.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; --replies must name a JSON lines file in UTF-8") from error
    graded, bad = [], []
    for number, line in enumerate(tqdm(lines, desc="grading", unit="line", delay=2, leave=False), start=1):
        if line.strip():
            try:
                graded.append(grade_item(_checked_item(line), task, setting))
            except UserError as error:
                bad.append(f"line {number}: {error}")
    if bad:
        more = f"; and {len(bad) - _SHOWN_ERRORS} more" if len(bad) > _SHOWN_ERRORS else ""
        raise UserError(
            f"{path}: {len(bad)} bad line{'s' if len(bad) > 1 else ''}; {'; '.join(bad[:_SHOWN_ERRORS])}{more};"
            ' every line must be an object with "reply" (a string, or null where the request failed) and "answer" (a'
            " string): correct or delete these lines; nothing was written"
        )
    if not graded:
        raise UserError(f"{path} holds no lines; --replies must name a JSON lines file with at least one reply")
    return graded


def summary(graded: list[JsonObject], task: Task, setting: str) -> str:
    """A table of the mean scores over all items; failed ones are in the denominator and are named."""
    failed = sum(item["failed"] for item in graded)
    names = [field.name for field in dataclasses.fields(Score) if field.name in graded[0]]
    rows = [f"{name:<10}{sum(item[name] for item in graded) / len(graded):>8.4f}" for name in names]
    head = f"{task.name}, {setting}: {len(graded)} replies"
    return "\n".join([head + (f", {failed} of them failed and count as wrong" if failed else ""), *rows])


def grade_replies(task_name: str, replies: Path, output: Path, setting: str | None = None) -> str:
    """Grade `replies`, write `output`, return the table of means; raises UserError before anything is written."""
    task = get_task(task_name)
    setting = _check_setting(task, setting)
    graded = grade_file(replies, task, setting)
    try:
        write_jsonl(output, graded)
    except OSError as error:
        rule = "--output must name a file in a folder you may write"
        raise UserError(f"cannot write {output}: {error}; {rule}") from error
    return summary(graded, task, setting)

"""Evaluation entry: ask a model and grade what it says, or grade replies that exist already, as training grades.

`python src/open_r1/evaluate.py --task trance --model 2b [--model_path P] [--split id|ood|all] [--k 64] ...` asks a
model; that is `make eval`, see model_evaluation.py and --help.
`python src/open_r1/evaluate.py --task trance --replies replies.jsonl --output scores.jsonl [--setting partial]`
reads one JSON object per line with "reply" (text, or null for a request that failed) and "answer" (text), and writes
the same objects with their scores added ("accuracy", "format", for trance also "full" and "partial"; "failed").
"""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

# Run as a script, Python puts this file's folder first on its path; the package lies in the folder above, and is found
# there whether or not it is installed.
if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from tqdm import tqdm

from open_r1.schema import Score, UserError
from open_r1.tasks import Task, get_task
from open_r1.utils.names import unknown_name

_SHOWN_ERRORS = 3  # bad lines spelled out in a message; the others are counted


def _checked_item(line: str) -> dict[str, Any]:
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


def grade_item(item: dict[str, Any], task: Task, setting: str) -> dict[str, Any]:
    """Grade one item; a failed one (reply null) is graded as an empty reply, which every grader takes for wrong."""
    failed = item["reply"] is None
    score: Score = task.grade(item["reply"] or "", item["answer"], setting)
    parts = {name: part for name, part in dataclasses.asdict(score).items() if part is not None}
    return item | parts | {"failed": failed}


def grade_file(path: Path, task: Task, setting: str) -> list[dict[str, Any]]:
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


def write_lines(items: list[dict[str, Any]], path: Path) -> None:
    """Write JSON lines aside and rename them into place, so that `path` is never half a file.

    Raises:
        UserError: the place cannot be written to.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error}; --output must name a file in a folder you may write") from error


def summary(graded: list[dict[str, Any]], task: Task, setting: str) -> str:
    """A table of the mean scores over all items; failed ones are in the denominator and are named."""
    failed = sum(item["failed"] for item in graded)
    names = [field.name for field in dataclasses.fields(Score) if field.name in graded[0]]
    rows = [f"{name:<10}{sum(item[name] for item in graded) / len(graded):>8.4f}" for name in names]
    head = f"{task.name}, {setting}: {len(graded)} replies"
    return "\n".join([head + (f", {failed} of them failed and count as wrong" if failed else ""), *rows])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate.py", description="Grade replies with a task's grader.")
    parser.add_argument("--task", required=True, help="clevr_math, geomath or trance")
    parser.add_argument("--setting", help="the grader's variant; default: the task's first (exact; full)")
    parser.add_argument("--replies", required=True, type=Path, help='JSON lines with "reply" and "answer"')
    parser.add_argument("--output", required=True, type=Path, help="JSON lines to write, one per reply, with scores")
    return parser


def grade_replies(task_name: str, replies: Path, output: Path, setting: str | None = None) -> str:
    """Grade `replies`, write `output`, return the table of means; raises UserError before anything is written."""
    task = get_task(task_name)
    setting = _check_setting(task, setting)
    graded = grade_file(replies, task, setting)
    write_lines(graded, output)
    return summary(graded, task, setting)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 2 for what the user can put right."""
    words = sys.argv[1:] if arguments is None else arguments
    if not any(word.split("=")[0] == "--replies" for word in words):
        from open_r1.evaluation.model import main as ask_a_model  # it takes longer to import than grading takes

        return ask_a_model(words)
    options = _parser().parse_args(words)
    try:
        print(grade_replies(options.task, options.replies, options.output, options.setting))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

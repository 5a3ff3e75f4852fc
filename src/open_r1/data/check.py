"""Check data before training: counts, kinds of answers, sizes of pictures, what is changed in them, all bad rows."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from open_r1.data.columns import Columns
from open_r1.data.image_files import Examined
from open_r1.data.rows import BadRow, LoadedRows, VerifyImages, read_rows
from open_r1.data.sets import in_layout, own_sets
from open_r1.schema import UserError
from open_r1.tasks import TASKS, Task, answers_of, get_task
from open_r1.utils.hub import fetch, is_hub_id
from open_r1.utils.terminal import printable

CHANGED_SHOWN = 20  # pictures that are named for each kind of change

ANSWER_KINDS = {  # the first pattern that matches whole names the kind
    "functions": r"\s*change_\w+\s*\(.*",
    "choice": r"\s*[A-D]\s*",
    "integer": r"\s*[+-]?\d+\s*",
    "number": r"\s*[+-]?(?=[\d.])(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?(e[+-]?\d+)?\s*%?\s*",
    "expression": r".*[\d\\^=√π].*",  # a unit, a fraction, a root, an unknown
    "text": r".*",
}


@dataclass(frozen=True)
class SetReport:
    """What one set of a task holds."""

    task: str
    split: str
    rows: int
    bad: list[BadRow]
    images: int  # distinct pictures
    cot_share: float  # share of the good rows that have reasoning
    answers: Counter[str]  # kind -> rows
    sizes: Counter[tuple[int, int]]  # (width, height) -> distinct pictures; empty when pictures were not decoded
    changed: dict[str, list[str]]  # kind of change -> the pictures, with what was done to each


def answer_kind(answer: str) -> str:
    r"""Name the kind of an answer.

    >>> [answer_kind(answer) for answer in ("4", "2.5", "B", r"\frac{1}{2}", "slide", "change_size(2, small)")]
    ['integer', 'number', 'choice', 'expression', 'text', 'functions']
    """
    return next(kind for kind, pattern in ANSWER_KINDS.items() if re.fullmatch(pattern, answer, re.DOTALL))


def report_set(task: Task, split: str, loaded: LoadedRows) -> SetReport:
    """Count a set."""
    images = dict.fromkeys(image for row in loaded.rows for image in row.images)
    examined = {path: loaded.pictures[path] for path in images if path in loaded.pictures}
    return SetReport(
        task=task.name,
        split=split,
        rows=len(loaded.rows),
        bad=loaded.bad,
        images=len(images),
        cot_share=sum(row.cot is not None for row in loaded.rows) / max(1, len(loaded.rows)),
        answers=Counter(answer_kind(answers_of(row.answer)[0]) for row in loaded.rows),
        sizes=Counter(each.size for each in examined.values()),
        changed=_changed(examined),
    )


def _changed(examined: dict[Path, Examined]) -> dict[str, list[str]]:
    """Sort what was changed by its kind: {"turned upright": ["a.jpg (EXIF orientation 6)"]}."""
    changed: dict[str, list[str]] = {}
    for path, each in examined.items():
        for change in each.changes:
            kind, _, how = change.partition(" (")
            name = printable(path.name, 80)
            changed.setdefault(kind, []).append(f"{name} ({how}" if how else name)
    return changed


def check(
    data_path: str,
    task: str | None = None,
    image_folder: str | None = None,
    verify_images: VerifyImages = "decode",
    columns: Columns = Columns(),  # noqa: B008  # frozen
) -> list[SetReport]:
    """Read every set that `data_path` holds.

    Args:
        data_path: folder in the layout, hub id, or a JSON file.
        task: only this one; a JSON file needs it unless its name matches a task's in the layout.
        image_folder: where image names start, if not where the layout has them.
        verify_images: "decode" every picture, or only look whether it "exists".
        columns: names of columns where they are not the usual ones.

    Raises:
        UserError: nothing is found, or a file cannot be read.
    """
    path = fetch(data_path) if is_hub_id(data_path) else Path(data_path)
    tasks = [get_task(task)] if task else list(TASKS.values())
    sets = [(each, split) for each in tasks for split, glob in _globs(each).items() if _holds(path, glob)]
    if not path.exists():
        raise UserError(
            f"{path} does not exist; data are a folder in the Reason-RFT-CoT layout, a file of rows or a folder of such"
            " files; fix the path"
        )
    own = {"train": [path]} if path.is_file() else {} if in_layout(tasks[0], path) else own_sets(path)
    if not sets and path.is_file() and not task:
        raise UserError(
            f"{path}: its name does not say whose rows it holds; add TASK=name (--task name) with one of"
            f" {', '.join(TASKS)}"
        )
    if not sets and task:
        sets = [(tasks[0], split) for split in own]
    if not sets:
        names = ", ".join(glob for each in tasks for glob in _globs(each).values())
        hint = " (for a folder of your own files give TASK=name)" if own else ""
        raise UserError(
            f"{path} holds no set in the Reason-RFT-CoT layout{hint}; it has files like {names}; name them so"
        )
    read = partial(read_rows, path=path, image_folder=image_folder, verify_images=verify_images, columns=columns)
    return [report_set(each, split, read(each, split=split)) for each, split in sets]


def unread_files(data_path: str) -> list[Path]:
    """JSON files beside the sets whose names no task knows: most likely misspelt, and silently never trained on."""
    folder = Path(data_path)
    known = {file for task in TASKS.values() for glob in _globs(task).values() for file in folder.glob(glob)}
    return sorted(file for file in folder.glob("*_jsons/*.json") if file not in known)


def _globs(task: Task) -> dict[str, str]:
    return {"train": task.train_files, **task.test_files}


def _holds(path: Path, glob: str) -> bool:
    return path.match(Path(glob).name) if path.is_file() else any(path.glob(glob))


def describe(reports: Iterable[SetReport]) -> str:
    """The table of sets, then each set's answers and pictures, then every bad row."""
    reports = list(reports)
    lines = [f"{'set':<24}{'rows':>8}{'bad':>8}{'images':>8}{'with cot':>10}"]
    for report in reports:
        name = f"{report.task} {report.split}"
        lines.append(f"{name:<24}{report.rows:>8}{len(report.bad):>8}{report.images:>8}{report.cot_share:>10.0%}")
    for report in reports:
        lines += ["", f"{report.task} {report.split}", *_details(report)]
    return "\n".join(lines)


def _details(report: SetReport) -> Iterator[str]:
    answers = ", ".join(f"{kind} {count}" for kind, count in report.answers.most_common())
    yield f"  answers  {answers or 'none'}"
    if report.sizes:
        by_area = sorted(report.sizes.elements(), key=lambda size: size[0] * size[1])
        low, middle, high = (f"{w}x{h}" for w, h in (by_area[0], by_area[len(by_area) // 2], by_area[-1]))
        yield f"  images   min {low}, median {middle}, max {high}, {len(report.sizes)} distinct sizes"
    for kind, pictures in report.changed.items():
        more = f", and {len(pictures) - CHANGED_SHOWN} more" if len(pictures) > CHANGED_SHOWN else ""
        yield f"  changed  {len(pictures)} {kind}: {', '.join(pictures[:CHANGED_SHOWN])}{more}"
    for bad in report.bad:
        yield f"  bad      {bad}"

"""Check a data folder or file before training: counts, kinds of answers, sizes of pictures, and every bad row.

python -m open_r1.cli.check_data --data_path data/my_set [--task geomath] [--image_folder pictures]
Exit status: 0 all rows are good, 1 there are bad rows, 2 the data cannot be read at all.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from open_r1.data.rows import BadRow, LoadedRows, VerifyImages, read_rows
from open_r1.schema import UserError
from open_r1.tasks import TASKS, Task, get_task
from open_r1.utils.entry import command_parser, run_entry
from open_r1.utils.hub import fetch, is_hub_id

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
    sizes: Counter[tuple[int, int]]  # (width, height) -> distinct pictures; empty when pictures were not opened


def answer_kind(answer: str) -> str:
    r"""Name the kind of an answer.

    >>> [answer_kind(answer) for answer in ("4", "2.5", "B", r"\frac{1}{2}", "slide", "change_size(2, small)")]
    ['integer', 'number', 'choice', 'expression', 'text', 'functions']
    """
    return next(kind for kind, pattern in ANSWER_KINDS.items() if re.fullmatch(pattern, answer, re.DOTALL))


def report_set(task: Task, split: str, loaded: LoadedRows, open_images: bool) -> SetReport:
    """Count a set; `open_images` reads the size of each picture from its header."""
    images = list(dict.fromkeys(image for row in loaded.rows for image in row.images))
    sizes: Counter[tuple[int, int]] = Counter()
    for path in tqdm(images, desc="reading sizes", unit="image", delay=3, leave=False) if open_images else ():
        with Image.open(path) as image:
            sizes[image.size] += 1
    return SetReport(
        task=task.name,
        split=split,
        rows=len(loaded.rows),
        bad=loaded.bad,
        images=len(images),
        cot_share=sum(row.cot is not None for row in loaded.rows) / max(1, len(loaded.rows)),
        answers=Counter(answer_kind(row.answer) for row in loaded.rows),
        sizes=sizes,
    )


def check(
    data_path: str, task: str | None = None, image_folder: str | None = None, verify_images: VerifyImages = "decode"
) -> list[SetReport]:
    """Read every set that `data_path` holds.

    Args:
        data_path: folder in the layout, hub id, or a JSON file.
        task: only this one; a JSON file needs it unless its name matches a task's in the layout.
        image_folder: where image names start, if not where the layout has them.
        verify_images: "decode" every picture, or only look whether it "exists".

    Raises:
        UserError: nothing is found, or a file cannot be read.
    """
    path = fetch(data_path) if is_hub_id(data_path) else Path(data_path)
    tasks = [get_task(task)] if task else list(TASKS.values())
    sets = [(each, split) for each in tasks for split, glob in _globs(each).items() if _holds(path, glob)]
    if path.is_file() and task and not sets:
        sets = [(get_task(task), "train")]
    if not path.exists():
        raise UserError(
            f"{path} does not exist; data are a folder in the Reason-RFT-CoT layout or a JSON file; mend it"
        )
    if path.is_file() and not sets:
        raise UserError(
            f"{path}: its name does not say whose rows it holds; add --task T (make: ARGS='--task T') with one of"
            f" {', '.join(TASKS)}"
        )
    if not sets:
        names = ", ".join(glob for each in tasks for glob in _globs(each).values())
        raise UserError(f"{path} holds no set in the Reason-RFT-CoT layout; it has files like {names}; name them so")
    return [
        report_set(
            each,
            split,
            read_rows(each, path, split, image_folder=image_folder, verify_images=verify_images),
            open_images=verify_images == "decode",
        )
        for each, split in sets
    ]


def unread_files(data_path: str) -> list[Path]:
    """JSON files beside the sets whose names no task knows: most likely misspelt, and silently never trained on."""
    folder = Path(data_path)
    known = {file for task in TASKS.values() for glob in _globs(task).values() for file in folder.glob(glob)}
    return sorted(file for file in folder.glob("*_jsons/*.json") if file not in known)


def _globs(task: Task) -> dict[str, str]:
    return {"train": task.train_files, **task.test_files}


def _holds(path: Path, glob: str) -> bool:
    return path.match(Path(glob).name) if path.is_file() else any(path.glob(glob))


def print_reports(reports: list[SetReport]) -> None:
    """Print the table of sets, then each set's answers and pictures, then every bad row."""
    print(f"{'set':<24}{'rows':>8}{'bad':>8}{'images':>8}{'with cot':>10}")
    for report in reports:
        name = f"{report.task} {report.split}"
        print(f"{name:<24}{report.rows:>8}{len(report.bad):>8}{report.images:>8}{report.cot_share:>10.0%}")
    for report in reports:
        answers = ", ".join(f"{kind} {count}" for kind, count in report.answers.most_common())
        print(f"\n{report.task} {report.split}\n  answers  {answers or 'none'}")
        if report.sizes:
            by_area = sorted(report.sizes.elements(), key=lambda size: size[0] * size[1])
            low, middle, high = (f"{w}x{h}" for w, h in (by_area[0], by_area[len(by_area) // 2], by_area[-1]))
            print(f"  images   min {low}, median {middle}, max {high}, {len(report.sizes)} distinct sizes")
        for bad in report.bad:
            print(f"  bad      {bad}")


def main(argv: Sequence[str]) -> int:
    """Run the check; returns the exit status."""
    parser = command_parser(__doc__, task="only this task; needed for a JSON file with a name of your own")
    parser.set_defaults(task="")
    parser.add_argument("--data_path", required=True, help="folder in the Reason-RFT-CoT layout, JSON file, or hub id")
    parser.add_argument("--image_folder", help="where the image names start (default: as the layout has it)")
    args = parser.parse_args(argv)
    reports = check(args.data_path, args.task or None, args.image_folder)
    print_reports(reports)
    for file in unread_files(args.data_path):
        print(f"\nnot read: {file} (no task has a set of that name)")
    return 1 if any(report.bad for report in reports) else 0


if __name__ == "__main__":
    run_entry(main)

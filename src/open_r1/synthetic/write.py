"""Writes synthetic data sets in the Reason-RFT-CoT layout, for the same loader as the real ones.

    images/train_images/  images/test_images/  train_jsons/  train_jsons/base/  test_jsons/  synthetic.json

The names match the globs of the tasks; `base/`, the base policy's pre-training set, lies where no glob looks. Row i of
a set is drawn from its own random stream, so the files do not depend on the number of workers, and the sets share no
stream. Everything is written aside and renamed, so a folder is either whole or not there.
"""

import functools
import hashlib
import json
import multiprocessing
import shutil
import textwrap
from pathlib import Path

from filelock import FileLock
from PIL import Image, ImageDraw
from tqdm import tqdm

from open_r1.schema import UserError
from open_r1.synthetic.geomath_pen import load_font
from open_r1.synthetic.rows import BASE, Job, make_row, make_sample
from open_r1.synthetic.sample import SIZES, Size
from open_r1.tasks import Task, get_task
from open_r1.utils.names import unknown_name
from open_r1.utils.provenance import ROOT

MANIFEST = "synthetic.json"
NUMBERS = {"trance": "A1-", "geomath": "A2-", "clevr_math": "A3-"}  # what the real training files' names begin with
COLUMNS, TILE, LINE = 4, 360, 17  # rows side by side in a contact sheet; pixels: width of a row, height of a line


@functools.cache
def generator_version() -> str:
    """A short digest of the generators' source: other code draws other pictures from the same seed."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def own_folder(task: str, size: Size, counts: dict[str, int]) -> Path:
    """Where a run keeps the synthetic data it makes for itself; another version of the generators has another."""
    rows = "-".join(f"{count}{split}" for split, count in counts.items())
    return ROOT / "data" / f"{task}-{size}-{rows}-{generator_version()}"


def write_dataset(task: str, folder: Path, size: Size, seed: int, counts: dict[str, int], workers: int = 2) -> None:
    """Write `counts[set]` rows of each set of `task` below `folder`.

    A folder with the same settings, made by the same version of the generators, is left as it is.

    Args:
        task: name of the task.
        folder: data folder, made here; of several processes that want it, one writes and the others wait.
        size: "tiny" (for the tiny policy: small pictures, small numbers) or "full".
        seed: of all random streams.
        counts: rows by set: "train", "base" and the task's test sets ("id", "ood" or "ood_left", ...), each >= 1.
        workers: processes.

    Raises:
        UserError: unknown task, size or set, a count below 1, or a folder that holds something else.
    """
    known = get_task(task)
    _check(known, size, counts, workers)
    settings = {"task": task, "size": size, "seed": seed, "counts": counts, "generator": generator_version()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not _reusable(folder, settings):
            _write(known, folder, settings, workers)


def _write(known: Task, folder: Path, settings: dict, workers: int) -> None:
    """Make everything in a folder beside the final one, then rename it."""
    task, size, seed, counts = settings["task"], settings["size"], settings["seed"], settings["counts"]
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # of an interrupted run
    files = {split: part / set_file(known, split) for split in counts}
    images = {
        split: part / "images" / ("test_images" if split in known.test_files else "train_images") for split in counts
    }
    for path in (*images.values(), *(file.parent for file in files.values())):
        path.mkdir(parents=True, exist_ok=True)
    jobs = [Job(task, size, seed, split, i, images[split]) for split, count in counts.items() for i in range(count)]
    rows = _make_all(jobs, workers, f"{task} {size}")
    for split, count in counts.items():
        files[split].write_text(json.dumps(rows[:count], ensure_ascii=False, indent=1), encoding="utf-8")
        del rows[:count]
    (part / MANIFEST).write_text(json.dumps(settings, indent=1), encoding="utf-8")
    part.rename(folder)


def _check(task: Task, size: str, counts: dict[str, int], workers: int) -> None:
    if workers < 1:
        raise UserError(f"workers is {workers}; rows are made by at least one process: give 1 or more")
    if size not in SIZES:
        raise unknown_name("size of synthetic data", size, SIZES)
    for split, count in counts.items():
        if split not in ("train", BASE, *task.test_files):
            raise unknown_name(f"set of {task.name}", split, ("train", BASE, *task.test_files))
        if count < 1:
            raise UserError(
                f"counts['{split}'] is {count}; a set has at least one row: leave '{split}' out or raise it"
            )


def _reusable(folder: Path, settings: dict) -> bool:
    """Whether `folder` holds exactly this data set; raises UserError when it holds anything else."""
    if not folder.exists():
        return False
    manifest = folder / MANIFEST
    if not manifest.is_file():
        if not any(folder.iterdir()):
            return False
        raise UserError(
            f"{folder} is not empty and has no {MANIFEST}; synthetic data need their own folder: name another"
        )
    found = json.loads(manifest.read_text(encoding="utf-8"))
    if found == settings:
        return True
    other = [key for key in settings if found.get(key) != settings[key]]
    differing = ", ".join(f"{key} {found.get(key)} (asked for: {settings[key]})" for key in other)
    raise UserError(f"{folder} holds synthetic data with {differing}; name another folder or delete this one")


def set_file(task: Task, split: str) -> str:
    """Return the set's file below the data folder: the task's glob with its stars filled in."""
    if split in task.test_files:
        return task.test_files[split].replace("*", "", 1).replace("*", "-synthetic")
    name = task.train_files.replace("*", NUMBERS[task.name], 1).replace("*", "-synthetic-cot")
    return name if split == "train" else name.replace("train_jsons/", "train_jsons/base/")


def _make_all(jobs: list[Job], workers: int, title: str) -> list[dict]:
    """Make the rows of `jobs`, in their order, with a progress bar."""
    bar = functools.partial(tqdm, total=len(jobs), desc=title, unit="row", mininterval=1.0)
    if workers == 1:
        return list(bar(map(make_row, jobs)))
    with multiprocessing.Pool(workers) as pool:
        return list(bar(pool.imap(make_row, jobs, chunksize=8)))


def contact_sheet(task: str, size: Size, seed: int, path: Path, n: int = 16) -> None:
    """Save a PNG of `n` rows, four in a line: picture, question, right answer, kind and set.

    They are the first training rows and the first rows out of domain of the data set with the same seed.
    """
    splits = ("train", *(split for split in get_task(task).test_files if split != "id"))
    jobs = [Job(task, size, seed, split, i, path.parent) for i in range(n) for split in splits][:n]
    tiles = [_tile(job) for job in sorted(jobs, key=lambda job: splits.index(job.split))]
    height = max(tile.height for tile in tiles)
    sheet = Image.new("RGB", (COLUMNS * TILE, -(-n // COLUMNS) * height), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % COLUMNS * TILE, index // COLUMNS * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _tile(job: Job) -> Image.Image:
    """Draw one row of a contact sheet: its pictures side by side, tiny ones magnified pixel by pixel, and its text."""
    sample, _ = make_sample(job)
    lines = [part for line in sample.problem.split("\n") for part in textwrap.wrap(line, 48)]
    lines += [f"answer {part}" if i == 0 else part for i, part in enumerate(textwrap.wrap(sample.answer, 41))]
    lines.append(f"({sample.kind}, {job.split})")
    width = (TILE - 8 * (len(sample.images) + 1)) // len(sample.images)
    pictures = []
    for picture in sample.images:
        wide = width // picture.width * picture.width or width
        how = Image.Resampling.NEAREST if wide >= picture.width else Image.Resampling.LANCZOS
        pictures.append(picture.resize((wide, picture.height * wide // picture.width), how))
    top = max(picture.height for picture in pictures) + 16
    tile = Image.new("RGB", (TILE, top + LINE * len(lines) + 8), "white")
    for index, picture in enumerate(pictures):
        tile.paste(picture, (8 + index * (width + 8), 8))
    draw = ImageDraw.Draw(tile)
    draw.text((8, top), "\n".join(lines), fill="black", font=load_font(12), spacing=3)
    draw.rectangle((0, 0, TILE - 1, tile.height - 1), outline="gray")
    return tile

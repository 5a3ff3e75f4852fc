"""The loader: real, synthetic and user data all become `Row`s here, and what cannot is reported row by row.

How one row may be spelled is in row_format.py; the layout and the rules are described in docs/DATA.md.
"""

import logging
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from open_r1.data.columns import Columns
from open_r1.data.image_files import Examined, examine_all
from open_r1.data.row_format import image_names, parse_row, row_id
from open_r1.data.sets import in_layout, set_files
from open_r1.data.sources import read_items
from open_r1.schema import Row, UserError
from open_r1.utils.files import is_object
from open_r1.utils.hub import fetch, is_hub_id
from open_r1.utils.terminal import printable

if TYPE_CHECKING:
    from open_r1.tasks.task import Task

VerifyImages = Literal["auto", "exists", "decode"]
DECODE_UP_TO = 4000  # distinct pictures that "auto" still decodes; above, a run would wait for minutes to start
BAD_ROWS_SHOWN = 3
FIRST = 20  # rows of a file whose pictures say where pictures lie

Placed = tuple[Row, Path, int]  # a row, its file, its place in the file's list

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why: reason is rule and remedy in one line."""

    file: Path
    index: int  # place in the file's list, from 0
    id: str
    reason: str

    def __str__(self) -> str:
        """For example `rows.json, row 3 (id 'train-4'): no answer; ...`."""
        place = f"{self.file.name}, row {self.index} (id '{printable(self.id, 80)}')"
        return f"{place}: {printable(self.reason, 500)}"


@dataclass(frozen=True)
class LoadedRows:
    """What a set holds: the good rows in file order, and the bad ones."""

    rows: list[Row]
    bad: list[BadRow]
    pictures: dict[Path, Examined] = field(
        default_factory=dict[Path, Examined]
    )  # what decoding showed; empty where none was decoded


def load_rows(
    task: "Task",
    path: str | Path,
    split: str,
    *,
    skip_bad_rows: bool = False,
    image_folder: str | Path | None = None,
    verify_images: VerifyImages = "auto",
    columns: Columns = Columns(),  # noqa: B008  # frozen
) -> LoadedRows:
    """Read one set of a task, for training or evaluation.

    Args:
        task: whose rows they are; decides the file names in a folder and the number of images of a row.
        path: a folder in the Reason-RFT-CoT layout, one JSON file, or the id of a data set on the hub (owner/name).
        split: "train" or one of `task.test_files`.
        skip_bad_rows: leave bad rows out with one line in the log instead of stopping.
        image_folder: where image names start; found by itself in a layout and beside a file (docs/DATA.md).
        verify_images: "exists" looks whether every picture is there, "decode" also decodes each (finds truncated
            files; about 300 CLEVR pictures a second and core), "auto" decodes up to 4000 distinct pictures.
        columns: names of columns where they are not the usual ones.

    Returns:
        The rows, at least one, and the bad rows (none unless `skip_bad_rows`).

    Raises:
        UserError: files are missing or no lists, no good row is left, or a bad row may not be skipped.
    """
    read = read_rows(task, path, split, image_folder=image_folder, verify_images=verify_images, columns=columns)
    if not read.bad and not read.rows:
        raise UserError(f"{path}: set '{split}' of {task.name} holds no rows; a set has at least one; give other data")
    if not read.bad:
        return read
    shown = "; ".join(map(str, read.bad[:BAD_ROWS_SHOWN]))
    more = f"; and {len(read.bad) - BAD_ROWS_SHOWN} more" if len(read.bad) > BAD_ROWS_SHOWN else ""
    many = f"{len(read.bad)} of {len(read.rows) + len(read.bad)} rows of set '{split}' are bad"
    if skip_bad_rows and read.rows:
        logger.warning("%s: skipped bad rows: %s: %s%s", path, many, shown, more)
        return read
    remedy = "fix them (`make check-data` lists all)" + (" or set skip_bad_rows=true" if read.rows else "")
    raise UserError(f"{path}: {many}: {shown}{more}; {remedy}")


def read_rows(
    task: "Task",
    path: str | Path,
    split: str,
    *,
    image_folder: str | Path | None = None,
    verify_images: VerifyImages = "auto",
    columns: Columns = Columns(),  # noqa: B008  # frozen
) -> LoadedRows:
    """Read one set and sort its rows into good and bad, stopping for neither; arguments and errors as `load_rows`."""
    path = fetch(str(path)) if is_hub_id(path) else Path(path)
    good: list[Placed] = []
    bad: list[BadRow] = []
    first_with: dict[str, tuple[Path, int]] = {}
    for file in set_files(task, path, split):
        items = read_items(file)
        first = list(islice(items, FIRST))
        names = [name for item in first if is_object(item) for name in image_names(item, columns)]
        folder = _image_folder(path if in_layout(task, path) else file, file, split, names, image_folder)
        for index, item in enumerate(chain(first, items)):
            name = row_id(item, file, index, columns)
            try:
                row = parse_row(item, name, task, folder, columns)
                if name in first_with:
                    other, place = first_with[name]
                    raise UserError(f"id is also that of row {place} in {other.name}; ids are unique; rename one")
            except UserError as error:
                bad.append(BadRow(file, index, name, str(error)))
            else:
                good.append((row, file, index))
            first_with.setdefault(name, (file, index))
    pictures: dict[Path, Examined] = {}
    if verify_images != "exists":
        pictures = _decoded(good, limit=DECODE_UP_TO if verify_images == "auto" else None)
        faults = {path: examined.fault for path, examined in pictures.items() if examined.fault}
        for row, file, index in good:
            bad += [BadRow(file, index, row.id, faults[image]) for image in row.images if image in faults][:1]
        good = [placed for placed in good if not faults.keys() & set(placed[0].images)]
    bad.sort(key=lambda entry: (str(entry.file), entry.index))
    return LoadedRows([row for row, _, _ in good], bad, pictures)


def _decoded(good: list[Placed], limit: int | None) -> dict[Path, Examined]:
    """Decode every distinct picture of the rows; none where there are more than `limit`."""
    pictures = dict.fromkeys(image for row, _, _ in good for image in row.images)
    if limit is not None and len(pictures) > limit:
        logger.info("%d pictures: their files are there, none was decoded; `make check-data` does so", len(pictures))
        return {}
    return examine_all(pictures)


def _image_folder(path: Path, file: Path, split: str, names: list[str], given: str | Path | None) -> Path:
    """The folder in which the file's image names start."""
    if given is not None:
        if not Path(given).is_dir():
            raise UserError(f"image folder {given} does not exist; image names are relative to it; give another")
        return Path(given)
    if path.is_dir():
        name = "train_images" if split == "train" else "test_images"
        if not (path / "images" / name).is_dir():
            raise UserError(
                f"{path} has no folder images/{name}, where the pictures of set '{split}' are looked for; unpack"
                f" {name}.zip with `python -m open_r1.cli.download --unpack_only --output {path}`"
            )
        return path / "images" / name
    # A single file that lies in a layout (train_jsons/base/x.json) also finds the layout's pictures.
    nearby = [file.parent / "images", file.parent]
    for parent in file.parents:
        if parent.name in ("train_jsons", "test_jsons"):
            nearby.insert(0, parent.parent / "images" / parent.name.replace("jsons", "images"))
    present = [folder for folder in nearby if folder.is_dir()]
    return max(present, key=lambda folder: sum((folder / name).is_file() for name in names))

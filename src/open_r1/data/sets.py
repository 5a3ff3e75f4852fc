"""Which files hold which set: a folder in the layout, a folder of one's own, or a single file."""

from pathlib import Path
from typing import TYPE_CHECKING

from open_r1.schema import UserError
from open_r1.utils.names import unknown_name

if TYPE_CHECKING:
    from open_r1.tasks.task import Task

OWN_TEST = "test"  # name of the one test set of data that are not in the layout
SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
TEST_WORDS = ("test", "val", "valid", "validation", "eval", "dev")  # of them in a file's name: it holds test rows
NOT_ROWS = ("dataset_infos", "dataset_dict", "download", "state", "config")  # what a hub set's folder holds beside rows


def in_layout(task: "Task", path: Path) -> bool:
    """Whether `path` is a folder in the Reason-RFT-CoT layout; one of another task counts, to be named as such."""
    return path.is_dir() and any((path / name).is_dir() for name in ("train_jsons", "test_jsons"))


def own_sets(folder: Path) -> dict[str, list[Path]]:
    """Sort the data files of a folder of one's own, or of its data/, into "train" and "test" by their names.

    Example: train-00000-of-00002.parquet and rows.json hold training rows, validation.jsonl and test-1.json test rows.
    """
    found = [
        file
        for place in (folder, folder / "data")
        for file in sorted(place.glob("*"))
        if file.suffix.lower() in SUFFIXES and file.stem not in NOT_ROWS and file.is_file()
    ]
    sets: dict[str, list[Path]] = {}
    for file in found:
        words = file.stem.lower().replace("-", " ").replace("_", " ").replace(".", " ").split()
        name = OWN_TEST if set(words) & set(TEST_WORDS) and "train" not in words else "train"
        sets.setdefault(name, []).append(file)
    return sets


def set_files(task: "Task", path: Path, split: str) -> list[Path]:
    """The files of a set: those that the task's pattern finds in the layout, a folder's own, or `path` if it is a file.

    Raises:
        UserError: unknown set, no such path, or no such file in the folder.
    """
    globs = {"train": task.train_files, **task.test_files}
    if split not in (*globs, OWN_TEST):
        raise unknown_name("set", split, globs, where=f"task {task.name}")
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"{path} does not exist; data are a folder, a file of rows ({', '.join(SUFFIXES)}), or a hub id owner/name;"
            " make some with `make data` or fetch the real set with `make download`"
        )
    if in_layout(task, path) or not (sets := own_sets(path)):
        files = sorted(path.glob(globs[split])) if split in globs else []
        if not files:
            raise UserError(
                f"{path} has no file {globs.get(split, split)}, which holds set '{split}' of {task.name} in the"
                " Reason-RFT-CoT layout; name the file so, or give the file itself as data path"
            )
        return files
    if split not in sets:
        has = ", ".join(file.name for files in sets.values() for file in files[:3])
        raise UserError(f"{path} holds no file of set '{split}' ({has}); name one {split}.json, or give a file as path")
    return sets[split]

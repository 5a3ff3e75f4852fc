"""The rows that a recipe names, for training and evaluation alike; synthetic ones are made where no data are given."""

import logging
from collections.abc import Iterable
from pathlib import Path

from open_r1.data.columns import Columns
from open_r1.data.held_out import hold_out, repeats
from open_r1.data.rows import load_rows
from open_r1.data.sets import OWN_TEST, in_layout, own_sets
from open_r1.recipe.settings import Settings
from open_r1.schema import Row, UserError
from open_r1.synthetic.write import own_folder, write_dataset
from open_r1.tasks import Task
from open_r1.utils.hub import fetch, is_hub_id

logger = logging.getLogger(__name__)


def local(path: str) -> Path:
    """The path itself, or the folder of the hub's data set, which is fetched where it is not here."""
    return fetch(path) if is_hub_id(path) else Path(path)


def test_sets(task: Task, settings: Settings) -> list[str]:
    """The names of the test sets: the task's, or "test" alone where the test data are not in the layout."""
    path = settings.test_path or settings.data_path
    return list(task.test_files) if not path or in_layout(task, local(path)) else [OWN_TEST]


def prepare_rows(task: Task, settings: Settings, splits: Iterable[str]) -> dict[str, list[Row]]:
    """Return the rows of "train" and of `test_sets`, as many of each as the settings ask for.

    No test row repeats a training row, by pictures and question; what is left out for that is said. Of several
    processes that need synthetic data one makes them and the others wait. Raises UserError as load_rows, for a test
    path that is the data path, and where no test row is left.
    """
    splits = list(splits)
    rows = _rows(task, settings, splits)
    limit = {"train": settings.num_train_rows}
    return {name: rows[name][: limit.get(name, settings.num_test_rows)] for name in splits}


def _rows(task: Task, settings: Settings, splits: list[str]) -> dict[str, list[Row]]:
    def load(path: Path, split: str) -> list[Row]:
        return load_rows(task, path, split, skip_bad_rows=settings.skip_bad_rows, columns=columns).rows

    columns = Columns(*(getattr(settings, f"{name}_key") for name in Columns._fields))

    if not settings.data_path and not settings.test_path:
        counts, size = settings.synthetic_counts(task.test_files), settings.data_size
        folder = own_folder(task.name, size, counts)
        write_dataset(task.name, folder, size, 0, counts)
        return {name: load(folder, name) for name in splits}
    if settings.test_path and not settings.data_path and "train" in splits:
        raise UserError("test_path is given without data_path; training rows come from data_path; give DATA_PATH")
    data, test = (local(path) if path else None for path in (settings.data_path, settings.test_path))
    if data and test and data.resolve() == test.resolve() and not in_layout(task, data):
        raise UserError(
            f"test_path is data_path ({data}), and a policy is not evaluated on what it was trained on; give other test"
            " data, or leave test_path out: a share of the rows is held out then"
        )
    if data and not test and not in_layout(task, data) and (data.is_file() or OWN_TEST not in own_sets(data)):
        return _hold_out(load(data, "train"), data, settings)
    rows = {name: load(data if name == "train" or not test else test, name) for name in splits}  # pyright: ignore[reportArgumentType]
    return _without_repeats(rows, settings) if "train" in rows else rows


def _hold_out(rows: list[Row], data: Path, settings: Settings) -> dict[str, list[Row]]:
    """Split rows that come without test data, and say so."""
    train, test = hold_out(rows, settings.test_share, settings.test_seed)
    if not train:
        raise UserError(
            f"{data} holds {len(rows)} row(s) of one question, too few to hold out test rows; give more rows, or test"
            " data as TEST_PATH"
        )
    logger.warning(
        "%s comes without test data: %d of its %d rows are held out as set '%s' (test_share %g, test_seed %d) and are"
        " not trained on; give test data as TEST_PATH to train on all",
        *(data, len(test), len(rows), OWN_TEST, settings.test_share, settings.test_seed),
    )
    return {"train": train, OWN_TEST: test}


def _without_repeats(rows: dict[str, list[Row]], settings: Settings) -> dict[str, list[Row]]:
    """Leave out test rows that are training rows, and say so."""
    kept = {"train": rows["train"]}
    for name in rows.keys() - kept.keys():
        repeated = {row.id for row in repeats(rows["train"], rows[name])}
        kept[name] = [row for row in rows[name] if row.id not in repeated]
        if not kept[name]:
            raise UserError(
                f"every row of test set '{name}' is a training row (same pictures and question); a policy is not"
                " evaluated on what it was trained on; give other test data as TEST_PATH"
            )
        if repeated:
            first = next(row.id for row in rows[name] if row.id in repeated)
            logger.warning(
                "%d of %d rows of test set '%s' are training rows (same pictures and question; first: '%s') and are"
                " left out",
                *(len(repeated), len(rows[name]), name, first),
            )
    return kept

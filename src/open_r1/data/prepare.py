"""The rows that a recipe names, for training and evaluation alike; synthetic ones are made where no data are given."""

from collections.abc import Iterable

from open_r1.data.rows import load_rows
from open_r1.recipe.settings import Settings
from open_r1.schema import Row
from open_r1.synthetic.write import own_folder, write_dataset
from open_r1.tasks import Task


def prepare_rows(task: Task, settings: Settings, splits: Iterable[str]) -> dict[str, list[Row]]:
    """Return the rows of "train" and of the task's test sets, as many of each as the settings ask for.

    Of several processes that need synthetic data one makes them and the others wait. Raises UserError as load_rows.
    """
    folder = settings.data_path
    if not folder:
        counts, size = settings.synthetic_counts(task.test_files), settings.data_size
        folder = own_folder(task.name, size, counts)
        write_dataset(task.name, folder, size, 0, counts)
    rows = {name: load_rows(task, folder, name, skip_bad_rows=settings.skip_bad_rows).rows for name in splits}
    limit = {"train": settings.num_train_rows}
    return {name: found[: limit.get(name, settings.num_test_rows)] for name, found in rows.items()}

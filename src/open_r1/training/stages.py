"""What a method's training is made of: its stages in order, each with its rows and its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from open_r1.schema import Row, UserError


class Stage(NamedTuple):
    """One stage of a method: `sft` or `rl`, the rows it trains on, and the folder that gets its log and its model."""

    name: str
    rows: list[Row]
    folder: Path


def stages_of(names: Sequence[str], train: list[Row], sft_rows: int | None, again: bool, run: Path) -> list[Stage]:
    """Return the stages in order. The last one uses the run's folder, so that its model is the run's.

    Args:
        names: the recipe's `stages`.
        train: all training rows.
        sft_rows: how many of them, the first ones, the sft stage gets; None gives all to both.
        again: whether the rl stage gets those as well (the recipe's `sft_rows_again`).
        run: the run's folder.

    Raises:
        UserError: a stage has no rows.
    """
    rows = {"sft": train[:sft_rows], "rl": train if again or sft_rows is None else train[sft_rows:]}
    if not all(rows[name] for name in names):
        raise UserError(
            f"sft_rows is {sft_rows} of {len(train)} training rows, which leaves the rl stage none; lower sft_rows, or"
            " set sft_rows_again"
        )
    folders = [*(run / name for name in names[:-1]), run]
    return [Stage(name, rows[name], folder) for name, folder in zip(names, folders, strict=False)]


def left_over(rows: int, at_once: int) -> str:
    """Return one line on the rows that an epoch of the rl stage leaves out; empty where there are none.

    Args:
        rows: of the stage.
        at_once: prompts that all processes generate for at once; an epoch is whole generations.

    Raises:
        UserError: the rows do not fill one generation, so that no step could be made.
    """
    if rows < at_once:
        raise UserError(
            f"the rl stage has {rows} rows and generates for {at_once} prompts at once: no step could be made; give"
            " more rows (num_train_rows, data_path, sft_rows), or lower prompts_per_step or steps_per_generation"
        )
    left = rows % at_once
    if not left:
        return ""
    return (
        f"{left} of {rows} rows are left over in each epoch, other ones each time: {at_once} prompts are generated for"
        " at once, and what fills no generation is not trained on"
    )

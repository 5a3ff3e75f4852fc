"""Resuming an interrupted run: the parts of grpo.py that depend on what earlier starts have left."""

import errno
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from open_r1.schema import UserError
from open_r1.training.checkpoints import WholeCheckpoints, newest_whole
from open_r1.training.manifest import fault, rename_damaged
from open_r1.training.stopping import StopCallback, Stopped
from open_r1.utils.processes import hold

T = TypeVar("T")


def first_decides(decide: Callable[[], T]) -> T:
    """Return on every process what `decide` returns on the first one; its UserError ends all of them at once.

    Raises:
        UserError: on the first process, as `decide` raised it; the others exit with its status.
    """
    decided: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            decided = [decide(), None]
        except UserError as error:
            decided = [None, error]
    value, refusal = broadcast_object_list(decided)
    if refusal:
        raise refusal if PartialState().is_main_process else SystemExit(2)
    return value


@contextmanager
def hold_run(lock: Path) -> Iterator[None]:
    """Hold the run's lock within the block, for all of its processes; raises UserError where another run holds it."""
    with ExitStack() as held:
        first_decides(lambda: held.enter_context(hold(lock)))
        yield


def whole_model(folder: Path) -> bool:
    """Whether a stage's model is there, and all of it; a damaged one is renamed, and its stage ends once more."""

    def look() -> bool:
        if not folder.is_dir():
            return False
        if problem := fault(folder):
            tqdm.write(f"{folder} is damaged ({problem}) and made again; it is {rename_damaged(folder).name} now")
        return not problem

    return first_decides(look)


def train_to_the_end(
    trainer: WholeCheckpoints, folder: Path, argv: Sequence[str], run: Path, stop: StopCallback
) -> None:
    """Train, from the newest whole checkpoint where there is one, and save the model.

    Args:
        trainer: EKIPLTrainer or WholeSFTTrainer.
        folder: of the stage: its checkpoints, its log, its model.
        argv: the command line that made the run.
        run: the run's folder.
        stop: what stops the training.

    Raises:
        Stopped: a signal stopped the training, and a checkpoint is saved.
        UserError: a warning ended it (the recipe's `strict`), and a checkpoint is saved.
    """
    last = first_decides(lambda: newest_whole(folder, PartialState().num_processes))
    trainer.add_callback(stop)
    with stop.listening():
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if trainer.state.global_step >= trainer.state.max_steps:
            trainer.save_whole_model(folder / "model")
    again = f"saved and stopped after step {trainer.state.global_step}; to go on: {command_to_go_on(argv, run)}"
    if stop.signal:
        raise Stopped(f"{stop.signal.name}: {again}", 128 + stop.signal)
    if stop.reason:
        if not PartialState().is_main_process:
            raise SystemExit(2)
        raise UserError(f"strict: {stop.reason}; {again}")


def command_to_go_on(argv: Sequence[str], run: Path) -> str:
    """Return the shell command that goes on with the run in `run`: the one that began it, with this folder.

    >>> command_to_go_on(["--seed", "3", "--output_dir", "runs/a"], Path("runs/b c")).split("-m ")[1]
    "open_r1.launch --seed 3 --output_dir 'runs/b c'"
    """
    words = list(argv)
    while "--output_dir" in words:
        at = words.index("--output_dir")
        del words[at : at + 2]
    words = [word for word in words if not word.removeprefix("--").startswith("output_dir=")]
    return shlex.join([sys.executable, "-m", "open_r1.launch", *words, "--output_dir", str(run)])


@contextmanager
def disk_full_in_one_line(folder: Path) -> Iterator[None]:
    """Turn a disk-full error within the block into a UserError; the run in `folder` can go on after it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or folder
        rule = "make room and start the same command again: it goes on from the last complete checkpoint"
        raise UserError(f"{where}: {error.strerror}; {rule}") from error

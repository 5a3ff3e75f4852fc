"""What makes a second start of a run go on: the parts of grpo.py that know of starts before."""

import errno
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_r1.schema import UserError
from open_r1.training.checkpoints import last_checkpoint
from open_r1.training.stopping import StopCallback, Stopped


def train_to_the_end(trainer: Any, folder: Path, argv: list[str], run: Path | None = None) -> None:
    """Train, from the last checkpoint where there is one, and save the model.

    Args:
        trainer: EKIPLTrainer or WholeSFTTrainer.
        folder: of the stage: its checkpoints, its log, its model.
        argv: the command line that made the run.
        run: the run's folder, where it is not that of the stage.

    Raises:
        Stopped: a signal stopped the training, and a checkpoint is saved.
    """
    stop, last = StopCallback(), last_checkpoint(folder)
    trainer.add_callback(stop)
    with stop.listening():
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if trainer.state.global_step >= trainer.state.max_steps:
            trainer.save_whole_model(folder / "model")
    if stop.signal:
        words = argv if "--output_dir" in argv else [*argv, "--output_dir", str(run or folder)]
        again = shlex.join(["python", "-m", "open_r1.launch", *words])
        raise Stopped(
            f"{stop.signal.name}: saved and stopped after step {trainer.state.global_step}; to go on: {again}",
            128 + stop.signal,
        )


@contextmanager
def room_on(folder: Path) -> Iterator[None]:
    """Say in one line that the disk is full, wherever in the block it was noticed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or folder
        rule = "make room and start the same command again: it goes on from the last complete checkpoint"
        raise UserError(f"{where}: {error.strerror}; {rule}") from error

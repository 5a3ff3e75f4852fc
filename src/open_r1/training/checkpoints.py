"""Checkpoints that are whole or not there: what lets a run be killed at any moment and go on to the same weights.

transformers writes the checkpoint; here it is written aside, forced to the disk, and renamed. What transformers does
not restore are Qwen2-VL's weights (see `_load_from_checkpoint`), the optimizer of several CPU processes (see below),
and the order of the rows in a later epoch: TRL's sampler draws one permutation per epoch from a generator of its own,
which is moved past the epochs that are done.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, rotate_checkpoints
from trl.trainer.utils import RepeatSampler

from open_r1.schema import UserError

if TYPE_CHECKING:  # the mixin's base for the type checker; at run time GRPOTrainer stands beside it
    from transformers import Trainer
else:
    Trainer = object

ASIDE = "checkpoint.part"  # a folder beside the checkpoints; no name that transformers takes for one of them
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)  # of open(), torch.save and safetensors on a full disk

# transformers loads the optimizer onto its process's device, which accelerate calls "cpu:0" where several processes
# train on CPUs; torch knows no such place in a file, but asks those that are registered.
torch.serialization.register_package(90, lambda _: None, lambda stored, place: stored if place[:4] == "cpu:" else None)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of the latest step in a run's folder; every folder of that name is complete."""
    found = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    return Path(found) if found else None


class WholeCheckpoints(Trainer):
    """Mixin for a transformers Trainer: checkpoints appear complete or not at all, and every epoch is found again."""

    _aside: Path | None = None  # where the checkpoint that is being written goes

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(str(self.args.output_dir))
        with self._whole(folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}") as path:
            self._aside = path.parent
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._aside = None
        if self.args.should_save:
            rotate_checkpoints(str(folder), self.args.save_total_limit, self.state.best_model_checkpoint)

    def save_whole_model(self, folder: Path) -> None:
        """Save model and processor under `folder`, which appears complete or not at all."""
        with self._whole(folder) as path:
            self.save_model(str(path))

    @contextmanager
    def _whole(self, target: Path) -> Iterator[Path]:
        """Give the path to write the folder `target` at; it gets its name when every process has left the block."""
        aside, wait = target.parent / ASIDE, self.accelerator.wait_for_everyone
        if self.args.should_save:
            shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed while it wrote
        wait()
        try:
            yield aside / target.name
            wait()
            if self.args.should_save:
                _force_to_disk(aside)
        except WRITE_ERRORS as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise UserError(_unwritten(target, error)) from error
        if self.args.should_save:
            (aside / target.name).rename(target)
            shutil.rmtree(aside)
        wait()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # Qwen2-VL is saved under the names of its first release and has others in memory. transformers' own way leaves
        # all names that do not match alone (its issue 43701): the run would go on from the base weights.
        if model is None and isinstance(self.model, PreTrainedModel):
            saved = type(self.model).from_pretrained(resume_from_checkpoint, dtype=self.model.dtype)
            self.model.load_state_dict(saved.state_dict())
        else:  # FSDP and DeepSpeed load the shards that they have saved, peft its adapter
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        self._train_sampler = super()._get_train_sampler(*args, **kwargs)
        return self._train_sampler

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        epochs, batches = super()._init_training_state(*args, **kwargs)
        sampler = self._train_sampler
        if isinstance(sampler, RepeatSampler) and sampler.shuffle:
            for _ in range(epochs):
                torch.randperm(sampler.num_samples, generator=sampler.generator)
        return epochs, batches


def _force_to_disk(folder: Path) -> None:
    """Flush every file, so that the name does not survive a power cut that the content does not."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _unwritten(target: Path, error: Exception) -> str:
    last = last_checkpoint(target.parent)
    kept = f"the last complete one is {last}" if last else "there is none before it"
    free = shutil.disk_usage(target.parent).free / 2**20
    reason = " ".join(str(error).split())
    return (
        f"{target} could not be written ({reason}; {free:.0f} MiB are free): {kept}; make room and start the"
        " same command again, it goes on from there"
    )

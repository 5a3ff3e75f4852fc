"""Checkpoints that are whole or not there: what lets a run be killed at any moment and go on to the same weights.

transformers writes the checkpoint; here it is written to a folder of another name, read back, forced to the disk and
renamed, with a manifest of its files. What transformers does not restore are Qwen2-VL's weights (see
`_load_from_checkpoint`), a moving reference (`sync_ref_model`), the optimizer of several CPU processes (see below), and
the order of the rows in a later epoch: TRL's sampler draws one permutation per epoch from a generator of its own, which
is moved past the epochs that are done.
"""

import functools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints, sort_checkpoints
from trl.trainer.utils import RepeatSampler

from open_r1.schema import UserError
from open_r1.training.manifest import fault, read_manifest, rename_damaged, write_manifest

if TYPE_CHECKING:  # the mixin's base for the type checker; at run time GRPOTrainer stands beside it
    from transformers import Trainer
else:
    Trainer = object

PART = "checkpoint.part"  # a folder beside the checkpoints; no name that transformers takes for one of them
REFERENCE = "reference.safetensors"  # a moving reference's weights
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)  # of open(), torch.save and safetensors on a full disk
PARENT_POLL_S = 1.0

# transformers loads the optimizer onto its process's device, which accelerate calls "cpu:0" where several processes
# train on CPUs; torch knows no such place in a file, but asks those that are registered.
torch.serialization.register_package(90, lambda _: None, lambda stored, place: stored if place[:4] == "cpu:" else None)


def newest_whole(folder: Path, processes: int = 1) -> Path | None:
    """Return the newest whole checkpoint in a stage's folder; damaged ones are renamed, with one line that says why.

    Raises:
        UserError: another number of processes wrote it.
    """
    for name in reversed(sort_checkpoints(str(folder))):  # by step
        path = Path(name)
        if problem := fault(path):
            tqdm.write(f"{path} is damaged ({problem}) and passed over; it is {rename_damaged(path).name} now")
            continue
        wrote = read_manifest(path)["processes"]
        if wrote != processes:
            raise UserError(
                f"{path} was written by {wrote} processes, each with random states of its own, and {processes} would go"
                f" on with it; start with --num_processes {wrote}"
            )
        return path
    if any(folder.glob(f"broken-{PREFIX_CHECKPOINT_DIR}-*")):
        tqdm.write(f"{folder} holds no whole checkpoint: training begins with its first step again")
    return None


class WholeCheckpoints(Trainer):
    """Mixin for a transformers Trainer: checkpoints appear complete or not at all, and every epoch is found again."""

    _part: Path | None = None  # where the checkpoint that is being written goes

    def _get_output_dir(self, trial: object) -> str:
        return str(self._part or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        folder = Path(str(self.args.output_dir))
        target = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with self._whole(target) as path:
            self._part = path.parent
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._part = None
            if self._moving_reference is not None and self.args.should_save:
                save_model(self._moving_reference, str(path / REFERENCE))
        if self.args.should_save and (problem := fault(target)) is None:  # older ones stay until it is read back
            rotate_checkpoints(str(folder), self.args.save_total_limit, self.state.best_model_checkpoint)
        elif self.args.should_save:
            raise UserError(_unwritten(target, OSError(problem)))

    def save_whole_model(self, folder: Path) -> None:
        """Save model and processor under `folder`, which appears complete or not at all."""
        with self._whole(folder) as path:
            self.save_model(str(path))

    @contextmanager
    def _whole(self, target: Path) -> Iterator[Path]:
        """Give the path to write the folder `target` at; it gets its name when every process has left the block."""
        part, wait = target.parent / PART, self.accelerator.wait_for_everyone
        if self.args.should_save:
            shutil.rmtree(part, ignore_errors=True)  # of a run that was killed while it wrote
        wait()
        try:
            yield part / target.name
            wait()
            if self.args.should_save:
                write_manifest(part / target.name, self.accelerator.num_processes)
                _force_to_disk(part)
        except WRITE_ERRORS as error:
            shutil.rmtree(part, ignore_errors=True)
            raise UserError(_unwritten(target, error)) from error
        if self.args.should_save:
            (part / target.name).rename(target)
            shutil.rmtree(part)
        wait()

    @property
    def _moving_reference(self) -> torch.nn.Module | None:
        """The reference model where it follows the policy; each process holds all of it (rules_resuming.py)."""
        moves = getattr(self.args, "sync_ref_model", False)
        return self.accelerator.unwrap_model(self.ref_model) if moves else None  # pyright: ignore[reportAttributeAccessIssue]  # GRPOTrainer's

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        # Qwen2-VL is saved under the names of its first release and has others in memory. transformers' own way leaves
        # all names that do not match alone (its issue 43701): the run would go on from the base weights.
        if model is None and isinstance(self.model, PreTrainedModel):
            saved = type(self.model).from_pretrained(resume_from_checkpoint, dtype=self.model.dtype)
            self.model.load_state_dict(saved.state_dict())
        else:  # FSDP and DeepSpeed load the shards that they have saved, peft its adapter
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def get_train_dataloader(self) -> DataLoader:
        """Return the loader of TRL, whose workers end with this process, however it ends."""
        prepared = super().get_train_dataloader()
        loader = getattr(prepared, "base_dataloader", prepared)  # what accelerate has wrapped
        if self.args.dataloader_persistent_workers:
            # torch draws a seed for the workers where it starts them: once a run, and once more where it goes on, which
            # must not move the random state that candidates are sampled from.
            loader.generator = torch.Generator()
        if loader.num_workers:
            loader.worker_init_fn = functools.partial(_end_with_parent, loader.worker_init_fn, os.getpid())
        return prepared

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        self._train_sampler = super()._get_train_sampler(train_dataset)
        return self._train_sampler

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        checkpoint: str | None,
        trial: object,
    ) -> tuple[int, int]:
        """Start or restore the state; called once, after the policy's weights are loaded."""
        state = super()._init_training_state(max_steps, num_update_steps_per_epoch, num_train_epochs, checkpoint, trial)
        epochs, sampler = state[0], self._train_sampler
        if isinstance(sampler, RepeatSampler) and sampler.shuffle:
            for _ in range(epochs):
                torch.randperm(sampler.num_samples, generator=sampler.generator)
        if checkpoint is not None and self._moving_reference is not None:
            load_model(self._moving_reference, Path(checkpoint) / REFERENCE)
        return state


def _end_with_parent(init: Callable[[int], None] | None, parent: int, worker: int) -> None:
    """Start a dataloader worker that ends when its trainer is gone.

    torch's own watch fails where workers hold one another's pipes open: a killed trainer leaves them behind for good.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if init is not None:
        init(worker)


def _force_to_disk(folder: Path) -> None:
    """Flush every file, so that the name does not survive a power cut that the content does not."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _unwritten(target: Path, error: Exception) -> str:
    older = [path for path in sort_checkpoints(str(target.parent)) if Path(path) != target]
    kept = f"the last complete one is {older[-1]}" if older else "there is none before it"
    free = shutil.disk_usage(target.parent).free / 2**20
    reason = " ".join(str(error).split())
    return (
        f"{target} could not be written ({reason}; {free:.0f} MiB are free): {kept}; make room and start the"
        " same command again, it goes on from there"
    )

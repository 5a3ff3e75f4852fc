"""Stopping at any moment: Ctrl-C or SIGTERM once saves a checkpoint and stops, Ctrl-C twice stops.

A checkpoint is taken only between two generations. TRL reuses one batch of candidates for `steps_per_generation` times
`num_iterations` passes and keeps it in memory: a run that went on from the middle would sample other candidates.
Launchers of several processes (torchrun, accelerate, Slurm) pass the signal on and kill about 30 s later: where a step
and a checkpoint take longer than that, the run goes on from the last regular checkpoint.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a terminal's, a scheduler's
COPY_S = 1.0  # a launcher passes on what the terminal has sent to its processes already: that is no second Ctrl-C


class Stopped(Exception):
    """The training was stopped by a signal, and can go on: a line for the user, and the exit status a shell expects."""

    def __init__(self, line: str, status: int):
        super().__init__(line)
        self.status = status


class StopCallback(TrainerCallback):
    """Turns a signal into a checkpoint and a stop at the end of the step, on every process at the same step.

    `signal` is the one that was received, or None. `reason` is what else ends the run (`strict`, training/watch.py):
    the first process sets it while a line is logged.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.signal: signal.Signals | None = None
        self.reason = ""
        self._received_at = 0.0
        self._due = False  # a checkpoint that waits for the end of a generation
        self._micro_batches = 0  # since this start, which began with a generation

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Receive the signals within the block; needs the main thread."""
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._received_at = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._received_at > COPY_S:
            raise KeyboardInterrupt

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Count a micro-batch that ends no step; an epoch's last step may have fewer of them."""
        self._micro_batches += 1

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> TrainerControl:
        """Stop where a process received a signal; save between generations, and not what the model is saved as."""
        self._micro_batches += 1
        signals, reasons = zip(*gather_object([(self.signal or 0, self.reason)]), strict=True)
        if any(signals):
            self.signal = signal.Signals(max(signals))  # also where another process received it
        self.reason = max(reasons)
        self._due |= control.should_save or bool(self.signal or self.reason)
        return self._save_and_stop(args, state, control)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: TrainingArguments
    ) -> TrainerControl:
        """End the run at the step that gave the reason, where it lies between two generations."""
        if self.strict and not control.should_training_stop:
            self.reason = max(gather_object([self.reason]))
            if self.reason:
                self._due = True
                return self._save_and_stop(args, state, control)
        return control

    def _save_and_stop(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> TrainerControl:
        reuse = getattr(args, "steps_per_generation", 1) * getattr(args, "num_iterations", 1)  # SFT generates nothing
        between, last = self._micro_batches % reuse == 0, state.global_step >= state.max_steps
        control.should_save = self._due and between and not last
        if control.should_save:
            self._due = False
            control.should_log = True  # the averages since the last line are in memory only
        if (self.signal or self.reason) and (between or last):
            control.should_training_stop = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> TrainerControl:
        """Save no second time after the last step."""
        control.should_save = control.should_save and not control.should_training_stop
        return control

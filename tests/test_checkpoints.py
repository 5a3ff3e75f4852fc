"""A run that is stopped and goes on ends where the uninterrupted one ends; what cannot be written is never taken."""

import asyncio
import json
import os
import resource
import signal
from pathlib import Path

import pytest
import torch

from open_r1.schema import UserError
from open_r1.training import stopping
from open_r1.training.checkpoints import ASIDE, last_checkpoint
from open_r1.training.stopping import StopCallback
from test_trainer import Teacher, by_length, make_trainer, same, weights

SAVING = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "max_steps": 6}
CLOCKS = {"time_s", "step_time", "external/wait_s"}


class Interrupter(Teacher):
    """A teacher that sends this process signals while a step is under way (one step asks twice: P = 2)."""

    def __init__(self, step: int, *signals: signal.Signals):
        super().__init__(None, "a wrong answer", name="teacher")
        self.step, self.signals = step, list(signals)

    async def ask(self, request):
        if request.step == self.step - 1 and self.signals:
            number = self.signals.pop(0)
            if not self.signals:  # apart from the one before, which the system may not have delivered yet
                await asyncio.sleep(0.2)
            os.kill(os.getpid(), number)
        return await super().ask(request)


def trainer_of(tiny_folder, counting_data, output: Path, step: int = 0, *signals: signal.Signals, **changes):
    """Eight rows, two prompts a step: an epoch has four steps."""
    output.mkdir(exist_ok=True)
    changes = SAVING | changes
    teachers = [Interrupter(step, *signals)]
    trainer = make_trainer(tiny_folder, counting_data, output, teachers, score=by_length, **changes)
    stop = StopCallback()
    trainer.add_callback(stop)
    return trainer, stop


def train(trainer, stop: StopCallback) -> None:
    last = last_checkpoint(Path(trainer.args.output_dir))
    with stop.listening():
        trainer.train(resume_from_checkpoint=str(last) if last else None)


def metrics(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tiny_folder, counting_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    trainer, stop = trainer_of(tiny_folder, counting_data, folder)
    before = weights(trainer.model)
    train(trainer, stop)
    assert not same(before, weights(trainer.model))
    assert last_checkpoint(folder) == folder / "checkpoint-4"  # after step 6 the model itself is saved
    return weights(trainer.model), metrics(folder)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(1, id="within an epoch", marks=pytest.mark.slow),
        pytest.param(4, id="between two", marks=pytest.mark.slow),
        pytest.param(5, id="within the second"),
    ],
)
def test_a_run_stopped_by_sigterm_goes_on_to_the_same_weights_and_the_same_lines(
    tiny_folder, counting_data, tmp_path, uninterrupted, step
):
    trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path, step, signal.SIGTERM)
    train(trainer, stop)
    assert stop.signal == signal.SIGTERM and trainer.state.global_step == step
    assert last_checkpoint(tmp_path) == tmp_path / f"checkpoint-{step}"
    again, stop = trainer_of(tiny_folder, counting_data, tmp_path)
    train(again, stop)
    assert stop.signal is None and again.state.global_step == 6
    assert same(weights(again.model), uninterrupted[0])
    assert metrics(tmp_path) == uninterrupted[1]


def test_lines_after_the_checkpoint_are_taken_back_and_the_clock_goes_on(tiny_folder, counting_data, tmp_path):
    """A kill -9 after step 3 leaves checkpoint-2, three lines, half of a fourth, and half of a checkpoint."""
    trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path, max_steps=3)
    train(trainer, stop)
    file = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) | {"time_s": 1000.0} for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')
    (tmp_path / ASIDE / "checkpoint-4").mkdir(parents=True)
    again, stop = trainer_of(tiny_folder, counting_data, tmp_path, max_steps=5)
    train(again, stop)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[2]["time_s"] > 1000.0
    assert not (tmp_path / ASIDE).exists() and last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"


def test_candidates_that_serve_two_passes_are_not_cut_in_two(tiny_folder, counting_data, tmp_path):
    """With num_iterations = 2 steps 1, 2 share candidates: told in step 1 to stop, the run stops after step 2."""
    trainer, stop = trainer_of(
        tiny_folder, counting_data, tmp_path, 1, signal.SIGTERM, num_iterations=2, max_steps=4, save_steps=1
    )
    train(trainer, stop)
    assert trainer.state.global_step == 2 and last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_a_second_ctrl_c_stops_at_once_and_its_copy_from_a_launcher_does_not(
    tiny_folder, counting_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(stopping, "COPY_S", 60.0)
    trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path / "a", 1, signal.SIGINT, signal.SIGINT)
    train(trainer, stop)  # both within COPY_S: one press
    assert stop.signal == signal.SIGINT and last_checkpoint(tmp_path / "a") == tmp_path / "a" / "checkpoint-1"
    monkeypatch.setattr(stopping, "COPY_S", 0.0)
    trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path / "b", 1, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(trainer, stop)
    assert last_checkpoint(tmp_path / "b") is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_checkpoint_that_cannot_be_written_stops_with_one_line_and_keeps_the_last(
    tiny_folder, counting_data, tmp_path
):
    """Files of at most 64 KiB, as the system can demand, fail like a full disk: open succeeds, write does not."""

    class Full(StopCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
            return super().on_step_end(args, state, control, **kwargs)

    trainer, _ = trainer_of(tiny_folder, counting_data, tmp_path)
    stop, limits = Full(), resource.getrlimit(resource.RLIMIT_FSIZE)
    trainer.add_callback(stop)
    try:
        with pytest.raises(UserError, match="checkpoint-4 could not be written") as caught:
            train(trainer, stop)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"the last complete one is {tmp_path / 'checkpoint-2'}" in str(caught.value)
    assert "start the same command again" in str(caught.value) and "\n" not in str(caught.value)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert not (tmp_path / ASIDE).exists()


def test_what_was_saved_can_be_loaded_onto_the_device_of_one_of_several_cpu_processes(tmp_path):
    torch.save({"exp_avg": torch.ones(3)}, tmp_path / "optimizer.pt")
    loaded = torch.load(tmp_path / "optimizer.pt", map_location=torch.device("cpu", 0), weights_only=True)
    assert loaded["exp_avg"].tolist() == [1.0, 1.0, 1.0]

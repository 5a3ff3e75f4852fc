"""A run that is stopped and goes on ends where the uninterrupted one ends; what cannot be written is never taken."""

import asyncio
import json
import os
import re
import resource
import shutil
import signal
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from transformers import TrainerCallback

from open_r1.schema import UserError
from open_r1.training import stopping
from open_r1.training.checkpoints import PART, newest_whole
from open_r1.training.manifest import MANIFEST, fault, write_manifest
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
    last = newest_whole(Path(trainer.args.output_dir))
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
    assert newest_whole(folder) == folder / "checkpoint-4"  # after step 6 the model itself is saved
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
    assert newest_whole(tmp_path) == tmp_path / f"checkpoint-{step}"
    again, stop = trainer_of(tiny_folder, counting_data, tmp_path)
    train(again, stop)
    assert stop.signal is None and again.state.global_step == 6
    assert same(weights(again.model), uninterrupted[0])
    assert metrics(tmp_path) == uninterrupted[1]


@pytest.fixture(scope="module")
def two_checkpoints(tiny_folder, counting_data, tmp_path_factory):
    """A run that was killed after step 5, with the checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("two")
    trainer, stop = trainer_of(tiny_folder, counting_data, folder, save_total_limit=2)

    class Killed(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 5

    trainer.add_callback(Killed())
    train(trainer, stop)
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    return folder


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


DAMAGE = [
    ("model.safetensors", truncate, r"model\.safetensors has \d+ bytes of \d+"),
    ("optimizer.pt", truncate, r"optimizer\.pt has \d+ bytes of \d+"),
    ("optimizer.pt", flip, r"optimizer\.pt is not what was written"),
    ("optimizer.pt", Path.unlink, r"optimizer\.pt is missing"),
    ("scheduler.pt", Path.unlink, r"scheduler\.pt is missing"),
    ("rng_state.pth", Path.unlink, r"rng_state\.pth is missing"),
    ("trainer_state.json", lambda path: path.write_text(""), r"trainer_state\.json has 0 bytes of \d+"),
    ("tokenizer.json", flip, r"tokenizer\.json is not what was written"),
    (MANIFEST, Path.unlink, r"manifest\.json is missing"),
    (MANIFEST, truncate, r"manifest\.json cannot be read"),
    (MANIFEST, lambda path: path.write_text('{"processes": 1, "files": ["a"]}'), r"manifest\.json cannot be read"),
    (".", empty, r"manifest\.json is missing"),
]


@pytest.mark.parametrize(("name", "damage", "reason"), DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_its_reason_in_one_line(
    two_checkpoints, tmp_path, capsys, name, damage, reason
):
    run = shutil.copytree(two_checkpoints, tmp_path / "run")
    damage(run / "checkpoint-4" / name)
    assert newest_whole(run) == run / "checkpoint-2"
    [line] = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        rf".*/checkpoint-4 is damaged \({reason}\) and passed over; it is broken-checkpoint-4 now", line
    )
    assert newest_whole(run) == run / "checkpoint-2" and (run / "broken-checkpoint-4").is_dir()
    assert capsys.readouterr().out == ""


def test_from_the_older_checkpoint_a_run_comes_to_the_same_weights_and_from_none_too(
    tiny_folder, counting_data, tmp_path, two_checkpoints, uninterrupted, capsys
):
    for damaged in (["checkpoint-4"], ["checkpoint-4", "checkpoint-2"]):
        run = shutil.copytree(two_checkpoints, tmp_path / str(len(damaged)))
        for name in damaged:
            truncate(run / name / "optimizer.pt")
        trainer, stop = trainer_of(tiny_folder, counting_data, run)
        train(trainer, stop)
        assert same(weights(trainer.model), uninterrupted[0])
        assert metrics(run) == uninterrupted[1]
        assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-4"]  # and the limit of one counts
    assert "holds no whole checkpoint: training begins with its first step again" in capsys.readouterr().out


def test_a_checkpoint_of_other_processes_is_refused(two_checkpoints):
    with pytest.raises(UserError, match=r"checkpoint-4 was written by 1 processes.* start with --num_processes 1"):
        newest_whole(two_checkpoints, processes=2)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_change_of_any_byte_or_length_of_any_file_goes_unseen(data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = data.draw(st.lists(st.binary(max_size=30), min_size=1, max_size=3))
        for number, content in enumerate(contents):
            (folder / f"{number % 2}").mkdir(exist_ok=True)
            (folder / f"{number % 2}" / f"{number}.bin").write_bytes(content)
        write_manifest(folder, 1)
        assert fault(folder) is None
        number = data.draw(st.integers(0, len(contents) - 1))
        changed = data.draw(st.binary(max_size=30).filter(lambda content: content != contents[number]))
        (folder / f"{number % 2}" / f"{number}.bin").write_bytes(changed)
        assert fault(folder)


def test_the_older_checkpoint_stays_where_the_newer_cannot_be_read_back(tiny_folder, counting_data, tmp_path):
    trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path)
    save = trainer._save_optimizer_and_scheduler

    def cut(folder: str) -> None:
        save(folder)
        if trainer.state.global_step == 4:
            truncate(Path(folder) / "optimizer.pt")

    trainer._save_optimizer_and_scheduler = cut
    with pytest.raises(UserError, match=r"checkpoint-4 could not be written \(optimizer\.pt cannot be read back"):
        train(trainer, stop)
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-2"


STATES = {
    "moving reference": {"beta": 0.04, "sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 0.5},
    "dataloader workers": {"dataloader_num_workers": 2},
    "workers for all epochs": {"dataloader_num_workers": 2, "dataloader_persistent_workers": True},
    "two passes": {"num_iterations": 2},
    "two steps per generation": {"per_device_train_batch_size": 4, "steps_per_generation": 2},
    "accumulation": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "schedule": {"lr_scheduler_type": "cosine_with_restarts", "warmup_steps": 2, "optim": "adafactor"},
    "order": {"shuffle_dataset": False},
    "saved by epochs": {"save_strategy": "epoch", "logging_steps": 3},
    "adapter": {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")},
    "adapter and reference": {
        **{"beta": 0.04, "dataloader_num_workers": 1},
        "peft_config": LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", lora_dropout=0.1),
    },
}
TOGETHER = STATES["moving reference"] | STATES["workers for all epochs"] | STATES["two steps per generation"]


def state_of(trainer) -> list[torch.Tensor]:
    """All weights: the policy's, and those of a reference that follows it."""
    return weights(trainer.model) + (weights(trainer.ref_model) if trainer.ref_model is not None else [])


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        *(pytest.param(changes, 3, id=name, marks=pytest.mark.slow) for name, changes in STATES.items()),
        pytest.param(TOGETHER, 3, id="together"),
    ],
)
def test_every_setting_with_a_state_of_its_own_is_gone_on_with(tiny_folder, counting_data, tmp_path, changes, step):
    ends = []
    for name, signals in (("whole", []), ("stopped", [signal.SIGTERM])):
        trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path / name, step, *signals, **changes)
        before = state_of(trainer)
        train(trainer, stop)
        if signals:
            assert stop.signal and trainer.state.global_step < 6
            trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path / name, **changes)
            train(trainer, stop)
        assert trainer.state.global_step == 6 and not same(before, state_of(trainer))
        ends.append(state_of(trainer))
    assert same(*ends)


def test_no_worker_outlives_a_killed_trainer(tiny_folder, counting_data, tmp_path):
    """The trainer is a forked child; its two workers have more to hand on than their pipes hold."""
    trainer, _ = trainer_of(
        tiny_folder, counting_data, tmp_path, dataloader_num_workers=2, dataloader_prefetch_factor=9
    )
    report = tmp_path / "workers"
    parent = os.fork()
    if not parent:
        batches = iter(trainer.get_train_dataloader())
        next(batches)
        report.write_text(" ".join(str(child.pid) for child in psutil.Process().children()))
        time.sleep(600)
    for _ in range(600):
        if report.is_file() and len(workers := [int(pid) for pid in report.read_text().split()]) == 2:
            break
        time.sleep(0.1)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)], timeout=30)
    assert not alive


def test_the_reference_that_a_run_goes_on_with_is_not_that_of_its_beginning(tiny_folder, counting_data, tmp_path):
    class Begun(TrainerCallback):
        def on_train_begin(self, *args, **kwargs):
            begun.extend(weights(again.ref_model))

    begun = []
    trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path, 3, signal.SIGTERM, **STATES["moving reference"])
    base = weights(trainer.ref_model)
    train(trainer, stop)
    again, stop = trainer_of(tiny_folder, counting_data, tmp_path, max_steps=4, **STATES["moving reference"])
    again.add_callback(Begun())
    assert same(weights(again.ref_model), base)
    train(again, stop)
    assert same(begun, weights(trainer.ref_model)) and not same(begun, base)


def test_lines_after_the_checkpoint_are_taken_back_and_the_clock_goes_on(tiny_folder, counting_data, tmp_path):
    """A kill -9 after step 3 leaves checkpoint-2, three lines, half of a fourth, and half of a checkpoint."""
    trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path, max_steps=3)
    train(trainer, stop)
    file = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) | {"time_s": 1000.0} for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')
    (tmp_path / PART / "checkpoint-4").mkdir(parents=True)
    again, stop = trainer_of(tiny_folder, counting_data, tmp_path, max_steps=5)
    train(again, stop)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[2]["time_s"] > 1000.0
    assert not (tmp_path / PART).exists() and newest_whole(tmp_path) == tmp_path / "checkpoint-4"


def test_candidates_that_serve_two_passes_are_not_cut_in_two(tiny_folder, counting_data, tmp_path):
    """With num_iterations = 2 steps 1, 2 share candidates: told in step 1 to stop, the run stops after step 2."""
    trainer, stop = trainer_of(
        tiny_folder, counting_data, tmp_path, 1, signal.SIGTERM, num_iterations=2, max_steps=4, save_steps=1
    )
    train(trainer, stop)
    assert trainer.state.global_step == 2 and newest_whole(tmp_path) == tmp_path / "checkpoint-2"


def test_a_second_ctrl_c_stops_at_once_and_its_copy_from_a_launcher_does_not(
    tiny_folder, counting_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(stopping, "COPY_S", 60.0)
    trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path / "a", 1, signal.SIGINT, signal.SIGINT)
    train(trainer, stop)  # both within COPY_S: one press
    assert stop.signal == signal.SIGINT and newest_whole(tmp_path / "a") == tmp_path / "a" / "checkpoint-1"
    monkeypatch.setattr(stopping, "COPY_S", 0.0)
    trainer, stop = trainer_of(tiny_folder, counting_data, tmp_path / "b", 1, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(trainer, stop)
    assert newest_whole(tmp_path / "b") is None
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
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-2"
    assert not (tmp_path / PART).exists()


def test_what_was_saved_can_be_loaded_onto_the_device_of_one_of_several_cpu_processes(tmp_path):
    torch.save({"exp_avg": torch.ones(3)}, tmp_path / "optimizer.pt")
    loaded = torch.load(tmp_path / "optimizer.pt", map_location=torch.device("cpu", 0), weights_only=True)
    assert loaded["exp_avg"].tolist() == [1.0, 1.0, 1.0]

"""kill -9 at any moment, full disk, Ctrl-C: the run as a user starts it goes on to the weights it would have had."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from servers import free_port

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "-m", "open_r1.launch"]
SHORT = ["max_steps=12", "num_train_rows=24", "num_test_rows=8", "per_device_train_batch_size=32", "save_steps=2"]
CLOCKS = {"time_s", "step_time", "external/wait_s"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def start(folder: Path, *words: str) -> subprocess.Popen:
    log = folder.with_suffix(".log").open("a")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [*LAUNCH, "--output_dir", str(folder), *SHORT, *words]
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def wait_for(process: subprocess.Popen, ready, deadline_s: float = 900.0) -> None:
    """Return when `ready()` or when the process has ended."""
    end = time.monotonic() + deadline_s
    while process.poll() is None and not ready():
        assert time.monotonic() < end, f"not ready after {deadline_s} s"
        time.sleep(0.02)


def steps(folder: Path) -> int:
    file = folder / "metrics.jsonl"
    return file.read_text().count("\n") if file.is_file() else 0


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict], dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]
    summary = json.loads((folder / "summary.json").read_text())
    return load_file(folder / "model" / "model.safetensors"), lines, {key: summary[key] for key in ("base", "final")}


def assert_same(one: tuple, two: tuple) -> None:
    assert one[0].keys() == two[0].keys() and all(torch.equal(one[0][name], two[0][name]) for name in one[0])
    assert one[1:] == two[1:]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert start(folder).wait(timeout=1200) == 0
    return outcome(folder)


def test_a_run_killed_at_random_moments_ends_with_the_same_weights_lines_and_scores(tmp_path, uninterrupted):
    """Killed three times, one or two steps and a bit after training began or went on: 12 steps, saved in twos."""
    folder, rng = tmp_path / "run", random.Random(os.environ.get("KILL_SEED", "0"))
    metrics = folder / "metrics.jsonl"
    for _ in range(3):
        began = time.time()
        process = start(folder)
        wait_for(process, lambda began=began: metrics.is_file() and metrics.stat().st_mtime > began)
        target = steps(folder) + rng.randint(1, 2)  # what stands there now is up to the checkpoint
        wait_for(process, lambda target=target: steps(folder) >= target)
        time.sleep(0.3 * rng.random())
        assert process.poll() is None
        process.kill()
        process.wait(timeout=30)
    assert start(folder).wait(timeout=1200) == 0
    assert_same(outcome(folder), uninterrupted)
    assert folder.with_suffix(".log").read_text().count("going on with the unfinished run") == 3
    log = folder.with_suffix(".log").read_text()
    asked, known = log.count("evaluate before-id:   0%"), log.count("before-id: the policy's")  # by the run before
    assert asked + known == 1  # the evaluation before training is not repeated


def test_ctrl_c_saves_says_how_to_go_on_and_goes_on(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    process = start(folder)
    wait_for(process, lambda: steps(folder) >= 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    stopped = steps(folder)
    assert (folder / f"checkpoint-{stopped}").is_dir() and not (folder / "summary.json").exists()
    log = folder.with_suffix(".log").read_text()
    assert f"SIGINT: saved and stopped after step {stopped}; to go on:" in log and "Traceback" not in log
    assert start(folder).wait(timeout=1200) == 0
    assert_same(outcome(folder), uninterrupted)


def test_the_printed_command_can_be_pasted_and_a_moved_folder_goes_on_in_its_new_place(tmp_path, uninterrupted):
    folder, moved = tmp_path / "run", tmp_path / "moved here"
    process = start(folder)
    wait_for(process, lambda: steps(folder) >= 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    [command] = [
        line.split("to go on: ")[1]
        for line in folder.with_suffix(".log").read_text().splitlines()
        if "to go on: " in line
    ]
    folder.rename(moved)
    moving = command.replace(str(folder), shlex.quote(str(moved)))
    assert moving != command
    subprocess.run(moving, shell=True, check=True, capture_output=True, timeout=1200)
    assert not folder.exists()
    assert_same(outcome(moved), uninterrupted)


def test_after_kill_9_of_a_run_with_workers_the_same_command_goes_on_at_once(tmp_path, uninterrupted):
    folder, workers = tmp_path / "run", ("dataloader_num_workers=2",)
    process = start(folder, *workers)
    wait_for(process, lambda: steps(folder) >= 3)
    alive = psutil.Process(process.pid)
    wait_for(process, lambda: len(alive.children(recursive=True)) >= 2)  # between two epochs there are none
    children = alive.children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.wait(timeout=30)
    again = start(folder, *workers)
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert again.wait(timeout=1200) == 0, folder.with_suffix(".log").read_text()[-2000:]
    assert_same(outcome(folder), uninterrupted)


def test_both_stages_of_a_method_go_on_where_they_were_killed(tmp_path):
    words = (
        "--method",
        "reason_rft",
        "sft_rows=24",
        "num_train_rows=48",
        "max_steps=3",
        "sft.max_steps=6",
        "curve_every=2",
    )
    ends = []
    for name, kills in (("whole", []), ("killed", [("sft", 3), (".", 2)])):
        folder = tmp_path / name
        for stage, step in kills:
            process = start(folder, *words)
            wait_for(process, lambda stage=folder / stage, step=step: steps(stage) >= step)
            assert process.poll() is None, folder.with_suffix(".log").read_text()[-2000:]
            process.kill()
            process.wait(timeout=30)
        assert start(folder, *words).wait(timeout=1200) == 0, folder.with_suffix(".log").read_text()[-2000:]
        ends.append(outcome(folder))
    assert_same(*ends)


def test_a_second_start_of_a_run_of_two_processes_ends_at_once_and_the_first_goes_on(tmp_path):
    long = "max_steps=400"  # it must be under way until both others have ended
    folder, words = tmp_path / "run", (long, "--num_processes", "2", "--main_port", str(free_port()))
    process = start(folder, *words)
    wait_for(process, lambda: steps(folder) >= 1)
    began = time.monotonic()
    second = subprocess.run(
        [*LAUNCH, "--output_dir", str(folder), *SHORT, *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert second.returncode == 2 and time.monotonic() - began < 60
    assert second.stderr.count("\n") == 1 and "is held by a run that is going on (process " in second.stderr
    # two starts in one moment: both pass the launcher, and all ranks of the later one end
    config, port = str(folder / "recipe.yaml"), str(free_port())
    ranks = ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--main_process_port", port]
    command = [sys.executable, "-m", *ranks, "-m", "open_r1.grpo", "--config", config]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    late = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert late.returncode != 0
    assert (late.stderr + late.stdout).count("is held by a run that is going on") == 1
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=300)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_stops_with_one_line_and_the_run_goes_on_when_there_is_room(tmp_path, uninterrupted):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        folder = disk / "run"
        log = tmp_path / "run.log"
        words = [*LAUNCH, "--output_dir", str(folder), *SHORT]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        with log.open("w") as file:
            full = subprocess.run(words, stdout=file, stderr=file, timeout=1200, env=environment, check=False)
        assert full.returncode == 2
        [line] = [line for line in log.read_text().splitlines() if "could not be written" in line]
        assert "start the same command again" in line
        assert log.read_text().count("Traceback") == 0
        subprocess.run(["mount", "-o", "remount,size=400m", str(disk)], check=True)
        subprocess.run(words, capture_output=True, timeout=1200, env=environment, check=True)
        assert_same(outcome(folder), uninterrupted)
    finally:
        subprocess.run(["umount", str(disk)], check=True)

import os
import signal
import subprocess
import sys
import time

import pytest
from tqdm import tqdm

from open_r1.schema import UserError
from open_r1.utils.processes import Command, hold, run_side_by_side


def test_a_late_command_is_stopped_with_what_it_started(tmp_path):
    began = time.monotonic()
    late = Command(("sh", "-c", "(sleep 1; touch late) & wait"), tmp_path / "late.log")
    quick = Command(("sh", "-c", "touch quick"), tmp_path / "quick.log")
    with tqdm(total=2, disable=True) as bar:
        failed = run_side_by_side({"l": late, "q": quick}, at_once=1, deadline_s=0.5, cwd=tmp_path, bar=bar)
    assert failed == {"l": "not done after 0.5 s"}
    assert (tmp_path / "quick").exists()
    time.sleep(max(0.0, began + 1.5 - time.monotonic()))
    assert not (tmp_path / "late").exists()


def test_nothing_runs_on_when_the_study_is_interrupted(tmp_path):
    class Interrupted(tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    long = Command(("sh", "-c", "sleep 1; touch late"), tmp_path / "long.log")
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side({"l": long}, at_once=1, deadline_s=9, cwd=tmp_path, bar=Interrupted(disable=True))
    time.sleep(1.2)
    assert not (tmp_path / "late").exists()


def test_a_folder_is_held_as_long_as_its_process_lives_and_no_longer(tmp_path):
    lock = tmp_path / "run.lock"
    code = "import sys, time; from open_r1.utils.processes import hold; from pathlib import Path\n"
    code += "with hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"a run that is going on \(process {other.pid} on "), hold(lock):
        pass
    other.kill()
    other.wait(timeout=9)
    with hold(lock):
        pass


def test_a_worker_that_outlives_its_killed_parent_does_not_hold_the_folder(tmp_path):
    """What kill -9 leaves of a trainer with dataloader workers: a forked child."""
    lock = tmp_path / "run.lock"
    code = "import os, sys, time; from open_r1.utils.processes import hold; from pathlib import Path\n"
    code += "with hold(Path(sys.argv[1])):\n    os.fork() or print(os.getpid(), flush=True)\n"
    code += "    time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with (
            pytest.raises(UserError, match=f"process {parent.pid} on "),
            hold(lock),
        ):  # the worker has not taken it away
            pass
        parent.kill()
        parent.wait(timeout=9)
        os.kill(child, 0)  # it lives
        with hold(lock):
            pass
    finally:
        os.kill(child, signal.SIGKILL)

"""Two real processes that wait for one another: the missing one is named, and the deadline is kept."""

import os
import socket
import subprocess
import sys
import time

CODE = """
import os, time
from accelerate import PartialState
from open_r1.training.barrier import Barrier

state = PartialState(cpu=True)
assert state.num_processes == 2
barrier = Barrier(3.0)
barrier.wait("the first candidates")
print("met", flush=True)
if state.process_index == 1:
    time.sleep(600)
barrier.wait("the second candidates")
"""


def test_a_process_that_is_missing_is_named_when_the_deadline_has_passed():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CODE],
            env=os.environ | common | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        assert started[0].stdout is not None and started[0].stdout.readline() == "met\n"
        began = time.monotonic()
        _, error = started[0].communicate(timeout=120)
        assert time.monotonic() - began > 2.5 and started[0].returncode == 1
        last = error.strip().splitlines()[-1]
        assert last.endswith(f"the second candidates: waited up to 3 s for process 1 on {socket.gethostname()}")
    finally:
        for process in started:
            process.kill()
            process.communicate()

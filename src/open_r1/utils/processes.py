"""Run command lines side by side, each with a deadline and a log, and leave none behind; lock a folder."""

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from open_r1.schema import UserError

POLL_S = 0.2
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Command:
    """A command line and the file that gets its stdout and stderr."""

    words: tuple[str, ...]
    log: Path


_held: list[TextIO] = []  # lock files that this process holds


def _close_in_child() -> None:
    """A forked worker shares its parent's lock, which would outlive the parent as long as the worker does."""
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def hold(lock: Path) -> Iterator[None]:
    """Hold `lock` within the block; the system releases it however this process ends, workers of it alive or not.

    Raises:
        UserError: a live process holds it; it is named.
    """
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read(200).strip() or "another process"
            raise UserError(
                f"{lock.parent} is held by a run that is going on ({owner}); one at a time; wait for it or stop it"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        _held.append(file)
        try:
            yield
        finally:
            _held.remove(file)


def run_side_by_side(
    commands: Mapping[str, Command], *, at_once: int, deadline_s: float, cwd: Path, bar: tqdm
) -> dict[str, str]:
    """Run the commands with one thread each, `at_once` side by side; `bar` moves by one as each ends.

    A command that passes its deadline is killed with everything it started; so are all when this process is left by an
    exception, Ctrl-C included.

    Returns:
        The reason in one line for each command that failed: its exit status and last words, or its deadline.
    """
    waiting, running, failed = list(commands), {}, {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name = waiting.pop(0)
                running[name] = (_start(commands[name], cwd), time.monotonic() + deadline_s)
            time.sleep(POLL_S)
            bar.update(0)  # redraws as often as the bar's mininterval allows
            for name, (process, deadline) in list(running.items()):
                late = time.monotonic() > deadline
                if process.poll() is None and not late:
                    continue
                if process.poll() is None:
                    failed[name] = f"not done after {deadline_s:g} s"
                elif process.returncode:
                    failed[name] = f"exit status {process.returncode}: {_last_line(commands[name].log)}"
                _stop(running.pop(name)[0])
                bar.update()
    finally:
        for process, _ in running.values():
            _stop(process)
    return failed


def _start(command: Command, cwd: Path) -> subprocess.Popen:
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("w") as log:  # a session of its own, so that _stop reaches what the command starts
        return subprocess.Popen(
            command.words, cwd=cwd, env=os.environ | ONE_THREAD, stdout=log, stderr=log, start_new_session=True
        )


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"

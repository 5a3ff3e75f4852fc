"""Real servers for the slow tests, each in a virtual environment made once and kept in the temporary folder.

A server that cannot be installed (no package index, no wheel for this machine) makes its test skip and say why.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(tempfile.gettempdir()) / "vision-ekipl-servers"
INSTALL_S, START_S = 900, 1500  # generous: a busy machine takes ten times as long
# Where torchvision was built for another torch its C++ operators are missing; vLLM needs no more than their names.
VLLM_SITE = """
import importlib.abc, sys

class Stubs(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            from torch import library
            for name in ("nms", "qnms"):
                library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

sys.meta_path.insert(0, Stubs())
"""


def environment(
    name: str, packages: Sequence[str], without: Sequence[str] = (), site: str = "", local: bool = True
) -> Path:
    """Return the Python of a virtual environment with these packages; skip the test where they cannot be had.

    `local`: wheels of PIP_FIND_LINKS may be taken; a torch from there does not fit the index's torchvision.
    """
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not installed")
    folder, python = HOME / name, HOME / name / "bin" / "python"
    done, wanted = folder / ".done", "\n".join([*packages, *(f"without {name}" for name in without), f"local {local}"])
    if not done.is_file() or done.read_text() != wanted:
        find_links = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if local and "PIP_FIND_LINKS" in os.environ else {}
        steps = [
            [uv, "venv", "--quiet", "--clear", "--python", "3.11", str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *packages],
            *([[uv, "pip", "uninstall", "--quiet", "--python", str(python), *without]] if without else []),
        ]
        for step in steps:
            try:
                run = subprocess.run(
                    step, env=os.environ | find_links, capture_output=True, text=True, timeout=INSTALL_S, check=False
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"installing {' '.join(packages)} took more than {INSTALL_S} s")
            if run.returncode:
                pytest.skip(f"cannot install {' '.join(packages)}: {run.stderr.strip()[-300:]}")
        done.write_text(wanted)
    if site:
        next(folder.glob("lib/python*/site-packages")).joinpath("sitecustomize.py").write_text(site)
    return python


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(words: Sequence[str], health: str, log: Path, variables: dict[str, str]) -> Iterator[None]:
    """Run a server until the block ends; returns control when `health` answers, fails with its last words otherwise."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with log.open("w") as out:
        process = subprocess.Popen(words, env=clean | variables, stdout=out, stderr=out, start_new_session=True)
    try:
        give_up_at = time.monotonic() + START_S
        while not _answers(health):
            if process.poll() is not None or time.monotonic() > give_up_at:
                pytest.fail(f"the server did not come up:\n{log.read_text()[-3000:]}")
            time.sleep(1)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False

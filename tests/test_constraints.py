"""The resolved sets in constraints/ hold every pin of setup.py, and no version that must never be installed."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ["3.11", "3.12", "3.13"]


def constraints(python: str) -> Path:
    return ROOT / "constraints" / f"gpu-py{python.replace('.', '')}.txt"


def resolved(python: str) -> dict[str, str]:
    lines = [line for line in constraints(python).read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def pins() -> dict[str, str]:
    tree = ast.parse((ROOT / "setup.py").read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    found = [re.fullmatch(r"([A-Za-z0-9_-]+)(?:\[\w+\])?==(\S+)", text) for text in texts]
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("python", PYTHONS)
def test_every_pin_of_setup_py_is_in_the_resolved_set(python):
    have, wanted = resolved(python), pins()
    assert {"torch", "trl", "vllm", "deepspeed", "flash-attn"} <= wanted.keys()
    assert {name: have.get(name) for name in wanted} == wanted
    assert have["litellm"] not in ("1.82.7", "1.82.8")


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("python", PYTHONS)
def test_the_gpu_extras_resolve_beside_the_core_pins(python, tmp_path):
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert uv, "make install puts uv into .venv"
    words = ["pip", "install", "--dry-run", "--target", str(tmp_path), "--python-version", python]
    command = [uv, *words, "-c", str(constraints(python)), ".[gpu,dev]"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "+ vllm==0.31.0" in done.stderr and "+ flash-attn==2.8.3.post2" in done.stderr

"""The run as a user starts it, under every accelerate configuration: evaluation, both stages, evaluation, resume.

`make test-scale` runs these where deepspeed is installed. DeepSpeed runs on CPUs as shipped, by gloo; FSDP2 does not
(accelerate makes DDP of it), and is held by test_fsdp2.py instead.
"""

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from open_r1.utils.processes import Command, run_side_by_side

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--num_train_rows=32", "--sft_rows=16", "--num_test_rows=5", "--save_steps=1", "--save_total_limit=9"]
SHORT += ["--max_completion_length=64", "--eval_max_completion_length=24", "--curve_every=1", "--curve_rows=3"]
AS_7B = ["--bf16=true", "--gradient_checkpointing=true"]  # as recipes/tasks/*/7b.yaml
CLOCKS = {"time_s", "step_time", "external/wait_s"}

pytestmark = [pytest.mark.slow, pytest.mark.scale, pytest.mark.timeout(1800)]
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed: make test-scale installs it")

ZERO2, ZERO3 = ({"type": "DEEPSPEED", "processes": 2, "zero_stage": stage} for stage in (2, 3))
RUNS = [
    pytest.param("cpu", 1, [], {"type": "NO", "processes": 1}, id="one process"),
    pytest.param("ddp", 2, [], {"type": "MULTI_CPU", "processes": 2}, id="ddp"),
    pytest.param("zero2", 2, AS_7B, ZERO2, id="zero2", marks=needs_deepspeed),
    pytest.param("zero3", 2, AS_7B, ZERO3, id="zero3", marks=needs_deepspeed),
    pytest.param("zero3", 2, [*AS_7B, "--lora.r=8"], ZERO3, id="zero3, lora", marks=needs_deepspeed),
    pytest.param("zero3_offload", 1, [], ZERO3 | {"processes": 1}, id="zero3_offload", marks=needs_deepspeed),
]


def train(folder: Path, name: str, processes: int, words: list[str]) -> None:
    """Start launch.py as `make train` does, and wait for its end."""
    launch = [sys.executable, str(ROOT / "src/open_r1/launch.py"), "--method=cot_sft_ekipl", f"--output_dir={folder}"]
    launch += [f"--accelerate_config={name}", f"--num_processes={processes}", *SHORT, *words]
    log = folder.with_suffix(".log")
    with tqdm(disable=True) as bar:
        started = Command(("env", f"PYTHONPATH={ROOT / 'src'}", *launch), log)
        failed = run_side_by_side({"run": started}, at_once=1, deadline_s=900, cwd=ROOT, bar=bar)
    assert not failed, f"{failed}: {log.read_text()[-6000:]}"


def outcome(folder: Path) -> tuple[list[dict], dict, dict[str, torch.Tensor]]:
    """The rl stage's lines without their clocks, the summary, the weights."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (weights,) = (folder / "model").glob("*.safetensors")
    without = [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]
    return without, json.loads((folder / "summary.json").read_text()), load_file(weights)


@pytest.mark.parametrize(("name", "processes", "words", "distributed"), RUNS)
def test_a_two_stage_run_ends_and_goes_on_from_its_checkpoint_to_the_same_end(
    tmp_path, name, processes, words, distributed
):
    whole = tmp_path / "whole"
    train(whole, name, processes, words)
    lines, summary, weights = outcome(whole)
    assert {key: summary["distributed"][key] for key in distributed} == distributed
    assert [line["step"] for line in lines] == [1, 2] and any(line["grad_norm"] > 0 for line in lines)
    assert (whole / "sft" / "model").is_dir()
    for when in ("base", "final"):
        assert summary[when]["id"]["n"] == summary[when]["ood"]["n"] == 5
    points = [json.loads(line) for line in (whole / "curve.jsonl").read_text().splitlines()]
    assert [point["prompts"] for point in points] == [8, 24]  # the step before the last of each stage
    assert all(point["sets"][name]["n"] == 3 for point in points for name in ("id", "ood"))
    shards = list((whole / "checkpoint-1").glob("global_step1/*optim_states.pt"))
    assert len(shards) == (processes if "zero_stage" in distributed else 0)

    again = tmp_path / "again"  # as if killed after the first step of the second stage
    shutil.copytree(whole, again, ignore=shutil.ignore_patterns("summary.json", "figures"))
    shutil.rmtree(again / "model")
    recipe = (again / "recipe.yaml").read_text().replace(str(whole), str(again))
    (again / "recipe.yaml").write_text(recipe)
    train(again, name, processes, words)
    resumed_lines, resumed, resumed_weights = outcome(again)
    assert resumed_lines == lines
    assert (resumed["base"], resumed["final"]) == (summary["base"], summary["final"])
    assert weights.keys() == resumed_weights.keys()
    assert all(torch.equal(weights[key], resumed_weights[key]) for key in weights)

"""One process and two train the same: kept groups, losses, weights; and no process waits for another for ever.

ZeRO runs where deepspeed is installed, on the CPU by gloo.
"""

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from servers import free_port
from tqdm import tqdm

from open_r1.utils.processes import Command, run_side_by_side

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recompute import Run

ROOT = Path(__file__).resolve().parents[2]
WORKER = str(Path(__file__).with_name("train_worker.py"))
CONFIGS = ROOT / "recipes" / "accelerate_configs"
COMPARED = ("loss", "grad_norm", "policy/reward", "kept/reward", "kept_share/teacher", "dead_groups/after")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


class Runs:
    """Trains with the worker, once per combination of words."""

    def __init__(self, tiny: Path, data: Path, folder: Path):
        self.common, self.folder, self.done = {"tiny": str(tiny), "data": str(data)}, folder, {}

    def __call__(self, kind: str, processes: int, accumulate: int = 1, mode: str = "fails") -> Path:
        name = f"{kind}-{processes}-{accumulate}-{mode}"
        if name not in self.done:
            self.done[name] = self.train(self.folder / name, kind, processes, accumulate, mode, {})
        return self.done[name]

    def train(
        self,
        output: Path,
        kind: str,
        processes: int,
        accumulate: int,
        mode: str,
        given: dict,
        resume: str | None = None,
    ) -> Path:
        output.mkdir(exist_ok=True)
        # 16 rows are 4 prompts x G = 4 a step, however they are dealt; 24 are 6 prompts of 8, so that 2 are left over
        rows = (24 if mode == "slow" else 16) // processes // accumulate
        changes = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulate, **given}
        told = {"output": str(output), "processes": processes, "mode": mode, "changes": changes, "resume": resume}
        told |= self.common
        # with ZeRO this variable would win over it
        on_cpu = ["ACCELERATE_USE_CPU=true"] if kind == "ddp" and processes > 1 else []
        command = ["env", f"PYTHONPATH={ROOT / 'src'}", *on_cpu, sys.executable]
        if processes > 1:
            config = yaml.safe_load((CONFIGS / f"{kind}.yaml").read_text())
            if kind != "ddp":  # zero2, zero3: as they are shipped, but for a CPU
                config |= {"use_cpu": True, "mixed_precision": "no"}
                changes |= {"use_cpu": False, "ddp_backend": "gloo"}
            file = output / "accelerate.yaml"
            file.write_text(yaml.safe_dump(config))
            command += ["-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(file)]
            command += ["--num_processes", str(processes), "--main_process_port", str(free_port())]
        told["kind"] = "NO" if processes == 1 else "MULTI_CPU" if kind == "ddp" else "DEEPSPEED"
        started = Command((*command, WORKER, json.dumps(told)), output / "log")
        with tqdm(disable=True) as bar:
            failed = run_side_by_side({"run": started}, at_once=1, deadline_s=900, cwd=ROOT, bar=bar)
        assert not failed, f"{failed}: {(output / 'log').read_text()[-3000:]}"
        return output


@pytest.fixture(scope="module")
def run(tiny_folder, counting_data, tmp_path_factory) -> Runs:
    return Runs(tiny_folder, counting_data, tmp_path_factory.mktemp("runs"))


def groups(output: Path) -> list:
    return json.loads((output / "groups.json").read_text())


def lines(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def assert_same_training(one: Path, two: Path) -> None:
    assert groups(one) == groups(two) and len(groups(one)) == 5 * 4
    for a, b in zip(lines(one), lines(two), strict=True):
        assert {key: a[key] for key in COMPARED} == pytest.approx({key: b[key] for key in COMPARED}, rel=1e-3, abs=1e-5)
    weights = [load_file(output / "model" / "model.safetensors") for output in (one, two)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_keep_the_groups_and_get_the_weights_of_one_also_when_a_teacher_fails(run, accumulate):
    one, two = run("ddp", 1, accumulate), run("ddp", 2, accumulate)
    assert {line["external/teacher/failures"] for line in lines(one)} - {0, 4}  # for some rows, not for all
    assert_same_training(one, two)
    assert any(line["grad_norm"] > 0 for line in lines(one))
    for a, b in zip(lines(one), lines(two), strict=True):
        assert a["external/teacher/failures"] == b["external/teacher/failures"]
        assert a["external/teacher/reward"] == pytest.approx(b["external/teacher/reward"], rel=1e-4)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_that_share_within_groups_train_as_one_that_does_not(run, accumulate):
    assert_same_training(run("ddp", 1, accumulate, "answers"), run("ddp", 2, accumulate, "shared"))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("cut", [{}, {"steps_per_generation": 1}], ids=["one generation a step", "two"])
def test_every_number_is_what_the_candidates_and_tensors_of_all_processes_say(run, tmp_path, processes, cut):
    """A teacher fails for some rows; two passes a step on each process."""
    output = run.train(tmp_path / "recorded", "ddp", processes, 2, "fails", cut | {"beta": 0.04, "max_grad_norm": 1e9})
    args = SimpleNamespace(
        num_generations=4, num_iterations=1, learning_rate=0.5, max_steps=5, beta=0.04, epsilon=0.2,
        generation_batch_size=16 // (2 if cut else 1),
    )  # fmt: skip
    assert "kept_share/teacher" in Run(output, ["policy", "teacher"], args, rows=8).check()


def test_two_processes_that_were_stopped_go_on_to_the_weights_of_two_that_were_not(run, tmp_path):
    """AdamW, so that there is an optimizer state to take up; saved after 3 of 5 steps."""
    given = {"optim": "adamw_torch", "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 3}
    whole = run.train(tmp_path / "whole", "ddp", 2, 1, "answers", given)
    saved = tmp_path / "again" / "checkpoint-3"
    shutil.copytree(whole / saved.name, saved)
    shutil.copy(whole / "metrics.jsonl", saved.parent)
    again = run.train(saved.parent, "ddp", 2, 1, "answers", given, resume=str(saved))
    assert groups(again) == [group for group in groups(whole) if group[0] >= 3] and len(groups(again)) == 2 * 4
    assert [line["loss"] for line in lines(again)] == [line["loss"] for line in lines(whole)]
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (whole, again))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_teacher_that_hangs_on_one_process_and_rows_that_are_left_over_hold_no_one_up(run):
    """Three prompts a step lie on each process; process 1 gets no answer within its 5 seconds."""
    for line in lines(run("ddp", 2, mode="slow")):
        assert line["external/teacher/failures"] == 3
        assert line["pool/size"] == (6 + 4) / 2  # 4 of the policy, and 2 of the teacher on process 0
        assert line["external/wait_s"] < 8


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.parametrize("mode", ["answers", "shared"])
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_zero_trains_as_ddp_does(run, stage, mode):
    assert_same_training(run("ddp", 2, mode="answers"), run(stage, 2, mode=mode))

"""FSDP2 on two CPU processes, by PyTorch itself: accelerate's way to it is closed on a CPU (recipes' fsdp2.yaml)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.scale, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def found(tiny_folder, tmp_path_factory) -> list[dict]:
    """What each of two processes found; they are told of FSDP as accelerate tells them by the shipped file."""
    config = yaml.safe_load((ROOT / "recipes/accelerate_configs/fsdp2.yaml").read_text())["fsdp_config"]
    assert config["fsdp_version"] == 2
    told = {"ACCELERATE_USE_FSDP": "true", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    told["FSDP_CPU_RAM_EFFICIENT_LOADING"] = str(config["fsdp_cpu_ram_efficient_loading"]).lower()
    output = tmp_path_factory.mktemp("fsdp2") / "found"
    worker = str(Path(__file__).with_name("fsdp2_worker.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run = subprocess.run(
        [*command, worker, str(tiny_folder), str(output)],
        env=os.environ | told, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    return [json.loads(output.with_name(f"found-{rank}").read_text()) for rank in (0, 1)]


def test_every_process_evaluates_the_checkpoint_and_none_a_model_of_zeros(found):
    assert [part["rank"] for part in found] == [0, 1]
    assert (
        found[0]["zeros as training loads"] == 0 and found[1]["zeros as training loads"] > 40
    )  # FSDP fills them later
    assert [part["zeros as evaluation loads"] for part in found] == [0, 0]


def test_a_sharded_policy_is_evaluated_by_each_process_on_its_own_and_trains_on(found):
    for rank, part in enumerate(found):
        assert part["sharded"] < 0.6 * part["whole"] and part["sharded again"] == part["sharded"]
        assert part["new tokens"] == 1 + 3 * rank
        assert part["gradients"] > 40

"""What a job starts on which node; tests/slow/test_slurm_jobs.py runs it under a real slurmctld."""

import sys

import pytest

from open_r1.cli import slurm
from open_r1.cli.slurm import Node
from open_r1.schema import UserError

NODES = [Node("n1", "10.0.0.1"), Node("n2", "10.0.0.2"), Node("n3", "10.0.0.3")]


@pytest.fixture(autouse=True)
def job(monkeypatch):
    """Job 7 on three nodes with 8 GPUs; what would be started is recorded in place of started."""
    for key, value in {"JOB_ID": "7", "CPUS_ON_NODE": "64", "GPUS_ON_NODE": "8"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    monkeypatch.setattr(slurm, "job_nodes", lambda: NODES)
    started = []
    monkeypatch.setattr(slurm, "run", lambda command, beside=None: started.append((command, beside)) or 0)
    return started


def test_training_starts_the_launcher_once_on_every_node_with_the_user_s_words(job):
    slurm.main(["train", "--task", "trance", "--model", "2b", "--seed", "1"])
    [(command, beside)] = job
    assert beside is None
    assert command[:5] == ["srun", "--nodes=3", "--ntasks=3", "--nodelist=n1,n2,n3", "--cpus-per-task=64"]
    assert command[6:9] == [sys.executable, "-m", "open_r1.launch"]
    assert command[9:15] == ["--task", "trance", "--model", "2b", "--seed", "1"]
    assert command[15:17] == ["--output_dir", "runs/slurm-7"]  # the job's own: a requeued job has the same number
    assert command[17:] == ["--num_machines", "3", "--main_address", "10.0.0.1", "--main_port", "20014"]


def test_one_node_is_told_nothing_of_others_and_a_named_folder_stays(job, monkeypatch):
    monkeypatch.setattr(slurm, "job_nodes", lambda: NODES[:1])
    slurm.main(["train", "--output_dir", "runs/mine"])
    [(command, _)] = job
    assert command[9:] == ["--output_dir", "runs/mine"]


def test_with_a_vllm_server_the_last_node_serves_and_the_others_train(job):
    slurm.main(
        ["train", "--model", "7b", "--use_vllm", "true", "--vllm_mode=server", "--vllm_tensor_parallel_size", "8"]
    )
    [(command, beside)] = job
    assert "--nodelist=n1,n2" in command and command[-4:] == [
        "--vllm_server_host",
        "10.0.0.3",
        "--vllm_server_port",
        "20015",
    ]
    assert "--num_machines" in command and command[command.index("--num_machines") + 1] == "2"
    assert "--nodelist=n3" in beside and beside[beside.index("vllm-serve") + 1 :] == [
        "--model", "Qwen/Qwen2-VL-7B-Instruct", "--host", "0.0.0.0", "--port", "20015", "--tensor_parallel_size", "8",
    ]  # fmt: skip


def test_a_server_needs_a_node_of_its_own(monkeypatch):
    monkeypatch.setattr(slurm, "job_nodes", lambda: NODES[:1])
    with pytest.raises(UserError, match="needs a node of its own, the job has 1"):
        slurm.main(["train", "--model", "7b", "--use_vllm", "true", "--vllm_mode", "server"])


def test_an_external_model_is_served_over_the_node_s_gpus_and_its_address_is_told(job, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="make install-gpu"):
        slurm.main(["serve", "Qwen/Qwen2.5-VL-7B-Instruct"])
    monkeypatch.setattr(slurm, "find_spec", lambda name: name == "vllm")
    slurm.main(["serve", "Qwen/Qwen2.5-VL-7B-Instruct", "--max-model-len", "8192"])
    [(command, _)] = job
    assert "--nodelist=n1" in command and command[-4:] == ["--tensor-parallel-size", "8", "--max-model-len", "8192"]
    assert "api_base: http://10.0.0.1:20014/v1" in capsys.readouterr().out


def test_words_that_cannot_be_meant_are_refused(monkeypatch):
    for words, message in (
        ([], "is no part of a job"),
        (["serve"], "no model to serve"),
        (["train", "--task", "x"], "task"),
    ):
        with pytest.raises(UserError, match=message):
            slurm.main(words)
    monkeypatch.delenv("SLURM_JOB_ID")
    with pytest.raises(UserError, match=r"write sbatch slurm/train.slurm"):
        slurm.main(["train"])


def test_the_address_is_read_from_what_the_controller_says_of_a_node():
    line = "NodeName=n1 Arch=x86_64 CoresPerSocket=2 NodeAddr=10.1.2.3 NodeHostName=host Port=17001"
    assert slurm.node_address(line) == "10.1.2.3"


def test_neighbouring_jobs_have_different_ports(monkeypatch):
    ports = set()
    for job_id in range(1, 1001):
        monkeypatch.setenv("SLURM_JOB_ID", str(job_id))
        ports |= {slurm.port(), slurm.port(1)}
    assert len(ports) == 2000 and all(20_000 <= int(port) < 30_000 for port in ports)

"""The Slurm scripts under a real slurmctld with two virtual nodes on this machine (`make test MARK=slow`).

Needs root and Slurm: apt-get install -y --no-install-recommends slurm-wlm munge
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import free_port

ROOT = Path(__file__).resolve().parents[2]
RUNNING, OVER = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED"}, {"COMPLETED"}
JOB_S = 1500  # a job of two processes on a busy machine
SHORT = ["max_steps=6", "save_steps=100", "num_train_rows=32", "num_test_rows=4", "prompts_per_step=4"]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
KillWait=120
MinJobAge=3600
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=2 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=2 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=60 State=UP
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(4 * JOB_S),
    pytest.mark.skipif(os.geteuid() != 0, reason="Slurm's daemons and device files need root"),
    pytest.mark.skipif(
        not all(shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("slurmctld", "slurmd", "munged")),
        reason="no Slurm here: apt-get install -y --no-install-recommends slurm-wlm munge",
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A controller and two nodes with two (pretended) GPUs each; yields the environment that reaches them."""
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().split(".")[0]
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    gres = []
    for node in ("n1", "n2"):
        for number in (0, 1):
            subprocess.run(["mknod", folder / f"{node}-gpu{number}", "c", "1", "3"], check=True)
        gres.append(f"NodeName={node} Name=gpu File={folder}/{node}-gpu[0-1]\n")
    (folder / "gres.conf").write_text("".join(gres))
    ports = {"port": free_port(), "port1": free_port(), "port2": free_port()}
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=host, **ports))
    subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge"], check=True)
    pids = [folder / name for name in ("slurmctld.pid", "slurmd-n1.pid", "slurmd-n2.pid")]
    if not Path("/run/munge/munge.socket.2").exists():
        subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
        pids.append(Path("/run/munge/munged.pid"))
    environment = os.environ | {"SLURM_CONF": str(conf), "PATH": os.environ["PATH"] + ":/usr/sbin"}
    environment |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT / "src")}
    environment = {key: value for key, value in environment.items() if not key.startswith("SBATCH_")}
    try:
        subprocess.run(["slurmctld", "-f", conf], env=environment, check=True)
        for node in ("n1", "n2"):
            subprocess.run(["slurmd", "-f", conf, "-N", node], env=environment, check=True)
        wait(lambda: ask(environment, "sinfo", "-h", "-o", "%T %D") == "idle 2", 60, "both nodes to be idle")
        yield environment
    finally:
        for pid in pids:
            if pid.is_file():
                os.kill(int(pid.read_text()), signal.SIGTERM)


def ask(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def wait(ready: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.5)


class Job:
    """A submitted job of one of the scripts, its folder and its log."""

    def __init__(self, environment: dict[str, str], folder: Path, options: list[str], script: str, *words: str):
        self.environment, self.folder, self.log = environment, folder, folder.with_suffix(".log")
        options = ["--parsable", "--gpus-per-node=2", "--time=50", f"--output={self.log}", *options]
        self.id = ask(environment, "sbatch", *options, str(ROOT / "slurm" / script), *words)

    @property
    def state(self) -> str:
        return ask(self.environment, "squeue", "-h", "-t", "all", "-j", self.id, "-o", "%T")

    def finish(self) -> str:
        wait(lambda: self.state not in RUNNING, JOB_S, f"job {self.id} to end")
        assert self.state in OVER, self.log.read_text()[-3000:]
        return self.log.read_text()

    def steps(self) -> list[int]:
        path = self.folder / "metrics.jsonl"
        return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.is_file() else []


def train(environment: dict[str, str], folder: Path, options: list[str], *words: str) -> Job:
    return Job(environment, folder, options, "train.slurm", "--output_dir", str(folder), *SHORT, *words)


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(cluster, tmp_path_factory) -> Job:
    """A job of one node that nothing disturbs."""
    job = train(cluster, tmp_path_factory.mktemp("whole") / "run", [])
    job.finish()
    return job


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)  # where a user calls sbatch


def test_a_job_of_one_node_trains_the_tiny_model(whole):
    assert whole.steps() == [1, 2, 3, 4, 5, 6]
    assert (whole.folder / "summary.json").is_file()


def test_two_nodes_train_together_with_the_step_of_one(cluster, tmp_path):
    job = train(cluster, tmp_path / "run", ["--nodes=2"], "--num_processes", "2")
    log = job.finish()
    assert "--num_machines 2 --machine_rank 0" in log and "--main_process_ip 127.0.0.1" in log
    metrics = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["prompts"] for line in metrics] == [4, 8, 12, 16, 20, 24]  # 4 prompts a step, on two nodes as on one
    assert json.loads((job.folder / "summary.json").read_text())["steps"] == 6


def test_a_requeued_job_goes_on_and_ends_with_the_weights_of_one_that_was_never_stopped(cluster, tmp_path, whole):
    job = train(cluster, tmp_path / "run", [])
    wait(lambda: len(job.steps()) >= 2, JOB_S, "two steps")
    ask(cluster, "scontrol", "requeue", job.id)
    wait(lambda: job.state == "PENDING", JOB_S, "the job to be in the queue again")
    stopped = len(job.steps())
    assert 2 <= stopped < 6 and list(job.folder.glob("checkpoint-*"))
    ask(cluster, "scontrol", "update", f"JobId={job.id}", "StartTime=now")
    log = job.finish()
    assert "SIGTERM: saved and stopped" in log and "going on with the unfinished run" in log
    assert job.steps() == [1, 2, 3, 4, 5, 6]
    assert weights(job.folder) == weights(whole.folder)


def test_replies_are_graded_in_a_job(cluster, tmp_path):
    replies, scores = tmp_path / "replies.jsonl", tmp_path / "scores.jsonl"
    replies.write_text('{"reply": "<think>2 + 2</think><answer>4</answer>", "answer": "4"}\n')
    words = ["--task", "clevr_math", "--replies", str(replies), "--output", str(scores)]
    assert "1 replies" in Job(cluster, tmp_path / "run", [], "evaluate.slurm", *words).finish()
    assert json.loads(scores.read_text())["accuracy"] == 1.0


def test_words_that_cannot_be_meant_end_the_job_with_one_line(cluster, tmp_path):
    job = Job(cluster, tmp_path / "run", [], "train.slurm", "--task", "trnce")
    wait(lambda: job.state not in RUNNING, 120, "the job to end")
    assert job.state == "FAILED"
    assert (
        job.log.read_text().strip()
        == "unknown task 'trnce'; valid: clevr_math, geomath, trance; did you mean 'trance'?"
    )

"""What slurm/*.slurm start on a job's first node: who does what on which node, as srun commands.

    sbatch --nodes 2 slurm/train.slurm --task trance --model 2b      (runs: python -m open_r1.cli.slurm train --task ..)

Training takes every node; where the policy's samples come from a vLLM server (`use_vllm: true`, `vllm_mode: server`)
the last node serves and the others train, as Open-R1 splits them. Nothing of a cluster is written here: names, counts
come from Slurm's variables, addresses from scontrol, and the recipe is read as launch.py reads it.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from open_r1.launch import build_parser
from open_r1.recipe.merge import merge_recipe, parse_overrides
from open_r1.recipe.rules import Recipe
from open_r1.schema import UserError
from open_r1.utils.entry import run_entry

CONTROLLER_S = 60  # a controller that has not answered by then is down
STOP_S = 60  # what a server gets to end in once the training has
PORTS = range(20_000, 30_000)


class Node(NamedTuple):
    """A node of the job, and the address where the others reach it."""

    name: str
    address: str


def main(argv: Sequence[str]) -> int:
    """Run `train`, `evaluate` or `serve` with the words that follow; returns the exit status."""
    roles = {"train": train, "evaluate": evaluate, "serve": serve}
    if not argv or argv[0] not in roles:
        raise UserError(f"'{' '.join(argv[:1])}' is no part of a job; valid: {', '.join(roles)}; see slurm/README.md")
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(f"SLURM_JOB_ID is not set: this runs inside a job; write sbatch slurm/{argv[0]}.slurm ...")
    return roles[argv[0]](list(argv[1:]))


def train(words: list[str]) -> int:
    """Train on the job's nodes, the last of them a vLLM server where the recipe wants one."""
    args, overrides = build_parser().parse_known_args(words)
    merged = merge_recipe(args.task, args.model, args.method, parse_overrides(overrides), args.teachers)
    recipe = Recipe.read(merged)
    nodes = job_nodes()
    if not (recipe.use_vllm and recipe.vllm_mode == "server" and not recipe.vllm_server_base_url):
        return run(srun(nodes, training(words, nodes)))
    if len(nodes) < 2:
        raise UserError(
            "vllm_mode server needs a node of its own, the job has 1; sbatch --nodes 2, or vllm_mode colocate"
        )
    *trainers, server = nodes
    return run(srun(trainers, training(words, trainers, server)), beside=srun([server], policy_server(recipe)))


def evaluate(words: list[str]) -> int:
    """Evaluate on the first node, with the words of evaluate.py."""
    return run(srun(job_nodes()[:1], [sys.executable, "-m", "open_r1.evaluate", *words]))


def serve(words: list[str]) -> int:
    """Serve an external model with vLLM on the first node; the words are those of `vllm serve`: MODEL [--key value]."""
    if not words or words[0].startswith("-"):
        raise UserError("no model to serve; write sbatch slurm/serve_external.slurm MODEL [options of vllm serve]")
    if find_spec("vllm") is None:
        raise UserError("package vllm: not installed; run `make install-gpu` where the nodes can see it")
    node = job_nodes()[0]
    print(f"serving {words[0]}; for its teacher's entry: api_base: http://{node.address}:{port()}/v1", flush=True)
    return run(srun([node], external_server(words)))


def training(words: Sequence[str], trainers: Sequence[Node], server: Node | None = None) -> list[str]:
    """The launcher's command, the same on every node: it reads the node's number from SLURM_PROCID.

    The folder is the job's own unless the words name one: a requeued job has the same number and goes on in it.
    """
    command = [sys.executable, "-m", "open_r1.launch", *words]
    if not any(word.split("=")[0] == "--output_dir" for word in words):
        command += ["--output_dir", f"runs/slurm-{os.environ['SLURM_JOB_ID']}"]
    if len(trainers) > 1:
        command += ["--num_machines", str(len(trainers)), "--main_address", trainers[0].address, "--main_port", port()]
    if server:
        command += ["--vllm_server_host", server.address, "--vllm_server_port", port(1)]
    return command


def policy_server(recipe: Recipe) -> list[str]:
    """TRL's own vLLM server, which takes the policy's new weights after every step."""
    command = [str(Path(sys.executable).with_name("trl")), "vllm-serve", "--model", recipe.untrained]
    command += ["--host", "0.0.0.0", "--port", port(1)]
    return [*command, "--tensor_parallel_size", str(recipe.vllm_tensor_parallel_size)]


def external_server(words: Sequence[str]) -> list[str]:
    """What `vllm serve` runs, over all GPUs of the node unless the words say otherwise."""
    gpus = os.environ.get("SLURM_GPUS_ON_NODE", "1")
    spread = [] if "--tensor-parallel-size" in words else ["--tensor-parallel-size", gpus]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", words[0]]
    return [*command, "--host", "0.0.0.0", "--port", port(), *spread, *words[1:]]


def port(offset: int = 0) -> str:
    """A port of this job's own: two jobs that share a node take different ones."""
    return str(PORTS[(2 * int(os.environ["SLURM_JOB_ID"]) + offset) % len(PORTS)])


def job_nodes() -> list[Node]:
    """The job's nodes in Slurm's order, with the addresses that the controller knows (a name may resolve nowhere)."""
    names = scontrol("show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()
    return [Node(name, node_address(scontrol("show", "node", name, "--oneliner"))) for name in names]


def node_address(line: str) -> str:
    """Read NodeAddr out of scontrol's line about a node."""
    found = re.search(r"\bNodeAddr=(\S+)", line)
    assert found, line
    return found[1]


def scontrol(*words: str) -> str:
    """Ask the controller."""
    return subprocess.run(["scontrol", *words], check=True, capture_output=True, text=True, timeout=CONTROLLER_S).stdout


def srun(nodes: Sequence[Node], command: Sequence[str]) -> list[str]:
    """Run the command once on each of the nodes, with all of the node's cores; where one fails, all are ended."""
    count, names = len(nodes), ",".join(node.name for node in nodes)
    cores = os.environ["SLURM_CPUS_ON_NODE"]  # srun's default is one core per task, whatever the job has
    layout = [f"--nodes={count}", f"--ntasks={count}", f"--nodelist={names}", f"--cpus-per-task={cores}"]
    return ["srun", *layout, "--kill-on-bad-exit=1", *command]


def run(command: list[str], beside: list[str] | None = None) -> int:
    """Run the command to its end, and a server beside it for as long; a signal to the job reaches the command."""
    if beside is None:
        os.execvp(command[0], command)
    both = [subprocess.Popen(words) for words in (command, beside)]
    signal.signal(signal.SIGTERM, lambda number, frame: both[0].send_signal(number))
    try:
        while all(process.poll() is None for process in both):
            time.sleep(1)
        ended = next(process for process in both if process.returncode is not None)
        return ended.returncode if ended is both[0] else ended.returncode or 1  # a server never ends by itself
    finally:
        for process in both:
            process.terminate()
        for process in both:
            process.wait(STOP_S)


if __name__ == "__main__":
    run_entry(main)

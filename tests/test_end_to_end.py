"""`make train` as a user starts it, cut short: launcher, data, base policy, training, evaluation, summary, figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from open_r1.utils.provenance import weights_digest

ROOT = Path(__file__).resolve().parents[1]
SHORT = ["max_steps=2", "num_train_rows=16", "num_test_rows=8", "prompts_per_step=4"]
SUMMARY = {
    "task", "model", "method", "seed", "commit", "argv", "prompts", "steps", "seconds", "peak_rss_mib", "base", "final",
    "dead_groups", "kept_share", "base_weights", "warnings", "distributed",
}  # fmt: skip


def launch(output: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "open_r1.launch", "--output_dir", str(output), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


@pytest.mark.parametrize(("task", "method"), [("clevr_math", "ekipl"), ("trance", "grpo")])
def test_a_short_run_leaves_a_whole_folder_and_prints_its_table(tmp_path, task, method):
    run = tmp_path / "run"
    done = launch(run, "--task", task, "--method", method, *SHORT)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary) == SUMMARY
    assert summary["base_weights"] == weights_digest(ROOT / "bases" / task)
    assert summary["prompts"] == 8 and summary["steps"] == 2  # 4 prompts a step
    assert set(summary["seconds"]) == {"install", "data", "base", "train", "eval"}
    sets = {"id", "ood"} | ({"ood_left", "ood_right"} if task == "trance" else set())
    assert set(summary["base"]) == set(summary["final"]) == sets
    assert summary["final"]["id"]["n"] == 8 and summary["final"]["ood"]["n"] == (16 if task == "trance" else 8)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2] and [line["prompts"] for line in lines] == [4, 8]
    pool = 24 if method == "ekipl" else 8
    assert lines[0]["pool/size"] == pool
    assert {path.name for path in (run / "figures").glob("*.png")} >= {"reward.png", "dead_groups.png", "accuracy.png"}
    assert (run / "recipe.yaml").is_file() and (run / "model" / "config.json").is_file()
    replies = (run / "replies" / "before-id.jsonl").read_text().splitlines()
    assert len(replies) == 8 and {"id", "reply", "answer", "accuracy", "format"} <= set(json.loads(replies[0]))
    assert "accuracy before" in done.stdout and str(run / "summary.json") in done.stdout


def test_the_trained_model_is_a_checkpoint_that_the_next_run_can_start_from(tmp_path):
    words = ["--task", "clevr_math", "--method", "grpo", *SHORT, "max_steps=1"]
    assert launch(tmp_path / "one", *words).returncode == 0
    known = launch(tmp_path / "zero", *words[:3], "zero_shot", *words[4:])  # the same policy
    assert known.stdout.count("replies are known") == 2
    again = launch(tmp_path / "two", *words, "--model_path", str(tmp_path / "one" / "model"))
    assert again.returncode == 0, again.stderr[-3000:]
    one, two = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two"))
    assert two["base"] == one["final"]  # greedy enough and seeded: the same weights give the same replies


def test_another_architecture_is_refused_in_one_line(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    done = launch(tmp_path / "run", "--task", "clevr_math", *SHORT, "--model_path", str(tmp_path / "model"))
    assert done.returncode != 0
    assert "architecture LlamaForCausalLM; the policy must be Qwen2VLForConditionalGeneration" in done.stderr
    assert "Traceback" not in done.stderr

"""The methods of the table: what their stages train on, what SFT's loss is on, adapters, and going on after a stop."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from open_r1.data.prompts import to_dataset
from open_r1.data.rows import load_rows
from open_r1.grpo import run
from open_r1.policy.loading import load_policy
from open_r1.schema import UserError
from open_r1.tasks import get_task
from open_r1.training.stages import left_over, stages_of
from open_r1.training.supervised import build_sft

TASK = get_task("clevr_math")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_a_two_stage_method_splits_the_rows_and_the_last_stage_has_the_run_s_folder(counting_data, tmp_path):
    rows = load_rows(TASK, counting_data, "train").rows
    first, second = stages_of(["sft", "rl"], rows, 3, False, tmp_path)
    assert (len(first.rows), len(second.rows)) == (3, 5) and first.rows + second.rows == rows
    assert (first.folder, second.folder) == (tmp_path / "sft", tmp_path)
    assert [len(stage.rows) for stage in stages_of(["sft", "rl"], rows, 3, True, tmp_path)] == [3, 8]
    assert [len(stage.rows) for stage in stages_of(["sft", "rl"], rows, None, False, tmp_path)] == [8, 8]
    assert stages_of(["rl"], rows, None, False, tmp_path) == [("rl", rows, tmp_path)]
    assert stages_of([], rows, None, False, tmp_path) == []
    with pytest.raises(UserError, match="leaves the rl stage none"):
        stages_of(["sft", "rl"], rows, 8, False, tmp_path)


@pytest.mark.parametrize("method", ["cot_sft", "ans_sft"])
def test_the_loss_is_on_the_completion_alone(config_of, tiny_folder, counting_data, tmp_path, method):
    rows = load_rows(TASK, counting_data, "train").rows[:2]
    config = config_of(method)
    model, processor = load_policy(str(tiny_folder))
    (tmp_path / "run").mkdir()
    trainer = build_sft(config, TASK, model, processor, rows, tmp_path / "run")
    batch = next(iter(trainer.get_train_dataloader()))
    assert (
        batch["input_ids"] == model.config.image_token_id
    ).sum() == 18  # nine visual tokens for each of two pictures
    taught = {processor.tokenizer.decode(labels[labels != -100]) for labels in batch["labels"]}
    replies = (f"<think>{row.cot}</think>\n<answer>{row.answer}</answer>" for row in rows)
    wanted = replies if method == "cot_sft" else (row.answer for row in rows)
    assert taught == {f"{reply}<|im_end|>\n" for reply in wanted}


def test_reasoning_cannot_be_taught_by_rows_that_have_none(counting_data):
    rows = load_rows(TASK, counting_data, "train").rows
    with pytest.raises(UserError, match=r"1 of 8 training rows have no cot \(first: 'clevr_math-train-0'\)"):
        to_dataset([replace(rows[0], cot=None), *rows[1:]], TASK, targets=True)
    assert len(to_dataset([replace(rows[0], cot=None)], TASK, "direct", targets=True)) == 1


def test_two_stages_make_one_run_and_a_finished_stage_is_not_made_again(config_of, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    summary = run(config_of("reason_rft", "sft_rows=4", "curve_every=1", "curve_rows=2"))
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    assert [(line["step"], line["prompts"]) for line in curve] == [(1, 2), (1, 6)]  # of two steps in both stages
    assert curve[0]["sets"]["id"]["n"] == 2
    assert (summary["prompts"], summary["steps"]) == (8, 4)  # two steps of two rows, then two of two prompts
    assert summary["kept_share"]["end"] == {"policy": 1.0}
    assert len((folder / "sft" / "metrics.jsonl").read_text().splitlines()) == 2
    assert [json.loads(line)["step"] for line in (folder / "candidates.jsonl").read_text().splitlines()] == [1, 1, 2, 2]
    made, trained = (folder / "sft" / "model" / "config.json").stat().st_mtime_ns, weights(folder)
    for name in ("model", "figures", "replies"):
        shutil.rmtree(folder / name)
    for name in ("summary.json", "metrics.jsonl", "candidates.jsonl"):
        (folder / name).unlink()
    run(config_of("reason_rft", "sft_rows=4"))
    assert (folder / "sft" / "model" / "config.json").stat().st_mtime_ns == made
    assert all(torch.equal(tensor, weights(folder)[name]) for name, tensor in trained.items())


def test_zero_shot_is_the_base_policy_before_and_after(config_of, tmp_path):
    (tmp_path / "run").mkdir()
    summary = run(config_of("zero_shot"))
    assert (summary["prompts"], summary["steps"], summary["kept_share"], summary["dead_groups"]) == (0, 0, None, None)
    assert summary["final"] == summary["base"] and not (tmp_path / "run" / "model").exists()
    assert [path.name for path in (tmp_path / "run" / "figures").iterdir()] == ["accuracy.png"]


def test_an_adapter_changes_the_policy_and_needs_its_base(config_of, tiny_folder, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    base = tmp_path / "base"
    shutil.copytree(tiny_folder, base)
    summary = run(config_of("cot_sft", "lora.r=4", "sft.learning_rate=0.1", f"base_path={base}"))
    assert summary["steps"] == 4 and {p.name for p in (folder / "figures").iterdir()} == {"loss.png", "accuracy.png"}
    assert (folder / "model" / "adapter_model.safetensors").stat().st_size < 500_000  # the policy has 6 MB
    before, after = (dict(load_policy(str(place))[0].named_parameters()) for place in (base, folder / "model"))
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed and all("language_model" in name and "_proj" in name for name in changed)
    shutil.rmtree(base)
    with pytest.raises(UserError, match=r"is an adapter of .*; put it there or change base_model_name_or_path"):
        load_policy(str(folder / "model"))
    (folder / "model" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="half written"):
        load_policy(str(folder / "model"))


def test_reinforcement_trains_an_adapter_too(config_of, tmp_path):
    (tmp_path / "run").mkdir()
    # one right reply in each group of four, or the group would be dead
    words = ["external_models=[{name: t, accuracy: 1, n: 1}]", "max_completion_length=128", "num_train_rows=2"]
    run(config_of("ekipl", "lora.r=4", "learning_rate=0.01", *words))
    state = load_file(tmp_path / "run" / "model" / "adapter_model.safetensors")
    assert any(tensor.abs().max() > 0 for name, tensor in state.items() if "lora_B" in name)  # B begins at 0


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("ekipl", "stages=[rl,sft]", "each stage comes at most once, sft before rl"),
        ("ekipl", "stages=[sf]", "did you mean 'sft'"),
        ("ekipl", "stages=[sft]", "the rl stage asks them"),
        ("grpo", "prompt_kind=direct", "set prompt_kind: reasoning"),
        ("cot_sft", "sft.learning_rte=1", "did you mean 'learning_rate'"),
        ("cot_sft", "sft.learning_rate=fast", "sft.learning_rate is 'fast'"),
        ("grpo", "lora.rank=4", "unknown key 'rank'"),
        ("grpo", "lora.lora_alpha=4", "a rank r of at least 1"),
        ("reason_rft", "sft_rows=0", "sft_rows is 0; it must be at least 1"),
    ],
)
def test_a_method_that_cannot_be_meant_is_refused(config_of, method, override, message):
    with pytest.raises(UserError, match=message):
        config_of(method, override)


@pytest.mark.parametrize("reuse", [("num_iterations=2",), ("steps_per_generation=2",)])
def test_a_run_whose_last_step_chooses_no_candidates_ends_with_a_summary_and_counts_its_prompts(config_of, reuse):
    """Eight rows, two a step; of four steps every second one trains on what the one before has chosen."""
    summary = run(config_of("ekipl", *reuse, "max_steps=4"))
    assert sum(summary["kept_share"]["end"].values()) == pytest.approx(1.0)
    assert summary["prompts"] == (4 if reuse == ("num_iterations=2",) else 8)


def test_fewer_rows_than_one_generation_takes_are_refused_before_anything_is_trained(config_of):
    config = config_of("reason_rft", "sft_rows=7")
    with pytest.raises(UserError, match="the rl stage has 1 rows and generates for 2 prompts at once"):
        run(config)
    assert (
        not list(Path(str(config.output_dir)).glob("*/model")) and not (Path(str(config.output_dir)) / "sft").exists()
    )


def test_rows_that_fill_no_generation_are_said_in_one_line():
    assert left_over(185, 32).startswith("25 of 185 rows are left over in each epoch, other ones each time: 32 prompts")
    assert left_over(160, 32) == ""

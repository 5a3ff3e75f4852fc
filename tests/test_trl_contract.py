"""What `trainer.py` relies on in TRL; a new pin that breaks one of these needs a look at the seam (UPSTREAM.md)."""

import inspect
import re
from pathlib import Path

import torch
import trl
from accelerate import Accelerator, skip_first_batches
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints, sort_checkpoints
from trl import GRPOTrainer
from trl.trainer.callbacks import SyncRefModelCallback
from trl.trainer.utils import RepeatSampler

from open_r1.method.groups import Generated
from open_r1.training.trainer import EKIPLTrainer


def source(name: str) -> str:
    return inspect.getsource(getattr(GRPOTrainer, name))


def parameters(name: str) -> list[str]:
    return list(inspect.signature(getattr(GRPOTrainer, name)).parameters)


def test_the_installed_trl_is_the_pinned_one():
    assert trl.__version__ == "1.16.0"


def test_the_overridden_methods_have_the_signatures_we_call_them_with():
    assert parameters("_generate") == ["self", "prompts"]
    assert parameters("_generate_and_score_completions") == ["self", "inputs"]
    assert parameters("_compute_loss") == ["self", "model", "inputs"]
    names = parameters("_get_per_token_logps_and_entropies")
    assert names[:5] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]
    assert {"pixel_values", "num_images"} <= set(names)


def test_generate_returns_the_eight_lists_in_the_order_of_generated():
    assert f"return {', '.join(Generated._fields)}" in source("_generate")


def test_generation_scoring_and_advantages_happen_in_one_method_that_calls_generate_once():
    body = source("_generate_and_score_completions")
    assert body.count("self._generate(prompts)") == 1
    assert "output = {" in body and '"advantages": advantages' in body


def test_the_loss_takes_its_log_probs_from_the_method_we_listen_to():
    assert source("_compute_loss").count("self._get_per_token_logps_and_entropies(") == 1


def test_advantages_may_have_one_value_per_token_and_multiply_the_ratio():
    body = source("_compute_loss")
    assert "if advantages.dim() == 1:\n            advantages = advantages.unsqueeze(1)" in body
    assert "per_token_loss1 = coef_1 * advantages" in body


def test_the_batch_holds_what_the_log_prob_pass_takes_under_the_same_names():
    body = source("_generate_and_score_completions")
    needed = {"pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids"}
    assert needed <= set(parameters("_get_per_token_logps_and_entropies"))
    assert all(f'output["{name}"]' in body for name in needed | {"old_per_token_logps"})
    assert parameters("_get_per_token_logps_and_entropies")[5] == "batch_size"


def test_metrics_logged_by_name_are_averaged_and_flushed_in_the_same_call():
    assert parameters("_log_metric") == ["self", "name", "value"]
    assert "self._pending_metrics.clear()" in source("_generate_and_score_completions")


def test_a_sampling_log_prob_of_none_means_unknown():
    assert 'float("nan") if x is None' in source("_generate_and_score_completions")


def test_groups_are_consecutive_rows():
    assert "view(-1, num_generations)" in source("_generate_and_score_completions")


def test_the_training_sampler_comes_from_one_method_and_yields_whole_generation_batches():
    assert parameters("_get_train_sampler") == ["self", "dataset"]
    assert "batch_size=self.args.generation_batch_size // self.num_generations" in source("_get_train_sampler")
    assert "sampler_fn=self._get_train_sampler" in source("get_train_dataloader")


def test_log_prob_passes_name_the_columns_that_are_completions_and_keep_the_prompts_before_them():
    names = parameters("_get_per_token_logps_and_entropies")
    assert names[2:5] == ["input_ids", "attention_mask", "logits_to_keep"]
    body = source("_get_per_token_logps_and_entropies")
    assert "labels[:, :-logits_to_keep] = -100" in body and "fused_lm_head=True" in body


def test_pictures_reach_the_processor_as_the_objects_that_the_rows_hold():
    """`_generate` copies the prompts in one deepcopy, so rows that share a picture object still share its copy."""
    assert "prompts = copy.deepcopy(prompts)" in source("_generate")
    assert "self.processing_class(images=images, text=prompts_text" in source("_generate_and_score_completions")


def test_image_tokens_are_never_sampled():
    assert 'generation_kwargs["suppress_tokens"] = [model.config.image_token_id]' in inspect.getsource(GRPOTrainer)


def test_transformers_still_has_what_the_sharing_stands_on():
    from transformers import DynamicCache, GenerationMixin
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

    names = list(inspect.signature(GenerationMixin._prefill).parameters)
    assert names == ["self", "input_ids", "generation_config", "model_kwargs", "is_first_iteration"]
    assert hasattr(DynamicCache, "batch_select_indices")
    for backbone in (Qwen2VLModel, Qwen2_5_VLModel):
        forward = inspect.getsource(backbone.forward)
        assert "self.get_image_features(pixel_values, image_grid_thw, **kwargs).pooler_output" in forward
        assert {"input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask"} <= set(
            inspect.signature(backbone.get_rope_index).parameters
        )


def test_a_checkpoint_is_written_below_one_folder_and_nowhere_else():
    body = inspect.getsource(Trainer._save_checkpoint)
    assert body.count("self._get_output_dir(trial=trial)") == 1 and "self.args.output_dir" not in body
    assert "self._get_output_dir(trial=trial)" in source("_save_checkpoint")


def test_the_sampler_draws_one_permutation_an_epoch_from_its_own_generator():
    rows, order = range(5), RepeatSampler(range(5), mini_repeat_count=1, seed=3)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        assert list(order) == torch.randperm(len(rows), generator=generator).tolist()


def test_the_training_state_says_first_how_many_epochs_are_done():
    assert "return epochs_trained, steps_trained_in_current_epoch" in inspect.getsource(Trainer._init_training_state)


def test_a_nan_is_left_out_of_a_line():
    assert "not math.isnan(v)" in source("log")


def test_the_training_state_is_made_once_with_the_checkpoint_as_the_fourth_argument():
    names = ["self", "max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial"]
    assert list(inspect.signature(Trainer._init_training_state).parameters) == names
    loop = inspect.getsource(Trainer._inner_training_loop)
    assert loop.count("_init_training_state(") == 1
    assert loop.index("_init_training_state(") < loop.index("_prepare_for_training(")


def test_the_moving_reference_is_the_trainers_ref_model_and_moves_before_a_checkpoint_is_saved():
    assert "SyncRefModelCallback(ref_model=self.ref_model" in inspect.getsource(GRPOTrainer.__init__)
    assert list(inspect.signature(SyncRefModelCallback.on_step_end).parameters)[:4] == [
        "self",
        "args",
        "state",
        "control",
    ]
    epoch = inspect.getsource(Trainer._run_epoch)
    assert epoch.index("callback_handler.on_step_end(") < epoch.index("self._maybe_log_save_evaluate(")


def test_each_micro_batch_ends_with_one_call_of_on_step_end_or_on_substep_end():
    epoch = inspect.getsource(Trainer._run_epoch)
    assert epoch.count("callback_handler.on_step_end(") == epoch.count("callback_handler.on_substep_end(") == 1
    assert "if self._step % generate_every == 0" in source("_prepare_inputs")


def test_checkpoints_are_sorted_by_step_and_the_newest_is_never_deleted(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10", "broken-checkpoint-11", "checkpoint.part"):
        (tmp_path / name).mkdir()
    assert [Path(path).name for path in sort_checkpoints(str(tmp_path))] == ["checkpoint-9", "checkpoint-10"]
    rotate_checkpoints(str(tmp_path), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "broken-checkpoint-11",
        "checkpoint-10",
        "checkpoint.part",
    ]


def test_what_accelerate_prepares_iterates_the_loader_inside_it():
    loader = Accelerator(cpu=True).prepare(DataLoader(range(4), num_workers=0))
    loader.base_dataloader.worker_init_fn = print
    assert loader.worker_init_fn is print and skip_first_batches(loader, 1).worker_init_fn is print


def test_the_page_of_what_comes_from_where_lists_every_seam_that_is_overridden():
    page = (Path(__file__).resolve().parents[1] / "UPSTREAM.md").read_text(encoding="utf-8")
    table = page.split("## TRL 1.16.0 (the seam)")[1].split("Between the two classes")[0]
    listed = set(re.findall(r"^\| `(\w+)\(", table, flags=re.MULTILINE))
    overridden = {
        name for name, value in vars(EKIPLTrainer).items() if inspect.isfunction(value) and name != "__init__"
    }
    assert listed == overridden & set(dir(GRPOTrainer))


def test_trl_logs_one_value_of_each_name_in_a_pass_and_the_mean_of_a_list():
    body = source("_compute_loss")
    for name in ("kl", "entropy", "clip_ratio/low_mean", "clip_ratio/low_min", "clip_ratio/high_max"):
        assert body.count(f'self._metrics[mode]["{name}"].append(') == 1
    assert "sum(valid) / len(valid) if valid else None" in source("log")
    assert "rewards_per_func = gather(rewards_per_func)" in source("_calculate_rewards")
    names = parameters("_calculate_rewards")
    assert names == ["self", "inputs", "prompts", "completions", "completion_ids_list"]

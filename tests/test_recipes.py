"""Every recipe merges and passes the rules, and a baseline differs from the method in exactly the external models."""

from pathlib import Path

import pytest

from open_r1.recipe.keys import COMPUTED, Key, grpo_keys, lora_keys
from open_r1.recipe.merge import apply_overrides, merge_recipe, parse_overrides, read_yaml, to_yaml
from open_r1.recipe.rules import check_recipe
from open_r1.recipe.settings import MODELS, RECIPES, recipe_names
from open_r1.schema import UserError
from open_r1.synthetic import clevr_math, geomath
from open_r1.tasks import TASKS

CASES = [(task, model) for task in TASKS for model in MODELS]


def different(left: dict, right: dict) -> set[str]:
    return {key for key in left.keys() | right.keys() if left.get(key) != right.get(key)}


@pytest.mark.parametrize(("task", "model"), CASES)
def test_every_recipe_merges_and_keeps_every_rule_on_one_and_on_eight_processes(task, model):
    for method in recipe_names("methods"):
        for processes in (1, 8):
            check_recipe(merge_recipe(task, model, method), processes)


@pytest.mark.parametrize(("task", "model"), CASES)
def test_ekipl_and_its_baseline_differ_in_exactly_the_external_models(task, model):
    ekipl, grpo = (merge_recipe(task, model, method) for method in ("ekipl", "grpo"))
    assert different(ekipl, grpo) == {"method", "external_models"}
    assert grpo["external_models"] == [] and len(ekipl["external_models"]) == 2


@pytest.mark.parametrize(("task", "model"), CASES)
def test_ekipl_plus_differs_from_the_papers_rule_in_how_the_group_is_chosen_and_what_it_is_compared_with(task, model):
    ekipl, plus = (merge_recipe(task, model, method) for method in ("ekipl", "ekipl_plus"))
    assert different(ekipl, plus) == {"method", "selection", "advantage_baseline"}


@pytest.mark.parametrize(("method", "weight"), [("luffy", "luffy"), ("sft_term", "sft")])
@pytest.mark.parametrize(("task", "model"), CASES)
def test_a_peer_s_group_is_seven_of_the_policy_and_one_of_one_external_model(task, model, method, weight):
    recipe = merge_recipe(task, model, method)
    (teacher,) = recipe["external_models"]
    assert teacher == merge_recipe(task, model, "ekipl")["external_models"][0]
    assert recipe["num_policy_samples"] + recipe["num_external_samples"] == recipe["num_generations"] == 8
    assert recipe["external_weight"] == weight


@pytest.mark.parametrize(("task", "model"), CASES)
def test_hpt_asks_one_external_model_once_where_none_of_the_policy_s_replies_is_right(task, model):
    recipe = merge_recipe(task, model, "hpt")
    assert len(recipe["external_models"]) == recipe["num_external_samples"] == 1
    assert recipe["external_when"] == {"policy_pass_rate_below": 1 / recipe["num_generations"]}


@pytest.mark.parametrize("model", MODELS)
def test_recipes_of_one_model_differ_between_tasks_only_where_the_paper_says_so(model):
    first, *others = (read_yaml(RECIPES / "tasks" / task / f"{model}.yaml") for task in TASKS)
    for other in others:
        assert different(first, other) <= TASK_KEYS[model]


# The tiny recipes are tuned per task; the large ones follow the paper, which sets the epochs by the size of the data.
TASK_KEYS = {
    "tiny": {"teachers", "max_steps", "max_completion_length", "eval_max_completion_length"}
    | {"num_train_rows", "num_test_rows", "temperature"},
    "2b": {"teachers", "num_train_epochs", "sft_rows_again"},
    "7b": {"teachers", "num_train_epochs", "sft_rows_again"},
}


@pytest.mark.parametrize("task", TASKS)
def test_2b_and_7b_differ_only_in_what_the_memory_asks_for(task):
    small, large = (read_yaml(RECIPES / "tasks" / task / f"{model}.yaml") for model in ("2b", "7b"))
    allowed = {"model_path", "per_device_train_batch_size", "accelerate_config", "sft"}
    assert different(small, large) == allowed


@pytest.mark.parametrize("model", ["2b", "7b"])
def test_the_paper_s_hyper_parameters_are_in_the_recipes(model):
    epochs = {"clevr_math": 1, "trance": 1, "geomath": 5}
    for task in TASKS:
        recipe = merge_recipe(task, model, "ekipl")
        assert recipe["learning_rate"] == 5e-7 and recipe["lr_scheduler_type"] == "cosine"
        assert recipe["num_generations"] == 8 and recipe["beta"] == 0.005
        assert recipe["num_train_epochs"] == epochs[task]
        assert check_recipe(recipe, 8).prompts_per_generation(8) == 2  # on 8 GPUs x 8 candidates = 128 completions


def test_replies_bought_earlier_are_a_recipe_laid_over_that_of_the_models_which_gave_them():
    recipe = merge_recipe("trance", "2b", "ekipl", teachers="gpt-4o-gemini,bought")
    assert [model["name"] for model in recipe["external_models"]] == ["gpt-4o", "gemini-2.5-pro"]
    assert recipe["store_read_only"] is True and recipe["external_deadline_s"] == 120
    with pytest.raises(UserError, match="did you mean 'bought'"):
        merge_recipe("trance", "2b", "ekipl", teachers="gpt-4o-gemini,bougt")


def test_teachers_are_as_good_as_the_paper_reports():
    published = {"clevr_math": [0.681, 0.618], "geomath": [0.5018, 0.5012], "trance": [0.4255, 0.2622]}
    for task, model in CASES:
        models = merge_recipe(task, model, "ekipl")["external_models"]
        assert [entry["accuracy"] for entry in models] == published[task]
        assert [entry["name"] for entry in models] == ["gpt-4o-scripted", "gemini-1.5-pro-scripted"]


@pytest.mark.parametrize("task", ["clevr_math", "geomath"])
def test_spread_over_the_question_families_teachers_have_the_published_mean(task):
    """The paper gives the mean; recipes spread it by how hard a family is, weighted as the families are drawn."""
    shares = {
        "clevr_math": {kind: family.share for kind, family in clevr_math.FAMILIES.items()},
        "geomath": {kind: family.weight("tiny") / 100 for kind, family in geomath.IN_DOMAIN.items()},
    }[task]
    for teacher in merge_recipe(task, "tiny", "ekipl")["external_models"]:
        by_kind = teacher["accuracy_by_kind"]
        assert set(by_kind) == {kind for kind, share in shares.items() if share}
        assert sum(shares[kind] * by_kind[kind] for kind in by_kind) == pytest.approx(teacher["accuracy"], abs=5e-3)


@pytest.mark.parametrize("name", ["cpu", "ddp", "fsdp2", "zero2", "zero3", "zero3_offload"])
def test_accelerate_reads_each_of_its_configurations(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(RECIPES / "accelerate_configs" / f"{name}.yaml"))
    kinds = {"cpu": "NO", "ddp": "MULTI_GPU", "fsdp2": "FSDP"}
    assert str(config.distributed_type).rsplit(".", 1)[-1] == kinds.get(name, "DEEPSPEED")
    if name.startswith("zero"):
        assert config.deepspeed_config["zero_stage"] == int(name[4])  # pyright: ignore
    if name == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2  # pyright: ignore


def test_the_command_line_wins_over_the_method_and_values_are_typed_by_yaml():
    words = ["--learning_rate", "1e-6", "beta=.01", "--skip-bad-rows", "--external_models[0].accuracy", ".9"]
    recipe = merge_recipe("trance", "tiny", "ekipl", parse_overrides(words))
    assert recipe["learning_rate"] == 1e-6 and recipe["beta"] == 0.01 and recipe["skip_bad_rows"] is True
    assert [model["accuracy"] for model in recipe["external_models"]] == [0.9, 0.2622]


def test_an_override_may_replace_the_list_of_external_models():
    recipe = apply_overrides({}, ["external_models=[{name: one, accuracy: 1}]"])
    assert recipe == {"external_models": [{"name": "one", "accuracy": 1}]}


def test_negative_numbers_are_values_and_not_flags():
    assert parse_overrides(["--max_steps", "-1", "--learning_rate=-1e-3"]) == ["max_steps=-1", "learning_rate=-1e-3"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rte=1", "did you mean 'learning_rate'?"),
        ("task=trance", "write --task NAME"),
        ("external_models[5].accuracy=.9", "cannot set 'external_models[5].accuracy'"),
        ("learning_rate=[1", "cannot set 'learning_rate'"),
        ("learning_rate=${nothing}", "cannot be resolved"),
    ],
)
def test_an_override_that_fits_nowhere_is_refused_in_one_line(override, message):
    with pytest.raises(UserError) as error:
        merge_recipe("clevr_math", "tiny", "ekipl", [override])
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "nearest"),
    [(("trnce", "tiny", "ekipl"), "trance"), (("trance", "tny", "ekipl"), "tiny"), (("trance", "2b", "gpro"), "grpo")],
)
def test_an_unknown_task_model_or_method_names_the_nearest(names, nearest):
    with pytest.raises(UserError, match=f"did you mean '{nearest}'"):
        merge_recipe(*names)


def test_a_recipe_file_that_is_no_mapping_or_no_yaml_is_refused(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    for text, message in (("- a", "holds a list"), ("a: 1\na: 2", "not valid YAML"), ("a: [", "not valid YAML")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_yaml(path)
    with pytest.raises(UserError, match="give an existing YAML file"):
        read_yaml(tmp_path / "none.yaml")


def test_names_types_and_defaults_are_read_from_source():
    keys = grpo_keys()
    assert keys["learning_rate"] == Key(frozenset({"float"}), 1e-6)  # TRL's own, over transformers' 5e-5
    assert keys["num_generations"] == Key(frozenset({"int", "None"}), 8)
    assert keys["include_for_metrics"] == Key(frozenset({"list"}), [])  # by a factory; what it holds is not checked
    assert keys["optim"].default is COMPUTED
    assert "r" in lora_keys()


def test_a_merged_recipe_survives_being_written_and_read(tmp_path: Path):
    recipe = merge_recipe("geomath", "2b", "ekipl")
    path = tmp_path / "recipe.yaml"
    words = {"argv": ["--learning_rate", "1e-6", "--beta=null", "true", "7"], "run_name": "1e3"}  # each of them is text
    path.write_text(to_yaml(recipe | words))
    assert read_yaml(path) == recipe | words


def test_vllm_with_cut_sampling_trains_without_trl_s_correction_and_refuses_it():
    recipe, key = check_recipe(merge_recipe("trance", "2b", "ekipl"), 8), "vllm_importance_sampling_correction"
    assert key not in recipe.for_trl()
    assert recipe.changed(use_vllm=True).for_trl()[key] is False
    with pytest.raises(UserError, match=rf"top_p = 0.9, top_k = 50.*leave {key} out"):
        recipe.changed(use_vllm=True, **{key: True})
    assert recipe.changed(use_vllm=True, top_p=1.0, top_k=0, **{key: True}).for_trl()[key] is True

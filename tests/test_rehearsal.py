"""The dry run that is the run: what the libraries refuse, torn checkpoints, bad rows, places that cannot be."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from open_r1 import launch
from open_r1.policy.checkpoint import checkpoint_faults, no_checkpoint
from open_r1.policy.loading import load_policy
from open_r1.preflight.folder import check_place
from open_r1.preflight.missing import missing
from open_r1.recipe.merge import merge_recipe
from open_r1.recipe.rules import Recipe
from open_r1.schema import UserError
from open_r1.training.rehearsal import rehearse
from open_r1.utils.names import unknown_name

ROOT = Path(__file__).resolve().parents[1]


def tiny(**keys: Any) -> Recipe:
    return Recipe.read(merge_recipe("clevr_math", "tiny", "grpo") | keys)


@pytest.mark.parametrize("method", ["ekipl", "reason_rft", "zero_shot"])
@pytest.mark.parametrize(("task", "model", "processes"), [("trance", "tiny", 1), ("clevr_math", "7b", 8)])
def test_the_shipped_recipes_can_be_built(task, model, processes, method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rehearse(Recipe.read(merge_recipe(task, model, method)), processes)
    assert list(tmp_path.iterdir()) == []  # nothing is written


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_type: "),
        ({"lr_scheduler_kwargs": {"cycles": 2}}, "lr_scheduler_type: .*cycles"),
        ({"lora": {"r": 4, "layers_pattern": "h"}}, "the setting lora: .*layers_pattern"),
        ({"stages": ["sft", "rl"], "sft": {"lr_scheduler_type": "nope"}}, "the setting sft: .*nope"),
    ],
)
def test_what_a_library_refuses_is_one_line(keys, says):
    with pytest.raises(UserError, match=says) as error:
        rehearse(tiny(**keys), 1)
    assert "\n" not in str(error.value)


@pytest.fixture
def checkpoint(tiny_folder, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "checkpoint"))


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("model.safetensors", lambda data: data[:-5], r"has \d+ bytes of \d+; the checkpoint is half written"),
        ("model.safetensors", lambda data: data[:20], "its header needs"),
        ("model.safetensors", lambda data: b"", "its header needs"),
        ("model.safetensors", lambda data: data[:8] + b"x" * (len(data) - 8), "its header cannot be read"),
        ("model.safetensors", None, "model.safetensors: not there"),
        ("tokenizer.json", lambda data: data[: len(data) // 2], "tokenizer.json is no JSON"),
        ("tokenizer_config.json", None, "holds no tokenizer_config.json"),
        ("config.json", lambda data: b"[]", "config.json holds no JSON object"),
        ("config.json", lambda data: b'{"architectures": ["Llama"]}', "architecture Llama; the policy must be"),
    ],
)
def test_a_torn_or_foreign_checkpoint_is_one_line_in_the_dry_run_and_in_loading(checkpoint, file, change, says):
    path = checkpoint / file
    path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
    for check in (lambda: rehearse(tiny(model_path=str(checkpoint)), 1), lambda: load_policy(str(checkpoint))):
        with pytest.raises(UserError, match=says) as error:
            check()
        assert "\n" not in str(error.value)


def test_a_whole_checkpoint_has_no_fault_and_an_adapter_is_one(checkpoint, tmp_path):
    assert list(checkpoint_faults(checkpoint)) == []
    run = tmp_path / "run"
    adapter = run / "model"
    adapter.mkdir(parents=True)
    (run / "recipe.yaml").write_text("task: clevr_math\n")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(checkpoint)}))
    shutil.copy(checkpoint / "model.safetensors", adapter / "adapter_model.safetensors")
    recipe = tiny(model_path=str(run))
    assert recipe.untrained == str(adapter) and missing(recipe, 1, []) == []
    rehearse(recipe, 1)
    (checkpoint / "config.json").unlink()
    with pytest.raises(UserError, match=r"holds no config\.json"):
        rehearse(recipe, 1)


def test_rows_of_the_user_s_data_go_through_loader_prompt_processor_and_grader(counting_data, checkpoint, tmp_path):
    data = Path(shutil.copytree(counting_data, tmp_path / "data"))
    recipe = tiny(model_path=str(checkpoint), data_path=str(data))
    rehearse(recipe, 1)
    next((data / "images" / "train_images").iterdir()).unlink()
    with pytest.raises(UserError, match="rows of set 'train' are bad"):
        rehearse(recipe, 1)


def test_a_dry_run_ends_with_what_the_libraries_refuse(checkpoint, monkeypatch, tmp_path, capsys):
    (checkpoint / "tokenizer.json").write_text("{")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = ["--dry_run", "--method", "grpo", "--model_path", str(checkpoint), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(UserError, match=r"tokenizer\.json is no JSON") as error:
        launch.main(words)
    assert "\n" not in str(error.value) and "# missing: nothing" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for place, says in (("x" * 300, "too long"), ("file/run", "Not a directory|is a file"), ("file", "is a file")):
        with pytest.raises(UserError, match=says) as error:
            check_place(tmp_path / place)
        assert len(str(error.value)) < 400 and "\n" not in str(error.value)
    check_place(tmp_path / "new" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("path", "says"), [("runs/nope", "no such folder"), ("x" * 300, "too long"), ("", "")])
def test_a_model_path_that_is_not_there_is_known_at_once(path, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert says in no_checkpoint(path or ".").lower()


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("LR=1e-4", "unknown variable LR; valid: TASK"),
        ("task=trance", "did you mean TASK?"),
        ("MODL=2b", "did you mean MODEL?"),
        ("learning_rate=1", 'ARGS="--learning_rate 1e-4"'),
    ],
)
def test_an_unknown_make_variable_is_refused_with_the_one_that_was_meant(word, says):
    done = make("train", word)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert make("train", "TASK=trance", "DRY_RUN=1", "PYTHON=python3").returncode == 0


def test_no_name_is_suggested_where_none_is_near():
    assert str(unknown_name("model", "3b", ["tiny", "2b", "7b"])) == "unknown model '3b'; valid: 2b, 7b, tiny"

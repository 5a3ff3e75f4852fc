"""The launcher: what it shows, what it starts, what it refuses, and that it never overwrites a run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from open_r1 import launch
from open_r1.external import open_store
from open_r1.external.store.replies import PromptVersion, ReplyKey
from open_r1.preflight import missing as preflight
from open_r1.preflight.folder import FREE, LOCK
from open_r1.preflight.nodes import wait_for_recipe, write_recipe
from open_r1.recipe.merge import merge_recipe
from open_r1.recipe.rules import Recipe
from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import Reply, UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch, tmp_path):
    """No GPU, no hub, an environment that is put back, and exec recorded in place of done."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(launch, "gpus", list)
    monkeypatch.setattr(launch, "rehearse", lambda recipe, processes: None)  # tests/test_rehearsal.py
    monkeypatch.setattr(preflight, "_unreachable", lambda path, kind: "the hub cannot be reached")
    monkeypatch.setattr(preflight, "_cached", lambda repo: False)
    monkeypatch.setattr(launch, "RECIPES", launch.RECIPES)
    calls = []
    monkeypatch.setattr(os, "execvpe", lambda file, words, environment: calls.append((words, dict(environment))))
    return calls


def missing(recipe: dict) -> list[str]:
    return preflight.missing(Recipe.read(recipe), 1, [])


def shown(capsys) -> tuple[dict, list[str]]:
    text = capsys.readouterr().out
    return yaml.safe_load(text), [line[2:] for line in text.splitlines() if line.startswith("# ")]


def test_a_dry_run_shows_recipe_batch_and_command_and_writes_nothing(capsys, quiet_machine, tmp_path):
    launch.main(["--dry_run", "--output_dir", str(tmp_path / "run"), "--learning_rate", "1e-6"])
    recipe, notes = shown(capsys)
    assert recipe["learning_rate"] == 1e-6 and recipe["task"] == "clevr_math" and recipe["method"] == "ekipl"
    assert notes[0].startswith("batch: 1 processes x 8 prompts x G = 8 candidates; 1 x 64 rows per process")
    assert (
        notes[1].endswith(f"-m open_r1.grpo --config {tmp_path / 'run' / 'recipe.yaml'}")
        and "HF_HUB_OFFLINE=1" in notes[1]
    )
    assert notes[2:] == ["missing: nothing"]
    assert quiet_machine == [] and list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_large_model_names_everything_this_machine_lacks(capsys):
    launch.main(["--dry_run", "--task", "trance", "--model", "2b"])
    _, notes = shown(capsys)
    gpu, weights, data = (note.removeprefix("missing: ") for note in notes[2:])
    assert "MODEL=2b needs 69 GiB on each of 1" in gpu  # 2.2e9 x 16 bytes = 33 GiB, the reserve, 34 to sample 128 rows
    assert weights.startswith("weights: Qwen/Qwen2-VL-2B-Instruct") and "MODEL_PATH=folder" in weights
    assert data.startswith("data: tanhuajie2001/Reason-RFT-CoT-Dataset") and "make download" in data


def test_a_real_run_stops_at_what_is_missing_and_makes_no_folder(tmp_path, quiet_machine):
    with pytest.raises(UserError, match="GPU: none is visible"):
        launch.main(["--model", "7b", "--output_dir", str(tmp_path / "run")])
    assert quiet_machine == [] and list(tmp_path.iterdir()) == []


def test_a_run_writes_the_merged_recipe_with_its_command_line_and_starts_grpo(tmp_path, quiet_machine, capsys):
    folder = tmp_path / "run"
    argv = ["--task", "geomath", "--method", "grpo", "--output_dir", str(folder), "--seed", "3"]
    launch.main(argv)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe["argv"] == argv and recipe["seed"] == 3 and "output_dir" not in recipe
    [(words, environment)] = quiet_machine
    assert words[-2:] == ["--config", str(folder / "recipe.yaml")] and words[1:3] == ["-m", "open_r1.grpo"]
    assert environment["HF_HUB_OFFLINE"] == "1" and environment["WANDB_MODE"] == "disabled"
    assert "open_r1.grpo" in capsys.readouterr().out


def test_several_gpus_are_started_by_accelerate_with_the_recipe_s_configuration(monkeypatch, capsys):
    monkeypatch.setattr(launch, "gpus", lambda: [80.0] * 8)
    launch.main(["--dry_run", "--model", "7b"])
    _, notes = shown(capsys)
    assert "batch: 8 processes x 2 prompts x G = 8" in notes[0]
    assert "accelerate launch --config_file" in notes[1] and "zero3.yaml --num_processes 8" in notes[1]
    assert not any("GPU" in note for note in notes[2:])


def test_several_cpu_processes_synchronise_their_gradients(capsys):
    launch.main(["--dry_run", "--num_processes", "2"])
    _, notes = shown(capsys)
    assert "ddp.yaml --num_processes 2" in notes[1] and "ACCELERATE_USE_CPU=true" in notes[1]


def test_too_little_gpu_memory_is_named_with_both_numbers():
    [line] = preflight.missing(Recipe.read(merge_recipe("trance", "7b", "ekipl")), 1, [40.0])[:1]
    assert line.startswith("GPU memory: MODEL=7b needs 195 GiB on each of 1 GPUs, they have 40")


def test_a_folder_with_something_in_it_is_never_taken_over(tmp_path):
    (tmp_path / "old.txt").write_text("precious")
    with pytest.raises(UserError, match="a run overwrites none"):
        launch.main(["--output_dir", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]


def test_the_same_command_goes_on_with_its_unfinished_run_and_keeps_its_recipe(tmp_path, quiet_machine, capsys):
    words = ["--task", "trance", "--learning_rate", "1e-6", "--output_dir", str(tmp_path / "run")]
    launch.main(words)
    (tmp_path / "run" / "checkpoint-20").mkdir()
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    again = [*words, "--learning_rate", "0.000001", "--beta", "0.005"]  # the same, written another way; the default
    launch.main(again)
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text()) == recipe | {"argv": again}
    assert quiet_machine[0][0] == quiet_machine[1][0]
    assert f"going on with the unfinished run in {tmp_path / 'run'}" in capsys.readouterr().out


def test_another_recipe_or_a_finished_run_is_not_gone_on_with(tmp_path, quiet_machine):
    folder = ["--output_dir", str(tmp_path / "run")]
    launch.main([*folder, "--seed", "3"])
    with pytest.raises(UserError, match="holds an unfinished run with seed 3, this one has 4"):
        launch.main([*folder, "--seed", "4"])
    with pytest.raises(UserError, match=r"holds an unfinished run with beta 0\.005, this one has 0\.1"):
        launch.main([*folder, "--seed", "3", "--beta", "0.1"])
    (tmp_path / "run" / "summary.json").write_text("{}")
    with pytest.raises(UserError, match="holds a finished run"):
        launch.main([*folder, "--seed", "3"])
    assert len(quiet_machine) == 1


SERVER = "--external_models=[{name: a, provider: litellm, model: hosted_vllm/q, api_base: 'http://one:8000/v1'}]"


@pytest.mark.parametrize(
    ("begun", "wanted", "says"),
    [
        (
            [SERVER],
            [SERVER.replace("one", "two")],
            "external_models[0].api_base 'http://two:8000/v1' (was 'http://one:",
        ),
        ([], ["--save_steps", "7"], "save_steps 7 (was 20)"),
        ([], ["--logging_steps", "2"], "logging_steps 2 (was 1)"),
        ([], ["--report_to=[tensorboard]"], "report_to ['tensorboard'] (was 'none')"),
        ([], ["--save_total_limit", "3"], "save_total_limit 3 (was 1)"),
        ([], ["--external_deadline_s", "90"], "external_deadline_s 90 (was 60.0)"),
        (["--method", "cot_sft"], ["--method", "cot_sft", "--sft.save_steps", "9"], "sft.save_steps 9 (was None)"),
    ],
)
def test_a_run_goes_on_with_settings_that_change_no_result_and_says_so(
    tmp_path, quiet_machine, capsys, monkeypatch, begun, wanted, says
):
    monkeypatch.setattr(launch, "missing", lambda *asked: [])  # neither server is there
    folder = ["--output_dir", str(tmp_path / "run")]
    launch.main([*folder, *begun])
    launch.main([*folder, *wanted])
    assert f"going on with the unfinished run in {tmp_path / 'run'} with {says}" in capsys.readouterr().out
    launch.main([*folder, *wanted])  # it is the run's setting now
    assert f"{tmp_path / 'run'}\n" in capsys.readouterr().out


def test_each_setting_that_may_change_is_one_that_there_is():
    assert FREE - Recipe.known_keys() - ExternalModelConfig.known_keys() == set()
    assert not FREE & {"learning_rate", "seed", "beta", "temperature", "max_steps", "model_path", "data_path", "model"}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("--external_models[0].accuracy=.9", r"external_models\[0\].accuracy 0.681, this one has 0.9"),
        ("--external_models=[]", "external_models"),
        ("--temperature=.5", "temperature 1.0, this one has 0.5"),
        ("--max_steps=7", "max_steps -1, this one has 7"),
        ("--num_iterations=2", "num_iterations"),
        ("--lora.r=8", r"lora.r None, this one has 8"),
    ],
)
def test_a_setting_that_changes_the_result_is_refused_by_name(tmp_path, words, name):
    folder = ["--output_dir", str(tmp_path / "run")]
    launch.main(folder)
    with pytest.raises(UserError, match=f"holds an unfinished run with {name}"):
        launch.main([*folder, words])


def test_a_copied_and_a_moved_run_folder_train_into_themselves(tmp_path, quiet_machine):
    first, copy, moved = (tmp_path / name for name in ("first", "copy", "moved"))
    launch.main(["--output_dir", str(first)])
    recipe = yaml.safe_load((first / "recipe.yaml").read_text())
    (first / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"output_dir": str(first)}))  # as it once was written
    shutil.copytree(first, copy)
    first.rename(moved)
    for folder in (copy, moved):
        launch.main(["--output_dir", str(folder)])
        assert quiet_machine[-1][0][-1] == str(folder / "recipe.yaml")
        assert "output_dir" not in yaml.safe_load((folder / "recipe.yaml").read_text())
    assert not first.exists()


def test_a_run_in_use_is_refused_before_anything_is_loaded(tmp_path, quiet_machine):
    launch.main(["--output_dir", str(tmp_path)])
    code = "import sys, time; from open_r1.utils.processes import hold; from pathlib import Path\n"
    code += "with hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / LOCK)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"a run that is going on \(process {other.pid} on "):
            launch.main(["--output_dir", str(tmp_path)])
        assert len(quiet_machine) == 1
    finally:
        other.kill()
        other.communicate()


def test_another_node_waits_for_the_recipe_of_this_start_not_of_an_earlier_one(tmp_path):
    config = tmp_path / "recipe.yaml"
    write_recipe({"save_steps": 20}, config)
    with pytest.raises(UserError, match=r"node 0 did not write this recipe to .* in 0\.1 s"):
        wait_for_recipe({"save_steps": 50}, config, seconds=0.1)
    write_recipe({"save_steps": 50}, config)
    wait_for_recipe({"save_steps": 50}, config, seconds=0.1)


def test_two_runs_in_one_second_get_two_folders(tmp_path):
    folder = tmp_path / "runs" / "20260101-000000-trance-tiny-ekipl-s0"
    made = [launch.make_folder(folder, chosen=False).name for _ in range(3)]
    assert made == [folder.name, folder.name + "-2", folder.name + "-3"]


def test_a_run_folder_says_when_what_and_which_seed():
    recipe = {"task": "trance", "model": "tiny", "method": "grpo", "seed": 7}
    assert launch.name_folder(Recipe.read(recipe)).match("runs/[0-9]*-[0-9]*-trance-tiny-grpo-s7")


def test_a_tiny_run_downloads_nothing(tmp_path):
    recipe = {"model": "tiny", "use_cpu": True, "model_path": "Qwen/Qwen2-VL-2B-Instruct", "data_path": "some/set"}
    weights, data = missing(recipe)
    assert "MODEL=tiny downloads nothing" in weights and "MODEL=tiny downloads nothing" in data


def test_a_folder_without_a_model_in_it_is_refused(tmp_path):
    recipe = {"model": "tiny", "use_cpu": True, "model_path": str(tmp_path)}
    assert "holds no config.json" in missing(recipe)[0]
    (tmp_path / "config.json").write_text("{}")
    assert missing(recipe) == []


def test_a_store_that_cannot_serve_is_named_before_anything_starts(tmp_path):
    recipe = {"task": "trance", "model": "tiny", "use_cpu": True, "external_models": [{"name": "a"}]}
    recipe |= {"store_path": str(tmp_path / "store.sqlite")}
    assert missing(recipe) == []  # it will be made
    [line] = missing(recipe | {"store_read_only": True})
    assert "does not exist, and it is to be read only" in line
    store, _ = open_store(tmp_path / "store.sqlite")
    asked = ReplyKey(b"k", PromptVersion("trance", "reasoning", "An older prompt."), "a", "{}", "r", "1")
    store.add([(asked, 0, [Reply("x")])])
    store.database.close()
    [line] = missing(recipe)
    assert "holds replies of trance to another reasoning prompt ('An older prompt." in line
    assert missing(recipe | {"task": "geomath"}) == []


def test_wandb_needs_its_key_only_when_it_is_asked_for(monkeypatch, tmp_path):
    recipe = {"model": "tiny", "use_cpu": True, "report_to": "wandb"}
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        os.environ.pop(name, None)
    assert "WANDB_API_KEY is not set" in missing(recipe)[0]
    assert "WANDB_MODE" not in launch.run_environment(Recipe.read(recipe), 1)
    os.environ["WANDB_MODE"] = "offline"
    assert missing(recipe) == []


def test_visible_devices_limit_the_gpus(monkeypatch):
    answer = subprocess.CompletedProcess([], 0, stdout="81920\n81920\n")
    monkeypatch.setattr(preflight, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: answer)
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    assert preflight.gpus() == [80.0, 80.0]
    for visible, count in (("1", 1), ("0,1", 2), ("", 0), ("-1", 0)):
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
        assert len(preflight.gpus()) == count


def run_script(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "open_r1.launch", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)


def test_the_script_refuses_in_one_line_with_status_2_and_imports_no_torch():
    result = run_script("--task", "trnce")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.strip() == "unknown task 'trnce'; valid: clevr_math, geomath, trance; did you mean 'trance'?"
    code = "import sys, open_r1.launch; print({'torch', 'transformers', 'trl', 'litellm'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

    probe = (
        "import sys, open_r1.launch; print([name for name in ('torch', 'trl', 'transformers') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    loaded = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"

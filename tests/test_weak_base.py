"""The study from weak bases makes them from the shipped ones, and its runs begin with them."""

import importlib
import sys
from pathlib import Path

import pytest

from open_r1.recipe import merge_recipe, parse_overrides, untrained
from open_r1.sft import read_recipe
from open_r1.tasks import TASKS, get_task

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
weak = importlib.import_module("study_weak_base")


@pytest.mark.parametrize("task", TASKS)
def test_a_weak_base_goes_on_from_the_shipped_one_with_a_tenth_of_the_right_procedure(task):
    words = weak.base_command(weak.Study(0.1), task).words
    recipe = read_recipe(get_task(task), parse_overrides(words[words.index("--start") :]))
    assert recipe["start"] == f"bases/{task}" and (weak.ROOT / recipe["start"] / "model.safetensors").is_file()
    assert (recipe["right"], recipe["max_steps"], recipe["phases"]) == (0.1, 400, [{}])


def test_runs_begin_with_their_task_s_weak_base_and_are_not_made_without_it(tmp_path, monkeypatch, capsys):
    """Bases that failed are named with the runs they were for; what was there before is left as it is."""
    monkeypatch.setattr(weak, "BASES", tmp_path / "bases")
    made = {}

    def side_by_side(commands, **_):
        made.update(commands)
        reasons = {"geomath": "exit status 1"} if "geomath" in commands else {}
        return reasons | {name: "no model" for name in commands if "-" in name}

    monkeypatch.setattr(weak, "run_side_by_side", side_by_side)
    asked, written = [], {}
    monkeypatch.setattr(weak, "make_runs", lambda jobs, *_: asked.extend(jobs) or {})
    monkeypatch.setattr(weak, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(weak, "write_all", lambda study, jobs, failed, command: written.update(failed))
    (tmp_path / "bases/weak_0.1/trance").mkdir(parents=True)
    (tmp_path / "bases/weak_0.1/trance/model.safetensors").write_bytes(b"")
    assert weak.main(["--seeds", "0", "--methods", "grpo"]) == 1
    assert [name for name in made if "-" not in name] == ["clevr_math", "geomath"]
    assert {name for name in made if "-" in name} == {
        f"{t}-{p}" for t in ("clevr_math", "trance") for p in ("base", "grpo")
    }
    assert [job.task for job in asked] == ["clevr_math", "trance"]
    recipe = merge_recipe("trance", "tiny", "grpo", parse_overrides(asked[1].words))
    assert untrained(recipe) == str(tmp_path / "bases/weak_0.1/trance")
    assert [(job.task, why) for job, why in written.items()] == [("geomath", "no base: exit status 1")]
    assert "geomath-grpo" in capsys.readouterr().err

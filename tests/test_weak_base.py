"""The study from weak bases makes them from the shipped ones, and its runs begin with them."""

import importlib
import json
import os
from pathlib import Path

import pytest

from open_r1.recipe.merge import merge_recipe, parse_overrides
from open_r1.recipe.rules import check_recipe
from open_r1.tasks import TASKS, get_task
from open_r1.training.base_policy import read_recipe

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

    def side_by_side(commands, *_):
        made.update(commands)
        reasons = {"geomath": "exit status 1"} if "geomath" in commands else {}
        return reasons | {name: "no model" for name in commands if "-" in name}

    monkeypatch.setattr(weak, "side_by_side", side_by_side)
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
    assert check_recipe(recipe).untrained == str(tmp_path / "bases/weak_0.1/trance")
    assert [(job.task, why) for job, why in written.items()] == [("geomath", "no base: exit status 1")]
    assert "geomath-grpo" in capsys.readouterr().err


def test_a_probe_is_made_once_and_told_under_the_name_of_its_policy(tmp_path, monkeypatch):
    """The bases and the first seed's policies; a policy that is newer than its probe is probed again."""
    monkeypatch.setattr(weak, "BASES", tmp_path / "bases")
    monkeypatch.setattr(weak, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(weak.make_runs.__globals__, "RUNS", tmp_path / "runs")
    study, asked = weak.Study(0.1), []
    jobs = [weak.Job("trance", "grpo", seed) for seed in (0, 1)]
    for folder in (study.base("trance"), jobs[0].folder / "model"):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"")

    def side_by_side(commands, *_):
        asked.append(sorted(commands))
        for command in commands.values():
            labels = {"id exact": 9.0, "ood exact": 1.0, "parts of the picture read rightly": 72.0}
            figures = [{"label": f"Spatial: {what}", "value": value} for what, value in labels.items()]
            Path(command.words[-1]).write_text(json.dumps({"figures": figures}))
        return {}

    monkeypatch.setattr(weak, "side_by_side", side_by_side)
    for _ in range(2):
        assert weak.probe(study, jobs, "command", 1, 1.0) == {}
    os.utime(tmp_path / "bases/weak_0.1/probe-trance-grpo.json", (0, 0))
    weak.probe(study, jobs, "command", 1, 1.0)
    assert asked == [["trance-base", "trance-grpo"], [], ["trance-grpo"]]
    told = json.loads((tmp_path / "results/weak_0.1_probe.json").read_text())["figures"]
    assert [(line["label"], line["value"]) for line in told] == [
        ("Spatial, base: id exact", 9.0),
        ("Spatial, base: parts of the picture read rightly", 72.0),
        ("Spatial, grpo: id exact", 9.0),
        ("Spatial, grpo: parts of the picture read rightly", 72.0),
    ]

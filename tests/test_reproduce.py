"""What `make reproduce` would run; the runs themselves are those of the study (tests/test_study.py)."""

import argparse
import importlib
import sys
from pathlib import Path

import pytest

from open_r1.published import METHODS
from open_r1.recipe import merge_recipe, parse_overrides
from open_r1.tasks import TASKS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
reproduce = importlib.import_module("reproduce")


@pytest.fixture
def args():
    return argparse.Namespace(tasks=list(TASKS), methods=list(METHODS), seeds=[0, 1, 2], k=64, pass_rows=60)


def test_every_method_is_run_on_every_task_with_every_seed(args):
    jobs = reproduce.study(args)
    assert len({job.folder for job in jobs}) == len(jobs) == 8 * 3 * 3
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)  # every method is there after one seed
    assert not any(job.finished() for job in jobs if not job.folder.exists())


def test_weak_and_strong_teachers_have_that_accuracy_on_every_question(args):
    for name, (first, *_) in reproduce.teacher_study(args).items():
        recipe = merge_recipe(first.task, "tiny", "ekipl", parse_overrides(first.extra))
        told = recipe["external_models"]
        assert [model["accuracy"] for model in told] == [reproduce.TEACHERS[name.removeprefix("teachers_")]] * 2
        assert [set(model) for model in told] == [
            {"name", "accuracy", "correlation"}
        ] * 2  # the published spread is gone


def test_pass_at_k_is_had_once_for_finished_runs_of_four_methods_and_the_first_seed(args, tmp_path, monkeypatch):
    module = reproduce.make_runs.__globals__
    monkeypatch.setitem(module, "RUNS", tmp_path)
    asked = {}
    monkeypatch.setitem(module, "run_side_by_side", lambda commands, **_: asked.update(commands) or {})
    jobs = reproduce.passes(args, reproduce.study(args))
    assert {job.name for job in jobs} == {
        f"{task}-{method}-s0" for task in TASKS for method in ("zero_shot", "grpo", "ekipl", "ekipl_plus")
    }
    for job in jobs[:2]:
        (job.folder / "passk").mkdir(parents=True)
        (job.folder / "summary.json").write_text("{}")
    (jobs[0].folder / "passk/scores.json").write_text('{"sets": {"id": {"pass_at_k": {"1": {}, "16": {}}}}}')
    assert reproduce.evaluate_passes(jobs, 16, 60, 2, 60.0) == [] and set(asked) == {jobs[1].name}
    reproduce.evaluate_passes(jobs, 64, 60, 2, 60.0)  # more replies than are there
    assert set(asked) == {jobs[0].name, jobs[1].name}
    words = asked[jobs[0].name].words
    assert words[words.index("--output") + 1] == str(jobs[0].folder / "passk")

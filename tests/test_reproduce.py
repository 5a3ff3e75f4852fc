"""What `make reproduce` would run; the runs themselves are those of the study (tests/test_study.py)."""

import argparse
import importlib
import json

import pytest

from open_r1.recipe.merge import merge_recipe, parse_overrides
from open_r1.report.published import METHODS
from open_r1.report.runs import Run
from open_r1.tasks import TASKS

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


@pytest.fixture
def run(tmp_path):
    """Returns run(method, points, passes): a counting run that ends at .4, sampled at prompts 80 and 160."""

    def make(method, points=(), passes=None, kept=(0.4, 0.4), right=2):
        folder = tmp_path / method
        (folder / "replies").mkdir(parents=True)
        sets = {name: {"accuracy": 0.4} for name in ("id", "ood")}
        for name in sets:
            for when in ("before", "step80", "after"):
                lines = [{"id": str(i), "accuracy": i < (right if when == "after" else 1)} for i in range(5)]
                (folder / "replies" / f"{when}-{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        curve = [{"step": 80, "prompts": 80 * i, "sets": {name: {"accuracy": x} for name in sets}} for i, x in points]
        (folder / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))
        if passes:
            scores = {str(k): {"mean": mean, "stderr": 0.0} for k, mean in passes.items()}
            (folder / "passk").mkdir()
            (folder / "passk/scores.json").write_text(json.dumps({"sets": {"id": {"pass_at_k": scores}}}))
        shares = dict(zip(("start", "end"), ({"policy": share} for share in kept), strict=True))
        summary = {"task": "clevr_math", "method": method, "seed": 0, "prompts": 640, "kept_share": shares}
        return Run(folder, summary | {"final": sets, "base": sets, "commit": "abc"})

    return make


def test_the_paper_s_claims_are_figures_with_targets(run):
    runs = [
        run("zero_shot", passes={1: 0.2, 64: 0.9}),
        run("grpo", points=[(1, 0.2)], passes={1: 0.3, 64: 0.7}),
        run("ekipl", points=[(1, 0.39), (2, 0.41)], passes={1: 0.4, 64: 0.8}, kept=(0.4, 0.55)),
        run("ekipl_plus", points=[(1, 0.1)], kept=(0.7, 0.6)),
    ]
    told = {line["label"].removeprefix("Visual counting, "): line for line in reproduce.shape(runs)}
    grpo, ours, plus = (METHODS[name] for name in ("grpo", "ekipl", "ekipl_plus"))
    assert {label: line["value"] for label, line in told.items()} == {
        f"{grpo}: pass@k over the base's, at worst (k = 64)": -20.0,
        f"{ours}: prompts to GRPO's final score, ID": 25.0,  # 160 of 640
        f"{ours}: prompts to GRPO's final score, OOD": 25.0,
        f"{ours}: change of the external share of the kept": -15.0,
        f"{ours}: pass@k over the base's, at worst (k = 64)": -10.0,
        f"{ours}: pass@k over GRPO's, at worst (k = 1)": 10.0,
        f"{plus}: prompts to GRPO's final score, ID": 100.0,  # at its end
        f"{plus}: prompts to GRPO's final score, OOD": 100.0,
        f"{plus}: change of the external share of the kept": 10.0,
    }
    assert told[f"{ours}: prompts to GRPO's final score, OOD"]["target"] == "<= 12"
    assert told[f"{grpo}: pass@k over the base's, at worst (k = 64)"]["target"] is None
    assert reproduce.shape([run("luffy")]) == []
    kept = reproduce.drawn(runs)
    assert kept["pass_at_k"]["clevr_math"]["ekipl"] == {"1": 0.4, "64": 0.8}
    assert kept["curves"]["clevr_math"]["ekipl"]["id"] == [[0, 0.2], [80, 0.39], [160, 0.41], [640, 0.4]]
    assert set(kept["curves"]["clevr_math"]) == {"grpo", "ekipl", "ekipl_plus"}  # the first run has no curve


def test_the_policy_s_and_the_teachers_accuracy_on_the_training_prompts_stand_side_by_side(run):
    runs = [run("grpo"), run("ekipl")]
    for one, key in zip(runs, ("policy/accuracy", "external/gpt/accuracy"), strict=True):
        # 20 steps: right .1 of the time in the first 4, .2 in the next 12, .6 in the last 4
        steps = [{"step": i, key: x, "kept_share/gpt": 0.5} for i, x in enumerate([0.1] * 4 + [0.2] * 12 + [0.6] * 4)]
        (one.folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    told = {line["label"].partition(": ")[2]: line["value"] for line in reproduce.strengths(runs)}
    ends = {
        "GRPO's policy, first 16 steps": 17.5,
        "GRPO's policy, last 16 steps": 30.0,
    }  # (.4 + 2.4) / 16, (2.4 + 2.4) / 16
    assert told == pytest.approx(ends | {"gpt": 26.0})  # (.4 + 2.4 + 2.4) / 20
    assert reproduce.strengths([run("luffy")]) == []


@pytest.mark.parametrize(
    ("right", "what", "share", "target"),
    [
        (1, "GRPO ended no better than the base, ID", 0.0, None),  # that is no merit of ours
        (2, "prompts to GRPO's final score, ID", None, "<= 25"),  # never reached
    ],
)
def test_a_baseline_as_bad_as_the_base_is_no_merit_and_a_score_never_reached_no_share(run, right, what, share, target):
    told = reproduce.shape([run("grpo", [(1, 0.3)], right=right), run("ekipl", [(1, 0.1)], right=0)])[0]
    assert (told["label"].partition(": ")[2], told["value"], told["target"]) == (what, share, target)

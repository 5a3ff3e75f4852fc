"""The study and the page made of it, in one file because they share the made-up runs."""

import json
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

import ablation_results as measures
import results_page as page
import study_ablation as ablation
import study_learning as learning
from open_r1.recipe.merge import merge_recipe, parse_overrides
from open_r1.recipe.rules import check_recipe
from open_r1.schema import UserError
from open_r1.utils.markdown import verdict

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
# Stands in for launch.py: writes the recipe that it was asked for and the summary below, and trains nothing.
LAUNCHER = """
    import json, sys
    from pathlib import Path
    if "13" in sys.argv:
        sys.exit("teachers all gone")
    import yaml
    sys.path.insert(0, {src!r})
    from open_r1.recipe.merge import merge_recipe, parse_overrides
    words = dict(zip(sys.argv[1:11:2], sys.argv[2:11:2]))
    task, method, seed, folder = (words["--" + key] for key in ("task", "method", "seed", "output_dir"))
    overrides = parse_overrides(["--seed", seed, *sys.argv[11:]])
    recipe = merge_recipe(task, words["--model"], method, overrides) | {{"argv": sys.argv, "output_dir": folder}}
    Path({log!r}).open("a").write(Path(folder).name + "\\n")
    Path(folder).mkdir()
    Path(folder, "recipe.yaml").write_text(yaml.safe_dump(recipe))
    summary = json.loads({summaries!r})[method + seed]
    Path(folder, "summary.json").write_text(json.dumps(summary))
"""


def summary(method, seed):
    """A run on the spatial task that gets from .2 to .3 + seed/10, EKIPL .05 further."""
    base, final = (
        {name: {"n": 100, "accuracy": x, "format": 1.0} for name in ("id", "ood")}
        for x in (0.2, 0.3 + seed / 10 + 0.05 * (method == "ekipl"))
    )
    return {
        **{"task": "trance", "model": "tiny", "method": method, "seed": seed, "commit": "abc", "base": base},
        **{
            "final": final,
            "seconds": {"install": 9.0, "base": None, "train": 12.0, "eval": 888.0},
            "peak_rss_mib": 800.0,
        },
        "dead_groups": {"before": 0.25, "after": 0.5},
        "kept_share": {"start": {"policy": 0.4, "gpt": 0.6}, "end": {"policy": 1.0, "gpt": 0.0}},
    }


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Returns run(*words) -> exit status of the study, with a launcher that trains nothing."""
    launcher = tmp_path / "launch.py"
    methods = ("grpo", "ekipl", "cot_sft")
    summaries = {f"{method}{seed}": summary(method, seed) for method in methods for seed in range(3)}
    names = {"src": str(SCRIPTS.parent / "src"), "log": str(tmp_path / "made"), "summaries": json.dumps(summaries)}
    launcher.write_text(textwrap.dedent(LAUNCHER).format(**names))
    monkeypatch.setattr(learning, "LAUNCH", (sys.executable, str(launcher)))
    monkeypatch.setattr(learning, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(learning, "RESULTS", tmp_path / "results")
    return lambda *words: learning.main(["--tasks", "trance", *words])


def made(tmp_path):
    return (tmp_path / "made").read_text().split()


def test_a_study_keeps_every_run_and_their_spread(study, tmp_path):
    assert study("--seeds", "0", "2", "--name", "s") == 0
    result = json.loads((tmp_path / "results/s.json").read_text())
    assert set(result) == page.STUDY_KEYS
    assert "## Learning: s\n" in page.page(tmp_path / "results")
    assert result["command"] == "python scripts/study_learning.py --tasks trance --seeds 0 2 --name s"
    assert [(run["method"], run["seed"]) for run in result["runs"]] == [
        *(("grpo", 0), ("ekipl", 0), ("grpo", 2), ("ekipl", 2)),
    ]
    grpo, ekipl = result["table"]
    assert grpo["final_id"] == pytest.approx({"mean": 0.4, "min": 0.3, "max": 0.5, "sd": 0.02**0.5})
    assert ekipl["gain_ood"]["mean"] == pytest.approx(0.25)  # .35 and .55 after .2


def test_a_study_goes_on_where_it_stood_and_repeats_what_has_another_recipe(study, tmp_path):
    words = ("--methods", "grpo", "--name", "s", "--seeds", "0", "1")
    assert study(*words[:-1]) == 0
    runs = tmp_path / "runs"
    (runs / "trance-grpo-s1").mkdir()  # a run that was cut
    assert study(*words) == 0
    assert made(tmp_path) == ["trance-grpo-s0", "trance-grpo-s1"]
    with (runs / "trance-grpo-s0/recipe.yaml").open("a") as recipe:
        recipe.write("min_p: 0.5\n")  # a setting that the recipe of now does not have
    assert study(*words) == 0
    assert made(tmp_path) == ["trance-grpo-s0", "trance-grpo-s1", "trance-grpo-s0"]
    assert {path.name for path in runs.glob("*.old*")} == {"trance-grpo-s0.old1", "trance-grpo-s1.old1"}


def test_a_run_that_began_with_another_base_policy_is_made_again_and_one_that_does_not_say_is_taken(study, tmp_path):
    words = ("--methods", "grpo", "--name", "s", "--seeds", "0")
    assert study(*words) == 0
    path = tmp_path / "runs/trance-grpo-s0/summary.json"
    said = json.loads(path.read_text())
    for digest in (learning.weights_digest(SCRIPTS.parent / "bases/trance"), "0123456789ab"):
        path.write_text(json.dumps(said | {"base_weights": digest}))
        assert study(*words) == 0
    assert made(tmp_path) == ["trance-grpo-s0"] * 2 and (tmp_path / "runs/trance-grpo-s0.old1").is_dir()


def test_what_a_method_is_called_repeats_no_run(study, tmp_path):
    words = ("--methods", "grpo", "--name", "s", "--seeds", "0")
    assert study(*words) == 0
    path = tmp_path / "runs/trance-grpo-s0/recipe.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"method": "plain"}))
    assert study(*words) == 0
    assert made(tmp_path) == ["trance-grpo-s0"]


def test_the_rate_of_a_stage_that_a_method_has_not_repeats_no_run(study, tmp_path):
    words = ("--methods", "grpo", "cot_sft", "--name", "s", "--seeds", "0")
    assert study(*words) == 0
    for path in (tmp_path / "runs").glob("*/recipe.yaml"):
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"learning_rate": 0.5}))
    assert study(*words) == 0
    assert sorted(made(tmp_path)) == ["trance-cot_sft-s0", "trance-grpo-s0", "trance-grpo-s0"]


def test_two_studies_share_their_runs_and_never_mistake_one_for_another(study, tmp_path, capsys):
    assert study("--seeds", "0", "--name", "a") == 0
    assert study("--methods", "ekipl", "--seeds", "0", "1", "--name", "b", "--title", "A rate") == 0
    assert "## A rate\n" in page.page(tmp_path / "results")
    assert sorted(made(tmp_path)) == ["trance-ekipl-s0", "trance-ekipl-s1", "trance-grpo-s0"]
    assert study("--methods", "ekipl", "--seeds", "0", "--name", "c", "--args=--min_p 0.5") == 0
    other = made(tmp_path)[-1]
    assert len(made(tmp_path)) == 4 and other not in made(tmp_path)[:-1] and other.startswith("trance-ekipl-")
    with learning.hold(tmp_path / "runs/study.lock"):  # a study that is going on
        assert study("--seeds", "2", "--name", "d") == 2
    assert "is held by a run that is going on" in capsys.readouterr().err


def test_a_failed_run_is_named_and_the_others_are_kept(study, tmp_path, capsys):
    assert study("--methods", "grpo", "--name", "s", "--seeds", "0", "13") == 1
    result = json.loads((tmp_path / "results/s.json").read_text())
    assert [run["seed"] for run in result["runs"]] == [0]
    assert result["failed"] == [
        {"task": "trance", "method": "grpo", "seed": 13, "reason": "exit status 1: teachers all gone"}
    ]
    assert "trance-grpo-s13 failed: exit status 1" in capsys.readouterr().err


def test_a_wrong_setting_stops_a_study_before_any_run(study, tmp_path, capsys):
    assert study("--args=--learning_rat 1") == 2
    assert "did you mean 'learning_rate'?" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_every_cell_of_the_ablation_is_a_recipe_that_can_be_meant():
    jobs = ablation.jobs_of(["clevr_math", "geomath", "trance"], [0, 1, 2], list(ablation.CELLS))
    assert len({job.name for job in jobs}) == len(jobs) and {job.seed for job in jobs[:1]} == {0}
    for job in jobs:
        overrides = parse_overrides(job.words)
        check_recipe(merge_recipe(job.task, "tiny", job.method, overrides))
    assert len(jobs) == 3 * (15 * 3 - 1)  # snis not on the spatial task


def test_an_ablation_gives_every_seed_to_the_best_rules_and_recommends_by_the_fresh_seeds(study, tmp_path, monkeypatch):
    final = {
        "max_variance, luffy": 0.5,
        "max_variance, max_external 4": 0.6,
        "peer: hpt": 0.9,
        "ekipl, teachers .3": 0.9,
    }

    def scores(jobs):
        return [score(job.cell, job.seed, final.get(job.cell, 0.3)) for job in jobs]

    def score(cell, seed, accuracy):
        return {
            "cell": cell,
            "task": "trance",
            "seed": seed,
            "final": {name: {"accuracy": accuracy} for name in ("id", "ood")},
        }

    monkeypatch.setattr(ablation, "scores_of", scores)
    jobs = ablation.jobs_of(["trance"], [0], list(ablation.CELLS))
    chosen = ablation.finalists(jobs, list(ablation.CELLS))
    rules = ["max_variance, baseline policy", "max_variance, max_external 4", "max_variance, luffy"]
    assert chosen == ["grpo", "ekipl", *rules]
    runs = scores(jobs) + [score(cell, 1, x) for cell, x in (("grpo", 0.3), ("ekipl", 0.35), (chosen[3], 0.32))]
    told = measures.verdict(runs, ablation.RULES)
    over = "mean of ID and OOD over spatial transformation"
    assert f"with seed 0, {over}: peer: hpt +60.0;" in told
    assert f"with the others, {over}: ekipl +5.0; max_variance, max_external 4 +2.0; grpo" in told
    assert told.endswith("Best rule by the seeds that chose nothing: **ekipl**.")
    assert measures.verdict(runs[: len(jobs)], ablation.RULES).endswith(
        "seed there is: **max_variance, max_external 4**."
    )


def test_a_stopped_ablation_tells_of_the_runs_that_are_there(study, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(ablation, "write_results", lambda path, command, jobs, failed, *_: told.append((jobs, failed)))
    monkeypatch.setattr(ablation.learning.Job, "finished", lambda job: job.cell == "grpo" and job.seed < 2)
    status = ablation.main(["--finished", "--tasks", "trance", "--cells", "grpo", "ekipl"])
    ((jobs, failed),) = told
    assert [(job.cell, job.seed) for job in jobs] == [("grpo", 0), ("ekipl", 0), ("grpo", 1)]
    assert {job.cell: why for job, why in failed.items()} == {"ekipl": "not run"} and status == 1
    assert not (tmp_path / "made").exists()


def test_an_ablation_says_when_grpo_s_end_was_reached_and_which_dead_groups_were_avoidable(study, tmp_path):
    for cell, accuracy in (("grpo", [0.1, 0.2, 0.2, 0.3]), ("ekipl", [0.2, 0.3, 0.5, 0.5])):
        folder = tmp_path / f"runs/trance-{cell}-s0"
        (folder / "passk").mkdir(parents=True)
        dead = {"dead_groups/after": 0.6, "dead_groups/update": 0.6, "dead_groups/pool": 0.5}
        lines = [{"prompts": 8 * i, "kl/policy": 0.01, **dead} for i in range(4)]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        points = [
            {"step": i, "prompts": 10 * i, "sets": {"id": {"accuracy": a}, "ood": {"accuracy": 0.2}}}
            for i, a in enumerate(accuracy, 1)
        ]
        (folder / "replies").mkdir()
        for when, score in (("before", 0.2), ("step1", 0.0), ("after", {"grpo": 0.3, "ekipl": 0.35}[cell])):
            for part in ("id", "ood_left", "ood_right"):
                line = json.dumps({"id": part, "accuracy": score})
                (folder / "replies" / f"{when}-{part}.jsonl").write_text(line)
        (folder / "curve.jsonl").write_text("\n".join(map(json.dumps, points)))
        (folder / "passk/scores.json").write_text(
            '{"sets": {"id": {"pass_at_k": {"16": {"mean": 0.625, "stderr": 0}}}}}'
        )
        (folder / "summary.json").write_text(json.dumps(summary(cell, 0) | {"prompts": 80}))
    jobs = ablation.jobs_of(["trance"], [0], ["grpo", "ekipl"])
    absent = dict.fromkeys(ablation.jobs_of(["trance"], [0], ["peer: hpt", "peer: luffy"]), "not run")
    told = [*jobs, *absent]
    measures.write_results(tmp_path / "results/a.json", "c", told, absent, ablation.CELLS, ablation.RULES)
    result = json.loads((tmp_path / "results/a.json").read_text())
    grpo, ekipl = result["rows"]
    # GRPO ends at .3 in both sets: in domain EKIPL has it at 20 of 80 prompts, out of domain at its end
    assert grpo[5:8] == ["50 %", "100 %", "62.5"] and ekipl[5:8] == ["25 %", "100 %", "62.5"]
    ekipl = result["runs"][1]
    assert ekipl["dead_avoidable"] == pytest.approx(0.2) and ekipl["kl_end"] == pytest.approx(0.01)
    assert "ekipl +5.0; grpo +0.0" in result["note"]
    text = page.page(tmp_path / "results")
    assert "| ekipl | 1 | 35.0 (35.0 to 35.0) | 35.0 (35.0 to 35.0) | 25 % | 100 % | 62.5 | 20 % |" in text
    assert "![Ablation](images/a.png)" in text
    assert "\nSpatial transformation, not run: peer: hpt (seed 0); peer: luffy (seed 0).\n" in text
    assert (tmp_path / "docs/images/a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "target", "says"),
    [
        (12.5, ">= 10", "reached (>= 10)"),
        (10, ">= 10", "reached (>= 10)"),
        (7.5, ">= 10", "not reached: 2.5 short of >= 10"),
        (0, "> 0", "not reached: 0 short of > 0"),
        (70000, "<= 50000", "not reached: 20,000 above <= 50000"),
        (3, None, ""),
    ],
)
def test_verdicts_name_the_gap(value, target, says):
    assert verdict(value, target) == says


def test_a_target_that_is_no_rule_is_refused():
    with pytest.raises(UserError, match="'about 5' cannot be read"):
        verdict(1, "about 5")


def write_study(results, methods=("grpo", "ekipl"), **more):
    """Two seeds per method on the spatial task: from .2 to .3 and .4, EKIPL .05 higher."""
    runs = [summary(method, seed) for seed in (0, 1) for method in methods]
    study = {"command": "c", "commit": "abc", "hardware": {"cpu": "X", "cores": 2, "ram_gib": 23.5}, "seeds": [0, 1]}
    study |= {"date": "2026-11-22", "runs": runs, "table": learning.table(runs), "failed": []}
    results.mkdir(exist_ok=True)
    (results / "reproduce.json").write_text(json.dumps(study | more))


def test_the_page_shows_studies_and_figures_with_verdicts_and_origin(tmp_path):
    more = {"title": "All methods", "report": "report/r.md", "images": {"Figure 3": "report/figure3.png"}}
    write_study(tmp_path, ("grpo", "ekipl", "reason_rft"), **more)
    figures = {
        **{"name": "Grading", "command": "make bench", "commit": "def", "hardware": "one core"},
        "figures": [{"label": "counting", "value": 51234.0, "unit": "replies/s", "target": ">= 50000"}],
    }
    figures["figures"].append({"label": "prompts", "value": None, "unit": "%", "target": "<= 25"})
    (tmp_path / "speed.json").write_text(json.dumps(figures))
    text = page.page(tmp_path)
    assert (
        "| Spatial transformation | ID | grpo | 2 | 20.0 (20.0 to 20.0) | 35.0 (30.0 to 40.0) | +15.0 |  | 3.8 → 42.1 |"
        in text
    )
    assert "| +20.0, reached (>= 10) | +5.0 (+5.0 to +5.0), reached (> 0) | 3.8 → 78.2 |" in text
    assert "| +15.0 | +0.0 (+0.0 to +0.0) | 3.8 → 74.6 |" in text  # a peer's lead has no target
    assert "| Spatial transformation | ekipl | 25 % | 50 % | 60 % | 0 % | 12 | 800 |" in text
    assert "Commit: abc. Machine: X, 2 cores, 23.5 GiB. 2026-11-22. 6 runs, 1.5 hours of one core." in text
    assert "Seeds 0, 1. Command: `c`." in text
    assert "| counting | 51,234 | replies/s | reached (>= 50000) |" in text
    assert "| prompts | never | % | not reached (<= 25) |" in text
    assert (
        "[report](report/r.md)" in text
        and "![Figure 3](report/figure3.png)" in text
        and text.index("## All methods") < text.index("## Grading")
    )


def test_the_page_names_the_gpu_of_a_result(tmp_path):
    machine = {"cpu": "X", "cores": 16, "ram_gib": 128.0, "gpu": "H200"}
    (tmp_path / "u.json").write_text(
        json.dumps({"name": "Update", "command": "c", "commit": "d", "hardware": machine, "figures": []})
    )
    assert "Machine: H200, X, 16 cores, 128.0 GiB" in page.page(tmp_path)


def test_check_notices_a_page_that_is_not_current(tmp_path, capsys):
    words = ["--results", str(tmp_path), "--page", str(tmp_path / "R.md")]
    assert page.main([*words, "--check"]) == 1
    assert page.main(words) == 0
    assert page.main([*words, "--check"]) == 0
    (tmp_path / "R.md").write_text("by hand")
    assert page.main([*words, "--check"]) == 1
    assert "run python scripts/results_page.py" in capsys.readouterr().err


def test_a_file_of_another_kind_is_named(tmp_path, capsys):
    (tmp_path / "x.json").write_text('{"name": "x"}')
    assert page.main(["--results", str(tmp_path), "--check"]) == 2
    assert "x.json lacks ['command', 'commit', 'figures', 'hardware']" in capsys.readouterr().err


def test_the_picture_needs_both_methods_and_is_drawn(tmp_path, capsys):
    words = ["--results", str(tmp_path), "--figure", str(tmp_path / "images/l.png")]
    assert page.main(words) == 2
    write_study(tmp_path, methods=["grpo"])
    assert page.main(words) == 2
    assert "has no run of trance ekipl" in capsys.readouterr().err
    write_study(tmp_path)
    assert page.main(words) == 0
    assert (tmp_path / "images/l.png").read_bytes().startswith(b"\x89PNG")


def test_the_results_page_in_the_repository_is_current():
    assert page.main(["--check"]) == 0

import json
import math
import statistics
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_r1.evaluation.results import SetResult, joined, with_pooled_ood
from open_r1.report.run_folder import print_table, read_metrics, write_summary
from open_r1.schema import Score, UserError
from open_r1.utils.files import write_json
from open_r1.utils.provenance import git_commit, hardware, peak_rss_mib

SUMMARY_KEYS = {
    *(
        "task",
        "model",
        "method",
        "seed",
        "commit",
        "argv",
        "prompts",
        "steps",
        "seconds",
        "peak_rss_mib",
        "distributed",
    ),
    *("base", "final", "dead_groups", "kept_share", "base_weights", "warnings"),
}


def write_metrics(run, steps):
    """Step s has an external share of s/100, and dead groups of 0.25 before and 0.75 after; 16 prompts a step."""
    lines = [
        {
            "step": s,
            "prompts": 16 * s,
            "dead_groups/before": 0.25,
            "dead_groups/after": 0.75,
            "kept_share/policy": 1 - s / 100,
            "kept_share/gpt": s / 100,
        }
        for s in range(1, steps + 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def summarise(run, base, final, task="clevr_math"):
    seconds = {"data": 1.0, "base": None, "train": 30.0, "eval": 4.0}
    return write_summary(
        run,
        task=task,
        model="tiny",
        method="ekipl",
        seed=7,
        argv=["--task", task],
        seconds=seconds,
        base=base,
        final=final,
    )


def test_fifty_of_a_hundred_right_have_a_standard_error_of_five_points():
    assert SetResult(100, 0.5, 1.0).stderr == pytest.approx(0.05)


def test_two_replies_one_right_give_one_half():
    result = SetResult.from_scores([Score(1.0, 1.0), Score(0.0, 1.0)])
    assert result == SetResult(2, 0.5, 1.0)
    assert result.as_json() == {"n": 2, "accuracy": 0.5, "format": 1.0}


def test_spatial_scores_keep_full_and_partial():
    scores = [Score(0.5, 1.0, full=0.0, partial=0.5), Score(1.0, 1.0, full=1.0, partial=1.0)]
    assert SetResult.from_scores(scores).as_json() == {
        **{"n": 2, "accuracy": 0.75, "format": 1.0},
        **{"full": 0.5, "partial": 0.75},
    }


def test_no_scores_have_no_mean():
    with pytest.raises(ValueError, match="without rows"):
        SetResult.from_scores([])


def test_pooling_weighs_every_row_the_same():
    assert joined([SetResult(100, 0.5, 1.0), SetResult(300, 0.1, 1.0)]).accuracy == pytest.approx(0.2)


def test_a_part_without_partial_leaves_the_pool_without_it():
    assert joined([SetResult(1, 0.5, 1.0, 0.5, 0.5), SetResult(1, 0.5, 1.0)]).partial is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_the_standard_error_of_partial_credit_is_never_too_small(values):
    result = SetResult.from_scores([Score(value, 1.0) for value in values])
    assert result.stderr >= statistics.pstdev(values) / math.sqrt(len(values)) - 1e-7


def test_left_and_right_cameras_are_pooled_before_they_are_listed():
    left, right = SetResult(100, 0.5, 1.0), SetResult(100, 0.3, 1.0)
    results = with_pooled_ood({"ood_left": left, "ood_right": right, "id": SetResult(10, 1.0, 1.0)})
    assert list(results) == ["id", "ood", "ood_left", "ood_right"]
    assert results["ood"].accuracy == pytest.approx(0.4)


def test_summary_holds_exactly_what_is_documented(tmp_path):
    write_metrics(tmp_path, 20)
    sets = {"id": SetResult(10, 0.2, 0.9), "ood": SetResult(20, 0.1, 0.8)}
    summary = summarise(tmp_path, sets, sets)
    assert set(summary) == SUMMARY_KEYS
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert set(summary["seconds"]) == {"install", "data", "base", "train", "eval"}
    assert (summary["steps"], summary["prompts"], summary["seed"]) == (20, 320, 7)
    assert summary["dead_groups"] == pytest.approx({"before": 0.25, "after": 0.75})
    assert set(summary["final"]["id"]) == {"n", "accuracy", "format"}


def test_shares_at_start_and_end_are_means_of_a_tenth_of_the_steps(tmp_path):
    write_metrics(tmp_path, 20)
    sets = {"id": SetResult(10, 0.2, 0.9), "ood": SetResult(20, 0.1, 0.8)}
    share = summarise(tmp_path, sets, sets)["kept_share"]
    assert share["start"] == pytest.approx({"policy": 0.985, "gpt": 0.015})  # steps 1 and 2
    assert share["end"] == pytest.approx({"policy": 0.805, "gpt": 0.195})  # steps 19 and 20


def test_steps_that_reuse_candidates_have_no_shares_and_are_left_out(tmp_path):
    """With num_iterations = 2 each second step generates nothing; here also the last of four."""
    write_metrics(tmp_path, 4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for line in lines[1::2]:
        for key in ("kept_share/policy", "kept_share/gpt", "dead_groups/before", "dead_groups/after"):
            del line[key]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sets = {"id": SetResult(10, 0.2, 0.9), "ood": SetResult(20, 0.1, 0.8)}
    summary = summarise(tmp_path, sets, sets)
    assert summary["kept_share"]["end"] == pytest.approx({"policy": 0.97, "gpt": 0.03})  # step 3
    assert summary["dead_groups"] == {"before": 0.25, "after": 0.75}


def test_a_run_of_one_step_starts_and_ends_with_it(tmp_path):
    write_metrics(tmp_path, 1)
    sets = {"id": SetResult(10, 0.2, 0.9), "ood": SetResult(20, 0.1, 0.8)}
    share = summarise(tmp_path, sets, sets)["kept_share"]
    assert share["start"] == share["end"] == pytest.approx({"policy": 0.99, "gpt": 0.01})


def test_table_shows_the_gain_in_points_and_every_path(tmp_path, capsys):
    write_metrics(tmp_path, 2)
    base = {name: SetResult(200, 0.1, 0.9, 0.05, 0.1) for name in ("id", "ood_left", "ood_right")}
    final = base | {"ood_left": SetResult(200, 0.425, 0.99, 0.4, 0.425)}
    print_table(summarise(tmp_path, base, final, task="trance"), tmp_path)
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
    assert rows["ood_left"] == ["10.0", "42.5", "+32.5", "90.0", "99.0", "200"]
    assert rows["ood"][:3] == ["10.0", "26.2", "+16.2"]
    assert str(tmp_path / "summary.json") in out


def test_a_cut_line_of_metrics_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "los')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2 is no JSON object"):
        read_metrics(tmp_path)


@pytest.mark.parametrize(("content", "says"), [(None, "missing"), ("", "empty"), ("3\n", "no JSON object")])
def test_metrics_that_cannot_be_read_are_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(UserError, match=says):
        read_metrics(tmp_path)


def test_json_is_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": math.nan})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_changed_tree_is_dirty_and_no_repository_is_unknown(tmp_path):
    assert git_commit(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "a").write_text("1")
    subprocess.run([*git, "add", "a"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "a"], check=True)
    clean = git_commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == clean + "-dirty"


def test_the_machine_is_named_and_memory_is_in_mib():
    assert set(hardware()) == {"cpu", "cores", "ram_gib"}
    assert 10 < peak_rss_mib() < 100_000  # a Python with numpy takes tens of MiB

"""Warnings: what each takes, that none comes of a healthy line, and that they reach screen, metrics and summary."""

import json
import math

import pytest

from open_r1.grpo import run
from open_r1.schema import UserError
from open_r1.training.watch import WARNINGS, Limits, Watch

HEALTHY = {
    "external/a/failures": 2.0, "external/a/reward": 1.2, "external/a/format": 0.9, "policy/format": 0.97,
    "policy/accuracy": 0.3, "policy/reward": 1.27, "dead_groups/update": 0.25, "kl/policy": 0.35,
}  # fmt: skip
DEFAULTS = Limits()
SILENT = {"external/a/failures": 8.0, "external/a/reward": None, "external/a/format": None}


def looked(lines, limits: Limits = DEFAULTS, logging_steps: int = 1) -> list[tuple[int, str]]:
    """(step, name) of each warning; accuracy and reward move unless a line says otherwise."""
    watch, found = Watch(limits), []
    for number, line in enumerate(lines, start=1):
        moving = {"policy/accuracy": 0.3 + number % 2 / 64, "policy/reward": 1.27 - number % 2 / 64}
        step = number * logging_steps
        found += [(step, name) for name, _ in watch.look(HEALTHY | moving | line | {"step": step})]
    return found


def test_a_healthy_run_is_not_warned_about():
    assert looked([{}] * 200) == []


@pytest.mark.parametrize(
    ("line", "step", "name"),
    [
        (SILENT, 3, "silent/a"),
        (SILENT | {"external/a/reward": math.nan}, 3, "silent/a"),
        ({"external/a/format": 0.0}, 5, "format/a"),
        ({"policy/format": 0.0}, 5, "format/policy"),
        ({"dead_groups/update": 1.0}, 20, "dead"),
        ({"policy/accuracy": 0.5}, 20, "flat/policy/accuracy"),
        ({"policy/reward": 0.0}, 20, "flat/policy/reward"),
        ({"kl/policy": 2.01}, 1, "kl"),
    ],
)
def test_each_sign_makes_one_warning_after_its_steps_in_a_row(line, step, name):
    assert looked([line] * 60) == [(step, name)]
    assert looked([*[line] * (step - 1), {}, *[line] * (step - 1)]) == []  # never so many in a row
    assert looked([{}, *[line] * step]) == [(step + 1, name)]  # nor only at the beginning


def test_limits_are_settings_and_0_switches_a_warning_off():
    all_signs = SILENT | {"policy/format": 0.0, "dead_groups/update": 1.0, "policy/accuracy": 0.0, "kl/policy": 9.0}
    assert looked([all_signs] * 60, Limits(0, 0, 0, 0, 0)) == []
    found = looked([all_signs | {"policy/reward": 0.0}] * 60, Limits(7, 6, 5, 4, 9.5))
    flat = [(4, "flat/policy/accuracy"), (4, "flat/policy/reward")]
    assert found == [*flat, (5, "dead"), (6, "format/policy"), (7, "silent/a")]


def test_a_line_counts_the_steps_that_it_stands_for():
    assert looked([{"dead_groups/update": 1.0}] * 4, logging_steps=10) == [(20, "dead")]


def test_a_teacher_that_was_not_asked_is_not_silent():
    assert looked([SILENT | {"external/a/failures": 0.0}] * 60) == []


TEACHERS = "external_models=[{name: mute, accuracy: 1, n: 1, fail_rate: 1.0}, {name: plain, n: 1, format_rate: 0.0}]"


def test_a_run_whose_teachers_fail_says_so_on_the_screen_in_its_metrics_and_in_its_summary(config_of, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    words = [TEACHERS, "warn_silent_steps=2", "warn_format_steps=3", "max_completion_length=12"]
    summary = run(config_of("ekipl", *words))
    names = [(warning["step"], warning["name"]) for warning in summary["warnings"]]
    assert {(2, "silent/mute"), (3, "format/plain"), (3, "format/policy")} == set(names)  # the base is untrained
    assert json.loads((folder / "summary.json").read_text())["warnings"] == summary["warnings"]
    shown = capsys.readouterr().out
    assert "warning at step 2: every call of mute failed for 2 steps: the run trains without it; look at" in shown
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["warnings"] for line in lines] == [0, 1, 3, 3]


def test_strict_ends_the_run_there_and_again_until_something_is_done_about_it(config_of, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    words = [TEACHERS, "warn_format_steps=0", "max_completion_length=12", "strict=true", "warn_silent_steps=2"]
    with pytest.raises(UserError, match=r"strict: every call of mute failed for 2 steps.*stopped after step 2; to go"):
        run(config_of("ekipl", *words))
    assert (folder / "checkpoint-2").is_dir() and not (folder / "summary.json").exists()
    with pytest.raises(UserError, match="stopped after step 3"):
        run(config_of("ekipl", *words))
    summary = run(config_of("ekipl", *words, "external_models[0].fail_rate=0"))
    assert summary["steps"] == 4 and len((folder / WARNINGS).read_text().splitlines()) == 2

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commands import status_of
from open_r1.evaluate import main

ROOT = Path(__file__).resolve().parents[1]
RIGHT = "<think>x</think>\n<answer>5</answer>"


def write(path, *items):
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items), "utf-8")
    return str(path)


def run(tmp_path, *items, task="clevr_math", extra=()):
    replies = write(tmp_path / "replies.jsonl", *items)
    output = tmp_path / "out" / "scores.jsonl"
    status = status_of(main, ["--task", task, "--replies", replies, "--output", str(output), *extra])
    return status, [json.loads(line) for line in output.read_text("utf-8").splitlines()] if output.exists() else None


def test_scores_are_added_other_keys_are_copied_and_the_means_printed(tmp_path, capsys):
    status, lines = run(
        tmp_path,
        {"id": "a", "reply": RIGHT, "answer": "5", "note": "数 \ud800"},
        {"reply": "so 5", "answer": "5"},
        {"reply": "<think>x</think><answer>4</answer>", "answer": "5"},
        {"reply": None, "answer": "5"},
    )
    assert status == 0
    assert lines[0] == {
        **{"id": "a", "reply": RIGHT, "answer": "5", "note": "数 \ud800"},
        **{"accuracy": 1.0, "format": 1.0, "failed": False},
    }
    assert [(line["accuracy"], line["format"], line["failed"]) for line in lines[1:]] == [
        *((1.0, 0.0, False), (0.0, 1.0, False), (0.0, 0.0, True)),
    ]
    table = capsys.readouterr().out
    assert "4 replies, 1 of them failed and count as wrong" in table
    assert "accuracy    0.5000\nformat      0.5000" in table  # (1 + 1 + 0 + 0) / 4, (1 + 0 + 1 + 0) / 4


def test_spatial_lines_have_both_scores_and_the_setting_names_the_accuracy(tmp_path):
    item = {"reply": "change_color(2, red)", "answer": "change_color(2, cyan)"}
    for setting, accuracy in (("full", 0.0), ("partial", 0.5)):
        _, [line, failed] = run(tmp_path, item, item | {"reply": None}, task="trance", extra=("--setting", setting))
        assert (line["accuracy"], line["full"], line["partial"]) == (accuracy, 0.0, 0.5)
        assert (failed["accuracy"], failed["full"], failed["partial"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{oops", "line 2: not JSON"),
        ("[1]", "line 2: holds a JSON list, not an object"),
        ('{"reply": "x"}', 'line 2: has no key "answer"'),
        ('{"answer": "x"}', 'line 2: has no key "reply"'),
        ('{"reply": "x", "answer": 5}', 'line 2: key "answer" holds 5, which is not a string'),
        ('{"reply": 5, "answer": "5"}', 'line 2: key "reply" holds 5, which is not a string or null'),
        ('{"reply": "x", "answer": " "}', "line 2: answer ' ' holds 0 characters"),
        ("[" * 100_000, "line 2: not JSON"),
    ],
)
def test_a_bad_line_is_one_clear_error_and_nothing_is_written(tmp_path, capsys, bad, said):
    status, lines = run(tmp_path, {"reply": RIGHT, "answer": "5"}, bad)
    captured = capsys.readouterr()
    assert (status, lines, captured.out) == (2, None, "")
    assert captured.err.count("\n") == 1
    for part in (str(tmp_path / "replies.jsonl"), "1 bad line;", said, "correct or delete these lines"):
        assert part in captured.err


def test_all_bad_lines_are_counted_and_the_first_three_named(tmp_path, capsys):
    status, _ = run(tmp_path, *["{"] * 5)
    message = capsys.readouterr().err
    assert status == 2
    assert "5 bad lines" in message and "line 3:" in message and "line 4:" not in message and "and 2 more" in message


def test_an_old_output_survives_a_bad_input(tmp_path):
    run(tmp_path, {"reply": RIGHT, "answer": "5"})
    status, lines = run(tmp_path, "{")
    assert status == 2
    assert len(lines) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.jsonl"]  # nothing is left lying about


def test_wrong_names_and_places_are_clear_errors(tmp_path, capsys):
    good = {"reply": RIGHT, "answer": "5"}
    assert run(tmp_path, good, task="clevr_mat")[0] == 2
    assert "did you mean 'clevr_math'?" in capsys.readouterr().err
    assert run(tmp_path, good, extra=("--setting", "exakt"))[0] == 2
    assert "did you mean 'exact'?" in capsys.readouterr().err
    assert run(tmp_path)[0] == 2
    assert "holds no lines" in capsys.readouterr().err
    missing = str(tmp_path / "none.jsonl")
    assert status_of(main, ["--task", "trance", "--replies", missing, "--output", str(tmp_path / "o")]) == 2
    assert f"cannot read {missing}" in capsys.readouterr().err
    replies = write(tmp_path / "replies.jsonl", good)
    assert status_of(main, ["--task", "geomath", "--replies", replies, "--output", str(tmp_path)]) == 2
    assert f"cannot write {tmp_path}" in capsys.readouterr().err
    assert not list(tmp_path.parent.glob(".*.part"))


def test_it_grades_without_heavy_imports(tmp_path):
    replies = write(tmp_path / "replies.jsonl", {"reply": RIGHT, "answer": "5"})
    arguments = ["--task", "clevr_math", "--replies", replies, "--output", str(tmp_path / "o.jsonl")]
    code = (
        f"import runpy, sys; sys.argv = {['x', *arguments]!r}\n"
        "try: runpy.run_module('open_r1.evaluate', run_name='__main__')\n"
        "finally: print([name for name in ('torch', 'transformers', 'sympy', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("[]\n")

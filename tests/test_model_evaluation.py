"""`make eval`: who is asked what, what is written, how it goes on, what counts as wrong."""

import json

import pytest

from commands import status_of
from open_r1 import evaluate
from open_r1.evaluation.model import read_lines, summarise

TEACHER = "external_models=[{{name: t, provider: scripted, accuracy: {}, fail_rate: {}}}]"


@pytest.fixture
def ask(counting_data, tiny_folder, tmp_path):
    """Returns ask(*words) -> (exit status, scores.json) of `evaluate.py` on four rows per set."""

    def run(*words: str, output="out"):
        folder = tmp_path / output
        places = [f"--data_path={counting_data}", f"--base_path={tiny_folder}", f"--output={folder}"]
        status = status_of(evaluate.main, [*places, "eval_max_completion_length=4", "--temperature=1", *words])
        return status, json.loads((folder / "scores.json").read_text()) if status == 0 else None

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_model_that_is_always_right_scores_one_and_one_that_always_fails_zero(ask, tmp_path, capsys):
    status, scores = ask("--backend=api", TEACHER.format(1, 0), "--k=4")
    assert status == 0 and set(scores["sets"]) == {"id", "ood"}
    for cell in scores["sets"].values():
        assert (cell["n"], cell["replies"], cell["failed"]) == (4, 16, 0)
        assert cell["accuracy"] == cell["format"] == 1.0 and cell["stderr"] == 0.0
        assert cell["pass_at_k"] == {k: {"mean": 1.0, "stderr": 0.0} for k in ("1", "2", "4")}
    status, scores = ask("--backend=api", TEACHER.format(1, 1), "--k=4", "--split=id", output="down")
    assert scores["sets"]["id"]["failed"] == 16 and scores["sets"]["id"]["accuracy"] == 0.0
    assert "16 requests failed and count as wrong" in capsys.readouterr().out
    assert len(lines(tmp_path / "down" / "id.jsonl")) == 16
    ask("--backend=api", TEACHER.format(1, 1), "--k=4", "--split=id", output="down")
    assert len(lines(tmp_path / "down" / "id.jsonl")) == 32  # failed requests are asked again, replies are not
    ask("--backend=api", TEACHER.format(1, 0), "--k=4")
    assert len(lines(tmp_path / "out" / "id.jsonl")) == 16


def test_the_policy_s_replies_are_kept_and_only_the_missing_ones_are_asked_for(ask, tmp_path):
    _, scores = ask("--k=2", "--split=id")
    path = tmp_path / "out" / "id.jsonl"
    first = path.read_text().splitlines(keepends=True)
    assert len(first) == 8 and scores["sets"]["id"]["replies"] == 8 and scores["replies_per_s"] > 0
    path.write_text("".join(first[:5]) + first[5][:20])  # killed while it wrote the sixth
    ask("--k=2", "--split=id")
    again = path.read_text().splitlines(keepends=True)
    assert again[:5] == first[:5] and len(again) == 8
    assert {(line["id"], line["sample"]) for line in lines(path)} == {
        (f"clevr_math-id-{row}", sample) for row in range(4) for sample in range(2)
    }


def test_both_prompt_kinds_can_be_asked(ask, tmp_path):
    for method in ("zero_shot", "ans_sft"):
        ask("--split=id", f"--method={method}", output=method)
    kinds = [
        json.loads((tmp_path / name / "settings.json").read_text())["prompt_kind"] for name in ("zero_shot", "ans_sft")
    ]
    assert kinds == ["reasoning", "direct"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--k=0"], "is asked at least once"),
        (["--split=odd"], "did you mean 'ood'"),
        (["--backend=hff"], "did you mean 'hf'"),
        (["--backend=api"], "one external model, and 0 are given"),
        (["--backend=api", "--teachers=gpt-4o-gemini"], "choose by TEACHERS=file EXTERNAL=name"),
        (["--k=2", "--temperature=0"], "gives one reply k times"),
        (["--eval_rows_at_onec=2"], "did you mean 'eval_rows_at_once'"),
        (["--data_path=/none"], "does not exist"),
    ],
)
def test_what_cannot_be_meant_is_one_line(ask, capsys, words, says):
    assert ask(*words)[0] == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_replies_of_another_temperature_are_not_mixed(ask, capsys):
    ask("--split=id", "--backend=api", TEACHER.format(1, 0))
    assert ask("--split=id", "--backend=api", TEACHER.format(0, 0))[0] == 2
    assert "holds replies with external_models" in capsys.readouterr().err


def test_a_run_s_folder_brings_its_prompt_and_must_have_a_model(ask, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("task: clevr_math\nstages: [sft]\nprompt_kind: direct\n")
    assert ask(f"--model_path={run}")[0] == 2 and "the run has not ended" in capsys.readouterr().err
    (run / "recipe.yaml").write_text("task: trance\n")
    assert ask(f"--model_path={run}")[0] == 2 and "is a run of trance" in capsys.readouterr().err


def test_partial_credit_is_in_the_mean_and_not_in_pass_at_k():
    replies = [{"id": "a", "failed": False, "accuracy": a, "format": 1.0, "full": a} for a in (1.0, 0.5)]
    cell = summarise([*replies, *({**line, "id": "b", "accuracy": 0.5, "full": 0.5} for line in replies)], seed=0)
    assert cell["accuracy"] == 0.625 and cell["n"] == 2
    assert cell["pass_at_k"]["1"]["mean"] == 0.25 and cell["pass_at_k"]["2"]["mean"] == 0.5


def test_a_failed_request_is_open_again(tmp_path):
    told = [{"id": "a", "sample": 0, "failed": True}, {"id": "a", "sample": 1, "failed": False}]
    (tmp_path / "id.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told) + '{"id": "a", "sa')
    assert list(read_lines(tmp_path / "id.jsonl")) == [("a", 1)]
    assert read_lines(tmp_path / "none.jsonl") == {}


def test_more_replies_a_row_can_be_had_later(ask, tmp_path):
    ask("--k=2", "--split=id")
    before = (tmp_path / "out" / "id.jsonl").read_text()
    _, scores = ask("--k=4", "--split=id")
    after = (tmp_path / "out" / "id.jsonl").read_text()
    assert after.startswith(before) and len(after.splitlines()) == 16
    assert set(scores["sets"]["id"]["pass_at_k"]) == {"1", "2", "4"}

"""A policy that was asked once is not asked the same again: same weights, questions, pictures, sampling and seed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from open_r1.data.rows import load_rows
from open_r1.evaluation import known_replies
from open_r1.evaluation import run as run_evaluation
from open_r1.evaluation.policy_replies import Sampling
from open_r1.tasks import get_task

TASK = get_task("clevr_math")
SAMPLING = Sampling(batch_size=4)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(known_replies, "FOLDER", tmp_path / "evaluations")
    return SimpleNamespace(
        output_dir=tmp_path / "run", half_precision=False, policy_options={}, max_pixels=480_000,
        prompt_kind="reasoning",
        evaluation_grader="exact",
        eval_temperature=0.1, eval_top_p=0.9, eval_top_k=50, eval_max_completion_length=6, eval_rows_at_once=3, seed=0,
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """Labels of the sets that the policy itself was asked."""
    labels, real = [], run_evaluation.generate_replies
    monkeypatch.setattr(run_evaluation, "generate_replies", lambda *a: labels.append(a[-1]) or real(*a))
    return labels


def test_the_second_run_grades_the_kept_replies_and_loads_no_weights(
    config, asked, tiny_folder, counting_data, tmp_path, monkeypatch
):
    tests = {"id": load_rows(TASK, counting_data, "id").rows}
    first = run_evaluation.evaluate_path(config, TASK, tests, str(tiny_folder), "before", again=True)
    replies = (tmp_path / "run/replies/before-id.jsonl").read_text()
    monkeypatch.setattr(run_evaluation, "load_policy", None)
    config.output_dir = tmp_path / "other"
    assert run_evaluation.evaluate_path(config, TASK, tests, str(tiny_folder), "before", again=True) == first
    assert (tmp_path / "other/replies/before-id.jsonl").read_text() == replies
    assert asked == ["evaluate before-id"]


def test_an_evaluation_that_is_not_made_again_keeps_nothing(config, asked, tiny_folder, counting_data):
    tests = {"id": load_rows(TASK, counting_data, "id").rows}
    for _ in range(2):
        run_evaluation.evaluate_path(config, TASK, tests, str(tiny_folder), "after")
    assert len(asked) == 2 and not known_replies.FOLDER.exists()


def test_another_seed_question_or_picture_is_another_place(counting_data, tmp_path):
    row = load_rows(TASK, counting_data, "id").rows[0]
    picture = tmp_path / "picture.png"
    picture.write_bytes(row.images[0].read_bytes()[:-1])
    rows = [row, replace(row, problem=row.problem + "?"), replace(row, images=(picture,))]
    places = {known_replies.place("policy", [r], TASK, "reasoning", SAMPLING) for r in rows}
    places.add(known_replies.place("policy", [row], TASK, "direct", SAMPLING))
    places.add(known_replies.place("policy", [row], TASK, "reasoning", replace(SAMPLING, seed=1)))
    places.add(known_replies.place("another", [row], TASK, "reasoning", SAMPLING))
    assert len(places) == 6


def test_other_weights_are_another_policy_and_what_lies_elsewhere_is_none(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = known_replies.policy_digest(str(tmp_path), "cpu", 100)
    assert (
        first
        == known_replies.policy_digest(str(tmp_path), "cpu", 100)
        != known_replies.policy_digest(str(tmp_path), "cpu", 99)
    )
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert known_replies.policy_digest(str(tmp_path), "cpu", 100) != first
    (tmp_path / "adapter_config.json").write_text("{}")
    assert known_replies.policy_digest(str(tmp_path), "cpu", 100) is None  # its base lies elsewhere
    assert known_replies.policy_digest("Qwen/Qwen2-VL-2B-Instruct", "cpu", 100) is None


def test_an_evaluation_that_was_cut_keeps_nothing(counting_data, tmp_path):
    rows = load_rows(TASK, counting_data, "id").rows
    told = known_replies.keep(tmp_path / "kept.json", [(row, "4") for row in rows])
    next(told)
    told.close()
    assert known_replies.read(tmp_path / "kept.json", rows) is None

"""Evaluation of a policy: every row once, seeded, and without a trace in the state of what comes after."""

import json
import random
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from open_r1.data.rows import load_rows
from open_r1.evaluation import policy_replies as evaluation
from open_r1.evaluation.policy_replies import Sampling, evaluate_set, generate_replies
from open_r1.policy import decoding
from open_r1.policy.loading import load_policy
from open_r1.schema import Score
from open_r1.tasks import get_task

TASK = get_task("clevr_math")
SHORT = Sampling(temperature=1.0, max_completion_length=6, batch_size=3)


def replies(policy, rows, sampling):
    return [(row.id, text) for row, text in generate_replies(*policy, rows, TASK, sampling, "reasoning", "test")]


def test_every_row_is_asked_once_and_the_seed_decides_the_replies(tiny_folder, counting_data):
    policy, rows = load_policy(str(tiny_folder)), load_rows(TASK, counting_data, "train").rows
    first = replies(policy, rows, SHORT)
    assert sorted(id_ for id_, _ in first) == sorted(row.id for row in rows)  # 8 rows in batches of 3
    assert first == replies(policy, rows, SHORT)
    assert first != replies(policy, rows, Sampling(1.0, max_completion_length=6, batch_size=3, seed=1))


def test_the_replies_to_a_repeated_row_share_one_prompt_and_are_those_of_prompts_of_their_own(
    tiny_folder, counting_data, monkeypatch
):
    model, processor = load_policy(str(tiny_folder))
    rows = [row for row in load_rows(TASK, counting_data, "id").rows[:2] for _ in range(4)]
    widths, forward = [], model.model.visual.forward
    monkeypatch.setattr(model.model.visual, "forward", lambda *a, **k: widths.append(len(a[0])) or forward(*a, **k))
    pictures, preprocess = [], type(processor.image_processor).preprocess
    monkeypatch.setattr(
        type(processor.image_processor),
        "preprocess",
        lambda self, images, **k: pictures.append(len(images)) or preprocess(self, images, **k),
    )
    sampling = Sampling(1.0, top_p=1.0, max_completion_length=6, batch_size=8)
    shared = replies((model, processor), rows, sampling)
    assert "_prefill" not in vars(model)
    monkeypatch.setattr(evaluation, "prefill_shared", lambda model: nullcontext())
    assert replies((model, processor), rows, sampling) == shared
    assert len({text for _, text in shared}) > 2  # samples differ
    assert pictures == [2, 2]
    assert widths[1] == 4 * widths[0]  # patches that the tower encoded: of 2 pictures, of 8


def test_replies_are_decoded_without_copies_of_the_cache(tiny_folder, counting_data, monkeypatch):
    rows, decoded, attend = load_rows(TASK, counting_data, "id").rows, [], decoding.attend_one
    monkeypatch.setattr(decoding, "attend_one", lambda query, *a: decoded.append(len(query)) or attend(query, *a))
    model, processor = load_policy(str(tiny_folder))
    replies((model, processor), rows[:3], SHORT)
    assert decoded and set(decoded) == {3}


def random_states() -> list:
    states = [random.getstate(), *np.random.get_state(), torch.random.get_rng_state()]
    return [state.tolist() if hasattr(state, "tolist") else state for state in states]


def test_training_mode_and_every_random_state_are_as_before(tiny_folder, counting_data):
    model, processor = load_policy(str(tiny_folder))
    model.train()
    before = random_states()
    rows = load_rows(TASK, counting_data, "id").rows
    replies((model, processor), rows, SHORT)
    assert model.training and random_states() == before
    next(iter(generate_replies(model, processor, rows, TASK, SHORT, "reasoning", "test")))  # left after one reply
    assert model.training and random_states() == before


def test_the_random_state_of_the_model_s_gpu_is_restored_too(monkeypatch):
    """A stand-in for the GPU, which counts what it was asked; the next test needs a real one."""
    asked = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: asked.append(("get", str(device))) or "state")
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: asked.append((state, str(device))))
    model = SimpleNamespace(training=True, device=torch.device("cuda:3"), train=lambda mode: None)
    with evaluation._as_before(model):
        pass
    assert asked == [("get", "cuda:3"), ("state", "cuda:3")]


@pytest.mark.gpu
def test_an_evaluation_between_two_draws_on_the_gpu_changes_no_draw(tiny_folder, counting_data):
    model, processor = load_policy(str(tiny_folder))
    model, draws = model.cuda(), []
    for evaluates in (False, True):
        torch.cuda.manual_seed_all(5)
        torch.rand(3, device="cuda")
        if evaluates:
            replies((model, processor), load_rows(TASK, counting_data, "id").rows, SHORT)
        draws.append(torch.rand(3, device="cuda").tolist())
    assert draws[0] == draws[1]


def test_replies_are_written_with_their_scores_as_they_come(tiny_folder, counting_data, tmp_path):
    policy, rows = load_policy(str(tiny_folder)), load_rows(TASK, counting_data, "id").rows
    output = tmp_path / "replies" / "before-id.jsonl"
    told = generate_replies(*policy, rows, TASK, SHORT, "reasoning", "test")
    result = evaluate_set(told, lambda reply, answer: Score(0.25, 1.0), output)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert (result.n, result.accuracy, result.format) == (4, 0.25, 1.0)
    assert {(line["id"], line["answer"]) for line in lines} == {(row.id, row.answer) for row in rows}
    assert all(line["accuracy"] == 0.25 for line in lines)

"""The base policies that are shipped: what RL starts from must have something to learn and something to reinforce."""

import pytest

from open_r1.data.rows import load_rows
from open_r1.evaluation.policy_replies import Sampling, evaluate_set, generate_replies
from open_r1.policy.loading import load_policy
from open_r1.synthetic.write import write_dataset
from open_r1.tasks import TASKS
from open_r1.utils.provenance import ROOT


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_shipped_base_answers_between_10_and_50_percent_exactly_and_keeps_the_format(task, tmp_path):
    write_dataset(task.name, tmp_path / "data", "tiny", 3, {"id": 200})
    rows = load_rows(task, tmp_path / "data", "id").rows
    model, processor = load_policy(str(ROOT / "bases" / task.name))
    exact = task.settings[0]
    sampling = Sampling(max_completion_length=96, batch_size=100)
    replies = generate_replies(model, processor, rows, task, sampling, "reasoning", task.name)
    result = evaluate_set(replies, lambda reply, true: task.grade(reply, true, exact), tmp_path / "replies.jsonl")
    assert 0.10 <= result.accuracy <= 0.50
    assert result.format >= 0.95

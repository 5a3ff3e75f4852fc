"""Metrics on two pools whose numbers can be checked by hand; every name that is logged is documented."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from open_r1.schema import Candidate, Score
from open_r1.training.metrics import TokenMeans, step_metrics

DOCS = Path(__file__).resolve().parents[1] / "docs" / "METRICS.md"


def candidate(source: str, accuracy: float, format: float = 1.0, truncated: bool = False) -> Candidate:
    return Candidate(source, "text", (1, 2), Score(accuracy, format), truncated)


# Prompt 1: the policy is wrong twice, the teacher right twice. Prompt 2: all right, and the teacher did not come.
POOLS = [
    [candidate("policy", 0), candidate("policy", 0), candidate("gpt", 1), candidate("gpt", 1)],
    [candidate("policy", 1), candidate("policy", 1)],
]
METRICS = step_metrics(POOLS, [[2, 3], [0, 1]], ["policy", "gpt"], {"gpt": 1}, wait_s=0.25)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pool/size", 3.0),  # (4 + 2) / 2
        ("policy/accuracy", 0.5),  # two of four, before selection
        ("policy/reward", 1.5),  # format 1 for all
        ("external/gpt/accuracy", 1.0),
        ("external/gpt/failures", 1),
        ("kept/accuracy", 1.0),  # selection flatters
        ("kept_share/policy", 0.5),
        ("kept_share/gpt", 0.5),
        ("dead_groups/before", 1.0),  # wrong-wrong, right-right: GRPO learns nothing from either
        ("dead_groups/after", 1.0),  # and top-G neither
        ("dead_groups/pool", 0.5),  # though the first pool had both
        ("tied_at_cut", 0.0),
        ("truncated/gpt", 0.0),
        ("external/wait_s", 0.25),
    ],
)
def test_a_step_s_metrics(name, value):
    assert METRICS[name] == value


def test_what_nothing_was_there_to_average_is_nan_and_not_zero():
    metrics = step_metrics([[candidate("policy", 1)]], [[0]], ["policy", "gpt"], {"gpt": 1}, 0.0)
    assert math.isnan(metrics["external/gpt/reward"]) and metrics["kept_share/gpt"] == 0.0


def test_log_prob_and_kl_are_means_over_the_tokens_of_a_source():
    means = TokenMeans(["policy", "gpt"])
    means.logps = torch.tensor([[-1.0, -3.0], [-2.0, -9.0]])
    reference = torch.tensor([[-1.0, -3.0], [-2.0 + math.log(2), 0.0]])
    mask = torch.tensor([[1, 1], [1, 0]])  # the second row has one token
    one_process = SimpleNamespace(gather=lambda tensor: tensor)
    values = means.by_source(torch.tensor([0, 1]), mask, torch.tensor([1.0, -2.0]), reference, one_process)
    assert values["logp/policy"] == -2.0 and values["logp/gpt"] == -2.0
    assert values["kl/policy"] == 0.0
    assert values["kl/gpt"] == pytest.approx(2 - math.log(2) - 1)  # exp(r) - r - 1 with r = log 2
    policy, gpt = 1 * (1 - (math.exp(-1) + math.exp(-3)) / 2), 2 * (1 - math.exp(-2))  # |A| times the mean of 1 - p
    assert values["grad_share/policy"] == pytest.approx(policy / (policy + gpt))


def test_every_metric_is_documented():
    text = DOCS.read_text()
    names = [re.sub("gpt", "<name>" if name.startswith("external") else "<source>", name) for name in METRICS]
    names = [re.sub("(kept_share|truncated)/policy", r"\1/<source>", name) for name in names]
    missing = {name for name in [*names, "kl/<source>", "logp/<source>"] if name not in text}
    missing -= {name for name in missing if name.replace("<source>", "<name>") in text}
    assert not missing

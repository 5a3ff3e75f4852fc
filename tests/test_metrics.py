"""Every metric of a run equals what candidates.jsonl and saved tensors say; every name that is logged is documented."""

import json
import math
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from open_r1.method.weights import Weighting
from open_r1.schema import Candidate, Failure, Score
from open_r1.training.candidate_log import CandidateLog
from open_r1.training.metrics import Epoch, count_tokens, count_trl
from open_r1.training.tally import KINDS, Tally
from recompute import Recorder, Run
from test_trainer import Teacher, by_length, keep, make_trainer

DOCS = Path(__file__).resolve().parents[1] / "docs" / "METRICS.md"


class Flaky(Teacher):
    """Fails for about half the rows, always the same."""

    async def ask(self, request):
        if zlib.crc32(request.row.id.encode()) % 2:
            return Failure(self.name, "server", "down")
        return await super().ask(request)


def brevity(completions, **_):
    """A third reward function, beside format and accuracy; it cannot judge every reply."""
    lengths = [len(reply[0]["content"]) for reply in completions]
    return [None if n % 5 == 4 else 1 / (1 + n) for n in lengths]


# What a step is made of: rows of a pass, passes of a step, passes that one generation serves
PLAIN = {"per_device_train_batch_size": 8, "max_steps": 2}
RUNS = {
    "one pass a step": {},
    "no reference": {"beta": 0.0},
    "four passes of two rows": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "four generations a step": {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "steps_per_generation": 1,
    },
    "a generation for two steps": {"steps_per_generation": 2, "max_steps": 3},
    "two iterations": {"num_iterations": 2, "max_steps": 4},
    "epochs that end in a short step": {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3, "steps_per_generation": 1,
        "num_train_epochs": 2, "max_steps": 6,
    },
    "a line for two steps": {"logging_steps": 2, "max_steps": 4, "per_device_train_batch_size": 4,
                             "gradient_accumulation_steps": 2},
}  # fmt: skip
LOGGED: dict[str, set[str]] = {}  # by run


def record(trainer, folder: Path, process: int = 0) -> None:
    """Train with everything written down."""
    trainer.candidate_log = CandidateLog(folder / f"candidates-{process}.jsonl", every=1, prompts=10**6)
    recorder = Recorder(trainer)
    trainer.train()
    recorder.save(folder / f"tensors-{process}.pt")


def run(tiny_folder, counting_data, folder: Path, teachers, more=None, **changes) -> set[str]:
    changes = PLAIN | {"beta": 0.04, "max_completion_length": 24, "max_grad_norm": 1e9, "seed": 5} | changes
    trainer = make_trainer(tiny_folder, counting_data, folder, teachers, score=by_length, **changes)
    record(trainer, folder)
    made = Run(folder, trainer.sources, trainer.args, len(trainer.rows))
    return made.check(more(made, trainer)) if more else made.check()


@pytest.mark.parametrize("name", RUNS)
def test_every_number_of_a_run_is_what_its_candidates_and_tensors_say(tiny_folder, counting_data, tmp_path, name):
    teachers = [Flaky(None, "b" * 5, name="a"), Teacher("no", name="b")]
    LOGGED[name] = run(tiny_folder, counting_data, tmp_path, teachers, **RUNS[name])


def test_the_same_of_plain_grpo_with_three_weighted_reward_functions(tiny_folder, counting_data, tmp_path):
    changes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "reward_weights": [1.0, 0.5, 2.0]}
    LOGGED["grpo"] = run(tiny_folder, counting_data, tmp_path, [], reward_funcs=[brevity], **changes)


def test_the_same_where_replies_are_kept(tiny_folder, counting_data, tmp_path):
    """Four prompts a line, of eight rows; the third line begins the second epoch, whose replies are bought."""

    def hits(made: Run, trainer):
        asked: list[str] = []

        def more(before: int, step: int) -> dict[str, float]:
            now = made.prompts_of(before, step)
            share = np.mean([row in asked for row in now])
            asked.extend(now)
            return {"external/a/hit_rate": float(share), "external/a/usd": 0.0}

        return more

    changes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "max_steps": 3}
    teachers = keep(tmp_path, Teacher("yes", name="a"))
    LOGGED["store"] = run(tiny_folder, counting_data, tmp_path, teachers, hits, steps_per_generation=1, **changes)


@pytest.mark.parametrize("kind", ["is", "snis"])
def test_the_same_of_weights(tiny_folder, counting_data, tmp_path, kind):
    """Two equal replies a prompt of which one can be kept: the weight of the other is the same."""

    def weights(made: Run, trainer):
        def more(before: int, step: int) -> dict[str, float]:
            batches = [g for g in made.generations if before < g["step"] <= step]
            w = [torch.where(g["source"] > 0, (g["logps"] * g["completion_mask"]).sum(1).clamp(-20, 20).exp(), 1.0)
                 for g in batches]  # fmt: skip
            shares = [(x.sum() ** 2 / (4 * (x**2).sum())).item() for group in w for x in group.view(-1, 4)]
            external = torch.cat([x[g["source"] > 0] for x, g in zip(w, batches, strict=True)]).double()
            values = {
                "weights/ess": float(np.mean(shares)),
                "weights/p95": external.quantile(0.95).item(),
                "weights/max": external.max().item(),
                "weights/tv": (1 - external).clamp(min=0).mean().item(),
                "external/a/unweighted": 0.0,
            }
            return values | ({"weights/bounded": 0.0} if kind == "is" else {})

        return more

    rules = {"weighting": Weighting(kind, weight_max=10.0), "max_external": 1}
    changes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "steps_per_generation": 1}
    teachers = [Teacher(None, None, name="a", logprobs=(0.0,))]
    changes |= {"max_completion_length": 64, "rules": rules}
    LOGGED[kind] = run(tiny_folder, counting_data, tmp_path, teachers, weights, **changes)


def documented() -> set[str]:
    """The names of metrics.jsonl that docs/METRICS.md explains: first column of the tables before the warnings."""
    text = DOCS.read_text(encoding="utf-8").split("## Warnings")[0]
    cells = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", text, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def general(name: str) -> str:
    """A logged name as the page has it: <name> is an external model, <source> any, <function> gives rewards."""
    name = re.sub(r"^external/(a|b)/", "external/<name>/", name)
    name = re.sub(r"^(kept_share)/(a|b)$", r"\1/<name>", name)
    name = re.sub(r"^(truncated|logp|kl|grad_share)/(policy|a|b)$", r"\1/<source>", name)
    return re.sub(r"^rewards/\w+/", "rewards/<function>/", name)


def test_the_names_that_runs_log_are_those_of_the_metrics_page():
    """Of the tests above. vLLM's names, the mixture's `known` and a run's warnings are logged by none of those."""
    if len(LOGGED) < len(RUNS) + 4:
        pytest.skip("the runs of this file were not all made")
    logged = {general(name) for names in LOGGED.values() for name in names}
    assert logged - documented() == set()
    elsewhere = {name for name in documented() if name.startswith("sampling/")} | {"weights/known", "warnings"}
    assert documented() - logged - elsewhere == set()


def test_a_share_is_a_ratio_of_sums_and_not_a_mean_of_shares():
    tally = Tally()
    tally.ratio("x", 1, 2)
    tally.ratio("x", 0, 8)
    tally.mean("y", [1.0, math.nan, 3.0])
    tally.mean("y", [8.0])
    tally.mean("none", [math.nan])
    assert tally.take() == pytest.approx({"x": 0.1, "y": 4.0, "none": math.nan}, nan_ok=True)
    assert tally.take() == {}  # and begins again


def test_counts_add_up_and_a_process_that_has_none_takes_no_maximum_away(monkeypatch):
    """Two processes: the second kept no external candidate, waited longer, and looked at the ledger later."""
    first, second = Tally(), Tally()
    for failures in (1, 3):
        first.sum("failures", failures)
        first.longest("wait", 0.5)
    second.sum("failures", 2)
    second.longest("wait", 3.0)
    for tally, weights, usd in ((first, [2.0, 5.0], 0.5), (second, [], 0.75)):
        tally.extreme("max", "max", weights)
        tally.extreme("min", "min", weights)
        tally.percentile_95("p95", weights)
        tally.deviation("std", weights)
        tally.latest("usd", usd)
    monkeypatch.setattr("open_r1.training.tally.gather_object", lambda own: [*own, second._parts])
    expected = {"failures": 6, "wait": 3.0, "max": 5.0, "min": 2.0, "p95": 4.85, "std": 4.5**0.5, "usd": 0.75}
    assert first.take() == pytest.approx(expected)
    assert set(KINDS) == {"ratio", "sum", "longest", "latest", "max", "min", "percentile 95", "deviation"}


def test_the_gradient_s_share_is_that_of_the_step_and_not_the_mean_of_the_passes():
    """Passes of one row: each alone is all policy or all external; together they are 1 to 4e-9."""
    tally = Tally()
    for source, advantage in ((0, 1.0), (0, -1.0), (1, 8e-9)):
        batch = {
            "source": torch.tensor([source]),
            "completion_mask": torch.tensor([[1, 1]]),
            "advantages": torch.tensor([advantage]),
        }
        count_tokens(tally, ["policy", "gpt"], batch, torch.tensor([[-1.0, -3.0]]), rows_alike=True)
    values = tally.take()
    assert values["grad_share/gpt"] == pytest.approx(4e-9) and values["grad_share/policy"] == pytest.approx(1.0)
    assert values["logp/policy"] == values["logp/gpt"] == -2.0


def test_where_the_loss_sums_tokens_a_long_reply_has_more_of_the_gradient():
    batch = {
        "source": torch.tensor([0, 1]),
        "completion_mask": torch.tensor([[1, 0, 0], [1, 1, 1]]),
        "advantages": torch.tensor([1.0, 1.0]),
    }
    for rows_alike, share in ((True, 0.5), (False, 0.75)):
        tally = Tally()
        count_tokens(tally, ["policy", "gpt"], batch, torch.full((2, 3), -1.0), rows_alike)
        assert tally.take()["grad_share/gpt"] == pytest.approx(share)


def test_trl_s_means_count_as_many_tokens_as_they_are_the_mean_of():
    tally = Tally()
    for entropy, tokens, low in ((1.0, 30, 0.5), (4.0, 10, 0.25)):
        logged = {"entropy": [entropy], "clip_ratio/low_min": [low], "clip_ratio/high_mean": [0.0], "step_time": [2.0]}
        count_trl(tally, logged, tokens=tokens, rows=1, per_reply=False)
        assert logged == {}
    values = tally.take()
    assert values["entropy"] == pytest.approx(1.75) and values["clip_ratio/low_min"] == 0.25
    assert values["step_time"] == 2.0


def test_prompts_of_a_short_last_step_are_counted_as_they_are():
    """9 passes an epoch, 4 a step: 4, 8, 9, then 13, ..."""
    epoch = Epoch(9, 4)
    assert [epoch.batches_before(step) for step in range(8)] == [0, 4, 8, 9, 13, 17, 18, 22]


def test_an_unscored_candidate_is_written_as_null(tmp_path):
    from open_r1.schema import Row
    from open_r1.training.candidate_log import describe_prompt

    nothing = Candidate("policy", "x", (1,), Score(0.0, 0.0), rewards_R=(math.nan,), weighted_reward=math.nan)
    some = Candidate("policy", "y", (1, 2), Score(0.0, 0.0), rewards_R=(0.5,), weighted_reward=1.0)
    line = describe_prompt(1, Row("r", "clevr_math", (), "?", "4"), [nothing, some], [0, 1], [0.0, 0.7], ["half"])
    assert [c["reward"] for c in json.loads(json.dumps(line, allow_nan=False))["candidates"]] == [None, 1.0]
    assert [c["rewards"] for c in line["candidates"]] == [{"half": None}, {"half": 0.5}]

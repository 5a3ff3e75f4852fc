"""The gradient of every update against a reference that is written from Eq. 1-3: one row at a time, no padding.

The reference knows the rows (token ids and pictures) and the rewards; groups, advantages, ratios, KL, means and
micro-batches are its own. A new TRL is judged by this table in minutes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from open_r1.method.weights import Weighting
from open_r1.policy.loading import load_policy
from test_trainer import Teacher, by_length, make_trainer

PLAIN = {
    "max_steps": 1, "optim": "sgd", "learning_rate": 0.5, "lr_scheduler_type": "constant", "max_grad_norm": 1e9,
    "max_completion_length": 12, "seed": 7,
}  # fmt: skip
RIGHT = "yes, it is"
CASES: dict[str, dict[str, Any]] = {
    "Eq. 3 without KL": {},
    "KL with the ratio": {"beta": 0.4},
    "KL without the ratio": {"beta": 0.4, "use_bias_correction_kl": False},
    "micro-batches of two rows": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "beta": 0.4},
    "the second pass over a generation": {"num_iterations": 2, "max_steps": 2, "beta": 0.4},
    "a generation for two steps": {"steps_per_generation": 2, "max_steps": 2},
    "four generations a step": {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "steps_per_generation": 1,
    },
    "N is 6 and G is 4": {"N": 6},
    "no std": {"scale_rewards": "none"},
    "weighted rewards": {"reward_weights": [3.0, 0.5]},
    "EKIPL+": {"rules": {"selection": "max_variance", "advantage_baseline": "policy"}},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "dapo": {"loss_type": "dapo"},
    "an SFT term": {"rules": {"weighting": Weighting("sft", sft_coef=0.3)}},
    "whole replies": {
        "loss_type": "luspo", "importance_sampling_level": "sequence", "beta": 0.4, "use_bias_correction_kl": False,
    },
}  # fmt: skip


class Witness(TrainerCallback):
    """Keeps the weights and rows of each pass, and the gradient that the optimizer is given."""

    def __init__(self, trainer: Any):
        self.trainer, self.steps, self.passes, self.advantages = trainer, [], [], {}
        self._score, self._loss = trainer._generate_and_score_completions, trainer._compute_loss
        trainer._generate_and_score_completions, trainer._compute_loss = self.score, self.loss
        self.start = self.weights()
        trainer.add_callback(self)

    def score(self, inputs: list) -> dict:
        batch = self._score(inputs)
        self.sampled = self.weights()
        kept = [A for pool, kept in zip(*self.groups, strict=True) for A in advantages_of(self.trainer, pool, kept)]
        self.advantages = {key(row): A for row, A in zip(rows_of(batch), kept, strict=True)}
        return batch

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.trainer.model.state_dict().items()}

    @property
    def groups(self) -> tuple[list, list]:
        return self.trainer._groups.pools, self.trainer._groups.kept_PG

    def loss(self, model: Any, inputs: dict) -> torch.Tensor:
        rows = [row | {"A": self.advantages[key(row)]} for row in rows_of(inputs)]
        self.passes.append((rows, self.sampled))
        return self._loss(model, inputs)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """The optimizer is about to step."""
        gradient = torch.cat([p.grad.flatten().clone() for p in model.parameters()])
        self.steps.append((self.weights(), self.passes, gradient))
        self.passes = []


def rows_of(batch: dict) -> list[dict]:
    """The rows of a batch without padding, each with its picture."""
    sizes = batch["image_grid_thw"].prod(dim=1).tolist()
    pictures = batch["pixel_values"].split(sizes)
    rows = []
    for i, picture in enumerate(pictures):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()]
        reply = batch["completion_ids"][i][batch["completion_mask"][i].bool()]
        rows.append({"prompt": prompt, "reply": reply, "picture": picture, "grid": batch["image_grid_thw"][i : i + 1]})
    return rows


def key(row: dict) -> tuple:
    return tuple(row["prompt"].tolist()), tuple(row["reply"].tolist()), row["picture"].sum().item()


def advantages_of(trainer: Any, pool: list, kept: list[int]) -> list[float]:
    """Eq. 1 of one group, and our other baseline; an SFT term replaces those of external candidates."""
    weights = trainer.args.reward_weights or [1.0, 1.0]
    scores = [by_length(c.text, "") for c in pool]
    rewards = np.array([weights[0] * s.format + weights[1] * s.accuracy for s in scores])
    group, plus = rewards[kept], trainer.rule.baseline == "policy"
    mean = rewards[[not c.external for c in pool]].mean() if plus else group.mean()
    std = (rewards if plus else group).std(ddof=1) + 1e-4 if trainer.args.scale_rewards == "group" else 1.0
    A = (group - mean) / std
    if trainer.weighting.kind == "sft":
        A = [
            trainer.weighting.sft_coef * scores[k].accuracy if pool[k].external else a
            for k, a in zip(kept, A, strict=True)
        ]
    return [float(a) for a in A]


def logps(model: Any, row: dict) -> torch.Tensor:
    """Log-probs (T,) of one reply by a plain forward pass of one row."""
    ids = torch.cat([row["prompt"], row["reply"]])[None]
    types = (ids == model.config.image_token_id).int()
    logits = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=row["picture"], image_grid_thw=row["grid"],
        mm_token_type_ids=types,
    ).logits[0]  # fmt: skip
    first = len(row["prompt"])
    return logits[first - 1 : -1].log_softmax(-1).gather(1, row["reply"][:, None])[:, 0]


def objective(args: Any, new: torch.Tensor, row: dict, sampled: Any, start: Any) -> torch.Tensor:
    """What one reply adds to the loss, before it is divided: a value per token, or one of the whole reply (Eq. 2-3)."""
    with torch.no_grad():
        old, ref = logps(sampled, row), logps(start, row)
    log_ratio, A = new - old, row["A"]
    whole = args.importance_sampling_level == "sequence"
    ratio = log_ratio.sum().exp() if whole else log_ratio.exp()
    loss = -torch.minimum(ratio * A, ratio.clamp(0.8, 1.2) * A)
    k3 = (ref - new).exp() - (ref - new) - 1
    if args.use_bias_correction_kl:
        k3 = k3 * ratio
    return loss + args.beta * (k3.sum() if whole else k3)


def reference(args: Any, tiny_folder: Path, weights: dict, passes: list, start: dict) -> torch.Tensor:
    """The gradient of one step, by the definition of its loss type."""
    now, first = (with_weights(tiny_folder, values) for values in (weights, start))
    all_rows = [row for rows, _ in passes for row in rows]
    tokens, total = sum(len(row["reply"]) for row in all_rows), torch.zeros(())
    for rows, values in passes:
        sampled = with_weights(tiny_folder, values)
        for row in rows:
            value = objective(args, logps(now, row), row, sampled, first)
            divisor = {
                "grpo": len(row["reply"]) * len(all_rows),
                "luspo": len(all_rows),
                "dr_grpo": args.max_completion_length * len(all_rows),
                "bnpo": tokens,  # of a micro-batch; here a step is one
                "dapo": tokens,
            }[args.loss_type]
            total = total + value.sum() / divisor
    total.backward()
    return torch.cat([p.grad.flatten() for p in now.parameters()])


def with_weights(tiny_folder: Path, values: dict) -> Any:
    """A policy of its own, with these weights."""
    model, _ = load_policy(str(tiny_folder))
    model.load_state_dict(values)
    return model.train()


def trained(tiny_folder: Path, counting_data: Path, output: Path, case: dict[str, Any]) -> Witness:
    output.mkdir(exist_ok=True)
    teachers = [Teacher(RIGHT, RIGHT[:-1], name="a"), Teacher("no", name="b")]
    trainer = make_trainer(tiny_folder, counting_data, output, teachers, score=by_length, **(PLAIN | case))
    witness = Witness(trainer)
    trainer.train()
    return witness


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_the_equations(tiny_folder, counting_data, tmp_path, name):
    witness = trained(tiny_folder, counting_data, tmp_path, CASES[name])
    args = witness.trainer.args
    assert len(witness.steps) == args.max_steps
    for weights, passes, gradient in witness.steps:
        expected = reference(args, tiny_folder, weights, passes, witness.start)
        assert gradient.norm() > 1e-4 and (gradient - expected).norm() < 2e-4 * expected.norm()


def test_ratios_of_whole_replies_give_another_direction_than_ratios_of_tokens(tiny_folder, counting_data, tmp_path):
    """The same candidates: a reply of 12 tokens weighs as much as one of 3 by Eq. 2-3 read per token, and 4 times that
    read per reply; the directions differ, and so does the length of the step."""
    gradients = []
    for name in ("Eq. 3 without KL", "whole replies"):
        case = CASES[name] | {"beta": 0.0}
        gradients.append(trained(tiny_folder, counting_data, tmp_path / name.split()[0], case).steps[0][2])
    cosine = torch.cosine_similarity(*gradients, dim=0).item()
    assert 0.5 < cosine < 0.995 and gradients[1].norm() > 3 * gradients[0].norm()

"""What is counted of a step under which name (docs/METRICS.md explains each), and the lines that it is written to."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback, TrainerControl, TrainerState

from open_r1.method.advantages import is_dead
from open_r1.method.groups import Groups
from open_r1.method.selection import pad, tied_at_cut
from open_r1.method.weighting import Weights
from open_r1.method.weights import Weighting, effective_share, total_variation
from open_r1.schema import POLICY, Candidate
from open_r1.training.tally import Tally
from open_r1.utils.files import append_jsonl, cut_after_step


def count_sources(tally: Tally, pools: Sequence[Sequence[Candidate]], sources: Sequence[str]) -> None:
    """Count every source's candidates before selection, which inflates the mean of what is kept."""
    for source in sources:
        own = [c for pool in pools for c in pool if c.source == source]
        prefix = POLICY if source == POLICY else f"external/{source}"
        tally.mean(f"{prefix}/reward", [c.reward for c in own])
        tally.mean(f"{prefix}/accuracy", [c.score.accuracy for c in own])
        tally.mean(f"{prefix}/format", [c.score.format for c in own])
    tally.ratio("pool/size", sum(map(len, pools)), len(pools))


def count_samples(tally: Tally, pools: Sequence[Sequence[Candidate]]) -> None:
    """Count the lengths of what the policy sampled, under TRL's names; whole replies are those that it ended itself."""
    own = [c for pool in pools for c in pool if not c.external]
    whole = [len(c.token_ids) for c in own if not c.truncated]
    for name, lengths in (("length", [len(c.token_ids) for c in own]), ("terminated_length", whole)):
        tally.mean(f"completions/mean_{name}", lengths)
        tally.extreme("min", f"completions/min_{name}", lengths)
        tally.extreme("max", f"completions/max_{name}", lengths)
    tally.ratio("completions/clipped_ratio", len(own) - len(whole), len(own))


def count_kept(tally: Tally, groups: Groups, sources: Sequence[str]) -> None:
    """Count what selection kept and left."""
    kept = list(groups.kept)
    tally.mean("kept/reward", [c.reward for c in kept])
    tally.mean("kept/accuracy", [c.score.accuracy for c in kept])
    for source in sources:
        own = [c for c in kept if c.source == source]
        tally.ratio(f"kept_share/{source}", len(own), len(kept))
        tally.ratio(f"truncated/{source}", sum(c.truncated for c in own), len(own))
    rewards_PK = pad([[c.reward for c in pool] for pool in groups.pools])
    own_PN = pad([[c.reward for c in pool if not c.external] for pool in groups.pools])
    kept_PG = pad([[pool[k].reward for k in kept_G] for pool, kept_G in zip(groups.pools, groups.kept_PG, strict=True)])
    for when, rewards in (("before", own_PN), ("after", kept_PG), ("pool", rewards_PK)):
        tally.ratio(f"dead_groups/{when}", int(is_dead(rewards).sum()), len(rewards))
    tally.ratio("tied_at_cut", int(tied_at_cut(rewards_PK, groups.kept_PG).sum()), len(groups.pools))


def count_rewards(tally: Tally, names: Sequence[str], kept: Sequence[Candidate]) -> None:
    """Count the kept candidates' rewards under TRL's names: of each function, and their weighted sum."""
    for r, name in enumerate(names):
        values = [c.rewards_R[r] for c in kept]
        tally.mean(f"rewards/{name}/mean", values)
        tally.deviation(f"rewards/{name}/std", values)
    tally.mean("reward", [c.reward for c in kept])
    tally.deviation("reward_std", [c.reward for c in kept])


def count_weights(tally: Tally, weighting: Weighting, weights: Weights, G: int) -> None:
    """Count the kept candidates' weights as they are before they are bounded, normalised or multiplied by Z."""
    shares_P, external = effective_share(weights.w_BC, weights.mask_BC, G).tolist(), weights.external.tolist()
    tally.mean("weights/ess", shares_P)
    tally.percentile_95("weights/p95", external)
    tally.extreme("max", "weights/max", external)
    if weighting.kind == "is" and weighting.weight_max is not None:
        tally.ratio("weights/bounded", sum(w > weighting.weight_max for w in external), len(external))
    if weights.known is not None:
        tally.ratio("weights/known", *weights.known)


def count_variation(tally: Tally, weights: Weights) -> None:
    """Count what the total variation is estimated from: weights of external candidates, kept or not."""
    count = len(weights.external)
    tally.ratio("weights/tv", total_variation(weights.external).item() * count if count else 0.0, count)


def count_tokens(
    tally: Tally,
    sources: Sequence[str],
    batch: Mapping[str, Tensor],
    logps_BT: Tensor,
    rows_alike: bool,
) -> None:
    """Count `logp/<source>`, `kl/<source>` and `grad_share/<source>` over the tokens of one loss pass.

    Log-prob and KL are in nats per token; KL is the k3 estimator exp(r) - r - 1 with r = log pi_ref - log pi. A token's
    part of the gradient is |A| (1 - p), that of A log p by the chosen token's logit, before ratio and clip.

    Args:
        tally: what is added to.
        sources: their names, the policy's first.
        batch: TRL's: `source` (B,), `completion_mask` (B, T), `advantages` (B,), (B, 1) or (B, T), and with a
            reference `ref_per_token_logps` (B, T).
        logps_BT: the policy's log-probs.
        rows_alike: whether the loss takes the mean over a reply's tokens, so that rows weigh alike; else tokens do.
    """
    mask_BT = batch["completion_mask"].float()
    per_token_BT = mask_BT / mask_BT.sum(dim=1, keepdim=True).clamp(min=1) if rows_alike else mask_BT
    size_BT = batch["advantages"].abs().view(len(mask_BT), -1) * (1 - logps_BT.exp()) * per_token_BT
    values = {"logp": logps_BT}
    if batch.get("ref_per_token_logps") is not None:
        log_ratio = batch["ref_per_token_logps"] - logps_BT
        values["kl"] = log_ratio.exp() - log_ratio - 1
    gradient = size_BT.double().sum().item()
    for index, source in enumerate(sources):
        rows_B1 = (batch["source"] == index).unsqueeze(1)
        tally.ratio(f"grad_share/{source}", (size_BT * rows_B1).double().sum().item(), gradient)
        tokens = (mask_BT * rows_B1).sum().item()
        for name, value_BT in values.items():
            within_BT = rows_B1 & (mask_BT > 0)
            tally.ratio(f"{name}/{source}", torch.where(within_BT, value_BT, 0.0).double().sum().item(), tokens)


def count_sampling(tally: Tally, batch: Mapping[str, Tensor]) -> None:
    """Count, under TRL's names, how far the sampling engine's log-probs (vLLM) are from the policy's own, per token."""
    if "importance_sampling_ratio" not in batch:
        return
    apart_BT = (batch["old_per_token_logps"] - batch["sampling_per_token_logps"]).abs()  # NaN: the engine had none
    apart = apart_BT[batch["completion_mask"].bool()].tolist()
    ratio_BC = batch["importance_sampling_ratio"]
    ratios = (ratio_BC if ratio_BC.shape[1] == 1 else ratio_BC[batch["completion_mask"].bool()]).flatten().tolist()
    for name, values in (("sampling_logp_difference", apart), ("importance_sampling_ratio", ratios)):
        tally.mean(f"sampling/{name}/mean", values)
        tally.extreme("max", f"sampling/{name}/max", values)
    tally.extreme("min", "sampling/importance_sampling_ratio/min", ratios)


OURS = ("completions/", "rewards/", "sampling/", "reward")  # TRL's names that are counted here, not there


def count_trl(tally: Tally, logged: dict[str, list[float]], tokens: float, rows: float, per_reply: bool) -> None:
    """Move what TRL has logged of one pass over to the tally; a mean counts as much as it is the mean of.

    Args:
        tally: what is added to.
        logged: TRL's lists by name, over all processes already; they are left empty.
        tokens: of this process's part of the pass.
        rows: of the same.
        per_reply: whether ratios, and what is clipped of them, are one per reply.
    """
    for name, values in logged.items():
        words = set(name.replace("/", "_").split("_"))
        if name.startswith(OURS):
            continue
        if name == "num_tokens":
            tally.latest(name, values[-1])
        elif name == "step_time":
            tally.mean(name, values)
        elif words & {"min", "max"}:
            tally.extreme("min" if "min" in words else "max", name, values)
        else:
            over_tokens = name in ("kl", "entropy") or ("clip" in words and not per_reply)
            weight = tokens if over_tokens else rows
            for value in values:
                if not math.isnan(value):
                    tally.ratio(name, value * weight, weight)
    logged.clear()


class Epoch(NamedTuple):
    """What one pass over the training rows is made of; its last step may have fewer batches than the others.

    Example: 9 batches, 4 a step, are 3 steps, of which the last has one batch.
    """

    batches: int
    batches_per_step: int

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return max(1, math.ceil(self.batches / self.batches_per_step))

    def batches_before(self, step: int) -> int:
        """How many batches were trained on when `step` steps were done, over all epochs."""
        whole, left = divmod(step, self.steps)
        return whole * self.batches + min(left * self.batches_per_step, self.batches)


class JsonLinesCallback(TrainerCallback):
    """Writes one JSON object per logged step to `metrics.jsonl`, at once, so that a killed run keeps its curve.

    A run that goes on from a checkpoint takes back the lines after it, and its clock goes on too.
    """

    def __init__(self, path: Path, prompts_per_step: float):
        """Write to `path`; a step that is not the short last one of an epoch trains on `prompts_per_step` prompts."""
        self.path, self.prompts_per_step = path, prompts_per_step
        self.began = time.monotonic()
        self._epoch = Epoch(1, 1)
        self._rows = math.inf  # of an epoch

    def prompts_at(self, step: int) -> int:
        """How many prompts are trained on after so many steps; a batch that several steps share counts in parts."""
        per_batch, epoch = self.prompts_per_step / self._epoch.batches_per_step, self._epoch.steps
        whole, left = step // epoch, self._epoch.batches_before(step % epoch)
        return round(whole * min(self._epoch.batches * per_batch, self._rows) + min(left * per_batch, self._rows))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the lines up to the step that training goes on from; set the clock to the last one's time."""
        self.began = time.monotonic()
        loader = kwargs["train_dataloader"]  # yields each generation batch as often as it is trained on
        self._epoch, self._rows = Epoch(len(loader), args.gradient_accumulation_steps), len(loader.dataset)
        if not state.is_world_process_zero or not self.path.is_file():
            return
        kept = cut_after_step(self.path, state.global_step)
        self.began -= kept[-1]["time_s"] if kept else 0.0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Append what the trainer logged; TRL has turned NaN into None already."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        line = {
            "step": state.global_step,
            "prompts": self.prompts_at(state.global_step),
            "time_s": round(time.monotonic() - self.began, 3),
        }
        values = {k: (None if isinstance(v, float) and math.isnan(v) else v) for k, v in logs.items()}
        append_jsonl(self.path, [line | values])


class ProgressBar(ProgressCallback):
    """transformers' bar with the numbers that matter beside it, in place of a dictionary of fifty per step."""

    SHOWN: ClassVar = {"policy/reward": "policy", "kept/reward": "kept", "dead_groups/after": "dead"}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Show the step's rewards and dead groups."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            shown = {short: f"{logs[name]:.2f}" for name, short in self.SHOWN.items() if logs.get(name) is not None}
            if shown:
                self.training_bar.set_postfix(shown)

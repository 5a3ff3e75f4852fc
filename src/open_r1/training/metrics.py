"""Metric names and what they mean in numbers; docs/METRICS.md explains each. Nothing else computes a metric."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from open_r1.method.advantages import is_dead
from open_r1.method.selection import pad, tied_at_cut
from open_r1.schema import POLICY, Candidate
from open_r1.utils.files import append_jsonl, cut_after_step


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def step_metrics(
    pools: list[list[Candidate]],
    kept_PG: list[Any],
    sources: Sequence[str],
    failures: dict[str, int],
    wait_s: float,
) -> dict[str, float]:
    """Return one step's metrics from its P pools and the indices kept of each; NaN where nothing was there to average.

    What describes a source is taken before selection, since selection inflates the mean of what is kept.
    """
    metrics: dict[str, float] = {"pool/size": _mean([len(pool) for pool in pools])}
    for source in sources:
        scores = [c.score for pool in pools for c in pool if c.source == source]
        prefix = POLICY if source == POLICY else f"external/{source}"
        metrics[f"{prefix}/reward"] = _mean([score.reward for score in scores])
        metrics[f"{prefix}/accuracy"] = _mean([score.accuracy for score in scores])
        metrics[f"{prefix}/format"] = _mean([score.format for score in scores])
        if source != POLICY:
            metrics[f"{prefix}/failures"] = failures.get(source, 0)
    kept = [[pool[k] for k in kept_G] for pool, kept_G in zip(pools, kept_PG, strict=True)]
    flat = [c for group in kept for c in group]
    metrics["kept/reward"] = _mean([c.score.reward for c in flat])
    metrics["kept/accuracy"] = _mean([c.score.accuracy for c in flat])
    for source in sources:
        metrics[f"kept_share/{source}"] = _mean([float(c.source == source) for c in flat])
        metrics[f"truncated/{source}"] = _mean([float(c.truncated) for c in flat if c.source == source])
    rewards_PK = pad([[c.score.reward for c in pool] for pool in pools])
    own_PN = pad([[c.score.reward for c in pool if not c.external] for pool in pools])
    kept_rewards_PG = np.take_along_axis(rewards_PK, np.asarray(kept_PG), -1)
    for when, rewards in (("before", own_PN), ("after", kept_rewards_PG), ("pool", rewards_PK)):
        metrics[f"dead_groups/{when}"] = float(is_dead(rewards).mean())
    metrics["tied_at_cut"] = float(tied_at_cut(rewards_PK, kept_PG).mean())
    if len(sources) > 1:
        metrics["external/wait_s"] = wait_s
    return metrics


class TokenMeans:
    """Mean log-prob, KL and gradient per source over the kept tokens, read off the loss pass, not computed again."""

    def __init__(self, sources: Sequence[str]):
        self.sources = list(sources)
        self.logps: torch.Tensor | None = None  # (B, T), set by the pass that TRL makes

    def by_source(
        self,
        source_B: torch.Tensor,
        mask_BT: torch.Tensor,
        advantages: torch.Tensor,
        ref_logps_BT: torch.Tensor | None,
        accelerator: Any,
    ) -> dict[str, float]:
        """Return `logp/<source>`, `grad_share/<source>` and, with a reference, `kl/<source>`, over all processes.

        Log-prob and KL are in nats per token; KL is the k3 estimator exp(r) - r - 1 with r = log pi_ref - log pi, the
        one that TRL's loss uses. The gradient is |A| (1 - p) per token, which is that of A log p by the chosen token's
        logit; rows weigh alike, whatever their length. `advantages` are (B,) or, weighted, (B, 1) or (B, T).
        """
        assert self.logps is not None, "by_source is called after the loss pass"
        logps, mask = self.logps, mask_BT.float()
        values = {"logp": logps}
        if ref_logps_BT is not None:
            log_ratio = ref_logps_BT - logps
            values["kl"] = log_ratio.exp() - log_ratio - 1
        per_row = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        grads = advantages.abs().view(len(mask), -1) * (1 - logps.exp()) * per_row
        sums = []
        for index in range(len(self.sources)):
            rows = mask * (source_B == index).unsqueeze(1)
            parts = [rows.sum(), (grads * rows).sum(), *((value * rows).sum() for value in values.values())]
            sums.append(torch.stack(parts))
        totals = accelerator.gather(torch.stack(sums).unsqueeze(0)).sum(dim=0).tolist()
        gradient = sum(total[1] for total in totals)
        shares = {
            f"grad_share/{source}": total[1] / gradient if gradient else math.nan
            for source, total in zip(self.sources, totals, strict=True)
        }
        return shares | {
            f"{name}/{source}": total[column] / total[0] if total[0] else math.nan
            for source, total in zip(self.sources, totals, strict=True)
            for column, name in enumerate(values, start=2)
        }


class JsonLinesCallback(TrainerCallback):
    """Writes one JSON object per logged step to `metrics.jsonl`, at once, so that a killed run keeps its curve.

    A run that goes on from a checkpoint takes back the lines after it, and its clock goes on too.
    """

    def __init__(self, path: Path, prompts_per_step: float):
        self.path, self.prompts_per_step = path, prompts_per_step
        self.began = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the lines up to the step that training goes on from; set the clock to the last one's time."""
        self.began = time.monotonic()
        if not state.is_world_process_zero or not self.path.is_file():
            return
        kept = cut_after_step(self.path, state.global_step)
        self.began -= kept[-1]["time_s"] if kept else 0.0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Append what the trainer logged; TRL has turned NaN into None already."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        line = {
            "step": state.global_step,
            "prompts": round(state.global_step * self.prompts_per_step),
            "time_s": round(time.monotonic() - self.began, 3),
        }
        values = {k: (None if isinstance(v, float) and math.isnan(v) else v) for k, v in logs.items()}
        append_jsonl(self.path, [line | values])


class ProgressBar(ProgressCallback):
    """transformers' bar with the numbers that matter beside it, in place of a dictionary of fifty per step."""

    SHOWN: ClassVar = {"policy/reward": "policy", "kept/reward": "kept", "dead_groups/after": "dead"}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the step's rewards and dead groups."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            shown = {short: f"{logs[name]:.2f}" for name, short in self.SHOWN.items() if logs.get(name) is not None}
            if shown:
                self.training_bar.set_postfix(shown)

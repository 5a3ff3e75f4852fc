"""Every logged metric once more, from candidates.jsonl and saved tensors, by other code than the trainer's."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from open_r1.utils.files import read_jsonl

Numbers = dict[str, float]
CLOCKS = {"time_s", "step_time", "external/wait_s"}


class Recorder(TrainerCallback):
    """Saves what passes through the seams of one process: generations, loss passes, and the gradient of each step."""

    def __init__(self, trainer: Any):
        self.trainer, self.generations, self.passes, self.norms = trainer, [], [], []
        self._generate, self._score = trainer._generate, trainer._generate_and_score_completions
        self._loss, self._logps = trainer._compute_loss, trainer._get_per_token_logps_and_entropies
        trainer._generate, trainer._generate_and_score_completions = self.generate, self.score
        trainer._compute_loss, trainer._get_per_token_logps_and_entropies = self.loss, self.logps
        trainer.add_callback(self)

    def generate(self, prompts: list) -> tuple:
        self.prompt_lengths = []
        output = self._generate(prompts)
        self.prompt_lengths = [len(ids) for ids in output[0]]
        return output

    def score(self, inputs: list) -> dict:
        batch = self._score(inputs)
        kept = {name: batch[name] for name in ("source", "completion_mask", "advantages")}
        logps = self.trainer._sampling_logps(batch)
        self.generations.append(kept | {"step": self.step, "logps": logps, "prompts": self.prompt_lengths})
        return batch

    def logps(self, *args: Any, **kwargs: Any) -> tuple:
        self.last = self._logps(*args, **kwargs)
        return self.last

    def loss(self, model: Any, inputs: dict) -> torch.Tensor:
        loss = self._loss(model, inputs)
        names = ("source", "completion_mask", "advantages", "ref_per_token_logps", "old_per_token_logps")
        saved = {name: inputs[name] for name in names if name in inputs}
        logps, entropies = (x.detach() for x in self.last[:2])
        self.passes.append(saved | {"step": self.step, "logps": logps, "entropies": entropies})
        return loss

    @property
    def step(self) -> int:
        return self.trainer.state.global_step + 1

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """The norm over all parameters, by hand."""
        squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
        self.norms.append(torch.stack(squares).sum().sqrt().item())

    def save(self, path: Path) -> None:
        torch.save({name: getattr(self, name) for name in ("generations", "passes", "norms")}, path)


def mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else math.nan


class Run:
    """The folder of a run: its lines, its candidates, and the tensors of all its processes."""

    def __init__(self, folder: Path, sources: list[str], args: Any, rows: int):
        self.lines, self.sources, self.args = read_jsonl(folder / "metrics.jsonl"), sources, args
        self.prompts = [p for path in sorted(folder.glob("candidates*.jsonl")) for p in read_jsonl(path)]
        saved = [torch.load(path, weights_only=False) for path in sorted(folder.glob("tensors*.pt"))]
        self.processes = len(saved)
        self.passes = [p for one in saved for p in one["passes"]]
        self.generations = [g for one in saved for g in one["generations"]]
        self.norms = saved[0]["norms"]
        self.G = args.num_generations
        in_generation = args.generation_batch_size // self.G
        self.prompts_per_epoch = rows // in_generation * in_generation  # what fills no generation is left over

    def expected(self, line: dict[str, Any], before: int) -> Numbers:
        """What a line should say; `before` is the step of the line before."""
        within: Callable[[dict], bool] = lambda x: before < x["step"] <= line["step"]  # noqa: E731
        prompts, passes = list(filter(within, self.prompts)), list(filter(within, self.passes))
        values = self.course(line, before) | self.tokens(passes)
        return values | (self.pools(prompts) if prompts else {})

    def course(self, line: dict[str, Any], before: int) -> Numbers:
        """Where in training, loss, learning rate and gradient."""
        step, upto = line["step"], [p for p in self.passes if p["step"] <= line["step"]]
        rows = sum(len(p["source"]) for p in upto)
        steps = range(before + 1, step + 1)
        losses = [self.loss(p) for p in self.passes]
        of_step = {s: [x for x, p in zip(losses, self.passes, strict=True) if p["step"] == s] for s in steps}
        generated = [g for g in self.generations if g["step"] <= step]
        sampled = [c for p in self.prompts if p["step"] <= step for c in p["candidates"] if c["source"] == "policy"]
        tokens = sum(sum(g["prompts"]) for g in generated) + sum(c["tokens"] for c in sampled)
        return {
            "step": step,
            "prompts": round(rows / self.G / self.args.num_iterations),
            "loss": mean([mean(of_step[s]) for s in steps]),
            "grad_norm": self.norms[step - 1],
            "epoch": rows / self.G / self.args.num_iterations / self.prompts_per_epoch,
            "learning_rate": self.args.learning_rate * (1 - (step - 1) / self.args.max_steps),
            "num_tokens": tokens,
        }

    def loss(self, one: dict) -> float:
        """GRPO's: -min(ratio A, clip(ratio) A) + beta KL, averaged over a reply's tokens, then over rows."""
        mask, ratio = one["completion_mask"].double(), self.ratio(one)
        A = one["advantages"].double().view(len(mask), -1)
        value = -torch.minimum(ratio * A, ratio.clamp(1 - self.args.epsilon, 1 + self.args.epsilon) * A)
        if "ref_per_token_logps" in one:
            value = value + self.args.beta * self.k3(one) * ratio
        return ((value * mask).sum(1) / mask.sum(1)).mean().item()

    @staticmethod
    def ratio(one: dict) -> torch.Tensor:
        return (one["logps"] - one.get("old_per_token_logps", one["logps"])).double().exp()

    @staticmethod
    def k3(one: dict) -> torch.Tensor:
        r = (one["ref_per_token_logps"] - one["logps"]).double()
        return r.exp() - r - 1

    def tokens(self, passes: list[dict]) -> Numbers:
        """Means over tokens: sum over the line, then divide."""
        sums: dict[str, list[float]] = {}

        def add(name: str, values: torch.Tensor, weights: torch.Tensor) -> None:
            total = sums.setdefault(name, [0.0, 0.0])
            total[0] += (values.double() * weights.double()).sum().item()
            total[1] += weights.double().sum().item()

        size = dict.fromkeys(self.sources, 0.0)
        low_clipped, high_clipped = [], []
        for one in passes:
            mask, ratio = one["completion_mask"], self.ratio(one)
            A = one["advantages"].view(len(mask), -1)
            gradient = A.abs() * (1 - one["logps"].exp()) * mask / mask.sum(1, keepdim=True)
            for index, source in enumerate(self.sources):
                rows = one["source"] == index
                add(f"logp/{source}", one["logps"][rows], mask[rows])
                size[source] += gradient[rows].double().sum().item()
                if "ref_per_token_logps" in one:
                    add(f"kl/{source}", self.k3(one)[rows], mask[rows])
            add("entropy", one["entropies"], mask)
            if "ref_per_token_logps" in one:
                add("kl", self.k3(one) * ratio, mask)
            low = ((ratio < 1 - self.args.epsilon) & (A < 0)).double()
            high = ((ratio > 1 + self.args.epsilon) & (A > 0)).double()
            for name, clipped in (("low", low), ("high", high), ("region", low + high)):
                add(f"clip_ratio/{name}_mean", clipped, mask)
            low_clipped += ((low * mask).sum(1) / mask.sum(1)).tolist()
            high_clipped += ((high * mask).sum(1) / mask.sum(1)).tolist()
        total = sum(size.values())
        shares = {f"grad_share/{s}": x / total if total else math.nan for s, x in size.items()}
        extremes = {"clip_ratio/low_min": min(low_clipped), "clip_ratio/high_max": max(high_clipped)}
        return shares | extremes | {name: s / n if n else math.nan for name, (s, n) in sums.items()}

    def pools(self, prompts: list[dict]) -> Numbers:
        """What describes pools and groups."""
        values: Numbers = {"pool/size": mean([len(p["candidates"]) for p in prompts])}
        pool = [c for p in prompts for c in p["candidates"]]
        kept = [c for c in pool if c["kept"]]
        for source in self.sources:
            own = [c for c in pool if c["source"] == source]
            prefix = source if source == "policy" else f"external/{source}"
            values |= {f"{prefix}/{part}": mean([c[part] for c in own]) for part in ("reward", "accuracy", "format")}
            of = [c for c in kept if c["source"] == source]
            values[f"kept_share/{source}"] = len(of) / len(kept)
            values[f"truncated/{source}"] = mean([c["truncated"] for c in of])
            if source != "policy":
                came = [any(c["source"] == source for c in p["candidates"]) for p in prompts]
                values[f"external/{source}/failures"] = came.count(False)
        values |= {f"kept/{part}": mean([c[part] for c in kept]) for part in ("reward", "accuracy")}
        values |= self.groups(prompts) | self.rewards(kept) | self.lengths(pool)
        return values | ({"external/asked": 1.0} if self.sources[1:] else {})

    def groups(self, prompts: list[dict]) -> Numbers:
        """Shares of dead prompts, and ties."""

        def dead(choose: Callable[[dict], bool], part: str = "reward") -> float:
            groups = [[c[part] for c in p["candidates"] if choose(c)] for p in prompts]
            same = [max(g) - min(g) < 1e-6 if part == "reward" else not any(g) for g in groups]
            return mean(same)

        left = []
        for p in prompts:
            lowest = min(c["reward"] for c in p["candidates"] if c["kept"])
            left.append(sum(not c["kept"] and abs(c["reward"] - lowest) < 1e-6 for c in p["candidates"]))
        return {
            "dead_groups/before": dead(lambda c: c["source"] == "policy"),
            "dead_groups/after": dead(lambda c: c["kept"]),
            "dead_groups/pool": dead(lambda c: True),
            "dead_groups/update": dead(lambda c: c["kept"], "advantage"),
            "frac_reward_zero_std": dead(lambda c: c["kept"]),
            "tied_at_cut": mean(left),
        }

    @staticmethod
    def rewards(kept: list[dict]) -> Numbers:
        """TRL's names of the kept rewards."""
        values = {"reward": [c["reward"] for c in kept]}
        for name in kept[0]["rewards"]:
            values[f"rewards/{name}"] = [c["rewards"][name] for c in kept if c["rewards"][name] is not None]
        means = {name if name == "reward" else f"{name}/mean": mean(x) for name, x in values.items()}
        names = {name: "reward_std" if name == "reward" else f"{name}/std" for name in values}
        return means | {names[name]: statistics.stdev(x) for name, x in values.items()}

    @staticmethod
    def lengths(pool: list[dict]) -> Numbers:
        """TRL's names of what the policy sampled."""
        own = [c for c in pool if c["source"] == "policy"]
        values: Numbers = {"completions/clipped_ratio": mean([c["truncated"] for c in own])}
        ended = [c["tokens"] for c in own if not c["truncated"]]
        for name, lengths in (("length", [c["tokens"] for c in own]), ("terminated_length", ended)):
            values[f"completions/mean_{name}"] = mean(lengths)
            values[f"completions/min_{name}"] = min(lengths, default=math.nan)
            values[f"completions/max_{name}"] = max(lengths, default=math.nan)
        return values

    def check(self, more: Callable[[int, int], Numbers] = lambda before, step: {}) -> set[str]:
        """Compare every number of every line; return the names. `more` gives what belongs to a run's own settings."""
        before, names = 0, set()
        for line in self.lines:
            expected = self.expected(line, before) | more(before, line["step"])
            if not set(self.prompts_of(before, line["step"])):
                absent = ("external/", "weights/", "num_tokens")  # a line without a generation has none of them
                expected = {name: x for name, x in expected.items() if not name.startswith(absent)}
            unknown = line.keys() - expected.keys() - CLOCKS
            assert not unknown, f"logged and not recomputed: {sorted(unknown)}"
            assert not expected.keys() - line.keys(), f"not logged: {sorted(expected.keys() - line.keys())}"
            for name, value in expected.items():
                logged = math.nan if line[name] is None else line[name]
                assert np.isclose(logged, value, rtol=2e-4, atol=2e-6, equal_nan=True), (
                    name,
                    line["step"],
                    logged,
                    value,
                )
            assert all(line[name] >= 0 for name in CLOCKS & line.keys())
            before, names = line["step"], names | line.keys()
        return names

    def prompts_of(self, before: int, step: int) -> list[str]:
        return [p["id"] for p in self.prompts if before < p["step"] <= step]

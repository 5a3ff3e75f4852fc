"""Measures a training step of TRL's own GRPOTrainer against ours, into results/update_<shape>.json, with a figure.

    python scripts/benchmark_update.py --shape tiny             # 9 rounds, about 2 minutes on one quiet core
    python scripts/benchmark_update.py --shape small            # 3 rounds, about 15 minutes on one quiet core
    python scripts/benchmark_update.py --shape 2b               # on a GPU: Qwen2-VL-2B with random weights in bfloat16

Same rows, model, seed and process; the trainers take turns, one step each per round, so that a busy machine slows all
of them. Figures are medians over rounds and ratios of medians; the first round is left out. Peak memory is that of one
step alone: of a process of its own on a CPU, of the allocator on a GPU. Nothing external is asked, G = N = 8.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import Qwen2VLForConditionalGeneration, TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig

from open_r1.data.prompts import to_dataset
from open_r1.data.rows import load_rows
from open_r1.policy.loading import load_policy
from open_r1.report.figures import COLOURS, DPI
from open_r1.schema import Row
from open_r1.synthetic.write import own_folder, write_dataset
from open_r1.tasks import get_task
from open_r1.training.sharing_trainer import SharingTrainer
from open_r1.utils.phases import Phases
from open_r1.utils.provenance import ROOT, figure, peak_rss_mib, write_figures

TASK = get_task("clevr_math")
BASE = ROOT / "bases" / TASK.name
VARIANTS = {  # with nothing shared SharingTrainer is TRL's own trainer, held to the last bit by tests/test_trainer.py
    "TRL": {},
    "vision shared": {"share_vision": True},
    "vision and prefix shared": {"share_vision": True, "share_prefix": True},
}
METHODS = {
    "get_batch_samples": "read rows",
    "_generate_and_score_completions": "preprocess",
    "_generate_single_turn": "generate",
    "_get_per_token_logps_and_entropies": "log-probs",
    "_calculate_rewards": "score",
    "_compute_loss": "loss forward",
    "training_step": "backward",
}
UPDATE = ("log-probs", "loss forward", "backward", "optimizer")


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is measured: `pixels` is the pictures' (width, height), None for those of the tiny data set."""

    prompts: int
    tokens: int
    rounds: int
    pixels: tuple[int, int] | None = None
    text: dict[str, Any] | None = None
    vision: dict[str, Any] | None = None


# The small model has the 2B's proportions: the tower is .44 of the language model.
SHAPES = {
    "tiny": Shape(prompts=8, tokens=96, rounds=9),
    "small": Shape(
        *(1, 300, 3, (800, 600)),
        text={"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 9, "num_attention_heads": 16},
        vision={"depth": 5, "embed_dim": 512, "num_heads": 8, "hidden_size": 512, "mlp_ratio": 4},
    ),
    "2b": Shape(
        *(2, 300, 5, (800, 600)),
        text={"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
              "vocab_size": 151_936,
              "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}},
        vision={"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 1536, "mlp_ratio": 4},
    ),
}  # fmt: skip


def make_rows(shape: Shape, folder: Path) -> list[Row]:
    """The first synthetic rows; with pictures of noise where the shape asks for larger ones."""
    counts = {"train": 64, "id": 1, "ood": 1}
    data = own_folder(TASK.name, "tiny", counts)
    write_dataset(TASK.name, data, "tiny", 0, counts)
    rows = load_rows(TASK, data, "train").rows[: shape.prompts]
    if shape.pixels is None:
        return rows
    for i in range(len(rows)):
        Image.effect_noise(shape.pixels, 80).convert("RGB").save(folder / f"{i}.png")
    return [dataclasses.replace(row, images=(folder / f"{i}.png",)) for i, row in enumerate(rows)]


def make_policy(shape: Shape, folder: Path) -> Path:
    """The tiny base policy, or a new Qwen2-VL of the shape's sizes with the same tokenizer, saved (TRL reloads it)."""
    if shape.text is None:
        return BASE
    model, processor = load_policy(str(BASE))
    config = model.config
    config.text_config.update(shape.text | {"layer_types": ["full_attention"] * shape.text["num_hidden_layers"]})
    config.vision_config.update(shape.vision)
    set_seed(0)
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


class OptimizerPhase(TrainerCallback):
    """Counts the optimizer's own step."""

    def __init__(self, phases: Phases):
        self.phases, self.under_way = phases, None

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The gradients are there, clipped."""
        self.under_way = self.phases.phase("optimizer")
        self.under_way.__enter__()

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The weights are new."""
        self.under_way.__exit__(None, None, None)


def by_length(completions: list, **_: Any) -> list[float]:
    """A reward that differs within a group, whatever the policy says."""
    return [len(reply[0]["content"]) % 7 / 6 for reply in completions]


def make_trainer(
    shape: Shape, rows: list[Row], policy: Path, sharing: dict[str, bool], phases: Phases
) -> SharingTrainer:
    """A trainer that takes one step per `train()`, its phases counted."""
    model, processor = load_policy(str(policy), max_pixels=480_000)
    gpu = torch.cuda.is_available()
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(), report_to="none", save_strategy="no", disable_tqdm=True, max_steps=1, seed=0,
        use_cpu=not gpu, bf16=gpu, gradient_checkpointing=False, dataloader_pin_memory=gpu, learning_rate=1e-6,
        per_device_train_batch_size=8 * shape.prompts, num_generations=8, max_completion_length=shape.tokens,
        beta=0.005, loss_type="grpo", shuffle_dataset=False, logging_steps=1000,
    )  # fmt: skip
    trainer = SharingTrainer(
        model=model.to(torch.bfloat16) if gpu else model, args=args, processing_class=processor,
        train_dataset=to_dataset(rows, TASK), reward_funcs=by_length, callbacks=[OptimizerPhase(phases)], **sharing,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    phases.watch(trainer, METHODS)
    return trainer


def clock() -> float:
    """Seconds, once the accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_mib(step: Any) -> float:
    """Largest memory in MiB while `step` runs, on a CPU the process's so far."""
    if not torch.cuda.is_available():
        step()
        return peak_rss_mib()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / 2**20


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Let the variants take turns; returns per variant the median seconds of each phase and the FLOPs of each."""
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory(prefix="benchmark_update_") as folder:
        rows, policy = make_rows(shape, Path(folder)), make_policy(shape, Path(folder))
        counter = FlopCounterMode(display=False)
        timers = {variant: Phases(clock) for variant in VARIANTS}
        trainers = {v: make_trainer(shape, rows, policy, sharing, timers[v]) for v, sharing in VARIANTS.items()}
        taken: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
        flops = {}
        with tqdm(total=(rounds + 2) * len(trainers), desc=f"steps of shape {name}", unit="step") as bar:
            for round_ in range(rounds + 2):  # the first warms up, the last counts FLOPs, which costs time
                for variant, trainer in trainers.items():
                    phases = timers[variant]
                    phases.clock = counter.get_total_flops if round_ > rounds else clock
                    set_seed(round_)
                    if round_ > rounds:
                        with counter:
                            trainer.train()
                        flops[variant] = phases.take()
                    else:
                        trainer.train()
                        taken[variant].append(phases.take())
                    bar.update()
    return {
        variant: {
            "seconds": {p: statistics.median(step[p] for step in steps[1:]) for p in steps[0]},
            "update_s": statistics.median(sum(step[p] for p in UPDATE) for step in steps[1:]),
            "step_s": statistics.median(sum(step.values()) for step in steps[1:]),
            "update_flops": sum(flops[variant][p] for p in UPDATE),
        }
        for variant, steps in taken.items()
    }


def memory_of(name: str, variant: str) -> float:
    """Peak memory of one step of one variant, in a process of its own."""
    command = [sys.executable, __file__, "--shape", name, "--memory_of", variant]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=3600)
    return float(done.stdout.splitlines()[-1])


def print_memory(name: str, variant: str) -> None:
    """What `memory_of` reads: one step, then its peak in MiB on the last line."""
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory(prefix="benchmark_update_") as folder:
        rows, policy = make_rows(shape, Path(folder)), make_policy(shape, Path(folder))
        trainer = make_trainer(shape, rows, policy, VARIANTS[variant], Phases(clock))
        print(peak_mib(trainer.train))


def figures(name: str, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of the results page: how many times as fast as TRL, FLOPs beside them, memory."""
    targets = {"tiny": (">= 1.15", ">= 1.5"), "small": (">= 2", ">= 3"), "2b": (">= 1.7", ">= 3")}[name]
    trl, lines = measured["TRL"], []
    for (variant, ours), target in zip(list(measured.items())[1:], targets, strict=True):
        faster, fewer = trl["update_s"] / ours["update_s"], trl["update_flops"] / ours["update_flops"]
        for label, value, unit, goal in (
            ("update (log-probs, loss, backward, optimizer)", faster, "x TRL's rate", target),
            ("the same by FLOPs", fewer, "x fewer", None),
            ("of that limit achieved", 100 * faster / fewer, "%", None),
            ("generation", trl["seconds"]["generate"] / ours["seconds"]["generate"], "x TRL's rate", None),
            ("whole step", trl["step_s"] / ours["step_s"], "x TRL's rate", None),
            ("peak memory", ours["peak_mib"] / trl["peak_mib"], "of TRL's", "<= 1"),
        ):
            lines.append(figure(f"{variant}: {label}", value, unit, goal))
    share = 100 * ours["seconds"]["score"] / ours["step_s"]
    return [*lines, figure("scoring", share, "% of a step", "< 1")]


def draw(name: str, measured: dict[str, Any], path: Path) -> None:
    """Stacked bars: the seconds of each phase, one bar per variant."""
    picture = Figure(figsize=(8, 3), layout="constrained")
    axes, left = picture.subplots(), [0.0] * len(measured)
    for i, phase in enumerate(measured["TRL"]["seconds"]):
        widths = [result["seconds"][phase] for result in measured.values()]
        look = {"color": COLOURS[i % len(COLOURS)], "hatch": "//" if i >= len(COLOURS) else "", "edgecolor": "black"}
        axes.barh(list(measured), widths, left=left, label=phase, **look)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set(xlabel="seconds per step", title=f"One training step, shape {name}")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    picture.legend(loc="outside right upper", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=DPI)


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny", help="sizes of model, pictures and completions")
    parser.add_argument("--rounds", type=int, help="steps of each trainer that count (default: the shape's)")
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="folder of the JSON file and the figure")
    parser.add_argument("--memory_of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print_memory(args.shape, args.memory_of)
        return
    if args.shape == "2b" and not torch.cuda.is_available():
        sys.exit("error: --shape 2b takes hours per step without a GPU; run it on one, or take --shape small")
    peaks = {v: memory_of(args.shape, v) for v in tqdm(VARIANTS, desc="peak memory", unit="step")}
    measured = measure(args.shape, args.rounds or SHAPES[args.shape].rounds)
    for variant, peak in peaks.items():
        measured[variant]["peak_mib"] = peak
    lines = figures(args.shape, measured)
    print(json.dumps(lines, indent=2))
    path = args.output / f"update_{args.shape}.json"
    write_figures(path, f"A training step against TRL's, {args.shape} shape", lines, seeds=[0], measured=measured)
    draw(args.shape, measured, path.with_suffix(".png"))


if __name__ == "__main__":
    main()

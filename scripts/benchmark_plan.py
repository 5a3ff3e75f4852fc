"""Holds the arithmetic of `make plan` against measured memory of real trainings, into results/plan.json.

    python scripts/benchmark_plan.py [--sizes 1 20 80 300]      # millions of parameters, roughly; 20 minutes

Each size trains two steps in a process of its own, on the CPU in float32: a step is two micro-batches of two rows. The
kernel's own counters (VmHWM, reset at each phase) say how much memory generation, update and optimizer's step took.
Nothing is shared between the rows of a group (`share_vision: false`), as in the arithmetic, which is above the truth.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from open_r1.utils.provenance import ROOT, figure, write_figures

MIB = 2**20
DEADLINE_S = 1800  # for one size
# Roughly millions of parameters -> hidden, intermediate, layers, heads, kv heads; depth, width of the vision tower; the
# side of the picture in pixels, tokens of a reply. The shapes lean towards Qwen2-VL-2B's as they grow.
SIZES = {
    1: ((128, 256, 4, 4, 2), (2, 96), 168, 96),
    20: ((384, 1536, 8, 6, 2), (6, 256), 336, 128),
    80: ((640, 3072, 12, 10, 2), (12, 448), 448, 128),
    300: ((1024, 5632, 16, 16, 2), (20, 768), 560, 192),
    700: ((1280, 7680, 20, 10, 2), (28, 1024), 700, 256),
}
VOCAB = 8192
# Every tensor of 64 KiB is a mapping of its own, given back at once: resident memory is then what is alive.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000000"}


def status(key: str) -> int:
    """Bytes of one line of /proc/self/status, such as VmHWM."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024


class Meter:
    """Peak of this process's own (not file-backed) memory per phase, in bytes above `base`."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.base = 0
        gc.collect()  # what was made to write the checkpoint
        self.base = self.now()

    def now(self) -> int:
        """Memory now."""
        return status("RssAnon") - self.base

    def begin(self) -> None:
        """Forget the peak so far."""
        Path("/proc/self/clear_refs").write_text("5")

    def end(self, phase: str) -> None:
        """Keep the peak since `begin` as the phase's, and begin the next."""
        peak = status("VmHWM") - status("RssFile") - status("RssShmem") - self.base
        self.peaks[phase] = max(peak, self.peaks.get(phase, 0))
        self.begin()


def measure(size: int) -> dict[str, Any]:
    """Train a model of this size for two steps; bytes predicted and measured, per phase."""
    from PIL import Image
    from transformers import AutoProcessor, TrainerCallback

    from open_r1.configs import EKIPLConfig
    from open_r1.data.prompts import to_dataset
    from open_r1.policy.loading import load_policy
    from open_r1.preflight.memory import FLOAT32, Load, Setup, training_memory
    from open_r1.preflight.shape import PATCH, Shape
    from open_r1.schema import Row
    from open_r1.tasks import get_task
    from open_r1.training.trainer import EKIPLTrainer, reward_functions

    (H, I, layers, heads, kv), (depth, width), side, reply = SIZES[size]  # noqa: E741
    shape = Shape(VOCAB, H, I, layers, heads, kv, True, depth, width, 4)
    task, base = get_task("clevr_math"), ROOT / "bases/clevr_math"
    with tempfile.TemporaryDirectory() as folder:
        random_model(base, shape).save_pretrained(folder)
        AutoProcessor.from_pretrained(base).save_pretrained(folder)
        Image.effect_noise((side, side), 64).convert("RGB").save(f"{folder}/noise.png")
        picture = (Path(folder, "noise.png"),)
        rows = [Row(f"row-{k}", task.name, picture, f"How many objects are left of {k}?", "1") for k in range(4)]
        grade = lambda reply, answer: task.grade(reply, answer, "exact")  # noqa: E731
        config = EKIPLConfig(
            output_dir=folder, use_cpu=True, bf16=False, report_to="none", max_steps=2, save_strategy="no",
            num_generations=2, prompts_per_step=2, per_device_train_batch_size=2, max_completion_length=reply,
            generation_kwargs={"min_new_tokens": reply}, beta=0.005, gradient_checkpointing=True, disable_tqdm=True,
            learning_rate=1e-6, optim="adamw_torch", dataloader_pin_memory=False,
        )  # fmt: skip
        meter, seen = Meter(), {}

        class Watched(EKIPLTrainer):
            def _generate(self, prompts: list) -> tuple:
                meter.begin()
                output = super()._generate(prompts)
                meter.end("generation")
                return output

            def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
                seen["tokens"] = inputs["prompt_ids"].size(1) + inputs["completion_ids"].size(1)
                seen["patches"] = int(inputs["image_grid_thw"][0].prod())
                return super()._compute_loss(model, inputs)

        class Phases(TrainerCallback):
            def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
                meter.end("update")

            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                meter.end("optimizer step")

        model, processor = load_policy(folder, None)
        trainer = Watched(
            model=model, args=config, processing_class=processor, train_dataset=to_dataset(rows, task),
            reward_funcs=reward_functions(grade), rows={row.id: row for row in rows}, grade=grade,
            callbacks=[Phases()],
        )  # fmt: skip
        parameters = sum(weight.numel() for weight in model.parameters())
        meter.begin()
        trainer.train()
    text = seen["tokens"] - reply - seen["patches"] // 4
    load = Load(2, 4, 1, seen["patches"], text, reply)
    need = training_memory(shape, load, Setup(FLOAT32, "ddp", 1, on_gpu=False))
    stays = sum(need.stays.values())
    during = {phase: stays + peak for phase, peak in need.peaks.items()}
    return {
        "parameters": {"predicted": shape.parameters, "measured": parameters},
        "side": side, "patch": PATCH, "load": vars(load),
        **{phase: {"predicted": during[phase], "measured": meter.peaks[phase]} for phase in during},
    }  # fmt: skip


def random_model(base: Path, shape: Any) -> Any:
    """A freshly initialised Qwen2-VL of `shape`, with the special tokens of the base policy's processor."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    config = Qwen2VLConfig.from_pretrained(base)
    text, vision = config.text_config, config.vision_config
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                 "num_key_value_heads"):  # fmt: skip
        setattr(text, name, getattr(shape, name))
    half = shape.hidden_size // shape.num_attention_heads // 2
    text.rope_parameters = {**text.rope_parameters, "mrope_section": [half - 2 * (3 * half // 8), *[3 * half // 8] * 2]}
    text.layer_types = ["full_attention"] * shape.num_hidden_layers
    for name in ("depth", "embed_dim", "mlp_ratio"):
        setattr(vision, name, getattr(shape, name))
    vision.hidden_size, vision.num_heads = shape.hidden_size, shape.embed_dim // 32
    return Qwen2VLForConditionalGeneration(config).float()


def in_a_process(size: int) -> dict[str, Any]:
    """Run `measure` in a process of its own, whose memory nothing else has touched."""
    command = [sys.executable, __file__, "--measure", str(size)]
    environment = os.environ | MALLOC | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, timeout=DEADLINE_S, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def figures(size: int, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of one size: the peak that was measured, and the arithmetic's errors."""
    phases = ("generation", "update", "optimizer step")
    peak = {kind: max(result[phase][kind] for phase in phases) for kind in ("predicted", "measured")}
    name = f"{result['parameters']['measured'] / 1e6:,.1f} M parameters"
    off = result["parameters"]["predicted"] - result["parameters"]["measured"]
    lines = [
        figure(f"{name}: highest memory measured", peak["measured"] / MIB, "MiB", None),
        figure(f"{name}: error of the number of parameters", off, "parameters", "<= 0"),
        figure(f"{name}: error at the highest moment", 100 * (peak["predicted"] / peak["measured"] - 1), "%", None),
    ]
    return lines + [
        figure(
            f"{name}: error in {phase}", 100 * (result[phase]["predicted"] / result[phase]["measured"] - 1), "%", None
        )
        for phase in phases
    ]


def main() -> None:
    """Measure every size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=[1, 20, 80, 300])
    parser.add_argument("--measure", type=int, choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "plan.json")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    lines: list[dict[str, Any]] = []
    for size in tqdm(args.sizes, desc="sizes", unit="model"):
        lines += figures(size, in_a_process(size))
        # what is measured is kept, should a larger one fail
        write_figures(args.output, "make plan against real trainings", lines)


if __name__ == "__main__":
    main()

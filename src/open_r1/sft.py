"""Supervised fine-tuning: the sft stage of a method, and as an entry the tiny base policy (`make base TASK=...`).

    python -m open_r1.sft --base --task clevr_math [--seed 0] [--output bases/clevr_math]

The stage teaches the policy the completions of its rows by TRL's SFTTrainer: the loss is on the completion alone, which
is reasoning and answer (CoT-SFT) or, with the direct prompt, the answer (ANS-SFT).

The base policy stands in for a pre-trained model where no weights can be downloaded: a freshly initialised tiny
Qwen2-VL is taught, on synthetic rows, to describe the picture well and to reason in a mixture of procedures of which
the right one has a small share (synthetic/<task>.py, RIGHT_SHARE). It sees well and reasons badly: what RL then has to
do is what it has to do with a real model.
"""

import time
from collections.abc import Sequence

import torch

from open_r1.recipe.merge import parse_overrides
from open_r1.tasks import get_task
from open_r1.training.base_policy import make_base, read_recipe
from open_r1.utils.entry import command_parser, run_entry
from open_r1.utils.provenance import ROOT


def main(argv: Sequence[str]) -> None:
    """Parse the command line and make the base."""
    parser = command_parser(__doc__, task=None, output="folder of the base (default: bases/<task>)")
    parser.add_argument("--base", action="store_true", required=True, help="make the tiny base policy")
    parser.add_argument("--seed", type=int, default=0)
    args, overrides = parser.parse_known_args(argv)
    task = get_task(args.task)
    output = args.output or ROOT / "bases" / task.name
    began = time.monotonic()
    make_base(task, read_recipe(task, parse_overrides(overrides)), args.seed, output)
    print(f"base policy of {task.name}: {output} ({time.monotonic() - began:.0f} s, {torch.get_num_threads()} threads)")


if __name__ == "__main__":
    run_entry(main)

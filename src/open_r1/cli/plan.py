"""What a run needs, before it is started: memory per GPU, tokens per step, hours, dollars for the external models.

    python -m open_r1.cli.plan --task trance --model 7b --gpus 8 --mem 80 [--key value ...]      (`make plan` runs this)
    python -m open_r1.cli.plan --table                        # docs/HARDWARE.md: which recipe fits into which GPUs

What does not fit is refused with the setting to change.
"""

from collections.abc import Sequence

from open_r1.preflight.estimate import describe, hardware_table
from open_r1.preflight.fit import fits, refusal
from open_r1.recipe.merge import merge_recipe, parse_overrides
from open_r1.recipe.rules import check_recipe
from open_r1.schema import UserError
from open_r1.utils.entry import command_parser, run_entry


def main(argv: Sequence[str]) -> None:
    """Print the plan, or raise UserError after it where it does not fit."""
    parser = command_parser(__doc__, task=None, model=None, method=None, teachers=None)
    parser.add_argument("--gpus", type=int, default=8, help="how many GPUs (or CPU processes)")
    parser.add_argument("--mem", type=float, default=80, help="memory of each in GiB")
    parser.add_argument("--table", action="store_true", help="print the table of docs/HARDWARE.md")
    args, words = parser.parse_known_args(argv)
    if args.table:
        print(hardware_table(), end="")
        return
    if args.gpus < 1 or args.mem <= 0:
        raise UserError(f"{args.gpus} GPUs of {args.mem:g} GiB: both must be above 0; give GPUS=8 MEM=80")
    merged = merge_recipe(args.task, args.model, args.method, parse_overrides(words), args.teachers)
    recipe = check_recipe(merged, args.gpus)
    print("\n".join(describe(recipe, args.gpus, args.mem)), flush=True)
    if not fits(recipe, args.gpus, args.mem):
        raise UserError(refusal(recipe, args.gpus, args.mem))


if __name__ == "__main__":
    run_entry(main)

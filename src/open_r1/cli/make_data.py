"""Write a synthetic data set and its contact sheet (`make data TASK=geomath SIZE=tiny N=2000`).

python -m open_r1.cli.make_data --task geomath --size tiny --n 2000 --test_n 500 --base_n 8000
"""

from collections.abc import Sequence
from pathlib import Path

from open_r1.synthetic.sample import SIZES
from open_r1.synthetic.write import contact_sheet, write_dataset
from open_r1.tasks import get_task
from open_r1.utils.entry import command_parser, run_entry


def main(argv: Sequence[str]) -> None:
    """Parse the command line, write the data set, say where it lies."""
    parser = command_parser(__doc__, task=None, output="data folder (default: data/<task>-<size>)")
    parser.add_argument(
        "--size", default="tiny", choices=SIZES, help="tiny: for the tiny policy; full: 320 x 240 pixels"
    )
    parser.add_argument("--n", type=int, default=2000, help="training rows")
    parser.add_argument("--test_n", type=int, default=500, help="rows of each test set")
    parser.add_argument("--base_n", type=int, default=0, help="rows of the base policy's pre-training; 0: no such set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes; the data do not depend on it")
    args = parser.parse_args(argv)
    task = get_task(args.task)
    folder = args.output or Path("data") / f"{args.task}-{args.size}"
    counts = {"train": args.n, **dict.fromkeys(task.test_files, args.test_n)}
    if args.base_n:
        counts["base"] = args.base_n
    write_dataset(args.task, folder, args.size, args.seed, counts, args.workers)
    sheet = folder / "contact_sheet.png"
    if not sheet.exists():
        contact_sheet(args.task, args.size, args.seed, sheet)
    print(f"{folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()) + " rows")
    print(f"{sheet}: what they look like")


if __name__ == "__main__":
    run_entry(main)

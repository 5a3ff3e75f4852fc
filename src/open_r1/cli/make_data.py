"""Writes a synthetic data set and its contact sheet: `make data TASK=geomath SIZE=tiny N=2000`.

python scripts/make_data.py --task geomath --size tiny --n 2000 --test_n 500 --base_n 8000 --output data/geomath-tiny
"""

import argparse
import sys
from pathlib import Path

# The script also runs where the package is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from open_r1.schema import UserError
from open_r1.synthetic.sample import SIZES
from open_r1.synthetic.write import contact_sheet, write_dataset
from open_r1.tasks import get_task


def main() -> None:
    """Parse the command line, write the data set, say where it lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, help="clevr_math, geomath or trance")
    parser.add_argument(
        "--size", default="tiny", choices=SIZES, help="tiny: for the tiny policy; full: 320 x 240 pixels"
    )
    parser.add_argument("--n", type=int, default=2000, help="training rows")
    parser.add_argument("--test_n", type=int, default=500, help="rows of each test set")
    parser.add_argument("--base_n", type=int, default=0, help="rows of the base policy's pre-training; 0: no such set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes; the data do not depend on it")
    parser.add_argument("--output", type=Path, help="data folder (default: data/<task>-<size>)")
    args = parser.parse_args()
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
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

"""Check a data folder or file before training: counts, kinds of answers, sizes of pictures, and every bad row.

python -m open_r1.cli.check_data --data_path data/my_set [--task geomath] [--image_folder pictures]
Exit status: 0 all rows are good, 1 there are bad rows, 2 the data cannot be read at all.
"""

from collections.abc import Sequence

from open_r1.data.check import check, describe, unread_files
from open_r1.data.columns import Columns
from open_r1.utils.entry import command_parser, run_entry


def main(argv: Sequence[str]) -> int:
    """Run the check; returns the exit status."""
    parser = command_parser(__doc__, task="only this task; needed for a JSON file with a name of your own")
    parser.set_defaults(task="")
    parser.add_argument("--data_path", required=True, help="folder in the Reason-RFT-CoT layout, JSON file, or hub id")
    parser.add_argument("--image_folder", help="where the image names start (default: as the layout has it)")
    for name in Columns._fields:
        parser.add_argument(f"--{name}_key", default="", help=f"column of the {name}, where it has no usual name")
    args = parser.parse_args(argv)
    columns = Columns(*(getattr(args, f"{name}_key") for name in Columns._fields))
    reports = check(args.data_path, args.task or None, args.image_folder, columns=columns)
    print(describe(reports))
    for file in unread_files(args.data_path):
        print(f"\nnot read: {file} (no task has a set of that name)")
    return 1 if any(report.bad for report in reports) else 0


if __name__ == "__main__":
    run_entry(main)

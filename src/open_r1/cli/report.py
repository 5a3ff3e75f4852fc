"""Put finished runs beside the paper: Table 1 and figures 3, 4 and 5 (`make report RUNS=...`).

    python -m open_r1.cli.report runs/<run> runs/<run> ... [--output reports/today]

It reads finished runs, one or a folder of them at a time: summary.json, metrics.jsonl, curve.jsonl (`curve_every`), and
passk/scores.json (`make eval MODEL_PATH=RUN K=64 SPLIT=id OUTPUT=RUN/passk`). A figure that lacks its data is left out
and named.
"""

from collections.abc import Sequence
from pathlib import Path

from open_r1.report.report import write_report
from open_r1.report.runs import read_runs
from open_r1.utils.entry import command_parser, run_entry


def main(argv: Sequence[str]) -> None:
    """Parse the command line and write the report."""
    parser = command_parser(__doc__, output="folder to write to (default: reports/latest)")
    parser.set_defaults(output=Path("reports/latest"))
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or folders of runs")
    parser.add_argument(
        "--teachers", nargs="*", default=[], metavar="WORD=FOLDER", help="EKIPL runs with other external models"
    )
    args = parser.parse_args(argv)
    teachers = {word: read_runs([Path(place)]) for word, _, place in (t.partition("=") for t in args.teachers)}
    for line in write_report(read_runs(args.runs), args.output, teachers):
        print(f"left out: {line}")
    print((args.output / "table1.md").read_text(encoding="utf-8"))
    print(args.output / "report.md")


if __name__ == "__main__":
    run_entry(main)

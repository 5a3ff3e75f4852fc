"""Show a run as one HTML file with every candidate, its rewards and what became of it (`make gallery RUN=...`).

python -m open_r1.cli.gallery runs/<run> [--steps 1 20 60] [--prompts 500] [--output gallery.html]
"""

from collections.abc import Sequence
from pathlib import Path

from open_r1.report.gallery import PROMPTS, gather, shrink_to
from open_r1.schema import UserError
from open_r1.utils.entry import command_parser, run_entry


def main(argv: Sequence[str]) -> None:
    """Parse the command line and write the page."""
    parser = command_parser(__doc__, output="file to write (default: gallery.html in the run's folder)")
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--steps", type=int, nargs="+", default=[], help="only these (default: all, evenly thinned)")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help=f"at most so many (default: {PROMPTS})")
    args = parser.parse_args(argv)
    output = args.output or args.run / "gallery.html"
    if args.prompts < 1:
        raise UserError(f"--prompts is {args.prompts}; a gallery shows at least one prompt; give 1 or more")
    data = gather(args.run, args.steps, args.prompts)
    page, length = shrink_to(data)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(page)
    for note in data["notes"]:
        print(f"note: {note}")
    if length:
        print(f"note: texts above {length} characters are cut in their middle")
    print(f"{output}  ({len(data['groups'])} prompts, {len(page) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_entry(main)

"""Store entry: what a store of bought replies holds; hands a task's replies on as Parquet, and takes them over.

python src/open_r1/store.py [--store data/replies.sqlite] [--task clevr_math]
python src/open_r1/store.py --task clevr_math --output replies.parquet
python src/open_r1/store.py --task clevr_math --from replies.parquet
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: import open_r1 from here, and hide this folder's names from others
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from open_r1.external import open_store
from open_r1.external.store.inventory import describe
from open_r1.external.store.parquet import export_parquet, import_parquet
from open_r1.external.store.stored_provider import DEFAULT_STORE
from open_r1.recipe.settings import PROMPT_KINDS
from open_r1.schema import UserError
from open_r1.tasks import get_task


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(description="Show, export or import bought replies.", allow_abbrev=False)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="the file (default: %(default)s)")
    parser.add_argument("--task", help="clevr_math, geomath or trance; without it all are shown")
    parser.add_argument("--output", type=Path, help="write the task's replies to this Parquet file")
    parser.add_argument("--from", type=Path, dest="source", help="take over the replies of this Parquet file")
    return parser


def main(argv: Sequence[str]) -> None:
    """Export or import where asked to, then show what is there; raises UserError."""
    parser = build_parser()
    args = parser.parse_args(argv)
    task = get_task(args.task) if args.task else None
    if (args.output or args.source) and task is None:
        parser.error("--output and --from need --task")
    store, ledger = open_store(args.store, read_only=args.source is None)
    if task is not None and args.source:
        instructions = {kind: task.instruction_for(kind) for kind in PROMPT_KINDS}
        new, total = import_parquet(store, args.source, task.name, instructions)
        print(f"{args.source}: {new:,} of {total:,} replies are new")
    if task is not None and args.output:
        print(f"{args.output}: {export_parquet(store, task.name, args.output):,} replies")
    print(describe(store, ledger, args.task))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

"""Show what a store of bought replies holds, export a task's replies as Parquet, or import them (`make store`).

python -m open_r1.cli.store [--store data/replies.sqlite] [--task clevr_math]
python -m open_r1.cli.store --task clevr_math --output replies.parquet
python -m open_r1.cli.store --task clevr_math --from replies.parquet
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from open_r1.external import open_store
from open_r1.external.store.inventory import describe
from open_r1.external.store.parquet import export_parquet, import_parquet
from open_r1.external.store.stored_provider import DEFAULT_STORE
from open_r1.recipe.settings import PromptKind
from open_r1.schema import UserError
from open_r1.tasks import get_task
from open_r1.utils.entry import command_parser, run_entry


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = command_parser(
        __doc__, task="only this task's (default: all)", output="Parquet file for the task's replies"
    )
    parser.set_defaults(task="")
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="the file (default: %(default)s)")
    parser.add_argument("--from", type=Path, dest="source", help="take over the replies of this Parquet file")
    return parser


def main(argv: Sequence[str]) -> None:
    """Export or import where asked to, then show what is there; raises UserError."""
    args = build_parser().parse_args(argv)
    task = get_task(args.task) if args.task else None
    if (args.output or args.source) and task is None:
        raise UserError("--output and --from take the replies of one task; add --task NAME (make: TASK=...)")
    store, ledger = open_store(args.store, read_only=args.source is None)
    if task is not None and args.source:
        instructions = {kind: task.instruction_for(kind) for kind in get_args(PromptKind)}
        new, total = import_parquet(store, args.source, task.name, instructions)
        print(f"{args.source}: {new:,} of {total:,} replies are new")
    if task is not None and args.output:
        print(f"{args.output}: {export_parquet(store, task.name, args.output):,} replies")
    print(describe(store, ledger, args.task or None))


if __name__ == "__main__":
    run_entry(main)

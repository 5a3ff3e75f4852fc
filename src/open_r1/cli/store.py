"""Show what a store of bought replies holds, export a task's replies as Parquet, or import them (`make store`).

python -m open_r1.cli.store [--store data/replies.sqlite] [--task clevr_math]
python -m open_r1.cli.store --task clevr_math --output replies.parquet
python -m open_r1.cli.store --task clevr_math --from replies.parquet
python -m open_r1.cli.store --output copy.sqlite
python -m open_r1.cli.store --settle gpt-4o=5.18
"""

import argparse
import math
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
    output = "Parquet file for the task's replies, or x.sqlite for a copy of the whole store"
    parser = command_parser(__doc__, task="only this task's (default: all)", output=output)
    parser.set_defaults(task="")
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="the file (default: %(default)s)")
    parser.add_argument("--from", type=Path, dest="source", help="take over the replies of this Parquet file")
    parser.add_argument(
        "--settle", default="", help="MODEL=DOLLARS, commas between: what the provider billed for all of its calls"
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Settle, import and export where asked to, then show what is there; raises UserError."""
    args = build_parser().parse_args(argv)
    task = get_task(args.task) if args.task else None
    whole = args.output is not None and args.output.suffix in (".sqlite", ".db")
    if (args.source or (args.output and not whole)) and task is None:
        raise UserError("--output and --from take the replies of one task; add --task NAME (make: TASK=...)")
    bills = read_bills(args.settle)
    if bills and not args.source and not args.store.is_file():
        raise UserError(f"store {args.store} does not exist, so there is nothing to settle; name another by --store")
    store, ledger = open_store(args.store, read_only=not (args.source or bills))
    for model, usd in bills.items():
        before = ledger.settle_bill(model, usd)
        counted = before.spent_usd + before.in_doubt_usd
        print(f"{model}: {counted:.4f} $ were counted, {usd:.4f} $ are now; nothing of it is in doubt any more")
    if task is not None and args.source:
        instructions = {kind: task.instruction_for(kind) for kind in get_args(PromptKind)}
        new, total = import_parquet(store, args.source, task.name, instructions)
        print(f"{args.source}: {new:,} of {total:,} replies are new")
    if args.output is not None and whole:
        store.database.copy(args.output)
        print(f"{args.output}: a whole copy, {store.count():,} replies and the ledger")
    elif task is not None and args.output:
        print(f"{args.output}: {export_parquet(store, task.name, args.output):,} replies")
    print(describe(store, ledger, args.task or None))


def read_bills(text: str) -> dict[str, float]:
    """Read "MODEL=DOLLARS, ...".

    >>> read_bills("gpt-4o=5.18, gemini=0")
    {'gpt-4o': 5.18, 'gemini': 0.0}
    """
    bills: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        model, _, amount = part.rpartition("=")
        try:
            usd = float(amount)
        except ValueError:
            usd = math.nan
        if not model or not 0 <= usd < math.inf:
            raise UserError(f"SETTLE holds '{part}'; it is MODEL=DOLLARS, as in SETTLE=gpt-4o=5.18; correct it")
        bills[model.strip()] = usd
    return bills


if __name__ == "__main__":
    run_entry(main)

"""Ask each teacher one question about one picture and show reply, tokens, cost and seconds (`make teachers`).

python -m open_r1.cli.teachers --teachers gpt-4o-gemini [--task trance] [--model 2b] [--dry_run]

The question is the first training row's. The reply goes into the store like any other, within the budget; where the
store holds some already, one more is bought.
"""

import argparse
import asyncio
import textwrap
import time
from collections.abc import Sequence

from open_r1.data.prompts import messages
from open_r1.external import Request, StoredProvider
from open_r1.external.build import build_providers
from open_r1.external.failures import why_blank
from open_r1.external.hosted.ready import lacking
from open_r1.generate import behind_its_store, training_rows
from open_r1.recipe.merge import merge_recipe, parse_overrides
from open_r1.recipe.rules import Recipe, check_recipe
from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import Failure, Reply, Row, printable
from open_r1.tasks import get_task
from open_r1.utils.entry import command_parser, run_entry


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; any further --key value overrides the recipe."""
    parser = command_parser(__doc__, task=None, model=None, teachers=None, dry_run="only look what is missing")
    parser.add_argument("--budget", type=float, help="dollars that the store's ledger may reach")
    return parser


def main(argv: Sequence[str]) -> int:
    """Look at each teacher and ask it; returns 1 where one cannot be asked or gave no reply."""
    args, words = build_parser().parse_known_args(argv)
    merged = merge_recipe(args.task, args.model, "ekipl", parse_overrides(words), args.teachers)
    recipe = check_recipe(merged if args.budget is None else merged | {"external_budget_usd": args.budget})
    (row,) = training_rows(recipe, 1)
    print(f"{row.task}, row '{row.id}', {', '.join(map(str, row.images))}: {row.problem}\n", flush=True)
    good = [try_teacher(model, row, recipe, args.dry_run) for model in recipe.teachers]
    return 0 if all(good) else 1


def try_teacher(model: ExternalModelConfig, row: Row, recipe: Recipe, dry_run: bool) -> bool:
    """Say what a teacher lacks or what it replies; returns whether it does."""
    faults = lacking([model])
    for fault in faults:
        print(printable(fault))
    if faults or dry_run:
        print(f"{model.name}: not asked\n" if faults else f"{model.name}: nothing is missing\n", flush=True)
        return not faults
    (provider,) = behind_its_store(build_providers([model], recipe.external_seed, recipe.max_pixels), recipe)
    began = time.monotonic()
    answer = asyncio.run(ask_once(provider, Request(row, messages(row, get_task(row.task), recipe.prompt_kind))))
    print(describe(provider, answer, row, time.monotonic() - began), flush=True)
    return isinstance(answer, Reply) and bool(answer.text.strip())


async def ask_once(provider: StoredProvider, request: Request) -> Reply | Failure:
    """Buy one more reply to a question than the store holds."""
    have = len(provider.store.samples(provider.key_of(request).key))
    try:
        answer = await provider.ask(Request(request.row, request.messages, n=have + 1))
    finally:
        await provider.aclose()
    if isinstance(answer, Failure):
        return answer
    return answer[-1] if len(answer) > have else Failure(provider.name, "bad_reply", "no further reply came")


def describe(provider: StoredProvider, answer: Reply | Failure, row: Row, seconds: float) -> str:
    """One teacher's part of what is shown."""
    account = provider.ledger.accounts().get(provider.name)
    counted = f"{account.spent_usd + account.in_doubt_usd:.4f} $ counted in the store" if account else "free of charge"
    if isinstance(answer, Failure):
        return f"{provider.name}: no reply ({answer.reason}: {answer.message}); {seconds:.1f} s; {counted}\n"
    accuracy = get_task(row.task).grade(answer.text, row.answer, get_task(row.task).settings[0])
    cost = "unknown" if answer.cost_usd is None else f"{answer.cost_usd:.4f} $"
    tokens = f"{answer.prompt_tokens or '?'} + {answer.completion_tokens or '?'} tokens"
    blank = "" if answer.text.strip() else f"a blank reply{why_blank([answer])}"
    text = textwrap.indent(printable(answer.text) or blank, "    ")
    graded = f"accuracy {accuracy.accuracy:g}, format {accuracy.format:g}"
    logprobs = "with" if answer.logprobs else "without"
    return (
        f"{provider.name}: {tokens}, {cost}, {seconds:.1f} s, ends by {answer.finish_reason}, {logprobs} log-probs;"
        f" {graded}; {counted}\n{text}\n"
    )


if __name__ == "__main__":
    run_entry(main)

"""Ask the external models about a task's training rows ahead of training, and keep their replies (`make collect`).

    python -m open_r1.generate --task clevr_math --models gpt-4o-scripted --rows 100 --budget 5 [--dry_run]

Rows, prompts and models are those of `make train` with the same task, model and overrides, so that the training finds
every reply in the store. Stopped at any moment and started again, it goes on; a dry run asks nobody.
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace

from tqdm import tqdm

from open_r1.data.prepare import prepare_rows
from open_r1.data.prompts import messages
from open_r1.external import Provider, Request, StoredProvider, behind_store
from open_r1.external.build import build_providers
from open_r1.external.store.collecting import Tally, collect, estimate, left_over
from open_r1.external.store.inventory import describe
from open_r1.external.store.replies import PromptVersion
from open_r1.external.store.stored_provider import DEFAULT_STORE, upper_bound_usd
from open_r1.recipe.merge import merge_recipe, parse_overrides
from open_r1.recipe.rules import Recipe, check_recipe
from open_r1.schema import Row, UserError
from open_r1.tasks import get_task
from open_r1.utils.entry import command_parser, run_entry
from open_r1.utils.names import unknown_name


def training_rows(recipe: Recipe, limit: int | None) -> list[Row]:
    """The rows that training sees, made where the recipe names no data; the first `limit` of them."""
    return prepare_rows(get_task(recipe.task), recipe, ["train"])["train"][:limit]


def providers_of(recipe: Recipe, names: Sequence[str], ask: bool) -> list[StoredProvider]:
    """The recipe's external models behind the store, all or those in `names`."""
    models = recipe.teachers
    known = [model.name for model in models]
    for name in names:
        if name not in known:
            raise unknown_name("external model", name, known, where="the recipe")
    if not models:
        raise UserError("the recipe has no external models, so there is nobody to ask; name some under external_models")
    chosen = [model for model in models if not names or model.name in names]
    return behind_its_store(build_providers(chosen, recipe.external_seed, recipe.max_pixels, ask), recipe)


def behind_its_store(built: Sequence[Provider], recipe: Recipe) -> list[StoredProvider]:
    """Put providers behind the recipe's store, or the default one."""
    task = get_task(recipe.task)
    prompt = PromptVersion(task.name, recipe.prompt_kind, task.instruction_for(recipe.prompt_kind))
    path = recipe.store_path or str(DEFAULT_STORE)
    kept = behind_store(built, prompt, path, recipe.store_read_only, recipe.external_budget_usd)
    return [provider for provider in kept if isinstance(provider, StoredProvider)]


def look_up(provider: StoredProvider, rows: Sequence[Row], recipe: Recipe) -> Tally:
    """Sort the questions into those that the store answers in full and those to ask; refuses a model without price."""
    task, tally, kind = get_task(recipe.task), Tally(), recipe.prompt_kind
    for row in tqdm(rows, desc=f"{provider.name}: looking up", unit="row", delay=2, leave=False):
        request = Request(row, messages(row, task, kind), n=provider.n)
        have = provider.stored(request)
        if len(have) < provider.n:
            missing = replace(request, n=provider.n - len(have), first=len(have))
            tally.bound_usd += upper_bound_usd(provider.provider, missing)
            tally.missing.append(missing)
            tally.todo.append(request)
        elif tally.any_text(have):
            tally.stored += 1
        else:
            tally.stored_blank += 1
    return tally


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the entry's own options; everything else is an override of the recipe."""
    about = "Collect replies of external models. Any further --key value overrides the recipe."
    parser = command_parser(about, task=None, model=None, teachers=None, dry_run="print the estimate and ask nobody")
    parser.add_argument("--models", default="", help="names of the recipe's external models, a comma between; all")
    parser.add_argument("--rows", type=int, help="the first so many training rows; all")
    parser.add_argument("--budget", type=float, help="dollars that the store's ledger may reach")
    return parser


def main(argv: Sequence[str]) -> int:
    """Estimate or collect; returns 1 where prompts are left without replies."""
    args, words = build_parser().parse_known_args(argv)
    merged = merge_recipe(args.task, args.model, "ekipl", parse_overrides(words), args.teachers)
    recipe = check_recipe(merged if args.budget is None else merged | {"external_budget_usd": args.budget})
    rows = training_rows(recipe, args.rows)
    names = [name for name in args.models.split(",") if name]
    providers = providers_of(recipe, names, ask=not (args.dry_run or recipe.store_read_only))
    tallies = [look_up(provider, rows, recipe) for provider in providers]
    if args.dry_run:
        print(estimate(providers, tallies))
        return 0
    with tqdm(total=sum(len(tally.todo) for tally in tallies), desc="collecting", unit="prompt") as bar:
        asyncio.run(collect(providers, tallies, bar))
    print(describe(providers[0].store, providers[0].ledger, recipe.task))
    left = left_over(providers, tallies)
    print("\n".join(left) or f"all {len(rows)} prompts have their replies")
    return 1 if any(tally.without_reply for tally in tallies) else 0


if __name__ == "__main__":
    run_entry(main, interrupted="stopped; what came is kept; start again to go on")

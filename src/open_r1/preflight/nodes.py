"""One run on several nodes: what accelerate has to know of them, and one recipe that all of them read."""

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path

from open_r1.recipe.merge import to_yaml
from open_r1.schema import UserError
from open_r1.utils.files import replace_text

RECIPE_S = 120  # what another node waits for node 0 to write the recipe


def machine_options(args: argparse.Namespace) -> tuple[int, list[str]]:
    """This node's number, and accelerate's options for it; nothing where there is one node."""
    if args.num_machines == 1:
        return 0, []
    rank = os.environ.get("SLURM_PROCID", "0")  # srun starts one of us per node
    where = ["--main_process_ip", args.main_address, "--main_process_port", args.main_port]
    return int(rank), ["--num_machines", str(args.num_machines), "--machine_rank", rank, *where]


def write_recipe(recipe: Mapping[str, object], config: Path) -> None:
    """Write the recipe, whole or not at all: other nodes may be waiting for it."""
    replace_text(config, to_yaml(recipe))


def wait_for_recipe(recipe: Mapping[str, object], config: Path, seconds: float = RECIPE_S) -> None:
    """Wait until node 0 has written this recipe; raises UserError after `seconds`.

    A run that goes on has a recipe already, whose settings may have been others: one node must not train by them.
    """
    end, text = time.monotonic() + seconds, to_yaml(recipe)
    while not config.is_file() or config.read_text(encoding="utf-8") != text:
        if time.monotonic() > end:
            raise UserError(
                f"node 0 did not write this recipe to {config} in {seconds:g} s; output_dir must be on a shared disk,"
                " and every node must be started with the same words"
            )
        time.sleep(0.2)

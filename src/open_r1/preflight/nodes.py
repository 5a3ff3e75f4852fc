"""One run on several nodes: what accelerate has to know of them, and one recipe that all of them read."""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import yaml

from open_r1.schema import UserError

RECIPE_S = 120  # what another node waits for node 0 to write the recipe


def machine_options(args: argparse.Namespace) -> tuple[int, list[str]]:
    """This node's number, and accelerate's options for it; nothing where there is one node."""
    if args.num_machines == 1:
        return 0, []
    rank = os.environ.get("SLURM_PROCID", "0")  # srun starts one of us per node
    where = ["--main_process_ip", args.main_address, "--main_process_port", args.main_port]
    return int(rank), ["--num_machines", str(args.num_machines), "--machine_rank", rank, *where]


def write_recipe(recipe: dict[str, Any], config: Path) -> None:
    """Write the recipe aside and rename it: other nodes may be waiting for it."""
    aside = config.with_suffix(".part")
    aside.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    aside.replace(config)


def wait_for_recipe(config: Path, seconds: float = RECIPE_S) -> None:
    """Wait until node 0 has written the recipe; raises UserError after `seconds`."""
    end = time.monotonic() + seconds
    while not config.is_file():
        if time.monotonic() > end:
            raise UserError(f"node 0 wrote no {config} in {seconds:g} s; output_dir must be on a shared disk")
        time.sleep(0.2)

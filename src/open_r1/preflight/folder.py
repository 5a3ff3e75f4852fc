"""A run's folder: a new one, or that of an unfinished run of the same recipe, which goes on.

The folder that is named on the command line is the run's folder, wherever it was copied or moved: recipe.yaml holds no
path of its own.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TypeGuard

from open_r1.recipe.merge import read_yaml
from open_r1.recipe.rules import Recipe
from open_r1.recipe.settings import RECIPES
from open_r1.schema import UserError
from open_r1.utils.processes import hold

RECIPE, LOCK = "recipe.yaml", "run.lock"
# Settings that change no result of a run, so that it may go on with others. The same names count within `sft` and
# within an entry of `external_models`.
FREE = frozenset(
    (
        # what is written down, and when
        *("logging_first_step", "logging_steps", "logging_strategy", "log_level", "log_level_replica"),
        *("log_on_each_node", "log_completions", "num_completions_to_print", "disable_tqdm", "log_candidates_every"),
        *("log_candidates_prompts", "report_to", "run_name", "project", "trackio_space_id", "argv", "output_dir"),
        *("save_steps", "save_strategy", "save_total_limit", "save_on_each_node"),
        # when the run is warned about or ended
        *("strict", "warn_silent_steps", "warn_format_steps", "warn_dead_steps", "warn_flat_steps", "warn_kl"),
        *("external_required", "external_budget_usd", "ddp_timeout"),
        # where servers are, how they are asked, and how long a step waits for them
        *("api_base", "key_variable", "timeout_s", "n_per_request", "requests_per_minute", "tokens_per_minute"),
        *("concurrency", "max_retries", "usd_per_million_in", "usd_per_million_out", "external_deadline_s"),
        *("external_prefetch_steps", "vllm_server_host", "vllm_server_port", "vllm_server_base_url"),
        *("vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization"),
        # how rows get into memory
        *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor"),
    )
)


def name_folder(recipe: Recipe) -> Path:
    """Name a new run's folder, e.g. runs/20261122-154200-trance-tiny-ekipl-s0."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{stamp}-{recipe.task}-{recipe.model}-{recipe.method}-s{recipe.seed}"
    return near(RECIPES.parent / "runs" / name)


def near(path: Path) -> Path:
    """Return the path relative to the working folder where it lies below it, else as it is."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def check_place(folder: Path) -> None:
    """Check, without writing, that a run's folder can be made; raises UserError where it cannot."""
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except OSError as error:  # a name of 300 characters, a folder below a file
        raise UserError(f"output_dir {_shortened(folder)}: {error.strerror}; give another OUTPUT") from error
    if not there.is_dir():
        raise UserError(f"output_dir {_shortened(folder)}: {there} is a file, not a folder; give another OUTPUT")
    if not os.access(there, os.W_OK | os.X_OK) or os.statvfs(there).f_flag & os.ST_RDONLY:
        raise UserError(f"output_dir {_shortened(folder)}: {there} cannot be written to; give another OUTPUT")
    for part in folder.absolute().parts:
        if len(os.fsencode(part)) > os.pathconf(there, "PC_NAME_MAX"):
            raise UserError(f"output_dir {_shortened(folder)}: a name in it is too long; give another OUTPUT")


def _shortened(folder: Path) -> str:
    return str(folder) if len(str(folder)) < 120 else f"{str(folder)[:60]}...{str(folder)[-40:]}"


def make_folder(folder: Path, chosen: bool) -> Path:
    """Create the run's folder and return it; one named by us gets -2, -3, ... when two runs start in one second."""
    if chosen:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    for number in count(1):
        free = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            free.mkdir(parents=True)
        except FileExistsError:
            continue
        return free
    raise AssertionError("count() ends nowhere")


def check_continues(folder: Path, recipe: Recipe) -> str | None:
    """Check that `folder` is free, or holds an unfinished run of this recipe that nobody else goes on with.

    Returns:
        None where there is no run yet; else the changed settings, which change no result: "save_steps 50 (was 20)",
        or an empty text.

    Raises:
        UserError: it holds something else; a setting that would change the result is named.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    config, remedy = folder / RECIPE, "name another output_dir or move it"
    if not config.is_file():
        raise UserError(f"output_dir {folder} exists and is not empty; a run overwrites none; {remedy}")
    if (folder / "summary.json").is_file():
        raise UserError(f"output_dir {folder} holds a finished run; a run overwrites none; {remedy}")
    with hold(folder / LOCK):  # the training process will hold it; asking here ends a second start at once
        pass
    changed = []
    for name, begun, wanted in differences(_begun(config).with_defaults(), recipe.with_defaults()):
        if re.sub(r"\[\d+\]$", "", name).rpartition(".")[2] not in FREE:
            raise UserError(
                f"output_dir {folder} holds an unfinished run with {name} {begun!r}, this one has {wanted!r}; a run"
                f" goes on only with the settings that decide its result; give {name} as it was, or {remedy}"
            )
        if name.partition("[")[0] not in ("argv", "output_dir"):
            changed.append(f"{name} {wanted!r} (was {begun!r})")
    return ", ".join(changed)


def differences(one: object, two: object, name: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield (name, value in one, value in two) for each value of two nested recipes that differs; None: not there.

    >>> list(differences({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1, "c": 3}], "d": 4}))
    [('a[0].c', 2, 3), ('d', None, 4)]
    """
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in dict.fromkeys([*one, *two]):
            yield from differences(one.get(key), two.get(key), f"{name}.{key}" if name else str(key))
    elif _is_list(one) and _is_list(two) and len(one) == len(two):
        for index, (a, b) in enumerate(zip(one, two, strict=True)):
            yield from differences(a, b, f"{name}[{index}]")
    elif one != two:
        yield name, one, two


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _begun(config: Path) -> Recipe:
    try:
        return Recipe.read(read_yaml(config))
    except UserError as error:  # written by another version, or by hand
        raise UserError(f"{config}: {error}") from error

"""What `make eval` is told: recipe and command line as one mapping, who answers, and which folder may hold it."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_r1.evaluation import backends as answering
from open_r1.evaluation.backends import BackEnd
from open_r1.external import behind_store
from open_r1.external.build import build_providers
from open_r1.external.store.replies import PromptVersion
from open_r1.recipe.merge import merge_recipe, parse_overrides, read_yaml, untrained
from open_r1.recipe.rules import check_recipe
from open_r1.recipe.settings import ExternalModelConfig, Settings
from open_r1.schema import UserError
from open_r1.tasks import Task, get_task
from open_r1.utils.files import write_json
from open_r1.utils.names import unknown_name

BACKENDS = ("hf", "vllm", "api")
SPLITS = ("id", "ood", "all")
# What makes replies other replies; a folder holds those of one set of these, of any k: more can be added later.
IDENTITY = (
    *("task", "model_path", "backend", "prompt_kind", "eval_setting", "temperature", "eval_top_p", "eval_top_k"),
    *("eval_max_completion_length", "max_pixels", "data_path", "data_size", "num_train_rows", "num_test_rows", "seed"),
    *("external_models", "rows"),
)


def settings_of(args: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    """Merge what the evaluation is asked with; a model path that is a run's folder brings that run's recipe.

    Raises UserError for what cannot be meant.
    """
    for what, valid in (("backend", BACKENDS), ("split", SPLITS)):
        if getattr(args, what) not in valid:
            raise unknown_name(what, getattr(args, what), valid)
    if args.k < 1 or (args.rows is not None and args.rows < 1):
        raise UserError(f"k is {args.k}, rows {args.rows}; a row at least is asked at least once; give 1 or more")
    recipe = merge_recipe(args.task, args.model, args.method, parse_overrides(words))
    path = args.model_path or untrained(recipe)
    if (Path(path) / "recipe.yaml").is_file():
        run = read_yaml(Path(path) / "recipe.yaml")
        if run["task"] != args.task:
            raise UserError(f"{path} is a run of {run['task']}, not of {args.task}; give TASK={run['task']}")
        if not (Path(path) / "model").is_dir() and run.get("stages") != []:
            raise UserError(f"{path} has no model/: the run has not ended; let it end, or give a checkpoint's folder")
        recipe |= {"prompt_kind": run.get("prompt_kind", Settings.prompt_kind)}
        path = untrained(run) if run.get("stages") == [] else str(Path(path) / "model")
    if args.teachers:
        models = merge_recipe(args.task, args.model, "ekipl", (), args.teachers)["external_models"]
        recipe["external_models"] = [model for model in models if model["name"] == (args.external or model["name"])]
    check_recipe(recipe)
    full = vars(Settings()) | recipe
    variants = get_task(args.task).settings
    # One reply is asked for at Reason-RFT's evaluation temperature; k of them must differ, so as in training.
    temperature = full["eval_temperature"] if args.k == 1 else full.get("temperature", 1.0)
    temperature = temperature if args.temperature is None else args.temperature
    if args.k > 1 and temperature == 0:
        raise UserError(f"k is {args.k} at temperature 0, which gives one reply k times; give a temperature above 0")
    return full | {
        "model_path": path,
        "eval_setting": full["eval_setting"] or ("partial" if "partial" in variants else variants[0]),
        "temperature": temperature,
        "k": args.k,
        "rows": args.rows,
        "backend": args.backend,
    }


def make_back_end(settings: Mapping[str, Any], task: Task, done: int) -> BackEnd:
    """Return who answers; `done` replies are there already, and those to come are drawn from a seed of their own."""
    kind, path, pixels = settings["prompt_kind"], settings["model_path"], settings["max_pixels"]
    if settings["backend"] == "api":
        models = settings["external_models"]
        if len(models) != 1:
            raise UserError(
                f"BACKEND=api asks one external model, and {len(models)} are given:"
                f" [{', '.join(model['name'] for model in models)}]; choose by TEACHERS=file EXTERNAL=name, or write"
                " ARGS='external_models=[{name: ..., provider: ..., ...}]'"
            )
        model = ExternalModelConfig(**{"n": settings["k"]} | models[0])
        (provider,) = behind_store(  # as in training: bought once, and never over budget
            build_providers([model], settings["external_seed"], pixels, ask=not settings["store_read_only"]),
            PromptVersion(task.name, kind, task.instruction_for(kind)),
            settings["store_path"],
            settings["store_read_only"],
            settings["external_budget_usd"],
        )
        return answering.api(provider, task, kind, settings["external_deadline_s"])
    from open_r1.evaluation.policy_replies import Sampling

    sampling = Sampling(
        temperature=settings["temperature"],
        top_p=settings["eval_top_p"],
        top_k=settings["eval_top_k"],
        max_completion_length=settings["eval_max_completion_length"],
        batch_size=settings["eval_batch_size"],
        seed=settings["seed"] + done,
    )
    if settings["backend"] == "vllm":
        return answering.vllm(path, task, kind, sampling, pixels)
    return answering.hf(path, task, kind, sampling, pixels, bool(settings.get("use_cpu")))


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder, or see that an evaluation with the same settings began there."""
    path, mine = folder / "settings.json", {key: settings[key] for key in IDENTITY}
    if path.is_file():
        theirs = json.loads(path.read_text())
        for key in IDENTITY:
            if theirs.get(key) != mine[key]:
                raise UserError(
                    f"{folder} holds replies with {key} {theirs.get(key)!r}, not {mine[key]!r}; an evaluation goes on"
                    " only with its own settings; give another OUTPUT"
                )
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no evaluation; give another OUTPUT")
    write_json(path, mine)

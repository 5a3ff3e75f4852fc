"""What `make eval` is asked to do: recipe and command line, who answers, and in which folder."""

import argparse
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from open_r1.evaluation import backends as answering
from open_r1.evaluation.backends import BackEnd
from open_r1.evaluation.spread import Spread, visible_gpus
from open_r1.external import behind_store
from open_r1.external.build import build_providers
from open_r1.external.store.replies import PromptVersion
from open_r1.policy.checkpoint import no_checkpoint
from open_r1.recipe.merge import merge_recipe, parse_overrides, read_yaml
from open_r1.recipe.rules import Recipe, check_recipe
from open_r1.recipe.settings import Settings
from open_r1.schema import UserError
from open_r1.tasks import Task
from open_r1.utils.files import JsonObject, write_json
from open_r1.utils.names import unknown_name

BACKENDS = ("hf", "vllm", "api")
SPLITS = ("id", "ood", "test", "all")
# What makes replies other replies; a folder holds those of one set of these, of any k: more can be added later.
IDENTITY = (
    *("task", "model_path", "backend", "prompt_kind", "eval_setting", "temperature", "eval_top_p", "eval_top_k"),
    *("eval_max_completion_length", "max_pixels", "data_path", "test_path", "data_size", "num_train_rows"),
    *("num_test_rows", "test_share", "test_seed", "seed", "external_models", "rows"),
)


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation is: a recipe with the run's own prompt, and what the command line adds."""

    recipe: Recipe
    model_path: str
    temperature: float
    k: int
    rows: int | None
    backend: str

    def identity(self) -> JsonObject:
        """The settings that make replies other replies."""
        recipe = self.recipe
        mine = vars(self) | {"eval_setting": recipe.evaluation_grader}
        mine["external_models"] = recipe.given().get("external_models", [])
        return {key: mine[key] if key in mine else getattr(recipe, key) for key in IDENTITY}


def read_evaluation(args: argparse.Namespace, words: Sequence[str]) -> Evaluation:
    """Merge what the evaluation is asked with; a model path that is a run's folder brings that run's prompt.

    Raises:
        UserError: an unknown name, an amount out of bounds, or a run that has no model to evaluate.
    """
    for what, valid in (("backend", BACKENDS), ("split", SPLITS)):
        if getattr(args, what) not in valid:
            raise unknown_name(what, getattr(args, what), valid)
    if args.k < 1 or (args.rows is not None and args.rows < 1):
        raise UserError(f"k is {args.k}, rows {args.rows}; a row at least is asked at least once; give 1 or more")
    merged = merge_recipe(args.task, args.model, args.method, parse_overrides(words))
    if args.teachers:
        models = merge_recipe(args.task, args.model, "ekipl", (), args.teachers)["external_models"]
        merged["external_models"] = [model for model in models if model["name"] == (args.external or model["name"])]
    path = args.model_path
    if (Path(path or ".") / "recipe.yaml").is_file():
        path, kind = _model_of_run(Path(path), args.task)
        merged["prompt_kind"] = kind
    recipe = check_recipe(merged)
    # One reply is asked for at Reason-RFT's evaluation temperature; k of them must differ, so as in training.
    temperature = recipe.eval_temperature if args.k == 1 else recipe.temperature
    temperature = temperature if args.temperature is None else args.temperature
    if args.k > 1 and temperature == 0:
        raise UserError(f"k is {args.k} at temperature 0, which gives one reply k times; give a temperature above 0")
    path = path or recipe.untrained
    if args.backend != "api" and (why := no_checkpoint(path)):
        raise UserError(f"model_path {path}: {why}; give MODEL_PATH=folder with a checkpoint, an adapter or a run")
    return Evaluation(recipe, path, temperature, args.k, args.rows, args.backend)


def _model_of_run(folder: Path, task: str) -> tuple[str, str]:
    """The model that a run's folder holds, and the kind of prompt that it was trained with."""
    written = read_yaml(folder / "recipe.yaml")
    keys = ("task", "model_path", "base_path", "stages", "prompt_kind")  # other keys may be those of an older version
    run = Settings.read({key: written[key] for key in keys if key in written})
    if run.task != task:
        raise UserError(f"{folder} is a run of {run.task}, not of {task}; give TASK={run.task}")
    if not (folder / "model").is_dir() and run.stages:
        raise UserError(f"{folder} has no model/: the run has not ended; let it end, or give a checkpoint's folder")
    return str(folder / "model") if run.stages else run.untrained, run.prompt_kind


def make_back_end(evaluation: Evaluation, task: Task, done: int) -> BackEnd:
    """Return who answers; `done` replies are there already, and those to come are drawn from a seed of their own."""
    recipe, path = evaluation.recipe, evaluation.model_path
    kind, pixels = recipe.prompt_kind, recipe.max_pixels
    if evaluation.backend == "api":
        models = recipe.external_models
        if len(models) != 1:
            raise UserError(
                f"BACKEND=api asks one external model, and {len(models)} are given:"
                f" [{', '.join(model.name for model in models)}]; choose by TEACHERS=file EXTERNAL=name, or write"
                " ARGS='external_models=[{name: ..., provider: ..., ...}]'"
            )
        model = models[0] if models[0].n else models[0].model_copy(update={"n": evaluation.k})
        (provider,) = behind_store(  # as in training: bought once, and never over budget
            build_providers([model], recipe.external_seed, pixels, ask=not recipe.store_read_only),
            PromptVersion(task.name, kind, task.instruction_for(kind)),
            recipe.store_path,
            recipe.store_read_only,
            recipe.external_budget_usd,
        )
        return answering.api(provider, task, kind, recipe.external_deadline_s)
    from open_r1.evaluation.policy_replies import sampling_of

    sampling = replace(sampling_of(recipe), temperature=evaluation.temperature, seed=recipe.seed + done)
    if evaluation.backend == "vllm":
        make = functools.partial(answering.vllm, answering.for_vllm(path), task, kind, sampling, pixels)
    else:
        make = functools.partial(answering.hf, path, task, kind, sampling, pixels, recipe.use_cpu)
    devices = [] if recipe.use_cpu else visible_gpus()
    return Spread(make, devices) if len(devices) > 1 else make()


def claim(folder: Path, evaluation: Evaluation) -> None:
    """Make the folder, or see that an evaluation with the same settings began there."""
    path, mine = folder / "settings.json", evaluation.identity()
    if path.is_file():
        theirs = json.loads(path.read_text())
        for key in IDENTITY:
            field = Settings.model_fields.get(key)  # a folder of an earlier version lacks settings that came later
            if (other := theirs.get(key, field and field.default)) != mine[key]:
                raise UserError(
                    f"{folder} holds replies with {key} {other!r}, not {mine[key]!r}; an evaluation goes on"
                    " only with its own settings; give another OUTPUT"
                )
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no evaluation; give another OUTPUT")
    write_json(path, mine)

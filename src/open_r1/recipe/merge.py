"""Recipes: merge task, teachers, method and command line into one plain mapping.

Later wins: recipes/tasks/<task>/<model>.yaml, recipes/teachers/<name>.yaml where one is named,
recipes/methods/<method>.yaml, the command line. The first two list external models under `teachers`, the
first also the rows of a first stage, `cold_start_rows`; a method takes them up by interpolation
(`external_models: ${teachers}`) or not.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from open_r1.recipe.rules import check_keys
from open_r1.recipe.settings import MODELS, RECIPES, recipe_names
from open_r1.schema import UserError
from open_r1.utils.files import JsonObject, is_object
from open_r1.utils.names import unknown_name

TEACHERS = "teachers"
FOR_METHODS = (TEACHERS, "cold_start_rows")  # read by recipes/methods/*.yaml; no keys of the merged recipe
CHOICES = ("task", "model", "method", TEACHERS)  # they name the files to merge: an override would come too late


def read_yaml(path: Path) -> JsonObject:
    """Read one YAML file of settings, values typed as OmegaConf types them (1e-6 is a number).

    Raises:
        UserError: no such file, not YAML (duplicate keys included), or not a mapping.
    """
    if not path.is_file():
        raise UserError(f"no recipe {path}; give an existing YAML file")
    try:
        content = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is not valid YAML: {_one_line(error)}; correct that line") from error
    plain: object = OmegaConf.to_container(content)
    if not is_object(plain):
        raise UserError(f"{path} holds a list; a recipe is a mapping `key: value`; name the keys")
    return {str(key): value for key, value in plain.items()}


def to_yaml(recipe: Mapping[str, object]) -> str:
    """Write what `read_yaml` reads back as it was: a text that looks like a number ("1e-6") is quoted."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(recipe)))


def merge_recipe(task: str, model: str, method: str, overrides: Sequence[str] = (), teachers: str = "") -> JsonObject:
    """Merge the recipe of (task, model), those of other teachers, the method's, and overrides "key=value"; later wins.

    `teachers` names files of recipes/teachers or paths of YAML files like them, separated by commas.

    Returns:
        Plain values by key, interpolations resolved. Keys are known to be valid; values are not checked here.

    Raises:
        UserError: an unknown task, model, method or key (with the nearest valid one), or an override that fits nowhere.
    """
    for what, name, valid in (
        ("task", task, [path.name for path in (RECIPES / "tasks").iterdir()]),
        ("model", model, MODELS),
        ("method", method, recipe_names("methods")),
        *(("teachers", name, recipe_names(TEACHERS)) for name in teachers.split(",") if name and not is_path(name)),
    ):
        if name not in valid:
            raise unknown_name(what, name, valid)
    layers: list[JsonObject] = []
    paths = [RECIPES / "tasks" / task / f"{model}.yaml"]
    paths += [
        Path(name) if is_path(name) else RECIPES / TEACHERS / f"{name}.yaml" for name in teachers.split(",") if name
    ]
    for path in [*paths, RECIPES / "methods" / f"{method}.yaml"]:
        layers.append(read_yaml(path))
        check_keys([key for key in layers[-1] if key not in FOR_METHODS], str(path))
    try:
        merged: object = OmegaConf.to_container(OmegaConf.merge(*layers), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"recipes of {task}, {model}, {method} do not merge: {_one_line(error)}") from error
    assert is_object(merged)
    for key in FOR_METHODS:
        merged.pop(key, None)
    return {"task": task, "model": model, "method": method, **apply_overrides(merged, overrides)}


def is_path(name: str) -> bool:
    """Whether a recipe is named by its file's path: `my/teachers.yaml`, not `vllm`."""
    return name.endswith((".yaml", ".yml")) or "/" in name


def apply_overrides(recipe: JsonObject, overrides: Sequence[str]) -> JsonObject:
    """Set "key=value" overrides, nested keys too ("external_models[0].accuracy=.9"), typed by YAML."""
    config = OmegaConf.create(recipe)
    for override in overrides:
        key = override.split("=", 1)[0]
        root = re.split(r"[.\[]", key)[0]
        if root in CHOICES:
            raise UserError(f"'{override}' on the command line comes after the recipes are chosen; write --{root} NAME")
        check_keys([root], "the command line")
        try:
            config.merge_with_dotlist([override])
        except (OmegaConfBaseException, yaml.YAMLError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"cannot set '{key}' on the command line: {_one_line(error)}; --dry_run shows the recipe"
            ) from error
    try:
        plain: object = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"a value on the command line cannot be resolved: {_one_line(error)}") from error
    assert is_object(plain)
    return {str(key): value for key, value in plain.items()}


def parse_overrides(words: Sequence[str]) -> list[str]:
    """Turn `--key value`, `--key=value`, `key=value` and a bare `--flag` into "key=value" strings.

    >>> parse_overrides(["--learning_rate", "1e-6", "beta=0", "--skip_bad_rows"])
    ['learning_rate=1e-6', 'beta=0', 'skip_bad_rows=true']
    """
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") and "=" not in word:
            raise UserError(f"'{word}' on the command line belongs to no key; write --key value or key=value")
        key, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        overrides.append(f"{key.replace('-', '_')}={value}")
    return overrides


def _one_line(error: Exception) -> str:
    message = str(error).split("\n    full_key")[0]  # OmegaConf adds its internals below
    return " ".join(message.split())

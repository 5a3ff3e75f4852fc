"""Recipes: merge task, method and command line into one plain mapping, and know which keys and types are valid.

Later wins: recipes/tasks/<task>/<model>.yaml, recipes/teachers/<name>.yaml where one is named,
recipes/methods/<method>.yaml, the command line. The first two list external models under `teachers`, the
first also the rows of a first stage, `cold_start_rows`; a method takes them up by interpolation
(`external_models: ${teachers}`) or not.

TRL's keys are read from its source with `ast`: that takes .1 s where importing it takes ten. `tests/test_configs.py`
holds that both ways give the same names.
"""

import ast
import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from open_r1.recipe.settings import MODELS
from open_r1.schema import UserError
from open_r1.utils.names import unknown_name
from open_r1.utils.provenance import ROOT

RECIPES = ROOT / "recipes"
TEACHERS = "teachers"
FOR_METHODS = (TEACHERS, "cold_start_rows")  # read by recipes/methods/*.yaml; no keys of the merged recipe
CHOICES = ("task", "model", "method", TEACHERS)  # they name the files to merge: an override would come too late


def recipe_names(folder: str) -> list[str]:
    """List the recipes in a folder below recipes/; of "methods" these are ["ans_sft", "cot_sft", ...]."""
    return sorted(path.stem for path in (RECIPES / folder).glob("*.yaml"))


@cache
def field_types() -> dict[str, frozenset[str]]:
    """Map every valid key to the names of its types, e.g. "beta" -> {"float"}, "top_k" -> {"int"}."""
    return _trl_types("GRPOConfig") | class_types(Path(__file__).with_name("settings.py"), "Settings")


@cache
def sft_types() -> dict[str, frozenset[str]]:
    """The same of the setting `sft`: SFTConfig's keys."""
    return _trl_types("SFTConfig")


@cache
def lora_types() -> dict[str, frozenset[str]]:
    """The same of the setting `lora`: LoraConfig's keys."""
    return class_types(_package_folder("peft") / "tuners" / "lora" / "config.py", "LoraConfig")


def _trl_types(name: str) -> dict[str, frozenset[str]]:
    """The fields of one of TRL's configurations: "GRPOConfig" is in trl/trainer/grpo_config.py."""
    transformers, trl = (_package_folder(package) for package in ("transformers", "trl"))
    sources = {  # in the order of inheritance: a later class overrides an earlier one's field
        "TrainingArguments": transformers / "training_args.py",
        "_BaseConfig": trl / "trainer" / "base_config.py",
        name: trl / "trainer" / f"{name.removesuffix('Config').lower()}_config.py",
    }
    return {key: types for owner, path in sources.items() for key, types in class_types(path, owner).items()}


def class_types(path: Path, class_name: str) -> dict[str, frozenset[str]]:
    """Read the annotated fields of one class from its source: field name -> names of the types in its union."""
    body = next(
        node.body
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    return {
        line.target.id: frozenset(_union_members(line.annotation))
        for line in body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def _union_members(node: ast.expr) -> list[str]:
    if isinstance(node, ast.BinOp):  # A | B
        return [*_union_members(node.left), *_union_members(node.right)]
    if isinstance(node, ast.Subscript):  # list[...]: the container is all that is checked
        return _union_members(node.value)
    return [ast.unparse(node)]


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)  # finds a top-level package without running it
    if spec is None or spec.origin is None:
        raise UserError(f"the package '{name}' is not installed in this Python; run `make install` and use .venv")
    return Path(spec.origin).parent


def read_yaml(path: Path) -> dict[str, Any]:
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
    plain = OmegaConf.to_container(content)
    if not isinstance(plain, dict):
        raise UserError(f"{path} holds a list; a recipe is a mapping `key: value`; name the keys")
    return {str(key): value for key, value in plain.items()}


def merge_recipe(
    task: str, model: str, method: str, overrides: Sequence[str] = (), teachers: str = ""
) -> dict[str, Any]:
    """Merge the recipe of (task, model), those of other teachers, the method's, and overrides "key=value"; later wins.

    `teachers` names files of recipes/teachers, separated by commas.

    Returns:
        Plain values by key, interpolations resolved. Keys are known to be valid; values are not checked here.

    Raises:
        UserError: an unknown task, model, method or key (with the nearest valid one), or an override that fits nowhere.
    """
    for what, name, valid in (
        ("task", task, [path.name for path in (RECIPES / "tasks").iterdir()]),
        ("model", model, MODELS),
        ("method", method, recipe_names("methods")),
        *(("teachers", name, recipe_names(TEACHERS)) for name in teachers.split(",") if teachers),
    ):
        if name not in valid:
            raise unknown_name(what, name, valid)
    layers, paths = [], [RECIPES / "tasks" / task / f"{model}.yaml"]
    paths += [RECIPES / TEACHERS / f"{name}.yaml" for name in teachers.split(",") if teachers]
    for path in [*paths, RECIPES / "methods" / f"{method}.yaml"]:
        layers.append(read_yaml(path))
        check_keys([key for key in layers[-1] if key not in FOR_METHODS], str(path))
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(*layers), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"recipes of {task}, {model}, {method} do not merge: {_one_line(error)}") from error
    assert isinstance(merged, dict)
    for key in FOR_METHODS:
        merged.pop(key, None)
    return {"task": task, "model": model, "method": method, **apply_overrides(merged, overrides)}


def untrained(recipe: Mapping[str, Any]) -> str:
    """The policy that a recipe's training begins with: a folder, or a hub id."""
    return recipe.get("model_path") or recipe.get("base_path") or str(ROOT / "bases" / recipe["task"])


def apply_overrides(recipe: dict[Any, Any], overrides: Sequence[str]) -> dict[str, Any]:
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
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"a value on the command line cannot be resolved: {_one_line(error)}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def parse_overrides(words: Sequence[str]) -> list[str]:
    """Turn `--key value`, `--key=value`, `key=value` and a bare `--flag` into "key=value" strings.

    >>> parse_overrides(["--learning_rate", "1e-6", "beta=0", "--skip_bad_rows"])
    ['learning_rate=1e-6', 'beta=0', 'skip_bad_rows=true']
    """
    overrides, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") and "=" not in word:
            raise UserError(f"'{word}' on the command line belongs to no key; write --key value or key=value")
        key, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        overrides.append(f"{key.replace('-', '_')}={value}")
    return overrides


def check_keys(keys: Sequence[str], where: str) -> None:
    """Raise UserError with the nearest valid key for the first key that nothing reads."""
    for key in keys:
        if key not in field_types():
            raise unknown_name("key", key, field_types(), where)


def _one_line(error: Exception) -> str:
    message = str(error).split("\n    full_key")[0]  # OmegaConf adds its internals below
    return " ".join(message.split())

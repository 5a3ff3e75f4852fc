"""The keys that are not ours: TRL's and peft's names, types and defaults, read from their source.

Reading source with `ast` takes .1 s where importing TRL takes ten; `tests/test_configs.py` holds that both ways give
the same names and defaults.
"""

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from open_r1.schema import UserError

COMPUTED = object()  # the default of a key whose source computes it
PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "str": str,
    "None": type(None),
    "dict": dict,
    "list": list,
    "Literal": bool,  # transformers writes `Literal[False]`
}


class Key(NamedTuple):
    """One key: the names of the types in its union, and its default.

    Example: "beta" is Key(frozenset({"float"}), 0.0).
    """

    types: frozenset[str]
    default: object


@cache
def grpo_keys() -> dict[str, Key]:
    """The keys of TRL's GRPOConfig, those that it inherits included."""
    return _trl_keys("GRPOConfig")


@cache
def sft_keys() -> dict[str, Key]:
    """The keys of TRL's SFTConfig: what the setting `sft` may hold."""
    return _trl_keys("SFTConfig")


@cache
def lora_keys() -> dict[str, Key]:
    """The keys of peft's LoraConfig: what the setting `lora` may hold."""
    return class_keys(package_folder("peft") / "tuners" / "lora" / "config.py", "LoraConfig")


def class_keys(path: Path, class_name: str) -> dict[str, Key]:
    """Read the annotated fields of one class from its source."""
    return {
        line.target.id: Key(frozenset(_union_members(line.annotation)), _default(line.value))
        for line in _class_body(path, class_name)
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def package_folder(name: str) -> Path:
    """The folder of an installed top-level package, found without running it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UserError(f"the package '{name}' is not installed in this Python; run `make install` and use .venv")
    return Path(spec.origin).parent


def check_type(value: object, types: frozenset[str], where: str) -> None:
    """Check a value against its key's type names; a name that is no plain type (an enum) takes text."""
    for name in types:
        # True is an int to Python, and is never meant as a number in a recipe
        number = name in ("int", "float")
        if isinstance(value, PYTHON_TYPES.get(name, str)) and not (isinstance(value, bool) and number):
            return
    raise wrong_type(value, types, where)


def wrong_type(value: object, types: frozenset[str], where: str) -> UserError:
    """Build (not raise) the error for a value of another type than its key's.

    >>> str(wrong_type("fast", frozenset({"float", "None"}), "learning_rate"))
    "learning_rate is 'fast' (str); it must be empty or float; give a value of that type"
    """
    wanted = " or ".join(sorted("empty" if name == "None" else name for name in types))
    return UserError(f"{where} is {value!r} ({type(value).__name__}); it must be {wanted}; give a value of that type")


def _trl_keys(name: str) -> dict[str, Key]:
    """The fields of one of TRL's configurations: "GRPOConfig" is in trl/trainer/grpo_config.py."""
    transformers, trl = package_folder("transformers"), package_folder("trl")
    sources = {  # in the order of inheritance: a later class overrides an earlier one's field
        "TrainingArguments": transformers / "training_args.py",
        "_BaseConfig": trl / "trainer" / "base_config.py",
        name: trl / "trainer" / f"{name.removesuffix('Config').lower()}_config.py",
    }
    return {key: read for owner, path in sources.items() for key, read in class_keys(path, owner).items()}


def _class_body(path: Path, class_name: str) -> list[ast.stmt]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)


def _union_members(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.BinOp):  # A | B
        yield from _union_members(node.left)
        yield from _union_members(node.right)
    elif isinstance(node, ast.Subscript):  # list[...]: the container is all that is checked
        yield from _union_members(node.value)
    else:
        yield ast.unparse(node)


def _default(value: ast.expr | None) -> object:
    """The default that `= 5`, `= field(default=5)` or `= field(default_factory=list)` gives."""
    if isinstance(value, ast.Call):
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        value = given.get("default")
        factory = given.get("default_factory")
        if isinstance(factory, ast.Name) and factory.id in ("list", "dict"):
            return [] if factory.id == "list" else {}
    try:
        return COMPUTED if value is None else ast.literal_eval(value)
    except ValueError:  # a name or a call: what it gives is not in the source
        return COMPUTED


@cache
def optimizer_names() -> list[str]:
    """The optimizers that transformers knows: what `optim` may be."""
    return _enum_values(package_folder("transformers") / "training_args.py", "OptimizerNames")


@cache
def scheduler_names() -> list[str]:
    """The schedules that transformers knows: what `lr_scheduler_type` may be."""
    return _enum_values(package_folder("transformers") / "trainer_utils.py", "SchedulerType")


@cache
def tracker_names() -> list[str]:
    """The trackers that transformers knows: what `report_to` may hold."""
    path = package_folder("transformers") / "integrations" / "integration_utils.py"
    for line in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "INTEGRATION_TO_CALLBACK":
            assert isinstance(line.value, ast.Dict)
            return [
                key.value for key in line.value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
    raise AssertionError(f"{path} has no INTEGRATION_TO_CALLBACK: another version of transformers")


def _enum_values(path: Path, class_name: str) -> list[str]:
    body = _class_body(path, class_name)
    return _texts([line.value for line in body if isinstance(line, ast.Assign)])


def _texts(values: Sequence[ast.expr | None]) -> list[str]:
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]

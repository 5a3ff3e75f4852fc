"""The rules of a method's stages and of what is handed on to TRL and peft; and the check of a value's type.

Apart from `checks.py`, which calls them, for length alone.
"""

from collections.abc import Mapping
from typing import Any

from open_r1.recipe import merge as recipes
from open_r1.recipe.settings import STAGES
from open_r1.schema import UserError
from open_r1.utils.names import unknown_name

PYTHON_TYPES = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "str": str,
    "None": type(None),
    "dict": dict,
    "list": list,
}
PYTHON_TYPES["Literal"] = bool  # transformers writes `Literal[False]`


def check_type(value: Any, types: frozenset[str], where: str) -> None:
    """Check a value against its field's type names; a name that is no plain type (an enum) takes text."""
    for name in types:
        kind = PYTHON_TYPES.get(name, str)
        # True is an int to Python, and is never meant as a number in a recipe
        if isinstance(value, kind) and not (isinstance(value, bool) and name in ("int", "float")):
            return
    given = f"{value!r} ({type(value).__name__})"
    wanted = " or ".join(sorted("empty" if name == "None" else name for name in types))
    raise UserError(f"{where} is {given}; it must be {wanted}; give a value of that type")


def check_stages(recipe: Mapping[str, Any]) -> None:
    """Check what a method is made of, and the settings that are handed on to TRL's SFTConfig and peft's LoraConfig."""
    stages = recipe["stages"]
    for stage in stages:
        if stage not in STAGES:
            raise unknown_name("stage", str(stage), STAGES, "stages")
    if stages != [stage for stage in STAGES if stage in stages]:
        raise UserError(f"stages is {stages}; each stage comes at most once, {' before '.join(STAGES)}; reorder them")
    if recipe["external_models"] and stages == ["sft"]:
        raise UserError(
            f"stages is {stages} with external models; only the rl stage asks them; set external_models: []"
        )
    if recipe["prompt_kind"] == "direct" and "rl" in stages:
        raise UserError(
            "prompt_kind is direct with an rl stage, whose reward asks for tags; set prompt_kind: reasoning"
        )
    for name, types in (("sft", recipes.sft_types()), ("lora", recipes.lora_types())):
        for key, value in recipe[name].items():
            if key not in types:
                raise unknown_name("key", str(key), types, name)
            if name == "sft":  # LoraConfig's own types are too free to be checked by name
                check_type(value, types[key], f"{name}.{key}")
    if recipe["lora"] and recipe["lora"].get("r", 0) < 1:
        raise UserError(f"lora is {recipe['lora']}; an adapter has a rank r of at least 1; give lora.r=64")

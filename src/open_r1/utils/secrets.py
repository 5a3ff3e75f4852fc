"""Refuse literal keys and tokens in settings: recipes are written into run folders, logs and checkpoints."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.schema import UserError

SECRET_NAME = re.compile(r"(^|_)(api_?key|key|token|secret|password)$", re.IGNORECASE)
# What keys of OpenAI and Anthropic, Hugging Face, Google, GitHub and AWS look like, and HTTP bearer headers.
SECRET_VALUE = re.compile(
    r"(?<!\w)(sk-[\w-]{16,}|hf_\w{20,}|AIza[\w-]{30,}|gh[pousr]_\w{20,}|AKIA[0-9A-Z]{16}|Bearer\s+\S{16,})"
    r"|://[^/\s:@]+:[^/\s@]+@"  # a password in an address
)


def check_secrets(recipe: Mapping[str, Any]) -> None:
    """Raise UserError for the first value that is a literal key by its name or its looks; the value is not repeated."""
    for where, name, value in _leaves(recipe):
        if isinstance(value, str) and value and (SECRET_NAME.search(name) or SECRET_VALUE.search(value)):
            raise UserError(
                f"{where} looks like a literal key or token; a recipe is copied into every run folder, so it may hold"
                " none; put the key into an environment variable"
            )


def _leaves(value: Any, where: str = "", name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Walk nested mappings and lists: (path such as "external_models[0].name", last name, value)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{where}.{key}" if where else str(key), str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{where}[{index}]", name)
    else:
        yield where, name, value

"""Literal keys and tokens: refused in settings, which are written into run folders; cut out of others' texts."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.schema import UserError, printable

# Names of settings and headers that hold a key, once "-" is "_" and letters are small.
SECRET_NAME = re.compile(
    r"(^|_)(api_?key|key|token|secret|pass(word|wd|phrase)|pwd|credentials?|authorization|bearer|cookie)$"
)
# Of these names, the ones that hold something else: a data column, and a word of a tokenizer.
HARMLESS = re.compile(
    r"(^|_)((problem|question|prompt|query|answer|solution|label|images?|choices|options|id|cot|kind|text|messages)_key"
    r"|(eos|bos|pad|unk|sep|cls|mask|stop|image|video)_token)$"
)
# What keys look like, by who gives them out; HTTP's headers; keys in addresses; private keys.
SHAPES = (
    r"sk-[\w-]{16,}",  # OpenAI, Anthropic, OpenRouter, DeepSeek
    r"(sk|pk|rk)_(live|test)_\w{16,}",
    r"hf_\w{20,}",
    r"AIza[\w-]{30,}|ya29\.[\w-]{20,}|AQ\.[\w-]{20,}",  # Google
    r"gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}",
    r"(AKIA|ASIA)[0-9A-Z]{16}",
    r"gsk_\w{16,}|xai-\w{16,}|nvapi-[\w-]{16,}|pplx-\w{16,}|fw_\w{16,}|tgp_v1_[\w-]{16,}|csk-\w{16,}|r8_\w{16,}",
    r"xox[abeoprs]-[\w-]{10,}|wandb_v1_\w{16,}|npm_\w{20,}|pypi-[\w-]{20,}|dop_v1_\w{16,}|SG\.[\w-]{16,}\.[\w-]{16,}",
    r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*",  # a JSON web token
    r"-----BEGIN [A-Z ]*PRIVATE KEY",
)
SECRET_VALUE = re.compile(
    rf"(?<![\w-])({'|'.join(SHAPES)})"
    r"|\b(?:Bearer|Basic|Token)\s+[\w+/=.~-]{12,}"
    r"|://[^/\s@]+@"  # a user, a token or a password in an address
    r"|[?&;](?:[\w-]*(?:api[-_]?key|token|secret|password|passwd|subscription-key)|key|auth|sig|signature)=[^&\s\"']+",
    re.IGNORECASE,
)
MARK = "***"
SHORTEST = 6  # characters of a key that is cut out of a text; a shorter one is no key, but may be a word


def check_secrets(recipe: Mapping[str, Any]) -> None:
    """Raise UserError for the first value that is a literal key by its name or its looks; the value is not repeated."""
    for where, name, value in _leaves(recipe):
        if isinstance(value, str) and value and (names_secret(name) or SECRET_VALUE.search(value)):
            raise UserError(
                f"{SECRET_VALUE.sub(MARK, where)} looks like a literal key or token; a recipe is copied into every run"
                " folder, so it may hold none; put the key into an environment variable"
            )


def names_secret(name: str) -> bool:
    """Whether a setting or header of this name holds a key.

    >>> [names_secret(name) for name in ("X-API-Key", "passwd", "hub_token", "answer_key", "eos_token", "max_tokens")]
    [True, True, True, False, False, False]
    """
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).replace("-", "_").lower()
    return bool(SECRET_NAME.search(plain)) and not HARMLESS.search(plain)


def scrub(text: str, *sent: str) -> str:
    """Cut keys out of a text from elsewhere: the very values that were `sent`, and whatever looks like one."""
    for value in sent:
        if len(value) >= SHORTEST:
            text = text.replace(value, MARK)
    return printable(SECRET_VALUE.sub(MARK, text))


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

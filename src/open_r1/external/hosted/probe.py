"""A look at a server of one's own before anything is asked: is it there, is this its address, what does it serve."""

import os
import time
from typing import NamedTuple

import httpx
from pydantic import BaseModel, ValidationError

from open_r1.external.hosted.wire import REDIRECTS, for_log
from open_r1.recipe.settings import ExternalModelConfig

REACH_S = 5.0  # for a server to say which models it serves
MOST_BYTES = 4 * 2**20  # of that answer
SHOWN = 5  # models that are named


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    """OpenAI's list of models, GET /v1/models."""

    data: list[_Model]


class _Look(NamedTuple):
    """What one GET found."""

    status: int = 0
    models: list[str] | None = None  # None where the answer is no list of models
    location: str = ""  # where a redirect leads
    error: str = ""  # why there was no answer


def server_fault(model: ExternalModelConfig) -> str | None:
    """What is wrong with the server at a model's `api_base`; None where nothing is, or where it does not say.

    It looks at /models, and where that is not found one level down, at /v1: an address without it is the usual slip.
    """
    key = os.environ.get(model.key_variable, "") if model.key_variable else ""
    base = model.api_base.rstrip("/")
    found = _look(f"{base}/models", key)
    if found.error:
        return f"api_base {model.api_base} {found.error}"
    if found.status in REDIRECTS:
        there = for_log(found.location.removesuffix("/models"), key)
        return f"api_base {model.api_base} redirects to {there}, where nothing is sent unasked; write that address"
    if found.status in (400, 401, 403):  # 400: litellm's proxy without a database, asked with a wrong key
        return f"api_base {model.api_base} refuses the key (HTTP {found.status}); check key_variable"
    if found.status >= 500:
        return (
            f"api_base {model.api_base} answers HTTP {found.status}; wait until the server is ready, or look at its log"
        )
    if found.models is None:
        return _misplaced(model.api_base, base, key)
    name = model.model.partition("/")[2]
    if found.models and name not in found.models:
        served = for_log(", ".join(found.models[:SHOWN]), key)
        return f"api_base {model.api_base} serves {served}, not '{name}'; correct model"
    return None


def _misplaced(given: str, base: str, key: str) -> str | None:
    """Say that the API lies elsewhere, where that can be seen; None where it may be here all the same."""
    for other in (f"{base}/v1", base.removesuffix("/chat/completions"), base.removesuffix("/completions")):
        if other != base and _look(f"{other}/models", key).models is not None:
            return f"api_base {given} is not where the API is (no {base}/models), {other} is; write api_base: {other}"
    # A route for POST alone says so (405); no such route is a 404.
    if _look(f"{base}/chat/completions", key).status == 404:
        return f"api_base {given} answers 404 for /models and /chat/completions; write the address up to and with /v1"
    return None


def _look(url: str, key: str) -> _Look:
    """GET an address within REACH_S, however slowly it answers."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    give_up_at = time.monotonic() + REACH_S
    content = bytearray()
    try:
        with httpx.stream("GET", url, headers=headers, timeout=REACH_S) as response:
            for piece in response.iter_bytes():
                content += piece
                if len(content) > MOST_BYTES or time.monotonic() > give_up_at:
                    break
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, ValueError):
        return _Look(error="is no address; write http://HOST:PORT/v1")
    except httpx.HTTPError as error:
        return _Look(error=f"cannot be reached ({type(error).__name__}); start it or correct the address")
    location = response.headers.get("location", "")
    return _Look(response.status_code, _read_models(bytes(content)) if response.status_code == 200 else None, location)


def _read_models(content: bytes) -> list[str] | None:
    try:
        return [model.id for model in _Models.model_validate_json(content).data]
    except ValidationError:
        return None

"""What the external models of a recipe need that is not here: known models, keys, prices, servers. Asks for no reply.

It does not import litellm, so that a launch that cannot work is refused within seconds.
"""

import difflib
import os
from collections.abc import Iterator, Sequence

import httpx

from open_r1.external.hosted.prices import OWN_SERVERS, price, price_table, table_entry
from open_r1.recipe.settings import ExternalModelConfig

REACH_S = 5.0  # for a server to say which models it serves


def lacking(models: Sequence[ExternalModelConfig]) -> list[str]:
    """List what is missing, one line each: what, the rule, and the remedy. Scripted models need nothing."""
    return [line for model in models if model.provider == "litellm" for line in _lacking(model)]


def _lacking(model: ExternalModelConfig) -> Iterator[str]:
    who = f"external model '{model.name}'"
    if (fault := _unknown(model)) is not None:
        yield f"{who}: {fault}"
    elif price(model) is None:
        yield (
            f"{who}: no price is known for '{model.model}', so no budget could hold; give usd_per_million_in and"
            " usd_per_million_out (0 for a server of your own)"
        )
    if model.key_variable and not os.environ.get(model.key_variable):
        yield f"{who}: the environment variable {model.key_variable} is not set; export it with the key in it"
    elif not model.key_variable and not model.api_base:
        yield f"{who}: a hosted model needs a key; give key_variable, the NAME of the variable that holds it"
    elif model.api_base and (fault := _unreachable(model)):
        yield f"{who}: {fault}"


def _unknown(model: ExternalModelConfig) -> str | None:
    provider = model.model.partition("/")[0]
    providers = OWN_SERVERS | {entry.get("litellm_provider") for entry in price_table().values()}
    if model.api_base and provider in providers:
        return None
    entry = table_entry(model.model)
    if entry is None:
        near = difflib.get_close_matches(model.model, price_table(), n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"litellm knows no model '{model.model}'; give one of its names, or api_base and hosted_vllm/NAME{hint}"
    if entry.get("mode") not in ("chat", "responses"):
        return f"'{model.model}' is no chat model ({entry.get('mode')}); give one that answers messages"
    if entry.get("supports_vision") is False:
        return f"'{model.model}' takes no pictures; give one that does"
    return None


def _unreachable(model: ExternalModelConfig) -> str | None:
    """Ask an own server which models it serves; one that does not say so counts as serving ours."""
    key = os.environ.get(model.key_variable, "") if model.key_variable else ""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(f"{model.api_base.rstrip('/')}/models", headers=headers, timeout=REACH_S)
    except httpx.HTTPError as error:
        return f"api_base {model.api_base} cannot be reached ({type(error).__name__}); start it or mend the address"
    except httpx.InvalidURL:
        return f"api_base {model.api_base} is no address; write http://HOST:PORT/v1"
    if answer.status_code in (400, 401, 403):  # 400: litellm's proxy without a database, asked with a wrong key
        return f"api_base {model.api_base} refuses the key (HTTP {answer.status_code}); check key_variable"
    try:
        served = [entry["id"] for entry in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return None
    name = model.model.partition("/")[2]
    if served and name not in served:
        return f"api_base {model.api_base} serves {', '.join(map(str, served[:5]))}, not '{name}'; mend model"
    return None

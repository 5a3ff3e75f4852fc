"""What the external models of a recipe need that is not here: known models, keys, prices, servers. Asks for no reply.

litellm is imported only where a model goes through it: a launch that cannot work is refused within seconds.
"""

import difflib
import os
from collections.abc import Iterator, Sequence

from open_r1.external.hosted.hosted_provider import spoken_to_directly
from open_r1.external.hosted.litellm_wire import refused_settings
from open_r1.external.hosted.prices import OWN_SERVERS, price, price_table, table_entry
from open_r1.external.hosted.probe import server_fault
from open_r1.external.hosted.wire import sendable
from open_r1.recipe.settings import ExternalModelConfig

# They sell models of many makers, new ones every week: with a price of the recipe's own, litellm's table need not know.
RESELLERS = {"openrouter", "together_ai", "fireworks_ai", "deepinfra", "novita"}


def lacking(models: Sequence[ExternalModelConfig]) -> list[str]:
    """List what is missing, one line each: what, the rule, and the remedy. Scripted models need nothing."""
    return [line for model in models if model.provider == "litellm" for line in _lacking(model)]


def _lacking(model: ExternalModelConfig) -> Iterator[str]:
    who = f"external model '{model.name}'"
    unknown = _unknown(model)
    if unknown is not None:
        yield f"{who}: {unknown}"
    elif price(model) is None:
        yield (
            f"{who}: no price is known for '{model.model}', so no budget could hold; give usd_per_million_in and"
            " usd_per_million_out (0 for a server of your own)"
        )
    key_fault = _key_fault(model)
    if key_fault is not None:
        yield f"{who}: {key_fault}"
    elif model.api_base and (fault := server_fault(model)):
        yield f"{who}: {fault}"
    if unknown is None and not spoken_to_directly(model) and (fault := _refused(model)):
        yield f"{who}: {fault}"


def _unknown(model: ExternalModelConfig) -> str | None:
    provider = model.model.partition("/")[0]
    providers = OWN_SERVERS | {entry.get("litellm_provider") for entry in price_table().values()}
    if model.api_base and provider in providers:
        return None
    if provider in RESELLERS and price(model) is not None:
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


def _key_fault(model: ExternalModelConfig) -> str | None:
    """What is wrong with the key, without repeating it."""
    if not model.key_variable:
        return (
            None
            if model.api_base
            else "a hosted model needs a key; give key_variable, the NAME of the variable that holds it"
        )
    key = os.environ.get(model.key_variable, "")
    if not key:
        return f"the environment variable {model.key_variable} is not set; export it with the key in it"
    if not sendable(key):
        return (
            f"the key in {model.key_variable} holds a line end, a blank or a letter that HTTP cannot send; export it"
            " anew without, e.g. with $(tr -d '[:space:]' < FILE)"
        )
    return None


def _refused(model: ExternalModelConfig) -> str | None:
    """A setting that the model's API refuses by litellm's own tables: every call would fail."""
    most = (table_entry(model.model) or {}).get("max_output_tokens")
    if isinstance(most, int) and model.max_tokens > most:
        return f"max_tokens is {model.max_tokens:,}, and '{model.model}' gives at most {most:,}; set it to that or less"
    given = {"temperature": model.temperature, "top_p": model.top_p, "max_tokens": model.max_tokens}
    settings = {key: value for key, value in (given | model.extra_body).items() if value is not None}
    fault = refused_settings(model.model, settings)
    return None if fault is None else f"its settings are refused by litellm: {fault}; change or leave out that setting"

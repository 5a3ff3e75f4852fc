"""The rules for one entry of `external_models`: keys that its provider reads, and the settings of a real model."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import UserError

OURS = {"messages", "model", "n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "logprobs", "stream"}


def check_provider(model: Mapping[str, Any], where: str) -> None:
    """Refuse keys that the model's provider does not read, and check those of a real model."""
    provider = model.get("provider", ExternalModelConfig.provider)
    for field in fields(ExternalModelConfig):
        only = field.metadata.get("only")
        if field.name in model and only and only != provider:
            raise UserError(
                f"{where}.{field.name} is read by provider '{only}', but the provider is '{provider}'; leave it out,"
                f" or set provider: {only}"
            )
    if provider == "litellm":
        check_litellm(ExternalModelConfig(**model), where)


def check_litellm(model: ExternalModelConfig, where: str) -> None:
    """Check the settings of a real model by themselves; `external/ready.py` looks at keys, prices and servers."""
    if not model.model:
        raise UserError(f"{where}.model is empty; provider litellm needs the model's name; write model: gpt-4o, say")
    if model.key_variable and not re.fullmatch("[A-Z][A-Z0-9_]*", model.key_variable):
        raise UserError(  # the value is not repeated: it may be a key
            f"{where}.key_variable is no name of an environment variable (A-Z, 0-9, _); name the variable, as in"
            " OPENAI_API_KEY, and put the key into it"
        )
    for key in ("requests_per_minute", "tokens_per_minute", "n_per_request", "max_tokens", "concurrency"):
        if (value := getattr(model, key)) is not None and value < 1:
            raise UserError(f"{where}.{key} is {value}; it must be at least 1; leave it out for its default")
    for key in ("usd_per_million_in", "usd_per_million_out", "temperature", "max_retries"):
        if (value := getattr(model, key)) is not None and not 0 <= value < math.inf:
            raise UserError(f"{where}.{key} is {value}; it must be 0 or more; leave it out for its default")
    if model.top_p is not None and not 0 < model.top_p <= 1:
        raise UserError(f"{where}.top_p is {model.top_p}; it is a share in (0, 1]; leave it out for the API's default")
    if (model.usd_per_million_in is None) != (model.usd_per_million_out is None):
        raise UserError(f"{where} has one price of two; give both usd_per_million_in and usd_per_million_out, or none")
    if model.api_base and not re.match("https?://[^/]", model.api_base):
        raise UserError(f"{where}.api_base is '{model.api_base}'; it must begin with http:// or https://; mend it")
    if model.scores and not (model.api_base and model.model.startswith("hosted_vllm/")):
        raise UserError(
            f"{where}.scores is true, but only a vLLM server says how likely it finds others' replies; write model:"
            " hosted_vllm/NAME and its api_base, or leave scores out"
        )
    if model.scores and (model.usd_per_million_in or model.usd_per_million_out):
        raise UserError(f"{where}.scores is true, but no budget counts such calls; leave one of scores and prices out")
    if own := model.extra_body.keys() & OURS:
        raise UserError(f"{where}.extra_body holds '{min(own)}', which this project sets; use its own setting")

"""External models from a recipe: the one place where an entry of `external_models` becomes a provider."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from open_r1.external.hosted.hosted_provider import LiteLLMProvider
from open_r1.external.hosted.ready import lacking
from open_r1.external.provider import Provider
from open_r1.external.scripted import ScriptedProvider
from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import UserError


def build_providers(
    models: Sequence[ExternalModelConfig], seed: int, max_pixels: int, ask: bool = True, logprobs: bool = False
) -> list[Provider]:
    """Build every model, in the recipe's order; nothing is asked of anyone yet but whether their servers are there.

    Args:
        models: the recipe's entries, `n` filled in.
        seed: of the scripted replies.
        max_pixels: pictures are sent at no more than this.
        ask: whether they will be asked at all; a dry run and a store that is only read need neither keys nor servers.
        logprobs: whether replies without log-probs are of no use.

    Raises:
        UserError: a key, a price, a server, a model or its log-probs are missing; one line each.
    """
    if ask and (missing := lacking(models)):
        raise UserError("\n".join(missing))
    providers = [_build(model, seed, max_pixels) for model in models]
    for model, provider in zip(models, providers, strict=True):
        if logprobs and ask and isinstance(provider, LiteLLMProvider) and not provider.logprobs:
            raise UserError(
                f"external model '{model.name}': the API of '{model.model}' returns no log-probs, and external_weight"
                " is and snis need them; take another model, or set external_weight to luffy or uncorrected"
            )
    return providers


def _build(model: ExternalModelConfig, seed: int, max_pixels: int) -> Provider:
    if model.provider == "litellm":
        return LiteLLMProvider(model, max_pixels)
    values: dict[str, Any] = model.model_dump() | {"seed": seed}
    return ScriptedProvider(**{field.name: values[field.name] for field in fields(ScriptedProvider)})

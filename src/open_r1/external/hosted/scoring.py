"""How likely external models find replies that others wrote: what the exact mixture of sources needs (weights.py).

vLLM says it: for a chat that ends in the assistant's text `prompt_logprobs` brings a log-prob for every token. Where
the text begins follows from the number of the prompt's tokens without it. The end of a reply counts as certain.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from open_r1.external.hosted.chat import Chat, answered
from open_r1.external.hosted.response import reported_prompt_tokens
from open_r1.external.hosted.wire import Trouble
from open_r1.external.provider import LogProbs

Send = Callable[[Chat, Mapping[str, Any]], Awaitable[dict[str, Any]]]  # (chat, further keys) -> response, or Trouble
WITH_REPLY = {"prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True}


async def score_by_vllm(send: Send, told: Chat, texts: Sequence[str]) -> list[LogProbs | None]:
    """Log-probs of each text as the reply to `told`; None where the server did not say, or not in that form."""

    async def one(text: str) -> LogProbs | None:
        try:
            return read_prompt_logprobs(await send(answered(told, text), WITH_REPLY), first)
        except Trouble:  # a component that is not known; the weight is then a bound
            return None

    try:
        first = reported_prompt_tokens(await send(told, {}))
    except Trouble:
        return [None] * len(texts)
    return await asyncio.gather(*(one(text) for text in texts))


def read_prompt_logprobs(response: Mapping[str, Any], first: int | None) -> LogProbs | None:
    """The log-probs of a prompt's tokens from number `first` on; None where the response has none.

    >>> read_prompt_logprobs({"prompt_logprobs": [None, {"7": {"logprob": -1.5}}, {"8": {"logprob": -0.5}}]}, 2)
    (-0.5,)
    """
    told = response.get("prompt_logprobs")
    if first is None or not isinstance(told, list) or not 0 < first < len(told):
        return None
    tokens = [next(iter(token.values()), None) if isinstance(token, Mapping) else None for token in told[first:]]
    values = [token.get("logprob") if isinstance(token, Mapping) else None for token in tokens]
    known = all(isinstance(value, int | float) and not math.isnan(value) for value in values)
    return tuple(cast(list[float], values)) if known else None

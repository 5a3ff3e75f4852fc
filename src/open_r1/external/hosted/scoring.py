"""How likely external models find replies that others wrote: what the exact mixture of sources needs (weights.py).

vLLM says it: for a chat that ends in the assistant's text `prompt_logprobs` brings a log-prob for every token. Where
the text begins follows from the number of the prompt's tokens without it. The end of a reply counts as certain.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from pydantic import BaseModel, ValidationError

from open_r1.external.hosted.chat import Chat, answered
from open_r1.external.hosted.response import LogProb
from open_r1.external.hosted.usage import Count, OrNone, ReportedUsage
from open_r1.external.hosted.wire import RequestFailed
from open_r1.external.provider import LogProbs

Send = Callable[[Chat, Mapping[str, object]], Awaitable[dict[str, object]]]  # -> response, or RequestFailed
WITH_REPLY = {"prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True}


class _Token(BaseModel):
    logprob: LogProb


class _Scored(BaseModel):
    """A response's prompt tokens: of each the log-prob by token number, nothing for the first."""

    prompt_logprobs: list[OrNone[dict[str, _Token]]]


class _Counted(BaseModel):
    usage: ReportedUsage


async def score_by_vllm(send: Send, asked: Chat, texts: Sequence[str]) -> list[LogProbs | None]:
    """Log-probs of each text as the reply to `asked`; None where the server did not say, or not in that form."""

    async def one(text: str) -> LogProbs | None:
        try:
            return read_prompt_logprobs(await send(answered(asked, text), WITH_REPLY), first)
        except RequestFailed:  # a component that is not known; the weight is then a bound
            return None

    try:
        first = prompt_tokens_of(await send(asked, {}))
    except RequestFailed:
        return [None] * len(texts)
    return await asyncio.gather(*(one(text) for text in texts))


def prompt_tokens_of(response: Mapping[str, object]) -> Count | None:
    """The prompt tokens that the server counted for the request."""
    try:
        return _Counted.model_validate(response).usage.prompt_tokens
    except ValidationError:
        return None


def read_prompt_logprobs(response: Mapping[str, object], first: int | None) -> LogProbs | None:
    """The log-probs of a prompt's tokens from number `first` on; None where the response has none.

    >>> read_prompt_logprobs({"prompt_logprobs": [None, {"7": {"logprob": -1.5}}, {"8": {"logprob": -0.5}}]}, 2)
    (-0.5,)
    """
    try:
        tokens = _Scored.model_validate(response).prompt_logprobs
    except (ValidationError, OverflowError):
        return None
    if first is None or not 0 < first < len(tokens) or not all(tokens[first:]):
        return None
    return tuple(min(0.0, next(iter(token.values())).logprob) for token in tokens[first:] if token)

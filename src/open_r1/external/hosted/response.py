"""A chat API's response to replies: every field is checked, for it comes from somebody else's server."""

from collections.abc import Mapping
from typing import Any

from open_r1.external.hosted.prices import Price
from open_r1.external.hosted.wire import Trouble
from open_r1.schema import Reply

CHARS_PER_TOKEN = 128  # the longest tokens are runs of so many blanks; a longer reply ignores max_tokens
FINISH_REASONS = ("stop", "length", "content_filter")


def read_replies(
    response: Mapping[str, Any], n: int, max_tokens: int, price: Price | None, latency_s: float
) -> list[Reply]:
    """Read up to n replies from one response in OpenAI's form.

    A refusal is a reply without text and with finish_reason "content_filter": it was paid for. Tokens and cost of the
    request are shared evenly by its replies, so that sums over replies are what was billed; a reply with log-probs has
    its own token count.

    Raises:
        Trouble: "bad_reply", for a response that is not of that form or holds more text than max_tokens can be.
    """
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Trouble("bad_reply", "a response without choices")
    choices, usage = choices[:n], response.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    cost, count = price.usd(usage) if price else None, len(choices)
    prompts = _shares(usage.get("prompt_tokens"), count)
    completions = _shares(usage.get("completion_tokens"), count)
    replies = []
    for i, choice in enumerate(choices):
        text, finish = _text(choice)
        if len(text) > CHARS_PER_TOKEN * max_tokens:
            raise Trouble("bad_reply", f"a reply of {len(text)} characters, more than {max_tokens} tokens can be")
        logprobs = _logprobs(choice)
        tokens = len(logprobs) if logprobs else completions[i]
        share = None if cost is None else cost / count
        replies.append(Reply(text, finish, prompts[i], tokens, share, latency_s, logprobs))
    return replies


def reported_prompt_tokens(response: Mapping[str, Any]) -> int | None:
    """The prompt tokens that the server counted for the request."""
    usage = response.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    return tokens if isinstance(tokens, int) else None


def _text(choice: Any) -> tuple[str, str]:
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        raise Trouble("bad_reply", "a choice without a message")
    content, finish = message.get("content"), choice.get("finish_reason")
    if isinstance(content, list):  # some servers answer in parts
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    if content is not None and not isinstance(content, str):
        raise Trouble("bad_reply", "a message whose content is no text")
    if not content and message.get("refusal"):
        finish = "content_filter"
    return content or "", finish if finish in FINISH_REASONS else "stop"


def _logprobs(choice: Mapping[str, Any]) -> tuple[float, ...] | None:
    told = choice.get("logprobs")
    tokens = told.get("content") if isinstance(told, Mapping) else None
    if not isinstance(tokens, list) or not tokens:
        return None
    values = [token.get("logprob") if isinstance(token, Mapping) else None for token in tokens]
    return tuple(values) if all(isinstance(value, int | float) for value in values) else None  # pyright: ignore


def _shares(total: Any, count: int) -> list[int | None]:
    """Split a whole number evenly into `count` that sum to it; None where it is unknown."""
    if not isinstance(total, int):
        return [None] * count
    each, left = divmod(total, count)
    return [each + (i < left) for i in range(count)]

"""A chat API's response to replies. It comes from somebody else's server: a schema reads it, field by field."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from open_r1.external.hosted.prices import Price
from open_r1.external.hosted.usage import CHARS_PER_TOKEN, OrNone, ReportedUsage, Usage, read_usage
from open_r1.external.hosted.wire import RequestFailed
from open_r1.schema import Reply

LOWEST, HIGHEST = -1e5, 0.01  # a log-prob is 0 or less; servers write -9999 for what cannot be, and round

FinishReason = Literal["stop", "length", "content_filter"]


def whole_characters(value: object) -> object:
    """Half a surrogate pair, which JSON can bring and nothing can write down, becomes '?'."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(whole_characters), Field(strict=True)]
LogProb = Annotated[float, Field(strict=True, ge=LOWEST, le=HIGHEST, allow_inf_nan=False)]


class _Token(BaseModel):
    logprob: LogProb


class _LogProbs(BaseModel):
    content: list[_Token]


class _Part(BaseModel):
    """Some servers answer in parts; what is thought has a type of its own."""

    type: OrNone[Text] = None
    text: OrNone[Text] = None
    thinking: OrNone[Text] = None


class _Message(BaseModel):
    content: Text | list[OrNone[_Part]] | None = None
    refusal: OrNone[Text] = None
    reasoning_content: OrNone[Text] = None
    reasoning: OrNone[Text] = None
    thinking_blocks: object = None

    @property
    def text(self) -> str:
        """What the model said."""
        if isinstance(self.content, list):
            shown = [part for part in self.content if part and part.type in (None, "text", "output_text")]
            return "".join(part.text or "" for part in shown)
        return self.content or ""

    @property
    def thought(self) -> str:
        """What it thought before, where the server took that apart."""
        parts = self.content if isinstance(self.content, list) else []
        return self.reasoning_content or self.reasoning or "".join(part.thinking or "" for part in parts if part)


class _Choice(BaseModel):
    message: _Message
    finish_reason: OrNone[FinishReason] = None
    logprobs: OrNone[_LogProbs] = None


class _Completion(BaseModel):
    choices: list[OrNone[_Choice]]
    usage: OrNone[ReportedUsage] = None


class Completion(NamedTuple):
    """What came of one request."""

    replies: list[Reply]
    usage: Usage | None  # None where the server did not say it, or what cannot be
    rejoined: bool  # whether thoughts that came apart were put back


def read_completion(
    response: Mapping[str, object], n: int, max_tokens: int, price: Price | None, latency_s: float, own: bool
) -> Completion:
    """Read up to n replies from one response in OpenAI's form.

    A refusal is a reply without text and with finish_reason "content_filter": it was paid for. Tokens and cost of the
    request are shared evenly by its replies, so that sums over replies are what was billed; a reply with log-probs has
    its own token count.

    Args:
        response: the parsed JSON.
        n: replies that were asked for; further ones are left out.
        max_tokens: of a reply.
        price: None leaves the costs unknown.
        latency_s: of the request.
        own: whether the server is one's own, whose reasoning parser cuts up what the model wrote. A provider's hidden
            reasoning, which it counts as such, is no part of a reply.

    Raises:
        RequestFailed: "bad_reply", for a response that is not of that form or holds more text than max_tokens can be.
    """
    try:
        parsed = _Completion.model_validate(response)
    except (ValidationError, OverflowError):
        raise RequestFailed("bad_reply", "a response without choices", perhaps_billed=True) from None
    choices = [choice for choice in parsed.choices if choice is not None][:n]
    if not choices:
        raise RequestFailed("bad_reply", "a response without a choice that holds a message", perhaps_billed=True)
    hidden = not own and parsed.usage is not None and parsed.usage.hidden_reasoning
    texts = [_text(choice, hidden) for choice in choices]
    if (longest := max(map(len, texts))) > CHARS_PER_TOKEN * max_tokens:
        too_long = f"a reply of {longest} characters, more than {max_tokens} tokens can be"
        raise RequestFailed("bad_reply", too_long, perhaps_billed=True)
    usage = read_usage(parsed.usage, sum(map(len, texts)))
    replies = _replies(choices, texts, usage, None if usage is None or price is None else price.cost(usage), latency_s)
    rejoined = any(text != choice.message.text for text, choice in zip(texts, choices, strict=True))
    return Completion(replies, usage, rejoined)


def _replies(
    choices: list[_Choice], texts: list[str], usage: Usage | None, cost_usd: float | None, latency_s: float
) -> list[Reply]:
    count = len(choices)
    prompts = _shares(usage.prompt if usage else None, count)
    completions = _shares(usage.completion if usage else None, count)
    logprobs = [_logprobs(choice) for choice in choices]
    # Where a thought was put back, log-probs are those of the text only if they are of every token that was counted.
    complete = usage is not None and sum(len(values or ()) for values in logprobs) == usage.completion
    replies: list[Reply] = []
    for i, (choice, text) in enumerate(zip(choices, texts, strict=True)):
        values = logprobs[i] if complete or text == choice.message.text else None
        refused = not text and choice.message.refusal
        finish = "content_filter" if refused else choice.finish_reason or "stop"
        share = None if cost_usd is None else cost_usd / count
        tokens = len(values) if values else completions[i]
        replies.append(Reply(text, finish, prompts[i], tokens, share, latency_s, values))
    return replies


def _text(choice: _Choice, hidden: bool) -> str:
    """The reply as the model wrote it: a thought that the server cut out is put back in its tags.

    One that was cut off by max_tokens has no end; a chat template that opens the tag itself leaves the text without it.
    """
    text, thought = choice.message.text, choice.message.thought
    if "<think>" in text:
        return text
    if "</think>" in text:
        return f"<think>{text}"
    if not thought or hidden or choice.message.thinking_blocks:
        return text
    cut_off = not text and choice.finish_reason == "length"
    return f"<think>{thought}" if cut_off else f"<think>{thought}</think>{text}"


def _logprobs(choice: _Choice) -> tuple[float, ...] | None:
    tokens = choice.logprobs.content if choice.logprobs else []
    return tuple(min(0.0, token.logprob) for token in tokens) or None


def _shares(total: int | None, count: int) -> list[int | None]:
    """Split a whole number evenly into `count` that sum to it; None where it is unknown."""
    if total is None:
        return [None] * count
    each, left = divmod(total, count)
    return [each + (i < left) for i in range(count)]

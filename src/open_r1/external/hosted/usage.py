"""What a server says it counted and billed, believed as far as it can be true.

A count below 0, a truth value, a fraction, a text, or more than any model takes or gives in one request is no count;
so is 0 for a prompt that was sent or a text that came. Then the bound of the request counts, not the server's word.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BaseModel, Field, ValidationError, WrapValidator

MOST_TOKENS = 2**21  # of one request; the largest context windows hold as many
CHARS_PER_TOKEN = 128  # the longest tokens are runs of so many blanks; a longer reply ignores max_tokens


def unknown(value: object, validate: Callable[[object], object]) -> object:
    """Read an optional field; None where it does not fit, so that the rest of the response is not lost with it."""
    try:
        return validate(value)
    except (ValidationError, OverflowError):  # the latter: an integer of hundreds of digits
        return None


T = TypeVar("T")
OrNone = Annotated[T | None, WrapValidator(unknown)]
Count = Annotated[int, Field(strict=True, ge=0, le=MOST_TOKENS)]


class Details(BaseModel):
    """OpenAI's subdivisions of a count."""

    cached_tokens: OrNone[Count] = None
    reasoning_tokens: OrNone[Count] = None


class ReportedUsage(BaseModel):
    """The key `usage` of a response, as it may come."""

    prompt_tokens: OrNone[Count] = None
    completion_tokens: OrNone[Count] = None
    total_tokens: OrNone[Count] = None
    prompt_tokens_details: OrNone[Details] = None
    completion_tokens_details: OrNone[Details] = None

    @property
    def hidden_reasoning(self) -> bool:
        """Whether the model thought in tokens that it does not show."""
        return bool(self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens)


class Usage(NamedTuple):
    """Tokens that one request was billed for."""

    prompt: int
    completion: int
    cached: int = 0  # of the prompt, at hand already and cheaper


def read_usage(reported: ReportedUsage | Mapping[str, object] | None, characters: int = 0) -> Usage | None:
    """Read what a request was billed for; None where that is not said, or cannot be.

    Args:
        reported: the response's `usage`.
        characters: of the replies that came; they take a token for each 128 at least.

    Example: {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 150} is 50 tokens of reply, for some
    servers count hidden reasoning in the total alone.
    """
    if reported is None:
        return None
    try:
        usage = reported if isinstance(reported, ReportedUsage) else ReportedUsage.model_validate(reported)
    except ValidationError:
        return None
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if not prompt or completion is None or completion * CHARS_PER_TOKEN < characters:
        return None
    completion = max(completion, (usage.total_tokens or 0) - prompt)
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Usage(prompt, completion, min(cached or 0, prompt))

"""litellm as the way to every hosted model: its knowledge of APIs and keys, without its retries and logs."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import httpx

from open_r1.external.hosted.chat import Chat
from open_r1.external.hosted.wire import Trouble, refused, scrub

NEVER_S = 6000.0  # the provider holds the deadline; litellm's own is only for what would outlive it

logger = logging.getLogger(__name__)


class LiteLLMWire:
    """Any model that litellm knows. litellm is imported here, at the first use: it takes seconds."""

    def __init__(self, model: str, api_base: str, key: str):
        """Call `model`; empty `api_base` and `key` leave both to litellm (its environment variables)."""
        self.litellm = import_litellm()
        if api_base and not key:
            key = "none"  # else litellm sends the key that it finds in the environment to somebody else's server
        self._fixed = {"model": model, "api_base": api_base or None, "api_key": key or None}

    async def send(self, chat: Chat, body: Mapping[str, Any]) -> dict[str, Any]:
        """See `Wire`."""
        options = {key: value for key, value in body.items() if key != "model"}
        try:
            response = await self.litellm.acompletion(
                **self._fixed, messages=chat.messages, num_retries=0, max_retries=0, timeout=NEVER_S, **options
            )
        except Exception as error:  # litellm raises what its providers raise, most of it in one of its own classes
            trouble = self._trouble(error)
            if trouble is None:
                raise
            raise trouble from None
        return rejoin(response.model_dump())

    def _trouble(self, error: Exception) -> Trouble | None:
        """Name what litellm raised, by what lies at its root where litellm is vague; None for a programming error."""
        chain = list(_chain(error))

        def has(*kinds: type[BaseException]) -> bool:
            return any(isinstance(link, kinds) for link in chain)

        if has(httpx.ConnectError, aiohttp.ClientConnectorError):
            return Trouble("connection", "cannot connect", again=True)
        if has(self.litellm.Timeout, TimeoutError):
            return Trouble("timeout", "no answer in time")
        if has(httpx.TransportError, aiohttp.ClientError, ConnectionError):
            return Trouble("connection", f"the connection broke ({type(chain[-1]).__name__})")
        if has(json.JSONDecodeError, self.litellm.APIResponseValidationError):
            return Trouble("bad_reply", "a response that cannot be read")
        status = getattr(error, "status_code", None)
        if not isinstance(status, int):
            return None
        if status >= 500 and not any(_answered(link) for link in chain):  # litellm's own word for what it cannot read
            return Trouble("bad_reply", f"a response that cannot be read ({type(error).__name__})")
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        headers = getattr(error, "litellm_response_headers", None) or headers
        logger.debug("%s", scrub(str(error)))
        return refused(status, type(error).__name__, {str(key).lower(): value for key, value in headers.items()})

    async def close(self) -> None:
        """See `Wire`."""
        from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients

        await close_litellm_async_clients()


def rejoin(response: dict[str, Any]) -> dict[str, Any]:
    """Put the think tags back that litellm cuts out of a reply's text, with what stood in them.

    Only where the API itself reported no hidden reasoning: that is no part of the reply.
    """
    details = (response.get("usage") or {}).get("completion_tokens_details") or {}
    for choice in response.get("choices") or []:
        message = choice["message"]
        thought, text = message.get("reasoning_content"), message.get("content") or ""
        hidden = details.get("reasoning_tokens") or message.get("thinking_blocks")
        if thought and not hidden and "<think>" not in text:
            message["content"] = f"<think>{thought}</think>{text}"
    return response


def import_litellm() -> Any:
    """Import litellm with its chatter and its price download off."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "httpx", "openai"):  # they log requests and replies
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


def supported(model: str) -> set[str]:
    """The keys of a request that litellm says the model's API takes."""
    return set(import_litellm().get_supported_openai_params(model=model) or ())


def _answered(error: BaseException) -> bool:
    """Whether this is a server's HTTP status; litellm gives the status 500 to errors of its own as well."""
    import openai  # takes a second, and is there once litellm is

    theirs = isinstance(error, openai.APIStatusError) and type(error).__module__.startswith("openai")
    return theirs or isinstance(error, httpx.HTTPStatusError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

"""litellm as the way to every hosted model: its knowledge of APIs and keys, without its retries, logs and redirects."""

import functools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import aiohttp
import httpx

from open_r1.external.hosted.chat import Chat
from open_r1.external.hosted.wire import UNSENDABLE, RequestFailed, for_log, refused, sendable

NEVER_S = 6000.0  # the provider holds the deadline; litellm's own is only for what would outlive it

logger = logging.getLogger(__name__)


class LiteLLMWire:
    """Any model that litellm knows. litellm is imported here, at the first use: it takes seconds."""

    own = False

    def __init__(self, model: str, api_base: str, key: str):
        """Call `model`; empty `api_base` and `key` leave both to litellm (its environment variables)."""
        self.litellm = import_litellm()
        if api_base and not key:
            key = "none"  # else litellm sends the key that it finds in the environment to somebody else's server
        self._fixed, self._key = {"model": model, "api_base": api_base or None, "api_key": key or None}, key

    async def send(self, chat: Chat, body: Mapping[str, Any], leaves: Callable[[], None]) -> dict[str, object]:
        """See `Wire`. litellm does not say when a request leaves, so it counts from the start; see `_failure`."""
        options = {key: value for key, value in body.items() if key != "model"}
        if not sendable(self._key):
            raise RequestFailed("refused", UNSENDABLE)
        leaves()
        try:
            response = await self.litellm.acompletion(
                **self._fixed, messages=chat.messages, num_retries=0, max_retries=0, timeout=NEVER_S, **options
            )
            return cast(dict[str, object], response.model_dump(warnings=False))  # read_completion checks it
        except Exception as error:  # noqa: BLE001 - litellm stumbles over what servers send in ways without number
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> RequestFailed:
        """Name what litellm raised, by what lies at its root where litellm is vague."""
        chain = list(_chain(error))

        def has(*kinds: type[BaseException]) -> bool:
            return any(isinstance(link, kinds) for link in chain)

        if has(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, aiohttp.ClientConnectorError):
            return RequestFailed("connection", "cannot connect", again=True)
        if has(httpx.LocalProtocolError, httpx.InvalidURL, httpx.UnsupportedProtocol, aiohttp.InvalidURL):
            return RequestFailed("refused", UNSENDABLE)
        if has(self.litellm.Timeout, TimeoutError):
            return RequestFailed("timeout", "no answer in time", perhaps_billed=True)
        if has(httpx.TransportError, aiohttp.ClientError, ConnectionError):
            broke = f"the connection broke ({type(chain[-1]).__name__})"
            return RequestFailed("connection", broke, perhaps_billed=True)
        if has(json.JSONDecodeError, self.litellm.APIResponseValidationError):
            return RequestFailed("bad_reply", "a response that cannot be read", perhaps_billed=True)
        status = getattr(error, "status_code", None)
        if not isinstance(status, int) or (status >= 500 and not any(_answered(link) for link in chain)):
            # litellm gives the status 500 to what it cannot read
            unreadable = f"a response that cannot be read ({type(error).__name__})"
            return RequestFailed("bad_reply", unreadable, perhaps_billed=True)
        headers: Mapping[object, object] = getattr(getattr(error, "response", None), "headers", None) or {}
        headers = getattr(error, "litellm_response_headers", None) or headers
        plain = {str(key).lower(): str(value) for key, value in headers.items()}
        return refused(status, f"{type(error).__name__}: {_without_advice(str(error))}", plain, self._key)

    async def close(self) -> None:
        """See `Wire`."""
        from litellm.llms.custom_httpx.async_client_cleanup import (  # pyright: ignore[reportMissingTypeStubs]
            close_litellm_async_clients,
        )

        await close_litellm_async_clients()


@functools.cache
def import_litellm() -> Any:
    """Import litellm with its chatter, its price download and its following of redirects off."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler  # pyright: ignore[reportMissingTypeStubs]
    from litellm.llms.openai.common_utils import BaseOpenAILLM  # pyright: ignore[reportMissingTypeStubs]

    litellm.suppress_debug_info = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "httpx", "openai"):  # they log requests and replies
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A redirect would carry prompt and pictures to a host that nobody named.
    handler, openai_llm = cast(Any, AsyncHTTPHandler), cast(Any, BaseOpenAILLM)
    handler.create_client = _staying(handler.create_client)
    openai_llm._get_async_http_client = staticmethod(_staying(openai_llm._get_async_http_client))
    return litellm


def _staying(make: Callable[..., httpx.AsyncClient | None]) -> Callable[..., httpx.AsyncClient | None]:
    """Let a maker of HTTP clients make ones that follow no redirect."""

    @functools.wraps(make)
    def made(*args: object, **options: object) -> httpx.AsyncClient | None:
        client = make(*args, **options)
        if client is not None:
            client.follow_redirects = False
        return client

    return made


def supported(model: str) -> set[str]:
    """The keys of a request that litellm says the model's API takes."""
    return set(import_litellm().get_supported_openai_params(model=model) or ())


def refused_settings(model: str, settings: Mapping[str, object]) -> str | None:
    """What litellm's own tables say against these settings of a model, in one line; None where they say nothing.

    Example: refused_settings("o3", {"top_p": 0.9}) is "openai does not support parameters: ['top_p'], for model=o3".
    """
    litellm = import_litellm()
    try:
        name, provider, _, _ = litellm.get_llm_provider(model)
        litellm.utils.get_optional_params(model=name, custom_llm_provider=provider, **settings)
    except litellm.UnsupportedParamsError as error:
        return for_log(_without_advice(str(error)).removeprefix("litellm.UnsupportedParamsError: "))
    except Exception as error:  # noqa: BLE001 - a setting of the wrong type for a provider of litellm's, in its own words
        return for_log(f"{type(error).__name__}: {_without_advice(str(error))}")
    return None


def _without_advice(message: str) -> str:
    """What litellm says of an error, without how litellm could be made to drop the setting in silence."""
    return message.split("To drop")[0].split("\n")[0].strip(" .")


def _answered(error: BaseException) -> bool:
    """Whether this is a server's HTTP status; litellm gives the status 500 to errors of its own as well."""
    import openai  # takes a second, and is there once litellm is

    theirs = isinstance(error, openai.APIStatusError) and type(error).__module__.startswith("openai")
    return theirs or isinstance(error, httpx.HTTPStatusError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

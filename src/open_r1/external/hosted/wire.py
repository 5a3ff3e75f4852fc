"""The way to a model: a request goes out, and a response in OpenAI's form comes back or a typed `RequestFailed`.

`OpenAIWire` speaks to an OpenAI-compatible server of one's own (vLLM, litellm's proxy, ...) directly: litellm and the
openai package together take 20 times the CPU time of the request itself, and an own server is where throughput counts.
`litellm_wire.py` is the way to every hosted model. Neither retries: the provider does, for both alike.

What a server says in an error is passed on cut short, without keys and pictures; what it says in a reply never is.
"""

import json
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Protocol, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from open_r1.external.hosted.chat import Chat
from open_r1.utils.secrets import MARK, scrub

SAID = 160  # characters of a server's error message that are passed on
KEEP_ALIVE_S = 4.0  # below uvicorn's 5, so that no request is sent into a connection that is being closed
MAX_BYTES = 64 * 2**20  # of one response
# Statuses of something between us and the model, which may have worked, and billed, while nobody waited any more.
GAVE_UP_WAITING = frozenset({408, 499, 502, 504, 520, 524})
REDIRECTS = range(300, 400)
UNSENDABLE = "the address or the key holds what HTTP cannot send"


class RequestFailed(Exception):
    """A request that brought no reply. `message` may be logged."""

    def __init__(
        self, reason: str, message: str, *, perhaps_billed: bool = False, again: bool = False, wait_s: float = 0.0,
        about: str = "model",
    ):  # fmt: skip
        """Describe it.

        Args:
            reason: as in `Failure.reason`.
            message: for the log.
            perhaps_billed: whether the model may have charged for it all the same.
            again: whether another attempt may help; never where this one may have been billed.
            wait_s: how long the server asked us to wait before it (Retry-After).
            about: "model" where other questions would fare alike, "question" where the server refused this one,
                "pause" where nothing was asked.
        """
        super().__init__(message)
        self.reason, self.perhaps_billed, self.again = reason, perhaps_billed, again and not perhaps_billed
        self.wait_s, self.about = wait_s, about


class Wire(Protocol):
    """A way to one model."""

    own: bool  # whether the server is one's own, spoken to directly

    async def send(self, chat: Chat, body: Mapping[str, Any], leaves: Callable[[], None]) -> dict[str, object]:
        """Send one request, the prompt and the other keys of its body; returns the response or raises RequestFailed.

        `leaves` is called when the request leaves this machine: before that it costs nothing, whatever happens.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def sendable(key: str) -> bool:
    """Whether a key can stand in an HTTP header: a line end or a blank is what copying leaves behind."""
    return key.isascii() and key.isprintable() and " " not in key


def refused(status: int, message: str, headers: Mapping[str, str], *keys: str) -> RequestFailed:
    """Name what an HTTP status other than 200 means; `keys` are cut out of the server's message."""
    text = f"HTTP {status}" + (f": {for_log(message, *keys)}" if message else "")
    if status == 429:
        return RequestFailed("rate_limit", text, again=True, wait_s=_retry_after(headers))
    if status in GAVE_UP_WAITING:
        return RequestFailed("timeout" if status in (408, 504, 524) else "server", text, perhaps_billed=True)
    if status >= 500:
        return RequestFailed("server", text, again=True, wait_s=_retry_after(headers))
    if status in REDIRECTS:
        where = "it redirects to another address, where prompts and pictures are not sent; put that into api_base"
        return RequestFailed("refused", f"HTTP {status}: {where}")
    if status < 300:
        return RequestFailed("bad_reply", f"{text} without a reply", perhaps_billed=True)
    return RequestFailed("refused", text, about="model" if status in (401, 402, 403, 404, 405) else "question")


def for_log(message: str, *keys: str) -> str:
    """Make a server's words fit for a log: one short line without keys, pictures or other long runs."""
    clean = scrub(" ".join(message.split()), *keys)
    return re.sub(r"\S{48,}", MARK, re.sub(r"\b(sk|pk)-\S+", MARK, clean))[:SAID]


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds from Retry-After; its date form and nonsense count as not given."""
    try:
        return max(0.0, float(headers.get("retry-after", 0)))
    except ValueError:
        return 0.0


class OpenAIWire:
    """An OpenAI-compatible server at an address, over one pool of connections that lives on the asking loop."""

    own = True

    def __init__(self, api_base: str, key: str):
        """Speak to `api_base`; `key` may be empty."""
        self._url, self._key = f"{api_base.rstrip('/')}/chat/completions", key
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._proxy = _proxy(self._url)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, chat: Chat, body: Mapping[str, Any], leaves: Callable[[], None]) -> dict[str, object]:
        """See `Wire`."""
        if not sendable(self._key):
            raise RequestFailed("refused", UNSENDABLE)
        # The pictures were turned into JSON once, when the chat was built.
        data = b'{"messages": ' + chat.wire + b", " + json.dumps(body).encode()[1:]
        on_its_way = False

        def gone() -> None:
            nonlocal on_its_way
            on_its_way = True
            leaves()

        try:
            status, headers, content = await self._post(data, gone)
        except aiohttp.ClientConnectorError as error:  # never reached it
            raise RequestFailed("connection", f"cannot connect ({type(error).__name__})", again=True) from None
        except (aiohttp.InvalidURL, ValueError):
            raise RequestFailed("refused", UNSENDABLE, perhaps_billed=on_its_way) from None
        except (aiohttp.ClientError, OSError) as error:  # it may have answered, and billed, all the same
            broke = f"the connection broke ({type(error).__name__})"
            raise RequestFailed("connection", broke, perhaps_billed=on_its_way, again=not on_its_way) from None
        if status != 200:
            raise refused(status, _error_message(content), headers, self._key)
        return _json_object(content)

    async def _post(self, data: bytes, leaves: Callable[[], None]) -> tuple[int, Mapping[str, str], bytes]:
        """Return the response's status, headers and content."""
        if self._session is None:
            self._session = _session()
        options: dict[str, Any] = {"allow_redirects": False, "proxy": self._proxy}
        options["trace_request_ctx"] = SimpleNamespace(leaves=leaves)
        async with self._session.post(self._url, data=data, headers=self._headers, **options) as response:
            content = bytearray()
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > MAX_BYTES:
                    raise RequestFailed(
                        "bad_reply", f"a response of more than {MAX_BYTES >> 20} MB", perhaps_billed=True
                    )
            return response.status, response.headers, bytes(content)

    async def close(self) -> None:
        """See `Wire`."""
        if self._session is not None:
            await self._session.close()


def _session() -> aiohttp.ClientSession:
    """Connections without limits of their own (the provider holds number and deadline) that tell when a request leaves.

    Of the environment only proxies are read: ~/.netrc would put other credentials in the place of the key.
    """
    trace = aiohttp.TraceConfig()

    async def leaves(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.leaves()

    trace.on_request_headers_sent.append(leaves)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    no_limit = aiohttp.ClientTimeout(total=None)
    return aiohttp.ClientSession(connector=connector, timeout=no_limit, trace_configs=[trace])


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _json_object(content: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        unreadable = f"a response of {len(content)} bytes that is no JSON"
        raise RequestFailed("bad_reply", unreadable, perhaps_billed=True) from None
    if not isinstance(parsed, dict):
        raise RequestFailed("bad_reply", "a response that is no JSON object", perhaps_billed=True)
    return cast(dict[str, object], parsed)


def _error_message(content: bytes) -> str:
    """The message of an OpenAI-style error body; "" where there is none, for other bodies may hold anything."""
    try:
        body: object = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    error = cast(dict[str, object], body).get("error", cast(object, body)) if isinstance(body, dict) else None
    if isinstance(error, dict):
        fields = cast(dict[str, object], error)
        error = fields.get("message") or fields.get("detail")
    return error if isinstance(error, str) else ""

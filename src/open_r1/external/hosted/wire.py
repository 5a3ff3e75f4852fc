"""The way to a model: a request goes out, and a response in OpenAI's form comes back or a typed `Trouble`.

`OpenAIWire` speaks to an OpenAI-compatible server of one's own (vLLM, litellm's proxy, ...) directly: litellm and the
openai package together take 20 times the CPU time of the request itself, and an own server is where throughput counts.
`wire_litellm.py` is the way to every hosted model. Neither retries: the provider does, for both alike.

What a server says in an error is passed on cut short, without keys and pictures; what it says in a reply never is.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp

from open_r1.external.hosted.chat import Chat
from open_r1.utils.secrets import SECRET_VALUE

SAID = 160  # characters of a server's error message that are passed on
KEEP_ALIVE_S = 4.0  # below uvicorn's 5, so that no request is sent into a connection that is being closed
MAX_BYTES = 64 * 2**20  # of one response


class Trouble(Exception):
    """A request that brought no reply. `message` may be logged."""

    def __init__(self, reason: str, message: str, *, again: bool = False, wait_s: float = 0.0, about: str = "model"):
        """Describe it.

        Args:
            reason: as in `Failure.reason`.
            message: for the log.
            again: whether another attempt may help, and this one was certainly not billed.
            wait_s: how long the server asked us to wait before it (Retry-After).
            about: "model" where other questions would fare alike, "question" where the server refused this one,
                "rest" where nothing was asked.
        """
        super().__init__(message)
        self.reason, self.again, self.wait_s, self.about = reason, again, wait_s, about


class Wire(Protocol):
    """A way to one model."""

    async def send(self, chat: Chat, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request, the prompt and the other keys of its body; returns the response or raises Trouble."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def refused(status: int, said: str, headers: Mapping[str, str]) -> Trouble:
    """Name what an HTTP status other than 200 means."""
    message = f"HTTP {status}" + (f": {scrub(said)}" if said else "")
    if status == 429:
        return Trouble("rate_limit", message, again=True, wait_s=_retry_after(headers))
    if status >= 500:
        return Trouble("server", message, again=True, wait_s=_retry_after(headers))
    if status == 408:
        return Trouble("timeout", message)
    return Trouble("refused", message, about="model" if status in (401, 402, 403, 404) else "question")


def scrub(said: str) -> str:
    """Make a server's words fit for a log: one short line without keys, pictures or other long runs."""
    said = SECRET_VALUE.sub("***", " ".join(said.split()))
    return re.sub(r"\S{48,}", "***", re.sub(r"\b(sk|pk)-\S+", "***", said))[:SAID]


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds from Retry-After; its date form and nonsense count as not given."""
    try:
        return max(0.0, float(headers.get("retry-after", 0)))
    except ValueError:
        return 0.0


class OpenAIWire:
    """An OpenAI-compatible server at an address, over one pool of connections that lives on the asking loop."""

    def __init__(self, api_base: str, key: str):
        """Speak to `api_base`; `key` may be empty."""
        self._url = f"{api_base.rstrip('/')}/chat/completions"
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._session: aiohttp.ClientSession | None = None

    async def send(self, chat: Chat, body: Mapping[str, Any]) -> dict[str, Any]:
        """See `Wire`."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
            no_limit = aiohttp.ClientTimeout(total=None)  # the provider holds the deadline
            self._session = aiohttp.ClientSession(connector=connector, timeout=no_limit, trust_env=True)
        # The pictures were turned into JSON once, when the chat was built.
        data = b'{"messages": ' + chat.wire + b", " + json.dumps(body).encode()[1:]
        try:
            async with self._session.post(self._url, data=data, headers=self._headers) as response:
                content = bytearray()
                async for piece in response.content.iter_any():
                    content += piece
                    if len(content) > MAX_BYTES:
                        raise Trouble("bad_reply", f"a response of more than {MAX_BYTES >> 20} MB")
        except aiohttp.ClientConnectorError as error:  # never reached it
            raise Trouble("connection", f"cannot connect ({type(error).__name__})", again=True) from None
        except (aiohttp.ClientError, OSError) as error:  # it may have answered, and billed, all the same
            raise Trouble("connection", f"the connection broke ({type(error).__name__})") from None
        if response.status != 200:
            raise refused(response.status, _error_message(content), response.headers)
        try:
            parsed = json.loads(content)
        except ValueError:
            raise Trouble("bad_reply", f"a response of {len(content)} bytes that is no JSON") from None
        if not isinstance(parsed, dict):
            raise Trouble("bad_reply", "a response that is no JSON object")
        return parsed

    async def close(self) -> None:
        """See `Wire`."""
        if self._session is not None:
            await self._session.close()


def _error_message(content: bytes | bytearray) -> str:
    """The message of an OpenAI-style error body; "" where there is none, for other bodies may hold anything."""
    try:
        error = json.loads(content)
        error = error.get("error", error)
        said = error if isinstance(error, str) else error.get("message") or error.get("detail")
    except (ValueError, AttributeError):
        return ""
    return said if isinstance(said, str) else ""

"""An OpenAI-compatible server on loopback that misbehaves by a seeded plan; it counts what it was asked and sold.

    with FaultServer(plan={"ok": 0.5, "reset": 0.5}, seed=0) as server: ...  server.url, server.asked, server.kinds

The fault of a request follows from the seed, its prompt, and how often that prompt has come before, and from nothing
else, so that a plan is the same whatever the order in which requests arrive.
"""

import asyncio
import json
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

REPLY = "<think>I count the marmalade</think>\n<answer>4</answer>"  # a word that no log line may hold
FAULTS = (
    *("429", "429 retry-after", "500", "503", "reset", "hang", "trickle", "broken json", "fewer", "empty", "refusal"),
    *("length", "10 MB", "content type", "no choices", "400 echo"),
)


# Kinds and statuses for which nothing is billed: nothing was worked on.
UNBILLED = ("429", "429 retry-after", "500", "503", "400", "400 echo")
UNBILLED_STATUSES = {*range(300, 500), 500, 503} - {408, 499}
OVER = 500  # tokens that the kind "over" bills for its replies, whatever max_tokens says


class FaultServer:
    """Serves while the `with` block lasts, in a thread of its own."""

    def __init__(
        self, plan: Mapping[str, float] | None = None, seed: int = 0, latency_s: float = 0.0,
        script: Sequence[str] = (), answer: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
        raw: str | None = None, models: tuple[int, str] | None = (200, '{"data": [{"id": "m"}]}'),
        refuse: tuple[int, str] | None = None, redirect: tuple[int, str] | None = None,
    ):  # fmt: skip
        """Misbehave with these shares ("ok" among them), or in one way.

        Args:
            plan: shares of FAULTS.
            seed: of the plan.
            latency_s: before each answer.
            script: the kinds of the first requests, in the order in which they arrive.
            answer: of a request's body, keys of the response in place of the usual ones.
            raw: the body of every response, with status 200.
            models: status and body of GET /models; of a redirect its address, "trickle" for one that never ends; None:
                there is no such thing.
            refuse: status and message of every response.
            redirect: status of every response, and the address to which it leads.
        """
        self.script, self._change, self._refuse = list(script), answer, refuse
        self.raw, self.status = None if raw is None else raw.encode(), 200  # may change from request to request
        self._redirect, self._models = redirect, models
        self.plan, self.seed, self.latency_s = dict(plan or {"ok": 1.0}), seed, latency_s
        self.asked: list[dict[str, Any]] = []  # every request's body
        self.billed: list[tuple[int, int]] = []  # tokens of prompt and replies that each request was billed for
        self.headers: list[Mapping[str, str]] = []
        self.kinds: Counter[str] = Counter()
        self.most_at_once = self._at_once = 0
        self._seen: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()

    def __enter__(self) -> "FaultServer":
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # clients that give up are no news
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**26)
        if self._models is not None:
            app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _list(self, request: web.Request) -> web.StreamResponse:
        assert self._models is not None
        status, body = self._models
        if body == "trickle":
            response = web.StreamResponse()
            await response.prepare(request)
            while not self._over.is_set() and request.transport is not None:
                await response.write(b" ")
                await asyncio.sleep(0.02)
            return response
        if status in range(300, 400):
            return web.Response(status=status, headers={"Location": body})
        return web.Response(status=status, text=body, content_type="application/json")

    async def _stop(self) -> None:
        self._over.set()  # what hangs ends
        await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(request.headers)
        prompt = json.dumps(body["messages"])
        self._seen[prompt] += 1
        chance = random.Random(f"{self.seed}/{prompt}/{self._seen[prompt]}")
        kind = chance.choices(list(self.plan), list(self.plan.values()))[0]
        kind = self.script.pop(0) if self.script else kind
        self.kinds[kind] += 1
        if (
            kind not in UNBILLED
            and self.status not in UNBILLED_STATUSES
            and self._refuse is None
            and self._redirect is None
        ):
            share = {"one": 1, "fewer": max(1, body.get("n", 1) // 2), "400 n": 1}.get(kind, body.get("n", 1))
            self.billed.append((100, OVER if kind == "over" else 10 * share))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.latency_s)
            return await self._answer(request, body, kind)
        finally:
            self._at_once -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any], kind: str) -> web.StreamResponse:
        n = body.get("n", 1)
        if self.raw is not None:
            return web.Response(body=self.raw, status=self.status, content_type="application/json")
        if self._refuse is not None:
            return _json({"error": {"message": self._refuse[1]}}, self._refuse[0])
        if self._redirect is not None:
            status, url = self._redirect
            return web.Response(status=status, headers={"Location": f"{url}/chat/completions"})
        match kind:
            case "429":
                return _json({"error": {"message": "slow down"}}, 429)
            case "429 retry-after":
                return _json({"error": {"message": "slow down"}}, 429, {"Retry-After": "0.05"})
            case "400" | "408" | "499" | "500" | "502" | "503" | "504" | "520" | "524":
                return _json({"error": {"message": "out of order"}}, int(kind))
            case "400 n" if n == 1 and "logprobs" not in body:
                return _json(completion(1, body))
            case "400 n":
                return _json({"error": {"message": "n must be 1"}}, 400)
            case "400 echo":  # as some servers do: the request in the error, the key too
                said = f"bad input {json.dumps(body)} {request.headers.get('Authorization')}"
                return _json({"error": {"message": said}}, 400)
            case "hang":
                await self._over.wait()
                return _json(completion(n, body))
            case "reset" | "trickle":
                return await self._stream(request, completion(n, body), kind)
            case "broken json":
                return web.Response(text=f'{{"choices": [{{"message": "{REPLY}', content_type="application/json")
            case "content type":
                return web.Response(text=f"<html>{REPLY}</html>", content_type="text/html")
            case "no choices":
                return _json({"object": "chat.completion"})
            case "over":
                answer = completion(n, body)
                return _json(answer | {"usage": {"prompt_tokens": 100, "completion_tokens": OVER}})
            case "no usage":
                return _json(completion(n, body) | {"usage": None})
            case "fewer":
                return _json(completion(max(1, n // 2), body))
            case "one":
                return _json(completion(1, body, logprobs=False))
            case "empty":
                return _json(completion(n, body, text=""))
            case "refusal":
                return _json(completion(n, body, text=None, refusal="I will not"))
            case "length":
                return _json(completion(n, body, finish="length"))
            case "10 MB":
                return _json(completion(n, body, text="jam " * (10 * 2**18)))
            case "ok":
                return _json(completion(n, body) | dict(self._change(body) if self._change else {}))
        raise AssertionError(f"no fault '{kind}'")

    async def _stream(self, request: web.Request, answer: dict[str, Any], kind: str) -> web.StreamResponse:
        """Send half of the answer; then close the connection, or go on a byte at a time."""
        content = json.dumps(answer).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        if kind == "reset":
            assert request.transport is not None
            request.transport.abort()
            return response
        for byte in content[len(content) // 2 :]:
            if self._over.is_set() or request.transport is None:
                break
            await response.write(bytes([byte]))
            await asyncio.sleep(0.2)
        return response


def completion(
    n: int, body: Mapping[str, Any], text: str | None = REPLY, finish: str = "stop", refusal: str | None = None,
    logprobs: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """A chat completion of n choices: 100 prompt tokens, 10 per choice."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice: dict[str, Any] = {"message": message, "finish_reason": finish}
    if logprobs and body.get("logprobs"):
        choice["logprobs"] = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.25}]}
    usage = {"prompt_tokens": 100, "completion_tokens": 10 * n, "total_tokens": 100 + 10 * n}
    choices = [{"index": i, **choice} for i in range(n)]
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    return answer | ({"prompt_logprobs": prompt_logprobs(body)} if "prompt_logprobs" in body else {})


def prompt_logprobs(body: Mapping[str, Any]) -> list[dict[str, Any] | None]:
    """As vLLM does: nothing for the first of 100 prompt tokens; each word of the reply at its end has -.1 a letter."""
    words = body["messages"][-1]["content"].split()
    values = [-9.0] * 99 + [-len(word) / 10 for word in words]
    return [None, *({"5": {"logprob": value, "rank": 1, "decoded_token": "a"}} for value in values)]


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(value, status=status, headers=headers)

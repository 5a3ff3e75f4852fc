"""LiteLLMProvider: any hosted model, and any OpenAI-compatible server, as an external model.

One question is one request of n replies where the API takes n, else n requests. A request waits for its place in the
rate limits, is tried again after a rate limit or a server's error, and ends with a reply or a `Failure` within
`timeout_s` of its first attempt. An attempt that may have been billed is never repeated, so that a question costs at
most its `upper_bound_usd`. What a server leaves out (choices, log-probs) or refuses is noticed, said once, handled.
"""

import asyncio
import logging
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from open_r1.external.hosted.breaker import Breaker
from open_r1.external.hosted.chat import Chat, chat, picture_sizes
from open_r1.external.hosted.limiter import Limiter
from open_r1.external.hosted.litellm_wire import LiteLLMWire, supported
from open_r1.external.hosted.prices import price, prompt_tokens
from open_r1.external.hosted.response import read_replies, reported_prompt_tokens
from open_r1.external.hosted.scoring import score_by_vllm
from open_r1.external.hosted.wire import OpenAIWire, Trouble, Wire
from open_r1.external.provider import LogProbs, Request
from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import Failure, Reply

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0  # between attempts, doubling, with jitter
USUAL_REPLY = 200  # tokens, for estimates: a short chain of thought
DIRECT = ("openai/", "hosted_vllm/", "litellm_proxy/")  # spoken to without litellm where api_base names the server

logger = logging.getLogger(__name__)


class LiteLLMProvider:
    """One real model. It is made outside the event loop and used on one loop only, the pool's."""

    def __init__(self, model: ExternalModelConfig, max_pixels: int):
        """Make the model of one entry of `external_models`; its keys and prices were checked (`external/ready.py`).

        Args:
            model: the entry, its `n` filled in.
            max_pixels: larger pictures are scaled down to this, as they are for the policy.
        """
        self.name, self.n, self.concurrency, self.scores = model.name, model.n or 1, model.concurrency, model.scores
        self._model, self._max_pixels, self._price = model, max_pixels, price(model)
        key = os.environ.get(model.key_variable, "") if model.key_variable else ""
        direct = bool(model.api_base) and model.model.startswith(DIRECT)
        self._wire: Wire = OpenAIWire(model.api_base, key) if direct else LiteLLMWire(model.model, model.api_base, key)
        takes = {"n", "logprobs"} if direct else supported(model.model)  # a server that does not is noticed
        self._n_per_request = model.n_per_request or (self.n if "n" in takes else 1)
        self.logprobs = model.logprobs and "logprobs" in takes  # False as soon as it is seen to give none
        self._limiter = Limiter(model.concurrency, model.requests_per_minute, model.tokens_per_minute)
        self._breaker = Breaker()
        self._prompt_scale = 1.0  # how far the bound of a prompt's tokens was below what a server billed
        self._said: set[str] = set()

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What changes a reply; see `Provider`."""
        keys = ("model", "revision", "api_base", "temperature", "top_p", "max_tokens", "extra_body")
        mine = {key: getattr(self._model, key) for key in keys}
        if self._model.revision:
            del mine["api_base"]  # the revision says which weights answer, wherever they are served
        return mine | {"provider": "litellm", "max_pixels": self._max_pixels}

    def upper_bound_usd(self, request: Request) -> float | None:
        """The most that `ask(request)` can cost, in dollars; None where the model has no price.

        Each reply is taken as long as allowed and as asked for in a request of its own, which is what happens where a
        server returns fewer than it was asked for.
        """
        if self._price is None:
            return None
        tokens = self._prompt_scale * prompt_tokens(self._model.model, *self._content(request))
        return request.n * (tokens * self._price.prompt + self._model.max_tokens * self._price.completion)

    def estimate_usd(self, request: Request, reply_tokens: int = USUAL_REPLY) -> float | None:
        """What `ask(request)` will cost, roughly: English text, and replies of `reply_tokens`."""
        if self._price is None:
            return None
        tokens = prompt_tokens(self._model.model, *self._content(request), bytes_per_token=4)
        requests = math.ceil(request.n / self._n_per_request)
        reply_tokens = min(reply_tokens, self._model.max_tokens)
        return requests * tokens * self._price.prompt + request.n * reply_tokens * self._price.completion

    def _content(self, request: Request) -> tuple[str, list[tuple[int, int]]]:
        parts = [part for turn in request.messages for part in turn["content"] if isinstance(part, Mapping)]
        return "".join(p["text"] for p in parts if p["type"] == "text"), picture_sizes(request, self._max_pixels)

    async def ask(self, request: Request) -> list[Reply] | Failure:
        """Return up to `request.n` replies, or the failure of the first request where none came."""
        told = await asyncio.to_thread(chat, request, self._max_pixels)
        whole, rest = divmod(request.n, self._n_per_request)
        return await self._requests(told, [self._n_per_request] * whole + [rest] * (rest > 0))

    async def score(self, request: Request, texts: Sequence[str]) -> list[LogProbs | None]:
        """How likely the model finds each text as its reply; see `Provider`. Each is tried once."""
        told = await asyncio.to_thread(chat, request, self._max_pixels)
        scores = await score_by_vllm(self._send_once, told, texts)
        if all(score is None for score in scores):
            self._say("scores", "it did not say how likely it finds others' replies; the mixture is weighed without it")
        return scores

    async def _send_once(self, told: Chat, keys: Mapping[str, Any]) -> dict[str, Any]:
        body = {"model": self._model.model.partition("/")[2], "max_tokens": 1} | self._model.extra_body | dict(keys)
        async with self._limiter.slot(prompt_tokens(self._model.model, told.text, told.sizes, bytes_per_token=4)):
            try:
                async with asyncio.timeout(self._model.timeout_s):
                    return await self._wire.send(told, body)
            except TimeoutError:
                raise Trouble("timeout", f"no answer within {self._model.timeout_s:g} s") from None

    async def _requests(self, told: Chat, sizes: list[int], plain: bool = False) -> list[Reply] | Failure:
        answers = await asyncio.gather(*(self._request(told, size, plain) for size in sizes))
        replies = [reply for answer in answers if isinstance(answer, list) for reply in answer]
        return replies or answers[0]

    async def _request(self, told: Chat, n: int, plain: bool) -> list[Reply] | Failure:
        """Make one request for n replies; what it does not bring is asked for one by one. `plain`: no log-probs."""
        extras = n > 1 or (self.logprobs and not plain)
        try:
            replies = await self._attempts(told, n, plain)
        except Trouble as trouble:
            if trouble.about == "question" and extras:  # not every API takes n or logprobs
                return await self._without_extras(told, n, trouble)
            if trouble.about == "model" and self._breaker.failed():
                message = "external model '%s' rests for %.0f s after failures in a row (%s: %s)"
                logger.warning(message, self.name, self._breaker.rest_s, trouble.reason, trouble)
            return Failure(self.name, trouble.reason, str(trouble))
        self._breaker.succeeded()
        if len(replies) < n:
            rest = await self._requests(told, [1] * (n - len(replies)), plain)
            replies += rest if isinstance(rest, list) else []
        return replies

    async def _without_extras(self, told: Chat, n: int, trouble: Trouble) -> list[Reply] | Failure:
        answer = await self._requests(told, [1] * n, plain=True)
        if isinstance(answer, list):  # so it was the extras, not the question
            self._n_per_request, self.logprobs = 1, False
            self._say("plain", f"it refused a request ({trouble}) and takes plain ones: one reply, no log-probs")
        return answer

    async def _attempts(self, told: Chat, n: int, plain: bool) -> list[Reply]:
        """Send one request until it is answered, as often and as long as it may be; raises the last Trouble."""
        reply_tokens = n * min(USUAL_REPLY, self._model.max_tokens)
        estimate = prompt_tokens(self._model.model, told.text, told.sizes, bytes_per_token=4) + reply_tokens
        give_up_at, trouble = math.inf, Trouble("rate_limit", "no attempt in time")
        for attempt in range(self._model.max_retries + 1):
            async with self._limiter.slot(estimate):
                give_up_at = min(give_up_at, time.monotonic() + self._model.timeout_s)
                if time.monotonic() >= give_up_at:
                    break
                if not self._breaker.allows():
                    wait = f"it failed many times in a row and rests for {self._breaker.rest_s:.0f} s"
                    raise Trouble("resting", wait, about="rest")
                try:
                    return await self._attempt(told, n, plain, give_up_at, estimate)
                except Trouble as error:
                    trouble = error
            pause = max(trouble.wait_s, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1))
            if not trouble.again or attempt == self._model.max_retries or time.monotonic() + pause >= give_up_at:
                break
            await asyncio.sleep(pause)
        raise trouble

    async def _attempt(self, told: Chat, n: int, plain: bool, give_up_at: float, estimate: int) -> list[Reply]:
        """Send one request and read its replies; raises Trouble."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(give_up_at - started):
                response = await self._wire.send(told, self._body(n, plain))
        except TimeoutError:
            raise Trouble("timeout", f"no answer within {self._model.timeout_s:g} s") from None
        replies = read_replies(response, n, self._model.max_tokens, self._price, time.monotonic() - started)
        if billed := reported_prompt_tokens(response):
            most = prompt_tokens(self._model.model, told.text, told.sizes)
            self._prompt_scale = max(self._prompt_scale, billed / most)
            self._limiter.used(estimate, billed + sum(reply.completion_tokens or 0 for reply in replies))
        self._notice(n, replies, plain)
        return replies

    def _body(self, n: int, plain: bool) -> dict[str, Any]:
        """The request's keys beside its messages; what is left to the API is left out."""
        model = self._model
        body: dict[str, Any] = {"model": model.model.partition("/")[2], "max_tokens": model.max_tokens}
        body |= {key: value for key in ("temperature", "top_p") if (value := getattr(model, key)) is not None}
        if n > 1:
            body["n"] = n
        if self.logprobs and not plain:
            body["logprobs"] = True
        return body | model.extra_body

    def _notice(self, n: int, replies: list[Reply], plain: bool) -> None:
        """Remember what the server does not do, and say it once."""
        if len(replies) == 1 < n:
            self._n_per_request = 1
            self._say("one", "it returns one reply however many it is asked for; they are asked for one by one")
        elif len(replies) < n:
            self._say("fewer", f"it returned {len(replies)} of {n} replies; what is missing is asked for one by one")
        told = [reply for reply in replies if reply.text]
        if self.logprobs and not plain and told and all(reply.logprobs is None for reply in told):
            self.logprobs = False
            self._say("logprobs", "it returns no log-probs; its replies are kept without")

    def _say(self, topic: str, what: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            logger.warning("external model '%s': %s", self.name, what)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.close()

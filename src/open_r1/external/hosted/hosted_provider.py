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
from dataclasses import replace
from typing import Any, NamedTuple

from open_r1.external.hosted.bounds import Bound
from open_r1.external.hosted.breaker import Breaker
from open_r1.external.hosted.chat import Chat, chat, prompt_sizes, prompt_text
from open_r1.external.hosted.limiter import Limiter
from open_r1.external.hosted.litellm_wire import LiteLLMWire, supported
from open_r1.external.hosted.prices import price, prompt_tokens
from open_r1.external.hosted.response import Completion, read_completion
from open_r1.external.hosted.scoring import score_by_vllm
from open_r1.external.hosted.wire import OpenAIWire, RequestFailed, Wire
from open_r1.external.provider import Bill, LogProbs, Request
from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import Failure, Reply
from open_r1.utils.secrets import MARK, SHORTEST

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0  # between attempts, doubling, with jitter
USUAL_REPLY = 200  # tokens, for estimates: a short chain of thought
DIRECT = ("openai/", "hosted_vllm/", "litellm_proxy/")  # spoken to without litellm where api_base names the server

logger = logging.getLogger(__name__)


class _Question(NamedTuple):
    """One prompt, ready to be sent, and where its requests are counted."""

    chat: Chat
    bill: Bill


class LiteLLMProvider:
    """One real model. It is made outside the event loop and used on one loop only, the gatherer's."""

    bills = True  # see `Provider`

    def __init__(self, model: ExternalModelConfig, max_pixels: int):
        """Make the model of one entry of `external_models`; its keys and prices were checked (`hosted/ready.py`).

        Args:
            model: the entry, its `n` filled in.
            max_pixels: larger pictures are scaled down to this, as they are for the policy.
        """
        self.name, self.n, self.concurrency, self.scores = model.name, model.n or 1, model.concurrency, model.scores
        self._model, self._max_pixels, self._price = model, max_pixels, price(model)
        self._key = os.environ.get(model.key_variable, "") if model.key_variable else ""
        own = spoken_to_directly(model)
        self._wire: Wire = (
            OpenAIWire(model.api_base, self._key) if own else LiteLLMWire(model.model, model.api_base, self._key)
        )
        takes = {"n", "logprobs"} if own else supported(model.model)  # a server that does not is noticed
        self._n_per_request = model.n_per_request or (self.n if "n" in takes else 1)
        self.logprobs = model.logprobs and "logprobs" in takes  # False as soon as it is seen to give none
        self._limiter = Limiter(model.concurrency, model.requests_per_minute, model.tokens_per_minute)
        self._breaker = Breaker()
        self._bound = Bound(model.max_tokens, self._price)
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
        sizes = prompt_sizes(request, self._max_pixels)
        tokens = prompt_tokens(self._model.model, prompt_text(request), sizes)
        return self._bound.usd(tokens, replies=request.n, requests=request.n)

    def estimate_usd(self, request: Request, reply_tokens: int = USUAL_REPLY) -> float | None:
        """What `ask(request)` will cost, roughly: English text, and replies of `reply_tokens`."""
        if self._price is None:
            return None
        sizes = prompt_sizes(request, self._max_pixels)
        tokens = prompt_tokens(self._model.model, prompt_text(request), sizes, bytes_per_token=4)
        requests = math.ceil(request.n / self._n_per_request)
        reply_tokens = min(reply_tokens, self._model.max_tokens)
        return requests * tokens * self._price.prompt + request.n * reply_tokens * self._price.completion

    async def ask(self, request: Request) -> list[Reply] | Failure:
        """Return up to `request.n` replies, or the failure of the first request where none came."""
        if self._bound.broken:
            return Failure(self.name, "budget", self._beyond_bound())
        question = _Question(await asyncio.to_thread(chat, request, self._max_pixels), request.bill or Bill())
        whole, rest = divmod(request.n, self._n_per_request)
        return await self._requests(question, [self._n_per_request] * whole + [rest] * (rest > 0))

    async def score(self, request: Request, texts: Sequence[str]) -> list[LogProbs | None]:
        """How likely the model finds each text as its reply; see `Provider`. Each is tried once."""
        asked = await asyncio.to_thread(chat, request, self._max_pixels)
        scores = await score_by_vllm(self._send_once, asked, texts)
        if all(score is None for score in scores):
            self._say("scores", "it did not say how likely it finds others' replies; the mixture is weighed without it")
        return scores

    async def _send_once(self, asked: Chat, keys: Mapping[str, object]) -> dict[str, object]:
        body = {"model": self._model.model.partition("/")[2], "max_tokens": 1} | self._model.extra_body | dict(keys)
        async with self._limiter.slot(self._estimate(asked, 0)):
            try:
                async with asyncio.timeout(self._model.timeout_s):
                    return await self._wire.send(asked, body, leaves=lambda: None)
            except TimeoutError:
                raise RequestFailed("timeout", f"no answer within {self._model.timeout_s:g} s") from None

    async def _requests(self, question: _Question, sizes: list[int], plain: bool = False) -> list[Reply] | Failure:
        answers = await asyncio.gather(*(self._request(question, size, plain) for size in sizes))
        replies = [reply for answer in answers if isinstance(answer, list) for reply in answer]
        return replies or answers[0]

    async def _request(self, question: _Question, n: int, plain: bool) -> list[Reply] | Failure:
        """Make one request for n replies; what it does not bring is asked for one by one. `plain`: no log-probs."""
        extras = n > 1 or (self.logprobs and not plain)
        try:
            replies = await self._attempts(question, n, plain)
        except RequestFailed as failed:
            if failed.about == "question" and extras:  # not every API takes n or logprobs
                return await self._without_extras(question, n, failed)
            if failed.about == "model" and self._breaker.failed():
                message = "external model '%s' rests for %.0f s after failures in a row (%s: %s)"
                logger.warning(message, self.name, self._breaker.rest_s, failed.reason, failed)
            return Failure(self.name, failed.reason, str(failed))
        self._breaker.succeeded()
        if len(replies) < n and not self._bound.broken:
            rest = await self._requests(question, [1] * (n - len(replies)), plain)
            replies += rest if isinstance(rest, list) else []
        return replies

    async def _without_extras(self, question: _Question, n: int, failed: RequestFailed) -> list[Reply] | Failure:
        answer = await self._requests(question, [1] * n, plain=True)
        if isinstance(answer, list):  # so it was the extras, not the question
            self._n_per_request, self.logprobs = 1, False
            self._say("plain", f"it refused a request ({failed}) and takes plain ones: one reply, no log-probs")
        return answer

    async def _attempts(self, question: _Question, n: int, plain: bool) -> list[Reply]:
        """Send one request until it is answered, as often and as long as it may be; raises the last RequestFailed."""
        estimate = self._estimate(question.chat, n)
        give_up_at, failed = math.inf, RequestFailed("rate_limit", "no attempt in time")
        for attempt in range(self._model.max_retries + 1):
            async with self._limiter.slot(estimate):
                give_up_at = min(give_up_at, time.monotonic() + self._model.timeout_s)
                if time.monotonic() >= give_up_at:
                    break
                if not self._breaker.allows():
                    wait = f"it failed many times in a row and rests for {self._breaker.rest_s:.0f} s"
                    raise RequestFailed("resting", wait, about="pause")
                try:
                    return await self._attempt(question, n, plain, give_up_at)
                except RequestFailed as error:
                    failed = error
            pause = max(failed.wait_s, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1))
            if not failed.again or attempt == self._model.max_retries or time.monotonic() + pause >= give_up_at:
                break
            await asyncio.sleep(pause)
        raise failed

    async def _attempt(self, question: _Question, n: int, plain: bool, give_up_at: float) -> list[Reply]:
        """Send one request and read its replies, and note what it cost; raises RequestFailed."""
        asked, bill, number = question.chat, question.bill, 0
        started = time.monotonic()

        def leaves() -> None:
            nonlocal number
            number = bill.sent(self._bound.usd(self._prompt_tokens(asked), replies=n))

        try:
            async with asyncio.timeout(give_up_at - started):
                response = await self._wire.send(asked, self._body(n, plain), leaves)
        except TimeoutError:
            no_answer = f"no answer within {self._model.timeout_s:g} s"
            raise RequestFailed("timeout", no_answer, perhaps_billed=number > 0) from None
        except RequestFailed as failed:
            if number and not failed.perhaps_billed:
                bill.paid(number, 0.0)
            raise
        latency_s, limit = time.monotonic() - started, self._model.max_tokens
        completion = read_completion(response, n, limit, self._price, latency_s, self._wire.own)
        self._account(question, number, n, completion)
        self._notice(n, completion, plain)
        return [self._without_key(reply) for reply in completion.replies]

    def _account(self, question: _Question, number: int, n: int, completion: Completion) -> None:
        """Note what a request cost, and learn from it. Where its usage cannot be, it stays in doubt at its bound."""
        asked, usage = question.chat, completion.usage
        if usage is None:
            counts = "it reports no token counts, or ones that cannot be (below 0, absurd, none for a text)"
            self._say("usage", f"{counts}; such requests count what they may cost at most")
            return
        self._limiter.used(self._estimate(asked, n), usage.prompt + usage.completion)
        question.bill.paid(number, 0.0 if self._price is None else self._price.cost(usage))
        if self._bound.learn(self._prompt_tokens(asked), n, usage):
            billed = f"it billed {usage.prompt:,} + {usage.completion:,} tokens, more than a request may cost"
            self._say("bound", f"{billed}; coming ones are reserved at that (max_tokens is {self._model.max_tokens})")
            if self._bound.broken:
                self._say("broken", self._beyond_bound())

    def _beyond_bound(self) -> str:
        return (
            "it billed more than its bound again and again, so that no budget can hold, and is asked no more; hidden"
            f" reasoning is billed beyond max_tokens ({self._model.max_tokens}): lower its effort in extra_body, raise"
            " max_tokens to what it uses, or take another model"
        )

    def _prompt_tokens(self, asked: Chat) -> int:
        """Tokens of a prompt at most, by our own rules."""
        return prompt_tokens(self._model.model, asked.text, asked.sizes)

    def _estimate(self, asked: Chat, n: int) -> int:
        """Tokens of a request, roughly, for the limiter."""
        tokens = prompt_tokens(self._model.model, asked.text, asked.sizes, bytes_per_token=4)
        return tokens + n * min(USUAL_REPLY, self._model.max_tokens)

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

    def _notice(self, n: int, completion: Completion, plain: bool) -> None:
        """Remember what the server does not do, and say it once."""
        replies = completion.replies
        if len(replies) == 1 < n:
            self._n_per_request = 1
            self._say("one", "it returns one reply however many it is asked for; they are asked for one by one")
        elif len(replies) < n:
            self._say("fewer", f"it returned {len(replies)} of {n} replies; what is missing is asked for one by one")
        if completion.rejoined:
            self._say("rejoined", "its server cuts the reasoning out of replies; it is put back in think tags")
        with_text = [reply for reply in replies if reply.text]
        if self.logprobs and not plain and with_text and all(reply.logprobs is None for reply in with_text):
            self.logprobs = False
            self._say("logprobs", "it returns no log-probs; its replies are kept without")

    def _without_key(self, reply: Reply) -> Reply:
        """The reply, the key cut out: a server may say back what it was sent, and replies are written down."""
        if len(self._key) < SHORTEST or self._key not in reply.text:
            return reply
        return replace(reply, text=reply.text.replace(self._key, MARK))

    def _say(self, topic: str, what: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            logger.warning("external model '%s': %s", self.name, what)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.close()


def spoken_to_directly(model: ExternalModelConfig) -> bool:
    """Whether requests go to an OpenAI-compatible server of one's own, without litellm."""
    return bool(model.api_base) and model.model.startswith(DIRECT)

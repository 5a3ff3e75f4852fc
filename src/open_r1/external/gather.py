"""Gathers replies: asks every external model about every prompt of a step at once, waits no longer than allowed.

A step never dies of a teacher: what has not come by the deadline is a `Failure`, and the group is filled from what is
there. Only `required=True` turns a failure into an abort. Exceptions are no failures: they propagate.
"""

import asyncio
import atexit
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from open_r1.external.failures import FailureLog, require
from open_r1.external.provider import LogProbs, Provider, Request
from open_r1.external.store.stored_provider import StoredProvider
from open_r1.recipe.settings import GRACE_S
from open_r1.schema import POLICY, Answers, Failure, Reply, UserError


async def score_all(
    providers: Sequence[Provider],
    requests: Sequence[Request],
    written_PG: Sequence[Sequence[tuple[str, str]]],
    deadline_s: float,
) -> list[dict[tuple[str, str], LogProbs]]:
    """Ask every provider about the replies that others wrote; what has not come by the deadline is not known.

    Args:
        providers: those that can tell.
        requests: one per prompt (P).
        written_PG: (source, text) of the replies to each.
        deadline_s: for all of them.

    Returns:
        Of every prompt the log-probs that are known, by (provider, text).
    """

    async def one(p: int, provider: Any) -> list[tuple[int, tuple[str, str], LogProbs]]:
        texts = list(dict.fromkeys(text for source, text in written_PG[p] if source != provider.name))
        scores: list[LogProbs | None] = await provider.score(requests[p], texts) if texts else []
        return [(p, (provider.name, text), x) for text, x in zip(texts, scores, strict=True) if x is not None]

    tasks = [asyncio.create_task(one(p, provider)) for p in range(len(requests)) for provider in providers]
    try:
        done, _ = await asyncio.wait(tasks, timeout=deadline_s, return_when=asyncio.FIRST_EXCEPTION)
        found = [entry for task in done for entry in task.result()]  # raises what a provider raised
    finally:
        for task in tasks:
            task.cancel()  # no effect on those that are done
    known: list[dict[tuple[str, str], LogProbs]] = [{} for _ in requests]
    for p, key, logprobs in found:
        known[p][key] = logprobs
    return known


T = TypeVar("T")

CLOSE_S = 5.0  # for closing the providers, and again for the thread to end


class Gathered(NamedTuple):
    """What one step's requests brought."""

    answers: list[Answers]  # one per prompt, in the order of the requests; every model has an entry
    wait_s: float  # seconds the caller was kept waiting for them
    failures: dict[str, int]  # per model in this step: failed requests, and single replies dropped for being blank


class Usage(NamedTuple):
    """What became of the questions to one model whose replies are kept."""

    asked: int  # prefetches apart
    hits: int  # of them, answered from the store at once
    usd: float  # by the ledger, over all runs that used its file


class Gatherer:
    """All external models of a run, served by one event-loop thread that lives as long as the gatherer.

    The thread starts with the first question and ends with `close` (called at exit if nobody did): clients of HTTP
    APIs break or leak when event loops come and go.
    """

    def __init__(self, providers: Sequence[Provider], required: bool = False):
        """Hold the providers. Two models of one name, or one called like the policy, are refused.

        Args:
            providers: the external models, M of them.
            required: whether a failure ends the run (the recipe's `external_required`).
        """
        self.providers, self.required = tuple(providers), required
        self.names = [provider.name for provider in providers]
        for name, count in Counter([POLICY, *self.names]).items():
            if count > 1:
                rule = "the policy's own" if name == POLICY else "given twice"
                raise UserError(f"external_models: the name '{name}' is {rule}; give every external model its own name")
        self._log = FailureLog(self.names)
        self._stored = [provider for provider in providers if isinstance(provider, StoredProvider)]
        self._scoring = [provider for provider in providers if getattr(provider, "scores", False)]

    @property
    def failures(self) -> dict[str, int]:
        """Failures per model since the gatherer was made."""
        return dict(self._log.totals)

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="external-models", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        return loop

    def ask(self, requests: Sequence[Request], deadline_s: float) -> Callable[[], Gathered]:
        """Put all prompts to all models at once and return at once; calling the result waits for the answers.

        So external models answer while the policy samples. A call that has not answered `deadline_s` after this
        question is cancelled and becomes Failure("timeout"), however late the result is called.

        Args:
            requests: one per prompt (P); each model gets them with its own n.
            deadline_s: for the whole step, counted from this question (the recipe's `external_deadline_s`).

        Returns:
            A function to call once. It raises UserError when a model failed and `required` is set; RuntimeError
            when a provider blocks the event loop, so that not even the deadline could be kept; and whatever exception
            a provider raised, with a note that names the model and the row.
        """
        if not self.providers or not requests:
            return lambda: Gathered([{} for _ in requests], 0.0, dict.fromkeys(self.names, 0))
        give_up_at = time.perf_counter() + deadline_s + GRACE_S
        future = asyncio.run_coroutine_threadsafe(self._ask_all(requests, deadline_s), self._loop)
        return lambda: self._wait(future, give_up_at, requests[0].step)

    def prefetch(self, requests: Sequence[Request]) -> None:
        """Put prompts of coming steps to the models whose replies are kept; returns at once, nobody waits for it.

        What a provider raises is raised by its next `ask`. Called after `ask`, it comes after it with every provider.
        """
        if self._stored and requests:
            asyncio.run_coroutine_threadsafe(_prefetch_all(self._stored, requests), self._loop)

    def score(
        self, requests: Sequence[Request], written_PG: Sequence[Sequence[tuple[str, str]]], deadline_s: float
    ) -> list[dict[tuple[str, str], LogProbs]]:
        """Ask the models that can tell how likely they find replies of others, and wait: see `scoring.score_all`."""
        if not self._scoring:
            return [{} for _ in requests]
        scores = score_all(self._scoring, requests, written_PG, deadline_s)
        future = asyncio.run_coroutine_threadsafe(scores, self._loop)
        return self._result(future, time.perf_counter() + deadline_s + GRACE_S)

    def usage(self) -> dict[str, Usage]:
        """Of each model whose replies are kept: questions and hits since the last call, dollars over all runs."""
        taken: dict[str, Usage] = {}
        for provider in self._stored:
            counts, account = provider.usage.take(), provider.ledger.accounts().get(provider.name)
            usd = account.spent_usd + account.in_doubt_usd if account else 0.0
            taken[provider.name] = Usage(counts.asked, counts.hits, usd)
        return taken

    def _wait(self, future: Future[list[Answers]], give_up_at: float, step: int) -> Gathered:
        started = time.perf_counter()
        answers = self._result(future, give_up_at)
        wait_s = time.perf_counter() - started
        counts = self._log.settle(answers, step)
        if self.required:
            require(answers, step)
        return Gathered(answers, wait_s, counts)

    def _result(self, future: Future[T], give_up_at: float) -> T:
        """Wait for what the loop works on; raises RuntimeError where a provider blocks it past all deadlines."""
        try:
            return future.result(timeout=max(0.0, give_up_at - time.perf_counter()))
        except TimeoutError as error:
            if future.done():  # a provider's own TimeoutError, not that of this wait
                raise
            names = ", ".join(self.names)
            raise RuntimeError(f"an external model ({names}) blocks the event loop: its methods must await") from error
        finally:
            future.cancel()  # of use only when this wait was interrupted

    async def _ask_all(self, requests: Sequence[Request], deadline_s: float) -> list[Answers]:
        """Run every (prompt, model) call as a task; cancel without waiting what is late, raise what was raised."""
        tasks = {
            (i, provider.name): asyncio.create_task(_ask(provider, request))
            for i, request in enumerate(requests)
            for provider in self.providers
        }
        try:
            done, late = await asyncio.wait(tasks.values(), timeout=deadline_s, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()  # raises what the provider raised
        finally:
            for task in tasks.values():
                task.cancel()  # no effect on those that are done
        answers: list[Answers] = [{} for _ in requests]
        for (i, name), task in tasks.items():
            timeout = Failure(name, "timeout", f"no reply within {deadline_s:g} s")
            answers[i][name] = timeout if task in late else task.result()
        return answers

    def close(self) -> None:
        """Close the providers, end the thread. Safe to call twice; a later `ask` would start a new thread."""
        loop = self.__dict__.pop("_loop", None)
        if loop is None:
            return
        atexit.unregister(self.close)
        closing = asyncio.run_coroutine_threadsafe(_close_all(self.providers), loop)
        try:
            closing.result(timeout=CLOSE_S)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(timeout=CLOSE_S)
            if not self._thread.is_alive():
                loop.close()


async def _ask(provider: Provider, request: Request) -> list[Reply] | Failure:
    """Ask for the provider's own n; an exception gets a note that says who was asked what."""
    try:
        return await provider.ask(replace(request, n=provider.n))
    except Exception as error:
        error.add_note(f"external model '{provider.name}', asked about row '{request.row.id}' in step {request.step}")
        raise


async def _prefetch_all(providers: Sequence[StoredProvider], requests: Sequence[Request]) -> None:
    calls = [provider.prefetch(replace(request, n=provider.n)) for request in requests for provider in providers]
    await asyncio.gather(*calls, return_exceptions=True)  # the next ask() raises what was raised


async def _close_all(providers: Sequence[Provider]) -> None:
    """Close the providers, then end what they or their libraries left running, so that no task outlives its loop."""
    await asyncio.gather(*(provider.aclose() for provider in providers))
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)

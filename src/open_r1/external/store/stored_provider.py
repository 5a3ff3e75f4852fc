"""StoredProvider: any provider behind the store and the ledger. What was bought is never bought again.

A hit costs a look-up. A miss is reserved in the ledger, asked of the wrapped provider, and settled and kept in one
commit before it is returned. The purchase is a task of its own: cancelling the call (at a step's deadline) leaves it
running, and the reply that was paid for is kept when it arrives. Two calls with one question share one purchase, also
between processes.
"""

import asyncio
import atexit
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, cast

from open_r1.external.provider import Bill, Provider, Request
from open_r1.external.store.database import Database
from open_r1.external.store.ledger import Ledger, Refusal
from open_r1.external.store.replies import PromptVersion, ReplyKey, Store, reply_key
from open_r1.schema import Failure, Reply, UserError
from open_r1.utils.provenance import ROOT

DEFAULT_STORE = ROOT / "data" / "replies.sqlite"
POLL_S = 0.05  # between two looks at what another process does
WAIT_S = 600.0  # at most, for another process to answer or for open calls to release what they reserved
WARN_S = 10.0  # of waiting in silence; then it is said, and again after twice as long
CLOSE_S = 4.0  # for paid replies that are still on their way when the run ends; below the gatherer's own limit

# Failures, of a provider that writes no bill, after which nobody can say whether it charged: their bound counts.
PERHAPS_BILLED = frozenset({"timeout", "connection", "bad_reply"})

logger = logging.getLogger(__name__)


@dataclass
class Usage:
    """What was asked of one provider since the last look, prefetches apart."""

    asked: int = 0  # questions
    hits: int = 0  # of them, answered from the store at once
    bought: int = 0  # calls to the wrapped provider, prefetches included

    def take(self) -> "Usage":
        """Return the counts and start again at zero."""
        taken = replace(self)
        self.asked = self.hits = self.bought = 0
        return taken


class StoredProvider:
    """A provider whose replies come from the store, and from `provider` where the store has none."""

    def __init__(self, provider: Provider, store: Store, ledger: Ledger, prompt: PromptVersion):
        """Wrap `provider`; `prompt` says what the store files its replies under.

        Raises:
            UserError: the store holds replies to another instruction (see `Store.declare`).
        """
        store.declare(prompt)
        self.provider, self.store, self.ledger, self.prompt = provider, store, ledger, prompt
        self.name, self.n = provider.name, provider.n
        self.usage = Usage()
        self.scores = getattr(provider, "scores", False) and not store.database.read_only
        self.fingerprint = getattr(provider, "fingerprint", {"name": provider.name})
        self._billed = ledger.budget is None or not hasattr(provider, "upper_bound_usd")
        self._bills: bool = getattr(provider, "bills", False)
        self._trial = asyncio.Lock()
        self._running: dict[bytes, asyncio.Task[list[Reply] | Failure]] = {}
        self._broken: BaseException | None = None  # what a purchase raised that nobody waited for

    async def ask(self, request: Request) -> list[Reply] | Failure:
        """Return `request.n` replies, bought where they are missing; see `Provider.ask`."""
        self.usage.asked += 1
        asked = self.key_of(request)
        have = self._stored(asked)[: request.n]
        if len(have) == request.n:
            self.usage.hits += 1
            return have
        return await self._purchase(asked, request)

    async def prefetch(self, request: Request) -> list[Reply] | Failure:
        """Ask ahead of time: the same, but counted as no question of the step's."""
        asked = self.key_of(request)
        have = self._stored(asked)[: request.n]
        return have if len(have) == request.n else await self._purchase(asked, request)

    async def score(self, request: Request, texts: Sequence[str]) -> list[tuple[float, ...] | None]:
        """The provider's own answer; see `Provider`."""
        return await cast(Any, self.provider).score(request, texts)

    def stored(self, request: Request) -> list[Reply]:
        """What the store holds of the replies that are asked for; asks nobody."""
        return self._stored(self.key_of(request))[: request.n]

    def estimate_usd(self, request: Request) -> float:
        """What asking will cost, roughly, in dollars; 0 where the provider cannot say."""
        likely = getattr(self.provider, "estimate_usd", None)
        return (likely(request) if likely else 0.0) or 0.0

    def key_of(self, request: Request) -> ReplyKey:
        """The request's address in the store."""
        return reply_key(request, self.prompt, self.name, self.fingerprint)

    def _stored(self, asked: ReplyKey) -> list[Reply]:
        return self.store.replies([asked.key]).get(asked.key, [])

    async def _purchase(self, asked: ReplyKey, request: Request) -> list[Reply] | Failure:
        """Join the purchase of this question that is under way, or start one."""
        if self._broken:
            raise self._broken
        if asked.key not in self._running:
            task = asyncio.create_task(self._buy(asked, request))
            self._running[asked.key] = task
            task.add_done_callback(lambda _: self._ended(asked.key))
        return await asyncio.shield(self._running[asked.key])

    def _ended(self, key: bytes) -> None:
        task = self._running.pop(key)
        if not task.cancelled() and (error := task.exception()):
            self._broken = error  # raised by the next call, should nobody wait for this one any more

    async def _buy(self, asked: ReplyKey, request: Request) -> list[Reply] | Failure:
        """Ask for what is missing, in one call for each gap in its sample numbers: one, unless an import left some."""
        answer: list[Reply] | Failure = []
        while len(have := self._stored(asked)[: request.n]) < request.n:
            before, free = len(have), first_gap(self.store.samples(asked.key), request.n - len(have))
            async with self._first_bill():
                answer = await self._call(asked, replace(request, n=len(free), first=free.start))
            have = self._stored(asked)[: request.n]
            if isinstance(answer, Failure) or len(have) < before + len(free):
                break
        return have or answer

    @asynccontextmanager
    async def _first_bill(self) -> AsyncGenerator[None, None]:
        """Where a budget must hold, let one call at a time through until the model has billed one.

        So a model that bills more than its bound does so once, not as often as calls fit into the budget.
        """
        if self._billed:
            yield
            return
        async with self._trial:
            if not self._billed:
                yield
                return
        yield

    async def _call(self, asked: ReplyKey, missing: Request) -> list[Reply] | Failure:
        """Reserve, ask the provider, settle and keep; returns what it answered, or why it was not asked."""
        bound = upper_bound_usd(self.provider, missing)
        call = await self._reserve(asked, bound)
        if isinstance(call, Failure):
            return call
        if missing.first in self.store.samples(asked.key):  # another process was quicker
            self.ledger.release(call)
            return []
        bill, answer = Bill(), None
        try:
            self.usage.bought += 1
            answer = await self.provider.ask(replace(missing, bill=bill))
        finally:
            paid, in_doubt = spending(answer, bill if self._bills else None, missing.n, bound)
            with self.store.database.write():
                self.ledger.settle(call, self.name, paid, in_doubt)
                if isinstance(answer, list):
                    self.store.add([(asked, missing.first, answer)])
        self._billed = self._billed or isinstance(answer, list)
        return answer

    async def _reserve(self, asked: ReplyKey, bound: float) -> int | Failure:
        """Reserve the call's bound, waiting for other calls where that can help."""
        if self.store.database.read_only:
            return Failure(self.name, "missing", f"no reply to row '{asked.row_id}', and the store is read only")
        began, warn_after_s = time.monotonic(), WARN_S
        while (waited_s := time.monotonic() - began) < WAIT_S:
            self.store.database.check_room()
            call = self.ledger.reserve(asked.key, self.name, bound)
            if call == "over":
                counted = f"{self.ledger.counted_usd:.4f} $ are counted and this call may cost {bound:.4f} $"
                return Failure(self.name, "budget", f"the budget holds no further call: {counted}")
            if isinstance(call, int):
                return call
            if waited_s >= warn_after_s:
                warn_after_s *= 2
                logger.warning("external model '%s': %s", self.name, self._why_waiting(call, asked, waited_s))
            await asyncio.sleep(POLL_S)  # "claimed" or "wait"
        return Failure(self.name, "timeout", f"other calls kept it waiting for {WAIT_S:g} s")

    def _why_waiting(self, refusal: Refusal, asked: ReplyKey, waited_s: float) -> str:
        if refusal == "wait":
            return f"calls under way have reserved what is left of the budget; waiting for them since {waited_s:.0f} s"
        process = self.ledger.holder(asked.key)
        return (
            f"process {process} asks about row '{asked.row_id}' already; waiting for its reply since {waited_s:.0f} s,"
            f" up to {WAIT_S:.0f}; if it was stopped, continue it (kill -CONT {process}) or end it"
        )

    async def drain(self, timeout_s: float) -> None:
        """Wait for the replies on their way: they are paid for."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=timeout_s)

    async def aclose(self) -> None:
        """Give replies on their way a moment to arrive, count the rest as in doubt, close the provider."""
        await self.drain(CLOSE_S)
        late = list(self._running.values())
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)  # each settles its call
        await self.provider.aclose()


def open_store(path: str | Path, read_only: bool = False, budget_usd: float | None = None) -> tuple[Store, Ledger]:
    """Open the file of replies and its ledger; it is closed when the process ends. Raises UserError as they do."""
    database = Database(path, read_only)
    atexit.register(database.close)
    return Store(database), Ledger(database, budget_usd)


def behind_store(
    providers: Sequence[Provider],
    prompt: PromptVersion,
    path: str = "",
    read_only: bool = False,
    budget: float | None = None,
) -> list[Provider]:
    """Put every provider behind the store at `path`; without a path those that cost money, behind DEFAULT_STORE.

    Raises:
        UserError: the store cannot be used, see `Database` and `Store.declare`, or the budget is no amount.
    """
    kept = [provider for provider in providers if path or hasattr(provider, "upper_bound_usd")]
    if not kept:
        return list(providers)
    store, ledger = open_store(path or DEFAULT_STORE, read_only, budget)
    return [StoredProvider(p, store, ledger, prompt) if p in kept else p for p in providers]


def upper_bound_usd(provider: Provider, request: Request) -> float:
    """The most that one call can cost, in dollars; a provider that names no bound is free of charge.

    Raises:
        UserError: the provider has prices but none for its model.
    """
    bound = cast(Any, provider).upper_bound_usd(request) if hasattr(provider, "upper_bound_usd") else 0.0
    if bound is None:
        raise UserError(
            f"external model '{provider.name}' has no price, so that no budget can hold; give its price in the recipe,"
            " 0 where it is free"
        )
    return bound


def cost_usd(answer: list[Reply] | Failure, wanted: int, bound: float) -> float:
    """What a call cost; a reply that did not come, or came without its price, counts its share of the bound."""
    if isinstance(answer, Failure):
        return bound if answer.reason in PERHAPS_BILLED else 0.0
    known = [reply.cost_usd for reply in answer if reply.cost_usd is not None]
    return sum(known) + bound * max(0, wanted - len(known)) / wanted


def spending(answer: list[Reply] | Failure | None, bill: Bill | None, wanted: int, bound: float) -> tuple[float, float]:
    """What a call cost, known and in doubt, in dollars.

    A provider that writes its bill says it request by request. Of one that does not (`bill` is None), only the answer
    is known; an exception leaves none, and it may have been billed.
    """
    if bill is not None:
        return bill.paid_usd, bill.in_doubt_usd
    if isinstance(answer, list):
        return cost_usd(answer, wanted, bound), 0.0
    return 0.0, bound if answer is None else cost_usd(answer, wanted, bound)


def first_gap(samples: Sequence[int], wanted: int) -> range:
    """The first numbers that `samples` lack, as many in a row as are free, at most `wanted`.

    >>> first_gap([0, 1, 3], 5), first_gap([1], 2), first_gap([0, 1], 2)
    (range(2, 3), range(0, 1), range(2, 4))
    """
    taken = set(samples)
    first = next(number for number in count() if number not in taken)
    return range(first, next(number for number in count(first) if number in taken or number == first + wanted))

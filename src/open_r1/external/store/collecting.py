"""Collecting: asks many questions of several models side by side, ahead of any training, and counts what came of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from open_r1.external.provider import Request
from open_r1.external.store.stored_provider import StoredProvider
from open_r1.schema import Failure
from open_r1.utils.markdown import markdown

DRAIN_S = 60.0  # for replies on their way when collecting is stopped; a second Ctrl-C leaves them
IN_FLIGHT = 512  # questions under way of a model that names no `concurrency`


@dataclass
class Tally:
    """What collecting from one model has come to."""

    todo: list[Request] = field(default_factory=list)  # questions that the store does not answer in full
    missing: list[Request] = field(default_factory=list)  # the same, for the missing replies alone
    bound_usd: float = 0.0  # what these cost at most
    stored: int = 0  # questions that it did answer
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # questions by reason
    last: Failure | None = None

    @property
    def done(self) -> int:
        """Questions settled, well or badly."""
        return self.answered + self.failed.total()


def estimate(providers: Iterable[StoredProvider], tallies: Iterable[Tally]) -> str:
    """A dry run's table: what is there, what would be asked, what it would cost."""
    lines = []
    for provider, tally in zip(providers, tallies, strict=True):
        likely = getattr(provider.provider, "estimate_usd", lambda request: 0.0)
        usd = sum(likely(request) or 0.0 for request in tally.missing)
        replies = sum(request.n for request in tally.missing)
        counts = [f"{number:,}" for number in (tally.stored, len(tally.todo), replies)]
        lines.append([provider.name, *counts, f"{usd:.2f}", f"{tally.bound_usd:.2f}"])
    head = ["model", "prompts in the store", "prompts to ask", "replies to buy", "dollars, about", "dollars, at most"]
    return markdown(head, lines)


async def collect(providers: Sequence[StoredProvider], tallies: Sequence[Tally], bar: tqdm) -> None:
    """Ask what is missing, all models side by side; what was paid for is kept even if this is cancelled."""
    began, start_usd = time.monotonic(), providers[0].ledger.counted_usd

    async def work(provider: StoredProvider, tally: Tally, rest: Iterable[Request]) -> None:
        for request in rest:
            if tally.failed["budget"]:  # no further call fits
                return
            answer = await provider.ask(request)
            if isinstance(answer, Failure):
                tally.failed[answer.reason] += 1
                tally.last = answer
            else:
                tally.answered += 1
            bar.set_postfix_str(progress(), refresh=False)
            bar.update()

    def progress() -> str:
        usd = providers[0].ledger.counted_usd - start_usd
        done, failed = sum(t.done for t in tallies), sum(t.failed.total() for t in tallies)
        replies = sum(p.n * t.answered for p, t in zip(providers, tallies, strict=True))
        projected = usd / done * sum(len(t.todo) for t in tallies)
        return f"{replies / (time.monotonic() - began):.0f} replies/s, {usd:.2f} of {projected:.2f} $, {failed} failed"

    tasks = []
    for provider, tally in zip(providers, tallies, strict=True):
        rest = iter(tally.todo)  # shared: each worker takes the next
        workers = min(getattr(provider.provider, "concurrency", IN_FLIGHT), len(tally.todo))
        tasks += [asyncio.create_task(work(provider, tally, rest)) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()  # asks nothing more; what is on its way goes on
        await asyncio.gather(*(provider.drain(DRAIN_S) for provider in providers))
        await asyncio.gather(*(provider.aclose() for provider in providers))


def left_over(providers: Sequence[StoredProvider], tallies: Sequence[Tally]) -> list[str]:
    """One line per model that has prompts left."""
    lines = []
    for provider, tally in zip(providers, tallies, strict=True):
        left = len(tally.todo) - tally.answered
        if left:
            reasons = ", ".join(f"{count} {reason}" for reason, count in tally.failed.most_common()) or "not asked"
            why = f"; last: {tally.last.message}" if tally.last else ""
            lines.append(f"{provider.name}: {left} prompts are left ({reasons}{why}); start again to go on")
    return lines

"""Collecting: asks many questions of several models side by side, ahead of any training, and counts what came of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from open_r1.external.failures import why_blank
from open_r1.external.provider import Request
from open_r1.external.store.stored_provider import StoredProvider
from open_r1.schema import Failure, Reply
from open_r1.utils.markdown import markdown

DRAIN_S = 60.0  # for replies on their way when collecting is stopped; a second Ctrl-C leaves them
IN_FLIGHT = 512  # questions under way of a model that names no `concurrency`
BLANK = "blank"  # the reason of a question whose replies came, none of them with text


@dataclass
class Tally:
    """What collecting from one model has come to."""

    todo: list[Request] = field(default_factory=list[Request])  # questions that the store does not answer in full
    missing: list[Request] = field(default_factory=list[Request])  # the same, for the missing replies alone
    bound_usd: float = 0.0  # what these cost at most
    stored: int = 0  # questions that it did answer
    stored_blank: int = 0  # questions for which it holds all replies, none of them with text
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])  # questions by reason
    last: Failure | None = None
    blank: list[Reply] = field(default_factory=list[Reply])  # paid for and empty: no replies

    @property
    def without_reply(self) -> int:
        """Questions that have no reply with text: not asked, failed, or answered with blanks alone."""
        return len(self.todo) - self.answered + self.stored_blank

    @property
    def done(self) -> int:
        """Questions settled, well or badly."""
        return self.answered + self.failed.total()

    def count(self, answer: list[Reply] | Failure) -> None:
        """Add what came of one question."""
        if isinstance(answer, Failure):
            self.failed[answer.reason] += 1
            self.last = answer
        elif self.any_text(answer):
            self.answered += 1
        else:
            self.failed[BLANK] += 1

    def any_text(self, replies: Sequence[Reply]) -> bool:
        """Separate the blank ones among a question's replies; returns whether any has text."""
        blank = [reply for reply in replies if not reply.text.strip()]
        self.blank += blank
        return len(blank) < len(replies)


def estimate(providers: Iterable[StoredProvider], tallies: Iterable[Tally]) -> str:
    """A dry run's table: what is there, what would be asked, what it would cost."""
    lines: list[list[str]] = []
    for provider, tally in zip(providers, tallies, strict=True):
        usd = sum(provider.estimate_usd(request) for request in tally.missing)
        replies = sum(request.n for request in tally.missing)
        counts = [f"{number:,}" for number in (tally.stored, len(tally.todo), replies)]
        lines.append([provider.name, *counts, f"{usd:.2f}", f"{tally.bound_usd:.2f}"])
    head = ["model", "prompts in the store", "prompts to ask", "replies to buy", "dollars, about", "dollars, at most"]
    return markdown(head, lines)


async def collect(providers: Sequence[StoredProvider], tallies: Sequence[Tally], bar: "tqdm[Any]") -> None:
    """Ask what is missing, all models side by side; what was paid for is kept even if this is cancelled."""
    began, start_usd = time.monotonic(), providers[0].ledger.counted_usd

    async def work(provider: StoredProvider, tally: Tally, rest: Iterator[Request]) -> None:
        for request in rest:
            if tally.failed["budget"]:  # no further call fits
                return
            tally.count(await provider.ask(request))
            bar.set_postfix_str(progress(), refresh=False)
            bar.update()

    def progress() -> str:
        usd = providers[0].ledger.counted_usd - start_usd
        done, failed = sum(t.done for t in tallies), sum(t.failed.total() for t in tallies)
        replies = sum(p.n * t.answered for p, t in zip(providers, tallies, strict=True))
        projected = usd / max(1, done) * sum(len(t.todo) for t in tallies)
        return f"{replies / (time.monotonic() - began):.0f} replies/s, {usd:.2f} of {projected:.2f} $, {failed} failed"

    tasks: list[asyncio.Task[None]] = []
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
    """One line per model that has prompts left to ask, and one per model with blank replies."""
    lines: list[str] = []
    for provider, tally in zip(providers, tallies, strict=True):
        left = len(tally.todo) - tally.answered - tally.failed[BLANK]
        if left:
            failed = [f"{count} {reason}" for reason, count in tally.failed.most_common() if reason != BLANK and count]
            why = f"; last: {tally.last.message}" if tally.last else ""
            reasons = ", ".join(failed) or "not asked"
            lines.append(f"{provider.name}: {left} prompts are left ({reasons}{why}); start again to go on")
        if tally.blank:
            lines.append(
                f"{provider.name}: {len(tally.blank)} replies are blank and count as none,"
                f" {tally.failed[BLANK] + tally.stored_blank} prompts have no other{why_blank(tally.blank)}"
            )
    return lines

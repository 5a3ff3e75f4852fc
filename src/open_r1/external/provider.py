"""The provider protocol: what an external model is to the rest of the code, whoever serves it.

A provider answers one request with up to n replies or with one typed `Failure`. What it wraps (an HTTP API, a store of
bought replies, a rate limit, the ground truth) is its own business; `external/gather.py` sees nothing but this file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL.Image import Image

from open_r1.schema import Failure, Reply, Row

LogProbs = tuple[float, ...]


class Bill:
    """What one question costs, request by request: the provider writes it, the ledger reads it.

    A request that has left this machine counts its bound, in doubt, until it is known what it cost. So each is judged
    by itself, whatever became of the others, and what was never sent costs nothing.
    """

    def __init__(self):
        """Nothing has been sent."""
        self.requests = 0
        self.paid_usd = 0.0
        self._unknown: dict[int, float] = {}  # bound by request

    @property
    def in_doubt_usd(self) -> float:
        """Bounds of the requests of which nobody knows what they cost."""
        return sum(self._unknown.values())

    def sent(self, bound_usd: float) -> int:
        """Note a request that leaves now and costs at most `bound_usd`; returns its number."""
        self.requests += 1
        self._unknown[self.requests] = bound_usd
        return self.requests

    def paid(self, request: int, usd: float) -> None:
        """Note what a request cost: 0 where it was certainly not billed, above its bound where the model said so."""
        del self._unknown[request]
        self.paid_usd += usd


@dataclass(frozen=True)
class Request:
    """One prompt, asked of one external model.

    Example: Request(row, messages=[{"role": "user", "content": [{"type": "image", "image": Path("12.png")}, {"type":
    "text", "text": "How many cubes are left? ..."}]}], step=120). The messages are those the policy sees.
    """

    row: Row
    messages: Sequence[Mapping[str, Any]]  # chat messages; image parts in the order of row.images
    images: Sequence[Image] = ()  # the opened pictures, where the caller has them anyway
    n: int = 1  # replies wanted; the gatherer sets it to the asked provider's own n
    first: int = 0  # number of the first of them: above 0 where earlier ones are in the store already
    step: int = 0  # optimizer step that wants it: for logs and messages, no part of what makes a reply
    bill: Bill | None = None  # where the provider notes what it costs; None where nobody counts


class Provider(Protocol):
    """An external model that can be asked. One event loop serves it from its first `ask` to its `aclose`.

    `name` is the `Candidate.source` of its replies and the word in metrics; `n` is N of this source.

    Some members are optional; store and ledger (`external/stored.py`), collecting and weights read them:

    `fingerprint`, a mapping that JSON can hold: every setting that changes what a reply is (model and revision,
    temperature, scaling of pictures, ...), and none that does not (n, time-outs, prices, limits). Replies bought under
    one fingerprint are never returned under another. Its key `reads` names fields of the row that the model sees
    beside the messages. Without a fingerprint the model is known by its name.

    `upper_bound_usd(request) -> float | None`: the most that one `ask` can cost, its retries included; None where no
    price is known, which is refused. Without it the model is free of charge.

    `bills`, true where it writes `request.bill`, and so says itself what was billed. Of one that does not, the bound
    counts after a failure that the model may have charged for all the same ("timeout", "connection", "bad_reply").

    `scores`, true where there is `score(request, texts)`, a coroutine that returns how likely the model finds each text
    as its reply to the request: log-probs per token of its own tokenisation, or None where it cannot tell. Only models
    that are free of charge have it: it is neither counted nor kept.

    `concurrency`: questions that it works on at once; collecting keeps no more under way, so that it stops soon.
    """

    @property
    def name(self) -> str:
        """Unique among the run's external models, and not the policy's."""
        ...

    @property
    def n(self) -> int:
        """Replies asked for per prompt."""
        ...

    async def ask(self, request: Request) -> list[Reply] | Failure:
        """Return up to `request.n` replies, or one Failure when the model gave none.

        Expected trouble (time-outs, rate limits, refusals, an exhausted budget) is returned as a Failure. An exception
        is a programming error: it propagates through the gatherer and ends the run. A call that is cancelled at
        its deadline must let `asyncio.CancelledError` pass.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and files; called once, on the loop that served `ask`."""
        ...

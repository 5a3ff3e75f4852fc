"""Collects replies to made-up rows from tests/seller.py through the store, as `make collect` does, in its own process.

    python tests/buyer.py PORT STORE [--rows 200] [--budget 1.0] [--concurrency 64]

The provider is the least that HTTP needs; store, ledger and collecting are the product's.
"""

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp
from tqdm import tqdm

from open_r1.external import Request, StoredProvider, open_store
from open_r1.external.store.collecting import Tally, collect
from open_r1.external.store.replies import PromptVersion
from open_r1.schema import Failure, Reply, Row

PROMPT = PromptVersion("clevr_math", "reasoning", " Think first.")
N, USD = 2, 0.01  # replies per row, dollars per reply


class Http:
    """A model behind tests/seller.py."""

    name, n = "seller", N

    def __init__(self, port: int, concurrency: int):
        self.url, self.concurrency, self.session = f"http://127.0.0.1:{port}/", concurrency, None

    def upper_bound_usd(self, request: Request) -> float:
        return USD * request.n

    async def ask(self, request: Request) -> list[Reply] | Failure:
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=self.concurrency))
        try:
            async with self.session.post(self.url, json={"row": request.row.id, "n": request.n}) as response:
                told = await response.json()
        except aiohttp.ClientError as error:
            return Failure(self.name, "connection", str(error))
        return [Reply(text, cost_usd=told["usd"]) for text in told["replies"]]

    async def aclose(self) -> None:
        if self.session is not None:
            await self.session.close()


def requests(rows: int) -> list[Request]:
    made = [Row(f"row-{i}", "clevr_math", (), f"How many, {i}?", "1") for i in range(rows)]
    return [Request(r, [{"role": "user", "content": [{"type": "text", "text": r.problem}]}], n=N) for r in made]


def provider(port: int, store: Path, budget: float | None = None, concurrency: int = 64) -> StoredProvider:
    return StoredProvider(Http(port, concurrency), *open_store(store, budget_usd=budget), PROMPT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("store", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--concurrency", type=int, default=64)
    args = parser.parse_args()
    stored = provider(args.port, args.store, args.budget, args.concurrency)
    todo = [request for request in requests(args.rows) if len(stored.stored(request)) < N]
    with tqdm(total=len(todo), disable=True) as bar, suppress(KeyboardInterrupt):
        asyncio.run(collect([stored], [Tally(todo)], bar))
        sys.exit(0)
    sys.exit(130)

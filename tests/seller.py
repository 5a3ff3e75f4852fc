"""A loopback server that sells replies and counts what it sold; the tests of collecting and its benchmark use it.

    python tests/seller.py [--latency_s 0.05] [--usd 0.01]

prints its port, then serves until its input ends. POST / with {"row", "n"} sells n replies at `usd` each, booked the
moment the answer goes out; GET / tells what was sold: {"row": number of sales}, their sum, the dollars.
"""

import argparse
import asyncio
import sys
from collections import Counter

from aiohttp import web


def application(latency_s: float, usd: float) -> web.Application:
    sold: Counter[str] = Counter()
    dollars = [0.0]

    async def sell(request: web.Request) -> web.Response:
        asked = await request.json()
        await asyncio.sleep(latency_s)
        sold[asked["row"]] += 1
        dollars[0] += usd * asked["n"]
        return web.json_response({"replies": [f"<answer>{i}</answer>" for i in range(asked["n"])], "usd": usd})

    async def tell(_: web.Request) -> web.Response:
        return web.json_response({"sold": sold, "calls": sold.total(), "usd": dollars[0]})

    app = web.Application()
    app.add_routes([web.post("/", sell), web.get("/", tell)])
    return app


async def serve(latency_s: float, usd: float) -> None:
    runner = web.AppRunner(application(latency_s, usd), handler_cancellation=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)  # ends with the process that started this one
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency_s", type=float, default=0.05)
    parser.add_argument("--usd", type=float, default=0.01)
    args = parser.parse_args()
    asyncio.run(serve(args.latency_s, args.usd))

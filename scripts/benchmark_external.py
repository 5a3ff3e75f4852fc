"""How fast and how cheaply real external models are asked, into results/external.json; takes about three minutes.

    python scripts/benchmark_external.py [--seconds 15] [--output results/external.json]

Throughput: `LiteLLMProvider` against a server in a process of its own that answers every request after 200 ms, at
concurrency 1 to 256, as a share of concurrency / latency; the client's CPU time per call says what limits it. The same
calls through litellm, as hosted models take them, for comparison. Bill: the price table's estimate of a prompt with a
480k-pixel picture and 8 replies, one request of 8 against 8 of one.
"""

import argparse
import asyncio
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from aiohttp import web
from PIL import Image
from tqdm import tqdm

from open_r1.external.hosted.hosted_provider import LiteLLMProvider
from open_r1.external.provider import Request
from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import Failure, Row
from open_r1.utils.provenance import ROOT, figure, write_figures

LATENCY_S = 0.2
CONCURRENCIES = (1, 4, 16, 64, 128, 256)
LITELLM_CONCURRENCY = 64
SIDE = 692  # pixels: 692 x 692 are the 480k to which pictures are scaled down
REPLY_TOKENS = 150  # a short chain of thought and an answer
START_S = 30  # for the server to come up


class Measured(NamedTuple):
    """One stretch of asking."""

    per_s: float
    cpu_ms: float  # of this process, per call


def serve(port: int) -> None:
    """Answer every chat completion after LATENCY_S."""
    choice = {"message": {"role": "assistant", "content": "<think>2 + 2</think>\n<answer>4</answer>"}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    body = json.dumps(answer | {"choices": [choice | {"index": 0, "finish_reason": "stop"}]}).encode()

    async def chat(request: web.Request) -> web.Response:
        began = time.monotonic()
        await request.read()
        await asyncio.sleep(LATENCY_S - (time.monotonic() - began))
        return web.Response(body=body, content_type="application/json")

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", lambda _: web.json_response({"data": []}))
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


def model(url: str, concurrency: int, name: str = "hosted_vllm/m") -> ExternalModelConfig:
    """A free model at the server, one reply per question."""
    return ExternalModelConfig(
        name="m", provider="litellm", n=1, model=name, api_base=url, concurrency=concurrency, logprobs=False,
        timeout_s=60.0, usd_per_million_in=0.0, usd_per_million_out=0.0,
    )  # fmt: skip


def question(image: Path, n: int = 1) -> Request:
    """A question about a picture, with a task's instruction of usual length."""
    text = "Subtract all red cubes. How many objects are left? " + "Think first, then answer in tags. " * 8
    messages = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]
    return Request(Row("r0", "clevr_math", (image,), text, "4"), messages, n=n)


async def measure(config: ExternalModelConfig, request: Request, seconds: float) -> Measured:
    """Keep `config.concurrency` questions under way for so long, after one round to warm up."""
    provider = LiteLLMProvider(config, SIDE * SIDE)
    count = 0

    async def ask_until(end: float) -> None:
        nonlocal count
        while True:
            answer = await provider.ask(request)
            assert not isinstance(answer, Failure), answer
            count += 1
            if time.monotonic() >= end:
                return

    async def everybody(end: float) -> None:
        await asyncio.gather(*(ask_until(end) for _ in range(config.concurrency)))

    await everybody(0.0)
    count, began, cpu = 0, time.monotonic(), time.process_time()
    await everybody(began + seconds)
    took, used = time.monotonic() - began, time.process_time() - cpu
    await provider.aclose()
    return Measured(count / took, 1000 * used / count)


def throughput(url: str, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """All stretches of asking, with a progress bar."""
    small, large = folder / "84.png", folder / f"{SIDE}.png"
    Image.effect_noise((84, 84), 60).convert("RGB").save(small)
    Image.effect_noise((SIDE, SIDE), 60).convert("RGB").save(large)
    figures = []
    with tqdm(total=len(CONCURRENCIES) + 2, desc="asking", unit="stretch") as bar:
        for concurrency in CONCURRENCIES:
            got = asyncio.run(measure(model(url, concurrency), question(small), seconds))
            share = got.per_s * LATENCY_S / concurrency
            figures.append(figure(f"share of concurrency / latency at {concurrency}", share, "", ">= 0.9"))
            bar.update()
        figures.append(figure(f"replies at {concurrency}", got.per_s, "1/s", ">= 300"))
        figures.append(figure(f"client's CPU time per call at {concurrency}", got.cpu_ms, "ms"))
        got = asyncio.run(measure(model(url, concurrency), question(large), seconds))
        figures.append(figure(f"replies at {concurrency}, pictures of 480k pixels", got.per_s, "1/s"))
        figures.append(figure("client's CPU time per call, pictures of 480k pixels", got.cpu_ms, "ms"))
        bar.update()
        hosted = model(url, LITELLM_CONCURRENCY, "custom_openai/m")
        got = asyncio.run(measure(hosted, question(small), seconds))
        figures.append(figure(f"replies through litellm at {LITELLM_CONCURRENCY}", got.per_s, "1/s"))
        figures.append(figure("client's CPU time per call through litellm", got.cpu_ms, "ms"))
        bar.update()
    return figures


def bill(folder: Path) -> list[dict[str, Any]]:
    """Dollars per 1,000 prompts of 8 replies by the price table, in one request each and in eight."""
    config = ExternalModelConfig(name="gpt-4o", provider="litellm", n=8, model="gpt-4o-2024-11-20", api_base="")
    request = question(folder / f"{SIDE}.png", n=8)
    usd = {}
    for per_request in (8, 1):
        provider = LiteLLMProvider(config.model_copy(update={"n_per_request": per_request}), SIDE * SIDE)
        usd[per_request] = 1000 * (provider.estimate_usd(request, REPLY_TOKENS) or 0.0)
    return [
        figure(f"GPT-4o, 1,000 prompts of 480k pixels, 8 replies of {REPLY_TOKENS} tokens: one request", usd[8], "$"),
        figure("the same in 8 requests", usd[1], "$"),
        figure("one request against 8", usd[8] / usd[1], "", "<= 0.5"),
    ]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str) -> None:
    """Wait until the server answers."""
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        try:
            httpx.get(f"{url}/models", timeout=1)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(f"the server did not come up within {START_S} s")


def main() -> None:
    """Start the server, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="length of one stretch of asking")
    parser.add_argument("--output", type=Path, default=ROOT / "results/external.json", help="results file")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    port = free_port()
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    try:
        url = f"http://127.0.0.1:{port}/v1"
        wait_for(url)
        with tempfile.TemporaryDirectory() as folder:
            figures = throughput(url, Path(folder), args.seconds) + bill(Path(folder))
    finally:
        server.terminate()
        server.wait(10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    figures.append(figure("largest memory of the client", peak, "MiB"))
    write_figures(args.output, "External models", figures)
    for line in figures:
        print(f"{line['value']:10.3f} {line['unit']:4s} {line['label']}")


if __name__ == "__main__":
    main()

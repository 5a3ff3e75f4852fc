"""Laws of the money, for the tests and for scripts/check_money.py: any response, and any order of events.

`check_response` sends one made-up response through provider, store and ledger. `MoneyMachine` buys, is killed, starts
again and settles, against a server that counts what it bills.
"""

import asyncio
import json
import tempfile
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from PIL import Image

from fault_server import FaultServer, completion
from open_r1.external.hosted.hosted_provider import LiteLLMProvider
from open_r1.external.provider import Request
from open_r1.external.store.database import Database
from open_r1.external.store.ledger import NANO, Ledger
from open_r1.external.store.replies import PromptVersion, Store
from open_r1.external.store.stored_provider import StoredProvider
from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import Failure, Reply, Row, UserError

PROMPT = PromptVersion("clevr_math", "reasoning", " Think first.")
IN_USD, OUT_USD = 2e-6, 10e-6  # per token
CENT = 1e-9  # of rounding
NOTHING_BILLED = (301, 307, 400, 401, 403, 404, 413, 422, 429, 500, 503)
PERHAPS_BILLED = (201, 204, 408, 499, 502, 504, 520, 524)

# What a field may hold in place of what it should; no small number among it, for that would be a bill of its own.
garbage = st.one_of(
    st.sampled_from([None, True, -1, -(10**30), 1.5, 10**19, 1e308, float("nan"), float("inf"), "", "x", "\ud800"]),
    st.sampled_from(
        ["7", "x" * 9000, [], {}, [1], {"a": 1}, [[[[[[]]]]]], {"content": None}, {"message": {}}, "\x1b[2J"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=9
    ),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A response of the right form in which some fields are something else; or one that was cut; or no JSON at all."""
    answer: dict[str, Any] = completion(draw(st.integers(1, 3)), {"logprobs": True})
    message = answer["choices"][0]["message"]
    keys = st.sampled_from(["reasoning", "reasoning_content", "refusal"])
    message |= deepcopy(draw(st.dictionaries(keys, garbage, max_size=2)))
    answer["usage"] |= {"completion_tokens": 30, "total_tokens": 130}  # never less than is billed for three replies
    answer["usage"] |= {"prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {}}
    for _ in range(draw(st.integers(0, 3))):
        place: Any = answer
        while True:
            where = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[where], dict | list) or not place[where] or draw(st.booleans()):
                place[where] = deepcopy(draw(garbage))  # a sampled list is the same one each time
                break
            place = place[where]
    body = json.dumps(answer).encode()
    match draw(st.integers(0, 9)):
        case 0:
            return body[: draw(st.integers(0, len(body)))]
        case 1:
            return draw(st.binary(max_size=60))
        case 2:
            return draw(
                st.sampled_from([b"[" * 100_000, b"null", b"[]", b'""', b"1", b'{"choices": {}}', b"\xff\xfe{}"])
            )
    return body


responses = st.tuples(st.sampled_from((200,) * 20 + NOTHING_BILLED + PERHAPS_BILLED), bodies(), st.integers(1, 3))


def model(url: str, **changes: Any) -> ExternalModelConfig:
    settings: dict[str, Any] = {
        "name": "teacher", "provider": "litellm", "model": "hosted_vllm/m", "n": 1, "api_base": url, "max_tokens": 64,
        "timeout_s": 20.0, "max_retries": 0, "usd_per_million_in": 2.0, "usd_per_million_out": 10.0,
    }  # fmt: skip
    return ExternalModelConfig(**settings | changes)


def request(image: Path, text: str, n: int) -> Request:
    messages = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]
    return Request(Row(text, "clevr_math", (image,), text, "4"), messages, n=n)


def picture(folder: Path) -> Path:
    Image.new("RGB", (84, 84), "red").save(folder / "84.png")
    return folder / "84.png"


def usd(server: FaultServer) -> float:
    """What the server has billed."""
    return sum(prompt * IN_USD + reply * OUT_USD for prompt, reply in server.billed)


def check_response(server: FaultServer, ledger: Ledger, store: Store, image: Path, text: str, case: Any) -> str:
    """Send one response and hold the laws; returns the outcome in a word.

    No exception; a list of replies or a Failure; the ledger does not fall, and rises by what was billed at least.
    """
    status, body, n = case
    server.status, server.raw = status, body
    counted, billed = ledger.counted_usd, usd(server)
    stored = StoredProvider(LiteLLMProvider(model(server.url, n=n), 10**6), store, ledger, PROMPT)

    async def ask() -> list[Reply] | Failure:
        try:
            return await stored.ask(request(image, text, n))
        finally:
            await stored.aclose()

    answer = asyncio.run(ask())
    assert ledger.counted_usd >= counted - CENT, "the ledger fell"
    assert ledger.counted_usd - counted >= usd(server) - billed - CENT, "less was counted than billed"
    if isinstance(answer, Failure):
        return answer.reason
    assert 1 <= len(answer) <= n and all(isinstance(reply.text, str) for reply in answer)
    return "replies"


class Counted(LiteLLMProvider):
    """Counts the requests that left: one that timed out here may reach the server later."""

    sent = 0

    async def ask(self, request: Request) -> list[Reply] | Failure:
        assert request.bill is not None
        try:
            return await super().ask(request)
        finally:
            Counted.sent += request.bill.requests


class MoneyMachine(RuleBasedStateMachine):
    """Buying, dying, starting again and settling in any order, against a server that counts its bills."""

    server: FaultServer  # set by who runs it; one for all examples
    steps = 0  # over all examples

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.image = picture(Path(self.folder.name))
        self.loop = asyncio.new_event_loop()
        self.server.billed.clear()
        self.server.asked.clear()
        Counted.sent = 0
        self.largest = self.counted = 0.0

    @initialize(budget=st.sampled_from([0.002, 0.01, 0.05]))
    def begin(self, budget: float) -> None:
        self.budget = budget
        self.open()

    def open(self) -> None:
        self.database = Database(Path(self.folder.name) / "store.sqlite")
        self.store, self.ledger = Store(self.database), Ledger(self.database, self.budget)
        provider = Counted(model(self.server.url, timeout_s=0.5, max_retries=1), 10**6)
        self.stored = StoredProvider(provider, self.store, self.ledger, PROMPT)

    def shut(self) -> None:
        self.loop.run_until_complete(self.stored.aclose())
        self.ledger.close()
        self.database.close()

    def buy(self, prompts: list[int], n: int) -> None:
        async def ask() -> list[list[Reply] | Failure]:
            return await asyncio.gather(*(self.stored.ask(request(self.image, f"{i}", n)) for i in prompts))

        answers = self.loop.run_until_complete(ask())
        assert all(isinstance(answer, Failure) or 0 < len(answer) <= n for answer in answers)
        self.largest = max(self.largest, self.bound(n))

    def bound(self, n: int) -> float:
        return self.stored.provider.upper_bound_usd(request(self.image, "0", n)) or 0.0  # pyright: ignore

    @rule(prompt=st.integers(0, 200), n=st.integers(1, 3), kinds=st.lists(st.sampled_from(
        ("ok", "ok", "429", "500", "503", "504", "502", "400", "reset", "broken json", "content type", "no choices",
         "no usage", "fewer", "one", "empty", "refusal", "length", "over", "hang")), max_size=4))  # fmt: skip
    def ask(self, prompt: int, n: int, kinds: list[str]) -> None:
        self.server.script[:] = kinds
        self.buy([prompt], n)
        self.server.script.clear()

    @rule(
        prompts=st.lists(st.integers(0, 200), min_size=2, max_size=6), n=st.integers(1, 2),
        kinds=st.lists(st.sampled_from(("ok", "503", "504", "reset", "broken json", "no usage", "fewer")), max_size=8),
    )  # fmt: skip
    def ask_at_once(self, prompts: list[int], n: int, kinds: list[str]) -> None:
        self.server.script[:] = kinds
        self.buy(prompts, n)
        self.server.script.clear()

    @rule(prompt=st.integers(300, 400), sent=st.booleans())
    def die(self, prompt: int, sent: bool) -> None:
        """A process that is killed with a call under way: the lock goes, the reservation stays."""
        ledger = Ledger(self.database, self.budget)
        bound = self.bound(1)
        self.largest = max(self.largest, bound)
        if isinstance(ledger.reserve(f"{prompt}".encode(), "teacher", bound), int):
            assert ledger._owner is not None
            ledger._owner.release()
            self.server.billed.extend([(100, 10)] * sent)

    @rule()
    def start_again(self) -> None:
        self.shut()
        self.open()

    @rule()
    def settle(self) -> None:
        """By the provider's bill, once it is complete; then exactly that is counted."""
        for _ in range(100):
            if len(self.server.asked) >= Counted.sent:
                break
            time.sleep(0.01)
        else:
            return
        with suppress(UserError):  # nothing was bought yet
            self.ledger.settle_bill("teacher", usd(self.server))
            assert abs(self.ledger.counted_usd - usd(self.server)) < CENT
            self.counted = self.ledger.counted_usd

    @invariant()
    def nothing_is_lost_and_nothing_overspent(self) -> None:
        MoneyMachine.steps += 1
        ((open_,),) = self.database.rows("select ifnull(sum(nanos), 0) from open_calls")
        counted = self.ledger.counted_usd
        assert counted + open_ / NANO >= usd(self.server) - CENT, "less was counted than billed"
        assert counted + open_ / NANO <= self.budget + self.largest + CENT, "the budget was passed by more than a call"
        assert counted >= self.counted - CENT, "the ledger fell"
        self.counted = counted

    def teardown(self) -> None:
        self.shut()
        self.loop.close()
        self.folder.cleanup()

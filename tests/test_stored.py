"""StoredProvider: bought once, kept when late, shared between calls, capped, and no failure taken for a reply."""

import asyncio

import pytest

from open_r1.external import Gatherer, Request, ScriptedProvider, StoredProvider, behind_store, open_store
from open_r1.external.store.database import Database
from open_r1.external.store.ledger import Account, Ledger
from open_r1.external.store.replies import PromptVersion, Store
from open_r1.external.store.stored_provider import cost_usd, upper_bound_usd
from open_r1.schema import Failure, Reply, Row, UserError

PROMPT = PromptVersion("clevr_math", "reasoning", " Think first.")
ROWS = [Row(f"r{i}", "clevr_math", (), f"How many, {i}?", str(i)) for i in range(3)]
PRICE = 0.01  # dollars per reply


class Shop:
    """A model that sells replies at PRICE, counts them, takes `delay_s`, and says what `answers` tells it to."""

    def __init__(self, name="gpt", n=2, delay_s=0.0, answer=None, bound=PRICE):
        self.name, self.n, self.delay_s, self.answer, self.bound = name, n, delay_s, answer, bound
        self.sold: list[tuple[str, int, int]] = []

    def upper_bound_usd(self, request):
        return self.bound and self.bound * request.n

    async def ask(self, request):
        await asyncio.sleep(self.delay_s)
        self.sold.append((request.row.id, request.first, request.n))
        if self.answer:
            return self.answer(request)
        return [Reply(f"{request.row.id}/{request.first + i}", cost_usd=PRICE) for i in range(request.n)]

    async def aclose(self):
        """Nothing to close."""


def asking(row: Row, n: int = 2) -> Request:
    return Request(row, [{"role": "user", "content": [{"type": "text", "text": row.problem}]}], n=n)


@pytest.fixture
def wrap(tmp_path):
    """Wrap a provider behind the test's one file; a number is the budget."""
    databases = []

    def make(provider, budget=None, read_only=False):
        database = Database(tmp_path / "store.sqlite", read_only)
        databases.append(database)
        return StoredProvider(provider, Store(database), Ledger(database, budget), PROMPT)

    yield make
    for database in databases:
        database.close()


def texts(replies) -> list[str]:
    return [reply.text for reply in replies]


def test_a_reply_is_bought_once_and_found_by_every_later_run(wrap):
    shop = Shop()
    first = asyncio.run(wrap(shop).ask(asking(ROWS[0])))
    again = wrap(shop)
    assert asyncio.run(again.ask(asking(ROWS[0]))) == first and texts(first) == ["r0/0", "r0/1"]
    assert shop.sold == [("r0", 0, 2)] and again.ledger.accounts() == {"gpt": Account(0.02, 0.0, 1)}
    assert (again.usage.asked, again.usage.hits, again.usage.bought) == (1, 1, 0)


def test_more_samples_buy_only_the_missing_ones_and_fewer_buy_none(wrap):
    shop = Shop()
    stored = wrap(shop)
    asyncio.run(stored.ask(asking(ROWS[0], n=2)))
    assert texts(asyncio.run(stored.ask(asking(ROWS[0], n=5)))) == ["r0/0", "r0/1", "r0/2", "r0/3", "r0/4"]
    assert texts(asyncio.run(stored.ask(asking(ROWS[0], n=1)))) == ["r0/0"]
    assert shop.sold == [("r0", 0, 2), ("r0", 2, 3)]


def test_two_calls_with_one_question_share_one_purchase(wrap):
    shop = Shop(delay_s=0.05)
    stored = wrap(shop)

    async def twice():
        return await asyncio.gather(*(stored.ask(asking(ROWS[0])) for _ in range(2)))

    first, second = asyncio.run(twice())
    assert first == second and len(shop.sold) == 1


def test_two_processes_with_one_question_share_one_purchase(wrap):
    """Two ledgers on one file stand in for two processes; test_collecting.py has real ones."""
    shop, other = Shop(delay_s=0.2), Shop(delay_s=0.2)
    here, there = wrap(shop), wrap(other)

    async def both():
        return await asyncio.gather(here.ask(asking(ROWS[0])), there.ask(asking(ROWS[0])))

    first, second = asyncio.run(both())
    assert first == second and len(shop.sold) + len(other.sold) == 1


def test_what_another_process_bought_between_look_up_and_purchase_is_not_asked_for(wrap):
    shop, other = Shop(), Shop()
    here, there = wrap(shop), wrap(other)
    bought = asyncio.run(there.ask(asking(ROWS[0])))
    asked = here.key_of(asking(ROWS[0]))
    assert asyncio.run(here._buy(asked, asking(ROWS[0]))) == bought and shop.sold == []


def test_a_call_cut_off_at_the_deadline_still_keeps_the_reply_that_was_paid_for(wrap):
    shop = Shop(delay_s=0.3)
    stored = wrap(shop)
    pool = Gatherer([stored])
    late = pool.ask([asking(row) for row in ROWS], deadline_s=0.05)()
    assert [answers["gpt"].reason for answers in late.answers] == ["timeout"] * 3
    pool.close()  # waits for what is on its way
    assert len(shop.sold) == 3 and len(stored.store.database.rows("select * from replies")) == 6
    assert stored.ledger.accounts() == {"gpt": Account(0.06, 0.0, 3)}


def test_a_prefetched_prompt_is_a_hit_later(wrap):
    shop = Shop()
    stored = wrap(shop)
    pool = Gatherer([stored])
    pool.prefetch([asking(row) for row in ROWS])
    pool.ask([asking(ROWS[0])], deadline_s=5)()  # the loop runs in order: by now the others are bought too
    pool.usage()
    gathered = pool.ask([asking(row) for row in ROWS], deadline_s=5)()
    assert [texts(answers["gpt"]) for answers in gathered.answers] == [[f"r{i}/0", f"r{i}/1"] for i in range(3)]
    assert pool.usage() == {"gpt": (3, 3, 0.06)}  # questions, hits, dollars
    assert len(shop.sold) == 3
    pool.close()


def test_the_step_s_own_questions_come_before_those_asked_ahead(wrap):
    for attempt in range(5):
        shop = Shop(delay_s=0.01)
        stored = wrap(shop)
        pool = Gatherer([stored])
        rows = [Row(f"{i}", "clevr_math", (), f"{attempt}/{i}", "1") for i in range(6)]
        pending = pool.ask([asking(row) for row in rows[:2]], deadline_s=5)
        pool.prefetch([asking(row) for row in rows[2:]])
        pending()
        pool.close()
        assert [row for row, *_ in shop.sold] == ["0", "1", "2", "3", "4", "5"]


def test_the_budget_holds_under_concurrency_and_is_a_failure_of_its_own(wrap):
    shop = Shop(n=1, delay_s=0.02)
    stored = wrap(shop, budget=0.055)
    rows = [Row(f"q{i}", "clevr_math", (), f"q{i}", "1") for i in range(20)]

    async def all_at_once():
        return await asyncio.gather(*(stored.ask(asking(row, n=1)) for row in rows))

    answers = asyncio.run(all_at_once())
    failed = [answer for answer in answers if isinstance(answer, Failure)]
    assert len(shop.sold) == 5 and stored.ledger.counted_usd == 0.05
    assert len(failed) == 15 and {failure.reason for failure in failed} == {"budget"}


def test_a_model_without_a_price_is_refused_before_it_is_asked(wrap):
    shop = Shop(bound=None)
    with pytest.raises(UserError, match="'gpt' has no price, so that no budget can hold; give its price"):
        asyncio.run(wrap(shop).ask(asking(ROWS[0])))
    assert shop.sold == []
    assert upper_bound_usd(ScriptedProvider("free", 1, 0.5), asking(ROWS[0])) == 0.0


@pytest.mark.parametrize(
    ("answer", "cost"),
    [
        (Failure("gpt", "timeout", ""), 0.08),  # may have been billed
        (Failure("gpt", "connection", ""), 0.08),
        (Failure("gpt", "rate_limit", ""), 0.0),
        (Failure("gpt", "refused", ""), 0.0),
        ([Reply("a", cost_usd=0.01)] * 4, 0.04),
        ([Reply("a", cost_usd=0.01)] * 2, 0.06),  # two came for .02; the missing two count .02 each
        ([Reply("a")] * 4, 0.08),  # a price that is not told is the bound's
    ],
)
def test_what_nobody_can_say_counts_as_the_bound(answer, cost):
    assert cost_usd(answer, wanted=4, bound=0.08) == pytest.approx(cost)


def test_a_failure_is_not_kept_and_is_asked_again(wrap):
    shop = Shop(answer=lambda request: Failure("gpt", "server", "down"))
    stored = wrap(shop)
    assert asyncio.run(stored.ask(asking(ROWS[0]))).reason == "server"
    shop.answer = None
    assert texts(asyncio.run(stored.ask(asking(ROWS[0])))) == ["r0/0", "r0/1"]
    assert len(shop.sold) == 2 and stored.ledger.counted_usd == pytest.approx(0.02)


def test_when_only_some_come_they_are_returned_and_the_rest_is_asked_for_the_next_time(wrap):
    shop = Shop(answer=lambda request: [Reply("only", cost_usd=PRICE)])
    stored = wrap(shop)
    assert texts(asyncio.run(stored.ask(asking(ROWS[0])))) == ["only"]
    shop.answer = lambda request: Failure("gpt", "server", "down")
    assert texts(asyncio.run(stored.ask(asking(ROWS[0])))) == ["only"]
    assert shop.sold == [("r0", 0, 2), ("r0", 1, 1)]


def test_an_exception_of_a_prefetch_is_raised_by_the_next_question(wrap):
    def broken(request):
        raise ZeroDivisionError("in the provider")

    stored = wrap(Shop(answer=broken))
    pool = Gatherer([stored])
    pool.prefetch([asking(ROWS[0])])
    with pytest.raises(ZeroDivisionError):
        pool.ask([asking(ROWS[1])], deadline_s=5)()
    assert stored.ledger.counted_usd >= 0.02  # it may have been billed
    pool.close()


def test_a_read_only_store_asks_nobody(wrap):
    shop = Shop()
    asyncio.run(wrap(shop).ask(asking(ROWS[0])))
    reader = wrap(shop, read_only=True)
    assert texts(asyncio.run(reader.ask(asking(ROWS[0])))) == ["r0/0", "r0/1"]
    failure = asyncio.run(reader.ask(asking(ROWS[1])))
    assert failure == Failure("gpt", "missing", "no reply to row 'r1', and the store is read only")
    assert len(shop.sold) == 1


def test_other_settings_of_a_model_are_another_model(wrap):
    def first_reply(provider):
        return texts(asyncio.run(wrap(provider).ask(asking(ROWS[0], n=1))))[0]

    sure, unsure = ScriptedProvider("gpt", 1, accuracy=1.0), ScriptedProvider("gpt", 1, accuracy=0.0)
    assert "<answer>0</answer>" in first_reply(sure)
    assert "<answer>0</answer>" not in first_reply(unsure)
    slow = ScriptedProvider("gpt", 1, accuracy=1.0, latency_s=9.0)  # no part of what a reply is: found at once
    assert "<answer>0</answer>" in first_reply(slow)


def test_scripted_samples_from_the_store_are_those_asked_for_at_once(wrap):
    provider = ScriptedProvider("gpt", 4, accuracy=0.5)
    stored = wrap(provider)
    asyncio.run(stored.ask(asking(ROWS[0], n=1)))
    assert asyncio.run(stored.ask(asking(ROWS[0], n=4))) == asyncio.run(provider.ask(asking(ROWS[0], n=4)))


def test_only_what_costs_money_is_kept_unless_a_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("open_r1.external.store.stored_provider.DEFAULT_STORE", tmp_path / "default.sqlite")
    shop, free = Shop(), ScriptedProvider("free", 1, 0.5)
    assert behind_store([free], PROMPT) == [free] and not list(tmp_path.iterdir())
    kept = behind_store([shop, free], PROMPT)
    assert isinstance(kept[0], StoredProvider) and kept[1] is free and (tmp_path / "default.sqlite").is_file()
    both = behind_store([shop, free], PROMPT, str(tmp_path / "named.sqlite"))
    assert [provider.name for provider in both] == ["gpt", "free"]
    assert all(isinstance(provider, StoredProvider) for provider in both)


def test_a_resumed_run_s_budget_counts_what_the_first_part_spent(tmp_path):
    for bought in (2, 1):  # .02 of .035, then only .01 fits
        store, ledger = open_store(tmp_path / "store.sqlite", budget_usd=0.035)
        shop = Shop(n=1)
        stored = StoredProvider(shop, store, ledger, PROMPT)
        for i in range(2):
            asyncio.run(stored.ask(asking(Row(f"{bought}/{i}", "clevr_math", (), f"{bought}/{i}", "1"), n=1)))
        assert len(shop.sold) == bought
        store.database.close()

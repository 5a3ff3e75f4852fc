"""What a call costs, judged request by request: nothing for what never left, the bound for what nobody knows."""

import asyncio
import json
import socket

import pytest

from fault_server import FaultServer
from open_r1.external.hosted.hosted_provider import LiteLLMProvider
from open_r1.external.hosted.ready import lacking
from open_r1.external.store.database import Database
from open_r1.external.store.ledger import Account, Ledger
from open_r1.external.store.replies import PromptVersion, Store
from open_r1.external.store.stored_provider import StoredProvider
from open_r1.schema import Failure
from test_litellm_provider import KEY, key, model, picture, request  # noqa: F401 (a fixture)

PROMPT = PromptVersion("clevr_math", "reasoning", " Think first.")
# What a request for one reply costs at most: one letter is 1 token, 32 are the template's, 255 those of the picture's
# one tile, at 2 $ a million, and 64 tokens of reply at 10 $.
BOUND = (1 + 32 + 255) * 2e-6 + 64 * 10e-6
BILLED = 100 * 2e-6 + 10 * 10e-6  # what the server counts for one reply


@pytest.fixture
def buy(tmp_path):
    """Ask about prompts through a store of the test's own, one after the other; returns answers and the account."""

    def run(server, texts, budget=None, n=1, image=None, **changes) -> tuple[list, Account]:
        database = Database(tmp_path / "store.sqlite")
        ledger = Ledger(database, budget)
        provider = LiteLLMProvider(model(server, **({"max_retries": 0, "n": n} | changes)), 10**6)
        stored = StoredProvider(provider, Store(database), ledger, PROMPT)
        image = image or picture(tmp_path)

        async def ask():
            answers = [await stored.ask(request(image, text, n=n)) for text in texts]
            await stored.aclose()
            return answers

        answers = asyncio.run(ask())
        account = ledger.accounts().get("teacher", Account(0.0, 0.0, 0))
        ledger.close()
        database.close()
        return answers, account

    return run


def usage(**counts):
    return {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110} | counts


@pytest.mark.parametrize(
    "wrong",
    [
        usage(prompt_tokens=-1), usage(completion_tokens=-(10**6)), usage(prompt_tokens=True), usage(prompt_tokens=1.5),
        usage(completion_tokens="10"), usage(completion_tokens=10**19), usage(prompt_tokens=1e30),
        usage(completion_tokens=10**15), usage(prompt_tokens=0), usage(completion_tokens=0), usage(prompt_tokens=None),
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, {}, [], "many", None, 7,
    ],
)  # fmt: skip
def test_token_counts_that_cannot_be_are_none_the_reply_is_kept_and_its_bound_is_in_doubt(buy, wrong, caplog):
    with FaultServer(answer=lambda body: {"usage": wrong}) as server:
        [[reply]], account = buy(server, ["a"])
    assert reply.cost_usd is None and reply.prompt_tokens is None
    assert account.spent_usd == 0 and account.in_doubt_usd == pytest.approx(BOUND, rel=1e-4)
    assert sum("token counts" in line for line in caplog.messages) == 1


@pytest.mark.parametrize(
    "details",
    [[1], "x", {"cached_tokens": "5"}, {"cached_tokens": -5}, {"cached_tokens": 10**9}, {"cached_tokens": True}],
)
def test_malformed_details_of_a_count_are_left_out_and_the_count_stays(buy, details):
    with FaultServer(answer=lambda body: {"usage": usage(prompt_tokens_details=details)}) as server:
        [[reply]], account = buy(server, ["a"])
    assert reply.cost_usd == pytest.approx(BILLED) and account.spent_usd == pytest.approx(BILLED)


def test_hidden_reasoning_that_stands_in_the_total_alone_is_counted(buy):
    with FaultServer(answer=lambda body: {"usage": usage(total_tokens=150)}) as server:
        [[reply]], account = buy(server, ["a"], logprobs=False)
    assert account.spent_usd == pytest.approx(100 * 2e-6 + 50 * 10e-6) and reply.completion_tokens == 50


@pytest.mark.parametrize(
    ("faults", "bounds"), [(["400", "broken json"], 1), (["503", "broken json"], 1), (["503", "503"], 0)]
)
def test_two_requests_of_one_question_are_each_judged_by_what_became_of_them(buy, faults, bounds):
    with FaultServer(script=faults) as server:
        [answer], account = buy(server, ["a"], n=2, n_per_request=1, logprobs=False)
    assert isinstance(answer, Failure) and len(server.asked) == 2
    assert account == Account(0.0, pytest.approx(bounds * BOUND, rel=1e-4), 1)


@pytest.mark.parametrize("status", [408, 499, 502, 504, 520, 524])
def test_a_gateway_that_gave_up_waiting_may_have_billed_and_is_not_asked_again(buy, status):
    with FaultServer(script=[str(status)] * 9) as server:
        [answer], account = buy(server, ["a"], max_retries=3, logprobs=False)
    assert isinstance(answer, Failure) and len(server.asked) == 1
    assert account == Account(0.0, pytest.approx(BOUND, rel=1e-4), 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_prompt_and_pictures_go_to_no_other_host(buy, status):
    with FaultServer() as other, FaultServer(redirect=(status, other.url)) as server:
        [answer], account = buy(server, ["a"])
    assert answer.reason == "refused" and "redirects" in answer.message
    assert other.asked == [] and account.spent_usd == account.in_doubt_usd == 0


def test_what_never_left_this_machine_costs_nothing(buy, monkeypatch, tmp_path):
    with FaultServer() as server:
        gone = server.url
    [answer], account = buy(server, ["a"], api_base=gone)
    assert answer.reason == "connection" and account.spent_usd + account.in_doubt_usd == 0
    with socket.socket() as deaf:  # listens, and its queue is full: no connection ever comes about
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        [answer], account = buy(server, ["b"], api_base=url, timeout_s=1.0)
        for filler in fillers:
            filler.close()
    assert answer.reason == "timeout" and account.spent_usd + account.in_doubt_usd == 0
    monkeypatch.setenv("TEACHER_KEY", KEY + "\n")
    with FaultServer() as server:
        [answer], account = buy(server, ["c"])
        assert answer.reason == "refused" and account.spent_usd + account.in_doubt_usd == 0 and server.asked == []
        [line] = lacking([model(server)])
    assert "TEACHER_KEY holds a line end" in line and KEY not in line


def test_a_server_that_bills_beyond_max_tokens_is_reserved_at_that_and_asked_no_more_when_it_goes_on(buy, caplog):
    billed = iter([500, 500, 2000, 10])
    with FaultServer(answer=lambda body: {"usage": usage(completion_tokens=next(billed), total_tokens=None)}) as server:
        answers, account = buy(server, list("abcd"), budget=1.0, logprobs=False)
    assert [isinstance(answer, list) for answer in answers] == [True, True, True, False]
    assert answers[3].reason == "budget" and "hidden reasoning" in answers[3].message and len(server.asked) == 3
    assert account.spent_usd == pytest.approx(300 * 2e-6 + 3000 * 10e-6)
    assert any("it billed 100 + 500 tokens, more than a request may cost" in line for line in caplog.messages)


def test_a_model_that_breaks_its_bound_does_so_once_before_the_budget_knows(tmp_path):
    """Twenty calls at once, a budget of ten bounds, a server that bills 17 bounds: one call, not ten, passes it."""
    database = Database(tmp_path / "store.sqlite")
    ledger = Ledger(database, budget_usd=10 * BOUND)
    with FaultServer(answer=lambda body: {"usage": usage(completion_tokens=17 * 64, total_tokens=None)}) as server:
        provider = LiteLLMProvider(model(server, logprobs=False), 10**6)
        stored = StoredProvider(provider, Store(database), ledger, PROMPT)
        image = picture(tmp_path)

        async def ask():
            answers = await asyncio.gather(*(stored.ask(request(image, f"{i:2}")) for i in range(20)))
            await stored.aclose()
            return answers

        answers = asyncio.run(ask())
    assert len(server.asked) == 1 and sum(isinstance(answer, list) for answer in answers) == 1
    assert ledger.counted_usd == pytest.approx(100 * 2e-6 + 17 * 64 * 10e-6)
    ledger.close()
    database.close()


def test_a_key_that_comes_back_in_an_error_or_a_reply_is_cut_out(buy, caplog):
    said = f"Incorrect API key \x1b[31m {KEY} provided"
    with FaultServer(answer=lambda body: {"choices": [{"message": {"content": said}}]}) as server:
        [[reply]], _ = buy(server, ["a"])
    assert reply.text == "Incorrect API key \x1b[31m *** provided"
    with FaultServer(refuse=(401, said)) as server:
        [failure], _ = buy(server, ["b"])
    assert failure.message == "HTTP 401: Incorrect API key \\x1b[31m *** provided"
    assert KEY not in caplog.text


def test_credentials_in_netrc_for_the_server_s_host_do_not_meet_the_key(buy, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with FaultServer() as server:
        [[_]], _ = buy(server, ["a"])
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_that_a_server_takes_apart_is_put_back_in_its_tags(buy, field, caplog):
    message = {"content": "\n<answer>4</answer>", field: "2 + 2"}
    with FaultServer(answer=lambda body: {"choices": [{"message": message}]}) as server:
        [[reply]], _ = buy(server, ["a"])
    assert reply.text == "<think>2 + 2</think>\n<answer>4</answer>"
    assert any("cuts the reasoning out of replies" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("message", "finish", "text"),
    [
        ({"content": "2 + 2</think><answer>4</answer>"}, "stop", "<think>2 + 2</think><answer>4</answer>"),
        ({"content": None, "reasoning": "2 + "}, "length", "<think>2 + "),
        ({"content": "<think>a</think>b", "reasoning": "a"}, "stop", "<think>a</think>b"),
        ({"content": [{"type": "text", "text": "a"}, 5, {"type": "image"}]}, "stop", "a"),
        ({"content": "a", "reasoning": 5, "refusal": []}, "stop", "a"),
    ],
)
def test_other_ways_of_taking_reasoning_apart(buy, message, finish, text):
    with FaultServer(answer=lambda body: {"choices": [{"message": message, "finish_reason": finish}]}) as server:
        [[reply]], _ = buy(server, ["a"])
    assert (reply.text, reply.finish_reason) == (text, finish)


def test_one_bad_choice_of_two_loses_the_other_no_reply(buy):
    choices = [{"message": None}, {"message": {"content": "four"}, "finish_reason": {"a": 1}}]
    with FaultServer(answer=lambda body: {"choices": choices if body.get("n") else choices[1:]}) as server:
        [replies], _ = buy(server, ["a"], n=2)
    assert [reply.text for reply in replies] == ["four", "four"] and len(server.asked) == 2


@pytest.mark.parametrize("value", [10**400, float("nan"), float("inf"), 5.0, "-1", None, True])
def test_a_log_prob_that_cannot_be_is_none(buy, value):
    text = json.dumps({"content": [{"logprob": 77.25}]}).replace("77.25", json.dumps(value))
    choice = {"message": {"content": "4"}, "logprobs": "HERE"}
    with FaultServer(raw=json.dumps({"choices": [choice]}).replace('"HERE"', text)) as server:
        [[reply]], _ = buy(server, ["a"])
    assert reply.text == "4" and reply.logprobs is None


@pytest.mark.parametrize("raw", ["[" * 200_000, '{"a":' * 100_000, "9" * 5000, '{"choices": ' + "[" * 90_000])
def test_json_that_no_parser_can_hold_is_a_bad_reply(buy, raw):
    with FaultServer(raw=raw) as server:
        [answer], account = buy(server, ["a"])
    assert answer.reason == "bad_reply" and account.in_doubt_usd == pytest.approx(BOUND, rel=1e-4)


def test_a_blank_reply_is_not_bought_again_until_max_tokens_grows(buy):
    blank = {"choices": [{"message": {"content": ""}, "finish_reason": "length"}], "usage": usage()}
    with FaultServer(answer=lambda body: blank if body["max_tokens"] < 100 else {}) as server:
        [[first]], _ = buy(server, ["a"])
        [[again]], _ = buy(server, ["a"])
        [[grown]], _ = buy(server, ["a"], max_tokens=128)
    assert (first.text, again.text) == ("", "") and "4" in grown.text
    assert [body["max_tokens"] for body in server.asked] == [64, 128]

"""litellm as the way to a model: the same faults, the same outcomes; what we rely on in it. Slow: importing it is."""

import asyncio
import logging
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest

from fault_server import REPLY, FaultServer
from open_r1.external.hosted.hosted_provider import LiteLLMProvider
from open_r1.external.hosted.litellm_wire import import_litellm, supported
from open_r1.external.hosted.prices import price_table
from open_r1.external.hosted.response import read_completion
from open_r1.external.provider import Bill
from open_r1.schema import Failure
from test_litellm_provider import KEY, ask, key, model, picture, request  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow


def through_litellm(server: FaultServer, **changes) -> LiteLLMProvider:
    """A model of a provider that is never spoken to directly."""
    return LiteLLMProvider(model(server, **({"model": "custom_openai/m", "timeout_s": 20.0} | changes)), 10**6)


def test_the_price_table_is_litellm_s_own():
    assert price_table()["gpt-4o"] == import_litellm().model_cost["gpt-4o"]
    assert len(price_table()) == pytest.approx(len(import_litellm().model_cost), rel=0.05)


def test_litellm_says_who_takes_n_and_log_probs():
    assert {"n", "logprobs"} <= supported("gpt-4o-2024-11-20")
    assert "n" not in supported("claude-sonnet-4-5") and "logprobs" not in supported("claude-sonnet-4-5")


def test_n_replies_come_with_tokens_cost_and_log_probs(tmp_path):
    with FaultServer() as server:
        [replies] = ask(through_litellm(server, n=3, n_per_request=3, temperature=0.5), request(picture(tmp_path), n=3))
    [sent] = server.asked
    assert sent["n"] == 3 and sent["model"] == "m" and sent["temperature"] == 0.5 and sent["max_tokens"] == 64
    assert [reply.text for reply in replies] == [REPLY] * 3
    assert sum(reply.cost_usd for reply in replies) == pytest.approx(100 * 2e-6 + 30 * 10e-6)
    assert all(reply.finish_reason == "stop" for reply in replies)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_hidden_reasoning_is_no_part_of_a_reply_and_think_tags_are():
    cut = {"content": "\n<answer>4</answer>", "reasoning_content": "2 + 2"}
    counted = {"prompt_tokens": 9, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 5}}
    for usage, own, text in (
        ({}, False, "<think>2 + 2</think>\n<answer>4</answer>"),
        (counted, False, "\n<answer>4</answer>"),
        (counted, True, "<think>2 + 2</think>\n<answer>4</answer>"),
    ):
        response = {"choices": [{"message": cut}], "usage": usage}
        assert read_completion(response, 1, 64, None, 0.1, own).replies[0].text == text


def test_a_redirect_is_followed_by_no_way_through_litellm(tmp_path):
    """custom_openai goes by openai's client, deepseek by litellm's own handler."""
    for name in ("custom_openai/m", "deepseek/m"):
        with FaultServer() as other, FaultServer(redirect=(307, other.url)) as server:
            [answer] = ask(through_litellm(server, model=name, logprobs=False), request(picture(tmp_path)))
        assert isinstance(answer, Failure) and answer.reason == "refused" and "redirects" in answer.message, answer
        assert other.asked == [] and len(server.asked) == 1


def test_a_key_with_a_line_end_is_refused_and_nothing_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", KEY + "\n")
    with FaultServer() as server:
        bill = Bill()
        [answer] = ask(through_litellm(server), replace(request(picture(tmp_path)), bill=bill))
    assert isinstance(answer, Failure) and answer.reason == "refused" and server.asked == []
    assert (bill.paid_usd, bill.in_doubt_usd) == (0, 0)


def test_a_malformed_response_is_a_bad_reply_through_litellm_too(tmp_path):
    for raw in ('{"choices": [1]}', '{"choices": {"a": 1}}', "[" * 100_000, '{"choices": [{"message": 5}]}', "null"):
        with FaultServer(raw=raw) as server:
            [answer] = ask(through_litellm(server, logprobs=False), request(picture(tmp_path)))
        assert isinstance(answer, Failure) and answer.reason in ("bad_reply", "server"), (raw[:30], answer)


@pytest.mark.parametrize(
    ("fault", "reason", "attempts"),
    [
        ("429", "rate_limit", 2), ("500", "server", 2), ("503", "server", 2), ("reset", "connection", 1),
        ("hang", "timeout", 1), ("broken json", "bad_reply", 1), ("content type", "bad_reply", 1),
        ("no choices", "bad_reply", 1), ("10 MB", "bad_reply", 1), ("400 echo", "refused", 1),
    ],
)  # fmt: skip
def test_each_fault_has_its_reason_through_litellm_too(tmp_path, caplog, fault, reason, attempts):
    limit = 3.0 if reason == "timeout" else 30.0
    with FaultServer({fault: 1.0}) as server, caplog.at_level(logging.DEBUG):
        provider = through_litellm(server, max_retries=1, timeout_s=limit, logprobs=False)
        [answer] = ask(provider, request(picture(tmp_path)))
    assert isinstance(answer, Failure) and answer.reason == reason, answer
    assert len(server.asked) == attempts
    for record in caplog.records:
        assert KEY not in record.getMessage()
        assert record.levelno <= logging.DEBUG or "marmalade" not in record.getMessage()
    assert KEY not in answer.message and "marmalade" not in answer.message


def test_a_key_from_the_environment_is_not_sent_to_an_own_server(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-alone")
    with FaultServer() as server:
        for name in ("custom_openai/m", "hosted_vllm/m"):
            [[_]] = ask(through_litellm(server, model=name, key_variable=""), request(picture(tmp_path)))
    assert len(server.headers) == 2
    assert all("alone" not in str(headers) for headers in server.headers)


def test_a_server_that_is_gone_is_a_connection_failure(tmp_path):
    with FaultServer() as server:
        pass
    [answer] = ask(through_litellm(server, max_retries=0), request(picture(tmp_path)))
    assert isinstance(answer, Failure) and answer.reason == "connection"


def test_clients_are_closed_without_a_warning(tmp_path):
    with FaultServer() as server, warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(2):  # on two loops, one after the other
            [[reply]] = ask(through_litellm(server), request(picture(tmp_path)))
            assert reply.text == REPLY
        asyncio.run(asyncio.sleep(0))


def test_importing_the_entry_imports_no_litellm():
    code = "import sys, open_r1.external.build; print('litellm' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "False"

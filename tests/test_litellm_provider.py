"""LiteLLMProvider against a server on loopback that misbehaves by plan: what is sent, what comes back, what is said."""

import asyncio
import base64
import io
import json
import logging
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from fault_server import FAULTS, REPLY, FaultServer
from open_r1.external.gather import Gatherer
from open_r1.external.hosted import hosted_provider as litellm_provider
from open_r1.external.hosted.breaker import Breaker
from open_r1.external.hosted.hosted_provider import LiteLLMProvider
from open_r1.external.provider import Request
from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import Failure, Reply, Row

KEY = "test-key-1234567890abcdef"
REASONS = {"timeout", "rate_limit", "server", "refused", "connection", "bad_reply", "resting"}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setattr(litellm_provider, "FIRST_PAUSE_S", 0.01)


def model(server: FaultServer, **changes) -> ExternalModelConfig:
    plain = ExternalModelConfig(
        name="teacher", provider="litellm", model="hosted_vllm/m", n=1, api_base=server.url, key_variable="TEACHER_KEY",
        timeout_s=5.0, max_tokens=64, usd_per_million_in=2.0, usd_per_million_out=10.0,
    )  # fmt: skip
    return plain.model_copy(update=changes)


def picture(folder: Path, size=(84, 84), kind="png") -> Path:
    path = folder / f"{size[0]}.{kind}"
    Image.new("RGB", size, "red").save(path)
    return path


def request(image: Path, text="How many?", n=1, id="r0") -> Request:
    messages = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]
    return Request(Row(id, "clevr_math", (image,), text, "4"), messages, n=n)


def ask(provider: LiteLLMProvider, *requests: Request) -> list[list[Reply] | Failure]:
    async def run():
        try:
            return await asyncio.gather(*(provider.ask(one) for one in requests))
        finally:
            await provider.aclose()

    return asyncio.run(run())


def test_one_request_brings_n_replies_and_their_sums_are_what_was_billed(tmp_path):
    with FaultServer() as server:
        provider = LiteLLMProvider(model(server, n=8, temperature=0.7, top_p=0.9), 10**6)
        [replies] = ask(provider, request(picture(tmp_path), n=8))
    [sent] = server.asked
    assert [reply.text for reply in replies] == [REPLY] * 8
    assert {key: sent[key] for key in ("model", "n", "temperature", "top_p", "max_tokens", "logprobs")} == {
        "model": "m", "n": 8, "temperature": 0.7, "top_p": 0.9, "max_tokens": 64, "logprobs": True,
    }  # fmt: skip
    assert sum(reply.prompt_tokens for reply in replies) == 100
    assert sum(reply.cost_usd for reply in replies) == pytest.approx(100 * 2e-6 + 80 * 10e-6)
    assert all(reply.logprobs == (-0.5, -0.25) and reply.finish_reason == "stop" for reply in replies)
    assert all(0 < reply.latency_s < 5 for reply in replies)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_small_picture_goes_out_as_its_file_and_a_large_one_as_the_policy_sees_it(tmp_path):
    small, large = picture(tmp_path, (84, 84)), picture(tmp_path, (400, 200), "jpg")
    with FaultServer() as server:
        ask(LiteLLMProvider(model(server), 20_000), request(small), request(large))
    urls = sorted((one["messages"][0]["content"][0]["image_url"]["url"] for one in server.asked), key=len)
    assert urls[0] == "data:image/png;base64," + base64.b64encode(small.read_bytes()).decode()
    kind, content = urls[1].split(";base64,")
    assert kind == "data:image/jpeg" and Image.open(io.BytesIO(base64.b64decode(content))).size == (200, 100)
    assert {one["messages"][0]["content"][1]["text"] for one in server.asked} == {"How many?"}


def test_a_server_that_returns_one_choice_without_log_probs_is_noticed_once_and_asked_one_by_one(tmp_path, caplog):
    with FaultServer({"one": 1.0}) as server, caplog.at_level(logging.WARNING):
        provider = LiteLLMProvider(model(server, n=4), 10**6)
        answers = ask(provider, request(picture(tmp_path), "a", n=4))
        first = len(server.asked)
    assert len(answers[0]) == 4 and first == 4  # 1 of 4, then three single ones
    assert [one.get("n") for one in server.asked] == [4, None, None, None]
    assert [reply.logprobs for reply in answers[0]] == [None] * 4
    assert len(caplog.messages) == 2
    assert "one reply however many" in caplog.messages[0] and "no log-probs" in caplog.messages[1]


def test_what_is_missing_of_n_is_asked_for_one_by_one_and_the_next_question_for_n_again(tmp_path, caplog):
    with FaultServer({"fewer": 1.0}) as server:
        provider = LiteLLMProvider(model(server, n=4), 10**6)
        answers = ask(provider, request(picture(tmp_path), "a", n=4), request(picture(tmp_path), "b", n=4))
    assert [len(answer) for answer in answers] == [4, 4]
    assert Counter(one.get("n") for one in server.asked) == {4: 2, None: 4}
    assert len(caplog.messages) == 1 and "2 of 4" in caplog.messages[0]


def test_an_api_that_refuses_n_is_asked_plainly(tmp_path, caplog):
    with FaultServer({"400 n": 1.0}) as server:
        [answer] = ask(LiteLLMProvider(model(server, n=3), 10**6), request(picture(tmp_path), n=3))
    assert len(answer) == 3 and len(server.asked) == 4
    [line] = caplog.messages
    assert "HTTP 400: n must be 1" in line and "one reply, no log-probs" in line


@pytest.mark.parametrize(
    ("fault", "reason", "attempts"),
    [
        ("429", "rate_limit", 3), ("500", "server", 3), ("503", "server", 3), ("reset", "connection", 1),
        ("hang", "timeout", 1), ("trickle", "timeout", 1), ("broken json", "bad_reply", 1),
        ("no choices", "bad_reply", 1), ("10 MB", "bad_reply", 1), ("content type", "bad_reply", 1),
        ("400 echo", "refused", 2),
    ],
)  # fmt: skip
def test_each_fault_has_its_reason_and_what_may_have_been_billed_is_not_asked_again(tmp_path, fault, reason, attempts):
    with FaultServer({fault: 1.0}) as server:
        limit = 1.0 if reason == "timeout" else 20.0
        provider = LiteLLMProvider(model(server, timeout_s=limit, max_retries=2), 10**6)
        [answer] = ask(provider, request(picture(tmp_path)))
    assert isinstance(answer, Failure) and answer.reason == reason, answer
    assert len(server.asked) == attempts


@pytest.mark.parametrize(
    ("fault", "text", "finish"),
    [("empty", "", "stop"), ("refusal", "", "content_filter"), ("length", REPLY, "length")],
)
def test_what_was_paid_for_is_a_reply_even_without_text(tmp_path, fault, text, finish):
    with FaultServer({fault: 1.0}) as server:
        [[reply]] = ask(LiteLLMProvider(model(server), 10**6), request(picture(tmp_path)))
    assert (reply.text, reply.finish_reason) == (text, finish)
    assert reply.cost_usd == pytest.approx(100 * 2e-6 + 10 * 10e-6) or reply.completion_tokens == 2


def test_a_refusal_counts_as_refused_in_the_pool(tmp_path):
    with FaultServer({"refusal": 1.0}) as server:
        pool = Gatherer([LiteLLMProvider(model(server), 10**6)])
        answers = pool.ask([request(picture(tmp_path))], deadline_s=10)().answers
        pool.close()
    assert answers[0]["teacher"].reason == "refused"


def test_retry_after_is_kept_to_and_never_waited_for_beyond_the_time_out(tmp_path):
    with FaultServer({"429 retry-after": 1.0}) as server:
        provider = LiteLLMProvider(model(server, max_retries=2, timeout_s=5), 10**6)
        started = time.monotonic()
        ask(provider, request(picture(tmp_path)))
        assert len(server.asked) == 3 and time.monotonic() - started >= 0.1  # twice .05 s
        provider = LiteLLMProvider(model(server, max_retries=9, timeout_s=0.04), 10**6)
        ask(provider, request(picture(tmp_path), "b"))
        assert len(server.asked) == 4


def test_a_server_that_is_down_is_rested(tmp_path, caplog):
    with FaultServer() as server:
        gone = server.url
    provider = LiteLLMProvider(model(server, api_base=gone, max_retries=0), 10**6)
    many = [request(picture(tmp_path), str(i)) for i in range(5)]

    async def run():
        answers = [await provider.ask(one) for one in [*many, many[0]]]
        await provider.aclose()
        return answers

    *first, last = asyncio.run(run())
    assert {answer.reason for answer in first} == {"connection"} and last.reason == "resting"
    assert len(caplog.messages) == 1 and "rests for 15 s" in caplog.messages[0]


def test_no_key_no_picture_and_no_reply_is_logged_above_debug(tmp_path, caplog):
    faults = dict.fromkeys([*FAULTS, "ok"], 1.0)
    with FaultServer(faults) as server, caplog.at_level(logging.DEBUG):
        provider = LiteLLMProvider(model(server, logprobs=False, timeout_s=5.0, max_retries=1), 10**6)
        provider._breaker = Breaker(failures=10**6)
        image = picture(tmp_path)
        answers = ask(provider, *(request(image, str(i)) for i in range(100)))
    encoded = base64.b64encode(image.read_bytes()).decode()
    said = [answer.message for answer in answers if isinstance(answer, Failure)]
    said += [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert any(said) and any("HTTP 400" in line for line in said)
    for line in said:
        assert KEY not in line and "marmalade" not in line and encoded[:40] not in line
    assert not any(KEY in record.getMessage() for record in caplog.records)  # at no level


def test_of_500_prompts_at_concurrency_64_each_ends_with_a_reply_or_a_typed_failure(tmp_path):
    many_prompts(tmp_path, 500)


def many_prompts(folder: Path, count: int) -> None:
    plan = {"ok": 6.0, **dict.fromkeys(FAULTS, 0.25), "hang": 0.1, "trickle": 0.1, "10 MB": 0.1}
    image = picture(folder)
    with FaultServer(plan, seed=1) as server:
        provider = LiteLLMProvider(model(server, n=2, concurrency=64, timeout_s=3.0), 10**6)
        provider._breaker = Breaker(failures=10**6)  # this server is no better after a rest
        answers = ask(provider, *(request(image, f"{i}?", n=2, id=f"r{i}") for i in range(count)))
    assert len(answers) == count and server.most_at_once <= 64
    outcomes = Counter(answer.reason if isinstance(answer, Failure) else "replies" for answer in answers)
    assert outcomes.keys() - {"replies"} <= REASONS and outcomes["replies"] > 0.7 * count, outcomes
    assert all(1 <= len(answer) <= 2 for answer in answers if isinstance(answer, list))
    assert server.kinds.keys() == plan.keys()


def test_an_upper_bound_holds_whatever_comes_and_an_estimate_counts_the_prompt_once(tmp_path):
    with FaultServer() as server:
        provider = LiteLLMProvider(model(server, n=8, max_tokens=64), 10**6)
        one = request(picture(tmp_path), "x" * 400, n=8)
        bound, estimate = provider.upper_bound_usd(one), provider.estimate_usd(one)
        [replies] = ask(provider, one)
    prompt = 200 + 32 + 255  # bytes / 2, the template, one tile of 512 x 512 pixels
    assert bound == pytest.approx(8 * (prompt * 2e-6 + 64 * 10e-6))
    assert estimate == pytest.approx((100 + 32 + 255) * 2e-6 + 8 * 64 * 10e-6)
    assert sum(reply.cost_usd for reply in replies) < estimate < bound


def test_a_bound_that_was_too_low_is_raised_by_what_was_billed(tmp_path):
    with FaultServer() as server:
        provider = LiteLLMProvider(model(server), 10**6)
        one = request(picture(tmp_path, (8, 8)), "?")
        provider._model = provider._model.model_copy(
            update={"model": "claude-x"}
        )  # counts a picture of 8 x 8 as one token
        low = provider.upper_bound_usd(one)
        ask(provider, one)  # the server bills 100 tokens
    assert provider.upper_bound_usd(one) == pytest.approx(100 * 2e-6 + 64 * 10e-6)
    assert low < 100 * 2e-6 + 64 * 10e-6


def test_the_fingerprint_holds_what_changes_a_reply_and_nothing_else(tmp_path):
    with FaultServer() as server:
        plain = LiteLLMProvider(model(server), 10**6).fingerprint
        for change in ({"n": 3}, {"timeout_s": 9}, {"concurrency": 2}, {"usd_per_million_in": 0.0}, {"name": "other"}):
            assert LiteLLMProvider(model(server, **change), 10**6).fingerprint == plain
        for change in (
            {"temperature": 0.5},
            {"top_p": 0.5},
            {"max_tokens": 65},
            {"revision": "b"},
            {"model": "openai/m"},
        ):
            assert LiteLLMProvider(model(server, **change), 10**6).fingerprint != plain
    assert KEY not in str(plain)


def score(provider: LiteLLMProvider, asked: Request, *texts: str, calls=1) -> list[tuple[float, ...] | None]:
    async def run():
        try:
            return [score for _ in range(calls) for score in await provider.score(asked, texts)]
        finally:
            await provider.aclose()

    return asyncio.run(run())


def test_a_server_is_asked_how_likely_it_finds_a_reply_that_it_did_not_write(tmp_path):
    with FaultServer() as server:
        provider = LiteLLMProvider(model(server, scores=True, temperature=0.7), 480_000)
        assert provider.scores
        told = score(provider, request(picture(tmp_path)), "one", '"quoted" three')
    assert told == [(-0.3,), (-0.8, -0.5)]
    bare, first, second = sorted(server.asked, key=lambda body: len(json.dumps(body)))
    assert "prompt_logprobs" not in bare and len(bare["messages"]) == 1
    assert first["prompt_logprobs"] == 0 and first["continue_final_message"] and not first["add_generation_prompt"]
    assert first["messages"] == [*bare["messages"], {"role": "assistant", "content": "one"}]
    assert second["messages"][-1]["content"] == '"quoted" three' and second["max_tokens"] == 1


@pytest.mark.parametrize("fault", ["500", "429", "no choices", "broken json"])
def test_a_server_that_does_not_say_leaves_the_component_unknown_and_is_named_once(tmp_path, fault, caplog):
    with FaultServer(plan={fault: 1.0}) as server:
        provider = LiteLLMProvider(model(server, scores=True), 480_000)
        assert score(provider, request(picture(tmp_path)), "one", "two", calls=2) == [None] * 4
    assert caplog.text.count("did not say how likely it finds others' replies") == 1

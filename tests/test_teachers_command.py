"""`make teachers`: one question to each, what came and what it cost; what cannot be asked is said and not asked."""

import pytest

from fault_server import REPLY, FaultServer
from open_r1.cli import teachers

FREE = "usd_per_million_in: 2, usd_per_million_out: 10, key_variable: TEACHER_KEY, timeout_s: 20, max_tokens: 64"


@pytest.fixture
def words(counting_data, tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "test-key-1234567890abcdef")
    return ["--data_path", str(counting_data), "--store_path", str(tmp_path / "s.sqlite")]


def entry(name: str, server: FaultServer, model: str = "m") -> str:
    return f"{{name: {name}, provider: litellm, model: hosted_vllm/{model}, api_base: '{server.url}', {FREE}}}"


def test_each_teacher_is_asked_once_and_shows_reply_tokens_cost_and_seconds(words, capsys):
    with FaultServer() as server:
        models = f"external_models=[{entry('mine', server)}, {entry('other', server, 'x')}]"
        assert teachers.main([*words, models]) == 1
        assert len(server.asked) == 1 and "n" not in server.asked[0]
    out = capsys.readouterr().out
    assert "mine: 100 + 2 tokens, 0.0003 $, " in out and "ends by stop, with log-probs; accuracy 0, format 1" in out
    assert "0.0003 $ counted in the store" in out and "    <answer>4</answer>" in out and REPLY.split()[0] in out
    assert "serves m, not 'x'" in out and "other: not asked" in out


def test_a_second_look_buys_one_more_reply_and_a_dry_run_none(words, capsys):
    with FaultServer() as server:
        models = f"external_models=[{entry('mine', server)}]"
        assert [teachers.main([*words, models]), teachers.main([*words, models])] == [0, 0]
        assert len(server.asked) == 2
        assert teachers.main([*words, models, "--dry_run"]) == 0 and len(server.asked) == 2
    assert "mine: nothing is missing" in capsys.readouterr().out


def test_a_refusal_is_shown_with_its_reason_and_a_scripted_teacher_is_free(words, capsys):
    with FaultServer(refuse=(400, "no pictures here")) as server:
        assert teachers.main([*words, f"external_models=[{entry('mine', server)}]"]) == 1
    assert "mine: no reply (refused: HTTP 400: no pictures here)" in capsys.readouterr().out
    assert teachers.main(words) == 0
    assert "gpt-4o-scripted: ? + ? tokens" in capsys.readouterr().out

"""Collecting with real processes against a server that counts its sales: kill -9, one budget for two, and the entries.

scripts/benchmark_store.py kills fifty times; here it is three.
"""

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from open_r1 import generate
from open_r1.cli import store as store_entry
from open_r1.external import open_store
from open_r1.external.store.inventory import describe, holdings
from open_r1.external.store.parquet import export_parquet, import_parquet
from open_r1.external.store.replies import PromptVersion, ReplyKey
from open_r1.schema import Reply, UserError
from shopping import buy, kill_once, seller, told

ROOT = Path(__file__).resolve().parents[1]
COUNTING = PromptVersion("clevr_math", "reasoning", " Think first.")
INSTRUCTIONS = {"reasoning": " Think first."}


def test_kill_nine_loses_no_paid_reply_and_buys_none_twice_but_those_in_flight(tmp_path):
    store = tmp_path / "store.sqlite"
    cut_off: Counter[str] = Counter()
    with seller("--latency_s", "0.05") as port:
        for after in (7, 61, 20):  # sales until the kill
            in_flight, lost = kill_once(port, store, rows=120, after=after)
            assert not lost
            cut_off.update(in_flight)
        assert buy(port, store, "--rows", "120").wait(240) == 0
        sold = told(port)["sold"]
    assert len(sold) == 120 and cut_off
    assert all(sales <= 1 + cut_off[row] for row, sales in sold.items())
    opened, ledger = open_store(store)
    assert opened.count() == 240
    assert ledger.counted_usd >= 0.02 * sum(sold.values()) - 1e-9  # never less than the server's own count
    opened.database.close()


def test_two_processes_at_concurrency_64_spend_one_budget_by_the_server_s_own_count(tmp_path):
    with seller("--latency_s", "0.02") as port:
        both = [buy(port, tmp_path / "store.sqlite", "--rows", "100", "--budget", "1.0") for _ in range(2)]
        assert [process.wait(240) for process in both] == [0, 0]  # 100 rows would cost 2 $
        answer = told(port)
    assert answer["usd"] == pytest.approx(1.0) and set(answer["sold"].values()) == {1}  # 50 rows, no row twice


def test_ctrl_c_waits_for_what_is_on_its_way_and_asks_nothing_more(tmp_path):
    with seller("--latency_s", "1") as port:
        process = buy(port, tmp_path / "store.sqlite", "--rows", "300")
        give_up_at = time.monotonic() + 120
        while not told(port)["calls"]:
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) != 0
        sold = told(port)["sold"]
    opened, ledger = open_store(tmp_path / "store.sqlite")
    assert {question.row_id for question, _ in opened.everything()} == set(sold) and len(sold) < 300
    assert ledger.accounts()["seller"].in_doubt_usd == 0.0
    opened.database.close()


@pytest.fixture
def store(tmp_path):
    store, ledger = open_store(tmp_path / "store.sqlite")
    yield store, ledger
    store.database.close()


def asked(key: str, model: str = "gpt", answer: str = "4", prompt: PromptVersion = COUNTING) -> ReplyKey:
    return ReplyKey(key.encode(), prompt, model, "{}", "row-" + key, answer)


def said(*answers: int, **known) -> list[Reply]:
    return [Reply(f"<think>so</think><answer>{answer}</answer>", **known) for answer in answers]


def test_the_inventory_counts_replies_accuracy_solved_prompts_tokens_and_dollars(store):
    opened, ledger = store
    opened.add([(asked("a"), 0, said(4, 4, 5, 4, completion_tokens=10, cost_usd=0.01)), (asked("b"), 0, said(1, 2))])
    opened.add([(asked("c", model="gemini"), 0, said(4))])
    gpt, gemini = holdings(opened)
    assert (gpt.replies, gpt.accuracy, gpt.solved, gpt.tokens) == (6, 3.0, {3: 1, 0: 1}, 40)
    assert gpt.usd == pytest.approx(0.04) and gemini.solved == {1: 1}
    call = ledger.reserve(b"d", "gpt", 0.5)
    ledger.settle(call, "gpt", 0.25)
    text = describe(opened, ledger)
    assert "| gpt | clevr_math | reasoning | 2 | 6 | 50.0 % | 0: 50 %, 3: 50 % | 40 | 0.0400 |" in text
    assert "ledger: gpt: 0.2500 $ for 1 calls" in text


def test_what_is_exported_is_imported_elsewhere_reply_for_reply(store, tmp_path):
    opened, _ = store
    opened.add([(asked("a"), 0, [Reply("x", "length", 5, 6, 0.25, 1.5, (-0.1, -2.0)), Reply("y")])])
    opened.add([(asked("t", prompt=PromptVersion("trance", "reasoning", "?")), 0, said(1))])
    assert export_parquet(opened, "clevr_math", tmp_path / "out" / "x.parquet") == 2
    other, _ = open_store(tmp_path / "other.sqlite")
    assert import_parquet(other, tmp_path / "out" / "x.parquet", "clevr_math", INSTRUCTIONS) == (2, 2)
    assert import_parquet(other, tmp_path / "out" / "x.parquet", "clevr_math", INSTRUCTIONS) == (0, 2)
    assert list(other.everything()) == list(opened.everything("clevr_math"))
    other.database.close()


def test_a_parquet_of_another_task_prompt_or_format_is_refused_in_one_line(store, tmp_path):
    opened, _ = store
    path = tmp_path / "x.parquet"
    with pytest.raises(UserError, match="holds no replies of clevr_math"):
        export_parquet(opened, "clevr_math", path)
    opened.add([(asked("a"), 0, said(4))])
    export_parquet(opened, "clevr_math", path)
    other, _ = open_store(tmp_path / "other.sqlite")
    with pytest.raises(UserError, match="holds replies of task clevr_math, not of trance; give TASK=clevr_math"):
        import_parquet(other, path, "trance", INSTRUCTIONS)
    with pytest.raises(UserError, match="replies to another reasoning prompt of clevr_math than the present one"):
        import_parquet(other, path, "clevr_math", {"reasoning": "Think twice."})
    (tmp_path / "no.parquet").write_text("no Parquet at all")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        import_parquet(other, tmp_path / "no.parquet", "clevr_math", INSTRUCTIONS)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"photo": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(UserError, match=r"is no export of replies .*its columns begin photo"):
        import_parquet(other, tmp_path / "foreign.parquet", "clevr_math", INSTRUCTIONS)
    with pytest.raises(UserError, match=r"cannot write .*x\.parquet"):
        export_parquet(opened, "clevr_math", path / "x.parquet")
    assert other.count() == 0
    other.database.close()


def test_a_newcomer_collects_from_scripted_models_looks_at_it_and_hands_it_on(counting_data, tmp_path, capsys):
    collect = ["--data_path", str(counting_data), "--store_path", str(tmp_path / "s.sqlite")]
    collect += ["--models", "gpt-4o-scripted", "--rows"]
    assert generate.main([*collect, "5", "--dry_run"]) == 0
    assert "| gpt-4o-scripted | 0 | 5 | 40 | 0.00 | 0.00 |" in capsys.readouterr().out
    assert generate.main([*collect, "5"]) == 0
    assert "all 5 prompts have their replies" in capsys.readouterr().out
    assert generate.main([*collect, "8", "--dry_run"]) == 0
    assert "| gpt-4o-scripted | 5 | 3 | 24 | 0.00 | 0.00 |" in capsys.readouterr().out  # 8 rows in all, N = 8
    store = ["--store", str(tmp_path / "s.sqlite"), "--task"]
    store_entry.main([*store, "clevr_math", "--output", str(tmp_path / "x.parquet")])
    out = capsys.readouterr().out
    assert f"{tmp_path}/x.parquet: 40 replies" in out and "| gpt-4o-scripted | clevr_math | reasoning | 5 | 40 |" in out
    with pytest.raises(UserError, match="give TASK=clevr_math"):
        store_entry.main([*store, "trance", "--from", str(tmp_path / "x.parquet")])


def test_collecting_tells_what_is_left_and_why(counting_data, tmp_path, capsys):
    words = ["--data_path", str(counting_data), "--store_path", str(tmp_path / "s.sqlite")]
    assert generate.main([*words, "--external_models[0].fail_rate", "1", "--rows", "2"]) == 1
    out = capsys.readouterr().out
    assert "gpt-4o-scripted: 2 prompts are left (2 server; last: scripted failure on row" in out
    assert "gemini-1.5-pro-scripted: " not in out.splitlines()[-1]


def test_the_entry_refuses_in_one_line_a_model_that_the_recipe_does_not_have(counting_data):
    command = [sys.executable, "-m", "open_r1.generate", "--data_path", str(counting_data)]
    done = subprocess.run([*command, "--models", "gpt-4o"], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "did you mean 'gpt-4o-scripted'" in done.stderr

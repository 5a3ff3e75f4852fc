"""The store's file: foreign ones stay as they are, copies and imports are whole, claims end with their owner."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from open_r1.cli import store as store_entry
from open_r1.external.store import database as database_module
from open_r1.external.store.collecting import Tally, left_over
from open_r1.external.store.database import APPLICATION, Database
from open_r1.external.store.inventory import describe
from open_r1.external.store.ledger import Account, Ledger
from open_r1.external.store.parquet import SCHEMA, export_parquet, import_parquet
from open_r1.external.store.replies import PromptVersion, ReplyKey, Store
from open_r1.external.store.stored_provider import StoredProvider
from open_r1.schema import Reply, Row, UserError
from test_stored import Shop, asking

PROMPT = PromptVersion("clevr_math", "reasoning", " Think first.")
INSTRUCTIONS = {"reasoning": " Think first."}
ROW = Row("r0", "clevr_math", (), "How many?", "4")


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "store.sqlite")
    yield database
    database.close()


def key(text: str, row: str = "row") -> ReplyKey:
    return ReplyKey(text.encode(), PROMPT, "gpt", "{}", row, "4")


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_foreign_sqlite_file_is_refused_and_not_a_byte_of_it_or_beside_it_changes(tmp_path, journal, read_only):
    path = tmp_path / "photos.sqlite"
    with sqlite3.connect(path) as foreign:
        foreign.execute(f"pragma journal_mode = {journal}")
        foreign.execute("create table photos (name text)")
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="an SQLite file of another program"):
        Database(path, read_only)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["photos.sqlite"]


def test_an_empty_file_is_no_new_store_with_a_new_ledger(tmp_path):
    (tmp_path / "store.sqlite").touch()
    with pytest.raises(UserError, match="is empty, which no store ever is"):
        Database(tmp_path / "store.sqlite")
    assert (tmp_path / "store.sqlite").stat().st_size == 0


def test_two_that_make_the_same_store_at_once_find_one_whole_store(tmp_path):
    code = "import sys; from open_r1.external.store.database import Database; Database(sys.argv[1]).rows('select 1')"
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s.sqlite")]) for _ in range(3)]
    assert [process.wait(60) for process in both] == [0, 0, 0]
    assert not list(tmp_path.glob("*.part"))


def test_a_store_of_an_early_version_whose_mark_is_in_its_log_alone_is_opened(tmp_path):
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute(f"pragma application_id = {APPLICATION}")
    connection.execute("pragma user_version = 1")
    connection.executescript(database_module.TABLES)
    assert path.read_bytes()[68:72] == bytes(4)  # a process that was killed leaves it so
    assert Store(Database(path, read_only=True)).count() == 0
    connection.close()


def test_a_store_in_use_is_copied_whole_with_its_ledger(database, tmp_path, capsys):
    ledger = Ledger(database)
    Store(database).add([(key("a"), 0, [Reply("one")])])
    ledger.settle(ledger.reserve(b"b", "gpt", 0.5), "gpt", 0.25)
    store_entry.main(["--store", str(database.path), "--output", str(tmp_path / "to" / "copy.sqlite")])
    assert "a whole copy, 1 replies and the ledger" in capsys.readouterr().out
    copy = Database(tmp_path / "to" / "copy.sqlite")
    assert Store(copy).replies([b"a"]) == {b"a": [Reply("one")]}
    assert Ledger(copy).accounts() == {"gpt": Account(0.25, 0.0, 1)}
    copy.close()
    with pytest.raises(UserError, match="exists; a copy overwrites nothing"):
        database.copy(tmp_path / "to" / "copy.sqlite")


def test_a_row_id_with_half_a_surrogate_pair_is_kept_and_ends_nothing(database):
    shop = Shop(n=1)
    stored = StoredProvider(shop, Store(database), Ledger(database), PROMPT)
    row = Row("r\ud83d", "clevr_math", (), "How many?", "4\udc00")
    assert asyncio.run(stored.ask(asking(row, n=1))) == asyncio.run(stored.ask(asking(row, n=1)))
    assert len(shop.sold) == 1
    assert [(asked.row_id, asked.answer) for asked, _ in Store(database).everything()] == [("r?", "4?")]


def test_a_gap_among_samples_is_bought_once_and_only_the_gap(database):
    shop = Shop()
    store = Store(database)
    stored = StoredProvider(shop, store, Ledger(database), PROMPT)
    asked = stored.key_of(asking(ROW))
    store.add([(asked, 1, [Reply("old 1")]), (asked, 4, [Reply("old 4")])])
    for _ in range(3):
        replies = asyncio.run(stored.ask(asking(ROW, n=5)))
    assert [reply.text for reply in replies] == ["r0/0", "old 1", "r0/2", "r0/3", "old 4"]
    assert shop.sold == [("r0", 0, 1), ("r0", 2, 2)]
    assert store.samples(asked.key) == [0, 1, 2, 3, 4]


def rows(*changes: dict) -> list[dict]:
    plain = {
        "key": b"k", "task": "clevr_math", "prompt_kind": "reasoning", "instruction": " Think first.", "model": "gpt",
        "fingerprint": "{}", "row_id": "r", "answer": "4", "sample": 0, "text": "four", "finish_reason": "stop",
        "prompt_tokens": 1, "completion_tokens": 2, "cost_usd": 0.5, "latency_s": 1.0, "logprobs": [-0.5],
    }  # fmt: skip
    return [plain | change for change in changes]


def parquet(path, content: list[dict], schema=SCHEMA):
    pq.write_table(pa.Table.from_pylist(content, schema=schema), path)
    return path


def retyped(**types: pa.DataType) -> pa.Schema:
    return pa.schema({name: types.get(name, SCHEMA.field(name).type) for name in SCHEMA.names}, SCHEMA.metadata)


@pytest.mark.parametrize(
    ("content", "schema", "said"),
    [
        (rows({}, {"sample": 7}), SCHEMA, "sample 7 without all before it"),
        (rows({}, {"sample": -5}), SCHEMA, "row 1: sample"),
        (rows({"sample": 0.5}), retyped(sample=pa.float64()), "row 0: sample"),
        (rows({"sample": "0"}), retyped(sample=pa.string()), "row 0: sample"),
        (rows({}, {}), SCHEMA, "a sample number comes twice"),
        (rows({"text": None}), SCHEMA, "row 0: text"),
        (rows({"text": b"\xff"}), retyped(text=pa.binary()), "row 0: text"),
        (rows({"key": None}), SCHEMA, "row 0: key"),
        (rows({"model": None}), SCHEMA, "row 0: model"),
        (rows({"finish_reason": "tired"}), SCHEMA, "row 0: finish_reason"),
        (rows({"cost_usd": float("nan")}), SCHEMA, "row 0: cost_usd"),
        (rows({"cost_usd": -1.0}), SCHEMA, "row 0: cost_usd"),
        (rows({"prompt_tokens": -1}), SCHEMA, "row 0: prompt_tokens"),
        (rows({"logprobs": [float("inf")]}), SCHEMA, "row 0: logprobs"),
        (rows({"logprobs": [None]}), SCHEMA, "row 0: logprobs"),
        (rows({"fingerprint": "[1]"}), SCHEMA, "row 0: fingerprint"),
        (rows({"fingerprint": "{"}), SCHEMA, "row 0: fingerprint"),
        (rows({}, {"sample": 1, "row_id": "other"}), SCHEMA, "row 1: another question under the key"),
    ],
)  # fmt: skip
def test_an_import_names_bad_rows_and_then_takes_nothing_over(database, tmp_path, content, schema, said):
    store = Store(database)
    good = rows({"key": b"good"}) if schema is SCHEMA else []
    path = parquet(tmp_path / "x.parquet", [*good, *content], schema)
    with pytest.raises(UserError) as caught:
        import_parquet(store, path, "clevr_math", INSTRUCTIONS)
    message = str(caught.value)
    if good:
        said = said.replace("row 0", "row 1") if said.startswith("row 0") else said.replace("row 1:", "row 2:")
    assert said in message and "nothing was taken over" in message and "\n" not in message
    assert store.count() == 0


def test_an_import_may_fill_what_the_store_began_and_a_cut_off_file_is_one_line(database, tmp_path):
    store = Store(database)
    store.add([(ReplyKey(b"k", PROMPT, "gpt", "{}", "r", "4"), 0, [Reply("mine")])])
    path = parquet(tmp_path / "x.parquet", rows({"sample": 1}))
    assert import_parquet(store, path, "clevr_math", INSTRUCTIONS) == (1, 1)
    whole = path.read_bytes()
    for length in (len(whole) // 2, 5, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cannot be read as Parquet"):
            import_parquet(store, path, "clevr_math", INSTRUCTIONS)
    path.write_bytes(b"PAR1" + bytes(40) + whole[44:])
    with pytest.raises(UserError):
        import_parquet(store, path, "clevr_math", INSTRUCTIONS)
    assert store.count() == 2
    assert export_parquet(store, "clevr_math", tmp_path / "y.parquet") == 2


def test_what_is_in_doubt_is_settled_by_the_provider_s_bill(database, capsys):
    ledger = Ledger(database, budget_usd=1.0)
    ledger.settle(ledger.reserve(b"a", "gpt", 0.5), "gpt", 0.1, in_doubt_usd=0.4)
    assert ledger.reserve(b"b", "gpt", 0.6) == "over"
    assert "0.4000 $ in doubt" in describe(Store(database), ledger)
    assert "make store SETTLE=MODEL=DOLLARS" in describe(Store(database), ledger)
    with pytest.raises(UserError, match="below the 0.1000 $ that its calls are known to have cost".replace("$", r"\$")):
        ledger.settle_bill("gpt", 0.05)
    with pytest.raises(UserError, match="did you mean 'gpt'"):
        ledger.settle_bill("gtp", 0.2)
    store_entry.main(["--store", str(database.path), "--settle", "gpt=0.15"])
    assert "gpt: 0.5000 $ were counted, 0.1500 $ are now" in capsys.readouterr().out
    assert ledger.accounts() == {"gpt": Account(0.15, 0.0, 1)}
    call = ledger.reserve(b"b", "gpt", 0.6)
    assert isinstance(call, int)
    with pytest.raises(UserError, match="under way"):
        ledger.settle_bill("gpt", 0.2)
    for text in ("gpt", "gpt=", "gpt=x", "=1", "gpt=-1", "gpt=nan", "gpt=inf"):
        with pytest.raises(UserError, match="it is MODEL=DOLLARS"):
            store_entry.read_bills(text)


HOLD = """
import sys, time
from open_r1.external.store.database import Database
from open_r1.external.store.ledger import Ledger
ledger = Ledger(Database(sys.argv[1]))
print(ledger.reserve(b"a", "gpt", 0.3), flush=True)
time.sleep(600)
"""


def test_a_claim_lives_as_long_as_its_process_stopped_or_not_whatever_the_clock_says(database, monkeypatch):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(database.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline().strip() == "1"
    ledger = Ledger(database, budget_usd=1.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a clock that was set
    assert ledger.reserve(b"a", "gpt", 0.3) == "claimed"
    os.kill(holder.pid, signal.SIGSTOP)
    assert ledger.reserve(b"a", "gpt", 0.3) == "claimed" and ledger.holder(b"a") == str(holder.pid)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(30)
    assert isinstance(ledger.reserve(b"a", "gpt", 0.3), int)
    assert ledger.accounts() == {"gpt": Account(0.0, 0.3, 0)}


def test_who_waits_for_another_process_says_so_and_how_to_end_it(database, caplog, monkeypatch):
    monkeypatch.setattr("open_r1.external.store.stored_provider.WARN_S", 0.05)
    monkeypatch.setattr("open_r1.external.store.stored_provider.WAIT_S", 0.4)
    stored = StoredProvider(Shop(), Store(database), Ledger(database), PROMPT)
    other = Ledger(database)
    assert isinstance(other.reserve(stored.key_of(asking(ROW)).key, "gpt", 0.0), int)
    failure = asyncio.run(stored.ask(asking(ROW)))
    assert failure.reason == "timeout"
    assert any(f"process {os.getpid()} asks about row 'r0' already" in line for line in caplog.messages)
    other.close()


def test_blank_replies_count_as_none_and_are_named_with_what_helps(database):
    blank = Reply("", "length", completion_tokens=64, cost_usd=0.01)
    store = Store(database)
    store.add([(key("a"), 0, [blank, blank]), (key("b"), 0, [blank, Reply("<answer>4</answer>")])])
    text = describe(store, Ledger(database))
    assert "| gpt | clevr_math | reasoning | 2 | 1 |" in text
    assert "gpt: 3 further replies are blank and count as none: hidden reasoning used up max_tokens; raise it" in text
    tally = Tally(todo=[asking(ROW)] * 2)
    tally.count([blank, blank])
    tally.count([blank, Reply("4")])
    assert (tally.answered, tally.without_reply, tally.done) == (1, 1, 2)
    [line] = left_over([StoredProvider(Shop(), store, Ledger(database), PROMPT)], [tally])
    assert line.startswith("gpt: 3 replies are blank and count as none, 1 prompts have no other: hidden reasoning")

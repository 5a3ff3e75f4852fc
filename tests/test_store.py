"""The store: what is put in comes out, whoever opens the file, and what cannot be meant is refused in one line."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_r1.external.provider import Request
from open_r1.external.store import database as database_module
from open_r1.external.store.database import Database
from open_r1.external.store.replies import PromptVersion, ReplyKey, Store, reply_key
from open_r1.schema import Reply, Row, UserError

PROMPT = PromptVersion("clevr_math", "reasoning", " Think first.")
ROOT = Path(__file__).resolve().parents[1]

replies = st.builds(
    Reply,
    text=st.text(st.characters(codec="utf-8")),
    finish_reason=st.sampled_from(["stop", "length"]),
    prompt_tokens=st.none() | st.integers(0, 2**40),
    completion_tokens=st.none() | st.integers(0, 2**40),
    cost_usd=st.none() | st.floats(0, 1e3),
    latency_s=st.none() | st.floats(0, 1e3),
    logprobs=st.none() | st.lists(st.floats(-1e3, 0), max_size=5).map(tuple),
)


@pytest.fixture
def store(tmp_path):
    database = Database(tmp_path / "store.sqlite")
    yield Store(database)
    database.close()


def asked(key: str, model: str = "gpt", answer: str = "4") -> ReplyKey:
    return ReplyKey(key.encode(), PROMPT, model, "{}", "row-" + key, answer)


def request(image: Path | None = None, text: str = "How many?", row: str = "r0") -> Request:
    pictures = [{"type": "image", "image": image}] if image else []
    messages = [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}]
    return Request(Row(row, "clevr_math", (), text, "4"), messages)


@settings(deadline=None, max_examples=40)
@given(content=st.dictionaries(st.text(min_size=1, max_size=3), st.lists(replies, min_size=1, max_size=4), max_size=4))
def test_what_is_put_in_comes_out_in_the_order_of_samples(tmp_path_factory, content):
    store = Store(Database(tmp_path_factory.mktemp("law") / "store.sqlite"))
    for key, texts in content.items():
        for sample, reply in enumerate(texts):
            assert store.add([(asked(key), sample, [reply])]) == 1
    assert store.replies([key.encode() for key in content]) == {key.encode(): texts for key, texts in content.items()}
    assert store.replies([b"never asked"]) == {}
    store.database.close()


def test_every_part_of_a_reply_has_its_column(store):
    columns = {name for _, name, *_ in store.database.rows("pragma table_info(replies)")}
    assert columns == {"id", "request", "sample"} | {field.name for field in fields(Reply)}


def test_a_sample_that_is_there_stays_and_counts_as_nothing_new(store):
    assert store.add([(asked("a"), 0, [Reply("first"), Reply("second")])]) == 2
    assert store.add([(asked("a"), 1, [Reply("other"), Reply("third")])]) == 1
    assert [reply.text for reply in store.replies([b"a"])[b"a"]] == ["first", "second", "third"]


def test_half_a_surrogate_pair_becomes_a_question_mark_and_loses_no_paid_reply(store):
    store.add([(asked("a"), 0, [Reply("4 \ud83d apples\0")])])
    assert store.replies([b"a"])[b"a"] == [Reply("4 ? apples\0")]


def test_the_address_is_that_of_messages_picture_bytes_and_model(tmp_path):
    first, copy = tmp_path / "a.png", tmp_path / "b.png"
    first.write_bytes(b"pixels")
    copy.write_bytes(b"pixels")
    key = reply_key(request(first), PROMPT, "gpt", {"temperature": 1}).key
    assert reply_key(request(copy, row="other id"), PROMPT, "another name", {"temperature": 1}).key == key
    assert reply_key(request(first, text="How many cubes?"), PROMPT, "gpt", {"temperature": 1}).key != key
    assert reply_key(request(first), PROMPT, "gpt", {"temperature": 0}).key != key
    copy.write_bytes(b"other pixels")
    assert reply_key(request(copy), PROMPT, "gpt", {"temperature": 1}).key != key


def test_a_model_that_reads_the_row_has_an_address_per_row():
    reads = {"reads": ("id", "answer")}
    keys = {reply_key(request(row=row), PROMPT, "gpt", reads).key for row in ("r0", "r1", "r0")}
    assert len(keys) == 2


def test_another_process_reads_what_was_committed_while_this_one_keeps_the_file_open(store):
    store.add([(asked("a"), 0, [Reply("one"), Reply("two")])])
    script = (
        "import sys; from open_r1.external.store.database import Database;"
        "from open_r1.external.store.replies import Store;"
        "print(len(Store(Database(sys.argv[1])).replies([b'a'])[b'a']))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", script, str(store.database.path)]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "2"


def test_a_transaction_that_fails_leaves_nothing(store):
    with pytest.raises(ZeroDivisionError), store.database.write():
        store.add([(asked("a"), 0, [Reply("one")])])
        raise ZeroDivisionError
    assert store.replies([b"a"]) == {}


def test_the_same_task_with_another_instruction_is_refused_before_anything_is_asked(store):
    store.declare(PROMPT)
    store.add([(asked("a"), 0, [Reply("one")])])
    store.declare(PROMPT)
    store.declare(PROMPT._replace(task="trance", instruction="Which changes?"))
    store.declare(PROMPT._replace(kind="direct", instruction="A number."))
    with pytest.raises(UserError, match=r"holds replies of clevr_math to another reasoning prompt .*name another"):
        store.declare(PROMPT._replace(instruction=" Think twice."))


def test_a_read_only_store_is_read_and_never_written(tmp_path):
    path = tmp_path / "shared" / "store.sqlite"
    writer = Store(Database(path))
    writer.add([(asked("a"), 0, [Reply("one")])])
    unfinished = Store(Database(path, read_only=True))  # the writer's log is still there
    assert unfinished.replies([b"a"])[b"a"] == [Reply("one")]
    unfinished.database.close()
    writer.database.close()
    assert [file.name for file in path.parent.iterdir()] == ["store.sqlite"]
    reader = Store(Database(path, read_only=True))
    assert reader.replies([b"a"])[b"a"] == [Reply("one")]
    with pytest.raises(UserError, match="may not be written"):
        reader.add([(asked("b"), 0, [Reply("two")])])
    reader.database.close()
    assert [file.name for file in path.parent.iterdir()] == ["store.sqlite"]  # no lock, no log beside it


def test_a_file_that_is_no_store_is_refused_and_stays_as_it_is(tmp_path):
    path = tmp_path / "other"
    path.write_text("precious notes, long enough to be taken for the header of a database file " * 20)
    before = path.read_bytes()
    with pytest.raises(UserError, match="is no SQLite file; name another"):
        Database(path)
    assert path.read_bytes() == before
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("create table photos (name text)")
    with pytest.raises(UserError, match="an SQLite file of another program"):
        Database(foreign)
    with pytest.raises(UserError, match="does not exist, and it is to be read only; `make collect`"):
        Database(tmp_path / "nothing", read_only=True)
    with pytest.raises(UserError, match="name a file in a folder you may write to"):
        Database(path / "below a file" / "store.sqlite")


def test_another_schema_version_is_refused_in_one_line_and_kept(store):
    path = store.database.path
    store.add([(asked("a"), 0, [Reply("one")])])
    store.database.close()
    with sqlite3.connect(path) as connection:
        connection.execute("pragma user_version = 2")
    for read_only in (False, True):
        with pytest.raises(UserError, match=r"has schema version 2, this code reads 1; nothing was changed") as caught:
            Database(path, read_only)
        assert "\n" not in str(caught.value)


def test_a_full_disk_keeps_what_was_committed_and_says_so_in_one_line(store):
    store.add([(asked("a"), 0, [Reply("one")])])
    ((pages,),) = store.database.rows("pragma page_count")
    store.database.rows(f"pragma max_page_count = {pages + 2}")  # SQLite's own way to run out of room
    with pytest.raises(UserError, match="the disk is full; what was committed is kept; make room"):
        store.add([(asked("b"), 0, [Reply("x" * 100_000)])])
    assert list(store.replies([b"a", b"b"])) == [b"a"]


def test_with_too_little_room_nothing_is_bought(store, monkeypatch):
    store.database.check_room()
    monkeypatch.setattr(database_module, "MIN_FREE_BYTES", 2**60)
    with pytest.raises(UserError, match=r"MiB are free on its disk.*nothing is lost; make room"):
        store.database.check_room()


def test_a_step_s_256_questions_are_found_without_reading_the_whole_file(store):
    """Counted in SQLite's own steps, of which reading 10,000 rows takes some 40,000; seconds: benchmark_store.py."""
    store.add([(asked(f"{i}"), 0, [Reply("x" * 1000)]) for i in range(10_000)])
    keys = [str(i * 37).encode() for i in range(256)]
    counted = []
    store.database._connection.set_progress_handler(lambda: counted.append(100) and None, 100)
    assert len(store.replies(keys)) == 256
    assert sum(counted) < 20_000


def test_a_reply_keeps_its_log_probs_to_the_last_bit(store):
    reply = Reply("a", logprobs=(-0.1, -1 / 3, -1e-300))
    store.add([(asked("a"), 0, [reply, replace(reply, logprobs=None), replace(reply, logprobs=())])])
    assert [r.logprobs for r in store.replies([b"a"])[b"a"]] == [reply.logprobs, None, ()]

import json
import multiprocessing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_r1.schema import UserError
from open_r1.utils.files import (
    append_jsonl,
    cut_after_step,
    read_jsonl,
    replace_text,
    replacing,
    write_json,
    write_jsonl,
)

LINE_ENDS = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\r\nh"  # str.splitlines breaks at each of them


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3), max_size=4))
def test_what_is_written_as_json_lines_is_read_back_whatever_the_texts_hold(tmp_path_factory, items):
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    write_jsonl(path, items)
    assert read_jsonl(path) == items
    append_jsonl(path, items)
    assert read_jsonl(path, cut="drop") == items + items


@pytest.mark.parametrize("text", [LINE_ENDS, "half a pair \ud83d", "\x00"])
def test_a_text_with_every_kind_of_line_end_or_half_a_surrogate_is_one_line(tmp_path, text):
    append_jsonl(tmp_path / "x.jsonl", [{"reply": text}, {"reply": "next"}])
    assert read_jsonl(tmp_path / "x.jsonl") == [{"reply": text}, {"reply": "next"}]


def test_a_last_line_that_a_kill_cut_is_dropped_where_asked_and_else_named(tmp_path):
    path = tmp_path / "x.jsonl"
    whole = '{"step": 1}\n{"step": 2, "reply": "ü'.encode()
    path.write_bytes(whole[:-1])  # inside a letter of two bytes
    assert read_jsonl(path, cut="drop") == [{"step": 1}]
    with pytest.raises(UserError, match=r"x\.jsonl:2 is no JSON object .* delete that line"):
        read_jsonl(path)


def test_a_line_that_is_no_object_is_named_by_file_and_number(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n\n[1]\n')
    with pytest.raises(UserError, match=r"x\.jsonl:3 is no JSON object but a list: each line must be one"):
        read_jsonl(tmp_path / "x.jsonl")


def test_lines_after_the_step_that_training_goes_on_from_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    assert cut_after_step(path, 2) == [{"step": 1}, {"step": 2}]
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_an_error_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_two_processes_that_write_one_file_at_a_time_leave_one_of_both_texts(tmp_path):
    texts = ["a" * 100_000, "b" * 100_000]
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_often, args=(tmp_path / "x", text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert all(writer.exitcode == 0 for writer in writers)
    assert (tmp_path / "x").read_text() in texts
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def _write_often(path, text):
    for _ in range(20):
        replace_text(path, text)

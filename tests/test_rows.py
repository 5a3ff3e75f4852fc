"""The loader on every variant of the data and on every kind of bad row."""

import dataclasses
import json
import logging
import os
import re
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from open_r1.data import rows as rows_module
from open_r1.data.rows import load_rows, read_rows
from open_r1.schema import Row, Score, UserError
from open_r1.tasks import TASKS, get_task

COUNTING = get_task("clevr_math")
TRANCE = get_task("trance")
REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "real_samples"
GOOD = {"id": "r0", "image": "a.png", "problem": "How many cubes are there?", "answer": "4"}


def draw(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (28, 28), (173, 35, 35)).save(folder / name)


@pytest.fixture
def one_file(tmp_path: Path):
    """Writes a JSON beside a picture a.png and reads it as a training set of the counting task."""
    draw(tmp_path, "a.png", "b.png")

    def read(*items: Any, task=COUNTING, **options: Any):
        (tmp_path / "rows.json").write_text(json.dumps(list(items)), encoding="utf-8")
        return load_rows(task, tmp_path / "rows.json", "train", **options)

    return read


def layout(folder: Path, file: str, items: list[dict[str, Any]]) -> Path:
    kind = file.split("_")[0]
    (folder / f"{kind}_jsons").mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(items), encoding="utf-8")
    (folder / "images" / f"{kind}_images").mkdir(parents=True, exist_ok=True)
    return folder / "images" / f"{kind}_images"


# --- what is accepted ---


def test_a_folder_in_the_layout_gives_its_train_and_test_sets(tmp_path):
    draw(layout(tmp_path, "train_jsons/A3-Visual-Counting-train-35k-cot.json", [{**GOOD, "cot": "2 + 2"}]), "a.png")
    draw(layout(tmp_path, "test_jsons/Visual-Counting-ood-test-1k.json", [{**GOOD, "kind": "add"}]), "a.png")
    train = load_rows(COUNTING, tmp_path, "train").rows
    assert train == [
        Row("r0", "clevr_math", (tmp_path / "images/train_images/a.png",), GOOD["problem"], "4", cot="2 + 2")
    ]
    (test,) = load_rows(COUNTING, str(tmp_path), "ood").rows
    assert (test.images[0].parent.name, test.cot, test.kind) == ("test_images", None, "add")


def test_a_trance_row_has_the_initial_and_the_final_picture_in_that_order(tmp_path):
    names = ["img_418840-init.C.png", "img_418840-fin.L.png"]
    row = {"id": "train-418840", "image": names, "problem": "p", "answer": "change_size(2, small)"}
    draw(layout(tmp_path, "test_jsons/Spatial-Transformation-ood-left-test-1k.json", [row]), *names)
    (loaded,) = load_rows(TRANCE, tmp_path, "ood_left").rows
    assert loaded.id == "train-418840"
    assert [image.name for image in loaded.images] == names


@pytest.mark.parametrize(
    "image",
    [
        {"image": "a.png"},
        {"image": ["a.png"]},
        {"image": {"path": "a.png"}},
        {"image": [{"path": "a.png", "bytes": None}]},
        {"images": "a.png"},
        {"images": ["a.png"]},
        {"images": [{"path": "a.png"}]},
        {"image": None, "images": ["./a.png"]},
    ],
)
def test_every_spelling_of_an_image_is_the_same_picture(one_file, tmp_path, image):
    (row,) = one_file({"id": "r0", "problem": "p", "answer": "4", **image}).rows
    assert row.images[0] == tmp_path / "a.png"


@pytest.mark.parametrize(
    ("given_answer", "text"),
    [("4", "4"), (4, "4"), (4.5, "4.5"), (0, "0"), (" 14 π ", " 14 π "), ("<answer> 4 </answer>", "4")],
)
@pytest.mark.parametrize("key", ["answer", "solution"])
def test_an_answer_or_solution_is_kept_as_its_bare_text(one_file, key, given_answer, text):
    (row,) = one_file({"id": "r0", "image": "a.png", "problem": "p", key: given_answer}).rows
    assert row.answer == text


def test_a_number_keeps_the_digits_it_was_written_with(tmp_path):
    draw(tmp_path, "a.png")
    (tmp_path / "rows.json").write_text('[{"id": 7, "image": "a.png", "problem": "p", "answer": 4.50, "cot": NaN}]')
    (row,) = load_rows(COUNTING, tmp_path / "rows.json", "train").rows
    assert (row.id, row.answer, row.cot) == ("7", "4.50", None)


@pytest.mark.parametrize(
    ("cot", "bare"),
    [("2 + 2", "2 + 2"), ("<think>2 + 2</think>", "2 + 2"), (" <think>\n2 + 2\n</think>\n", "2 + 2"), ("", None)],
)
def test_reasoning_is_bare_however_it_was_wrapped(one_file, cot, bare):
    assert one_file({**GOOD, "cot": cot}).rows[0].cot == bare


def test_problems_are_not_cleaned(one_file):
    problem = " Subtract 0 yellow balls. How many are left if there are1brown balls?\n"
    assert one_file({**GOOD, "problem": problem}).rows[0].problem == problem


def test_a_row_without_id_is_called_after_its_file_and_place(one_file):
    nameless = {key: value for key, value in GOOD.items() if key != "id"}
    assert [row.id for row in one_file(GOOD, nameless).rows] == ["r0", "rows-1"]


@pytest.mark.parametrize("place", ["", "images/"])
def test_a_single_file_finds_its_pictures_beside_it_or_in_images(tmp_path, place):
    draw(tmp_path / place, "a.png")
    (tmp_path / "rows.json").write_text(json.dumps([GOOD]))
    (tmp_path / "images").mkdir(exist_ok=True)
    assert load_rows(COUNTING, tmp_path / "rows.json", "id").rows[0].images == (tmp_path / place / "a.png",)


def test_a_single_file_inside_a_layout_finds_the_layouts_pictures(tmp_path):
    draw(layout(tmp_path, "train_jsons/x.json", []), "a.png")
    (tmp_path / "train_jsons" / "base").mkdir()
    (tmp_path / "train_jsons" / "base" / "x.json").write_text(json.dumps([GOOD]))
    (row,) = load_rows(COUNTING, tmp_path / "train_jsons/base/x.json", "train").rows
    assert row.images == (tmp_path / "images/train_images/a.png",)


def test_an_image_folder_may_be_given_and_names_may_have_folders(tmp_path):
    draw(tmp_path / "pictures", "sub/a.png")
    (tmp_path / "rows.json").write_text(json.dumps([{**GOOD, "image": "sub/a.png"}]))
    (row,) = load_rows(COUNTING, tmp_path / "rows.json", "train", image_folder=tmp_path / "pictures").rows
    assert row.images == (tmp_path / "pictures/sub/a.png",)


def test_a_hub_id_is_fetched_and_an_existing_folder_is_not(tmp_path, monkeypatch):
    draw(layout(tmp_path, "train_jsons/A3-Visual-Counting-train-1.json", [GOOD]), "a.png")
    asked = []
    monkeypatch.setattr(rows_module, "fetch", lambda repo: asked.append(repo) or tmp_path)
    assert len(load_rows(COUNTING, "someone/some-set", "train").rows) == 1
    monkeypatch.chdir(tmp_path.parent)
    assert len(load_rows(COUNTING, tmp_path.name, "train").rows) == 1
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^data/missing does not exist; .*make data"):
        load_rows(COUNTING, "data/missing", "train")
    assert asked == ["someone/some-set"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real sample rows are not in ../shared/data/real_samples")
@pytest.mark.parametrize(
    ("file", "task", "count"),
    [
        ("visual_counting.json", "clevr_math", 36),
        ("visual_counting_multihop.json", "clevr_math", 8),
        ("super_clevr.json", "clevr_math", 15),
        ("spatial_transformation.json", "trance", 3),
        ("structure_perception.json", "geomath", 32),
    ],
)
def test_real_rows_load_with_all_their_pictures(file, task, count):
    rows = load_rows(TASKS[task], REAL / file, "id", verify_images="decode").rows
    assert len(rows) == count
    assert all(image.parent == REAL / "images" for row in rows for image in row.images)


text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(
    lambda value: value.strip() and "<|" not in value and COUNTING.gradable(value) is None
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(text, text, st.none() | text, st.none() | text), min_size=1, max_size=5))
def test_what_is_written_in_the_layout_is_what_is_read(contents):
    with tempfile.TemporaryDirectory() as name:
        images = [Path(name) / f"images/train_images/{i}.png" for i in range(len(contents))]
        expected = [
            Row(f"train-{i}", "clevr_math", (images[i],), problem, answer, cot=cot, kind=kind)
            for i, (problem, answer, cot, kind) in enumerate(contents)
        ]
        items = [{**asdict(row), "image": row.images[0].name, "images": None} for row in expected]
        folder = layout(Path(name), "train_jsons/A3-Visual-Counting-train-x.json", items)
        draw(folder, *(image.name for image in images))
        assert load_rows(COUNTING, name, "train").rows == expected


# --- what is refused, and how ---


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answer": None}, r"no answer; every row has one"),
        ({"answer": "  "}, r"no answer; every row has one"),
        ({"answer": "<answer> </answer>"}, r"no answer; every row has one"),
        ({"answer": [["4"]]}, r"'answer' is a JSON list; it must be a text or a number"),
        ({"answer": []}, r"no answer; every row has one"),
        ({"answer": True}, r"'answer' is a JSON boolean"),
        ({"problem": None}, r"no problem; every row has one"),
        ({"problem": "What <|image_pad|> is it?"}, r"'problem' contains the chat special token <\|image_pad\|>"),
        ({"problem": "Ignore it.<|im_end|>"}, r"'problem' contains the chat special token <\|im_end\|>"),
        ({"cot": "so <|im_end|>"}, r"'cot' contains the chat special token"),
        ({"cot": "<think>so"}, r"'cot' opens a think tag and never closes it"),
        ({"cot": "so <answer>4</answer>"}, r"the reasoning holds the tag <answer>.*; remove the tag"),
        ({"cot": "<think>so <Think> 4</think>"}, r"the reasoning holds the tag <Think>"),
        ({"answer": "**"}, r"'answer' '\*\*': .*correct the row"),
        ({"answer": "$$"}, r"'answer' '\$\$': .*correct the row"),
        ({"answer": "4</answer>"}, r"the answer holds the tag </answer>.*; remove the tag"),
        ({"problem": "half \ud800"}, r"'problem' contains half a surrogate pair"),
        ({"image": "half \udc80.png"}, r"'image' contains half a surrogate pair"),
        ({"kind": "half \ud800"}, r"'kind' contains half a surrogate pair"),
        ({"image": None}, r"has 0 image name\(s\); a row of clevr_math has 1"),
        ({"image": ["a.png", "b.png"]}, r"has 2 image name\(s\); a row of clevr_math has 1"),
        ({"image": "c.png"}, r"image 'c\.png' is not in .*; add the picture or fix the name"),
        ({"image": "nul\0.png"}, r"image 'nul\\x00\.png' is not in"),
        ({"image": "."}, r"image '\.' in .* is no file"),
        ({"image": "../a.png"}, r"image '\.\./a\.png' leaves the image folder"),
        ({"image": "/etc/hostname"}, r"image '/etc/hostname' leaves the image folder"),
    ],
)
def test_a_bad_row_is_named_with_file_place_rule_and_remedy(one_file, changes, reason):
    with pytest.raises(UserError, match=rf"rows\.json: 1 of 2 rows .* row 1 \(id 'bad'\): .*{reason}.*; ") as caught:
        one_file(GOOD, {**GOOD, "id": "bad", **changes})
    assert "\n" not in str(caught.value)


def test_a_spatial_row_without_a_readable_function_is_bad(one_file):
    images = {"image": ["a.png", "b.png"]}
    good = {**GOOD, **images, "answer": "change_size(2, small)"}
    for answer, reason in (("no change", "names no function"), ("change_size(2)", "change_size|function")):
        loaded = one_file(good, {**good, "id": "x", "answer": answer}, task=TRANCE, skip_bad_rows=True)
        assert [row.id for row in loaded.rows] == ["r0"]
        assert re.search(reason, loaded.bad[0].reason)


def test_an_answer_that_earns_less_than_1_against_itself_is_bad(one_file):
    half = dataclasses.replace(COUNTING, grade=lambda reply, answer, setting: Score(0.5, 1.0))
    with pytest.raises(UserError, match=r"'answer' '4': does not earn 1 when a reply repeats it"):
        one_file(GOOD, task=half)


def test_an_id_with_half_a_surrogate_is_bad_and_is_shown_as_a_terminal_can(one_file):
    bad = one_file(GOOD, {**GOOD, "id": "a\ud800"}, {**GOOD, "id": "\x1b[2J", "answer": ""}, skip_bad_rows=True).bad
    assert str(bad[0]).startswith(r"rows.json, row 1 (id 'a\ud800'): 'id' contains half a surrogate pair")
    assert str(bad[1]).startswith(r"rows.json, row 2 (id '\x1b[2J'): no answer")


def test_a_row_that_is_no_mapping_is_bad(one_file):
    with pytest.raises(UserError, match=r"row 1 \(id 'rows-1'\): is a JSON text; every row is a mapping"):
        one_file(GOOD, "4")


def test_a_symbolic_link_may_not_lead_out_of_the_image_folder(tmp_path):
    draw(tmp_path, "secret.png", "images/a.png")
    (tmp_path / "images" / "inside.png").symlink_to("a.png")
    (tmp_path / "images" / "outside.png").symlink_to("../secret.png")
    (tmp_path / "images" / "up").symlink_to("..")
    names = ["inside.png", "outside.png", "up/secret.png"]
    rows = [{**GOOD, "id": name, "image": name} for name in names]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    read = read_rows(COUNTING, tmp_path / "rows.json", "train", image_folder=tmp_path / "images")
    assert [row.id for row in read.rows] == ["inside.png"]
    assert [bad.id for bad in read.bad] == ["outside.png", "up/secret.png"]
    assert all("leaves the image folder" in bad.reason for bad in read.bad)


def test_a_truncated_picture_is_found_by_decoding_only(one_file, tmp_path):
    Image.effect_noise((200, 200), 90).save(tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    items = GOOD, {**GOOD, "id": "cut", "image": "b.png"}
    assert len(one_file(*items, verify_images="exists").rows) == 2
    with pytest.raises(
        UserError, match=r"row 1 \(id 'cut'\): image 'b\.png' cannot be decoded \(.*truncated.*\); copy"
    ):
        one_file(*items)


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_a_file_that_is_no_picture_is_bad(one_file, tmp_path, content):
    (tmp_path / "b.png").write_bytes(content)
    assert (
        "image 'b.png' cannot be decoded"
        in one_file(GOOD, {**GOOD, "id": "x", "image": "b.png"}, skip_bad_rows=True).bad[0].reason
    )


def test_a_picture_too_long_for_the_model_is_bad(one_file, tmp_path):
    Image.new("RGB", (402, 2)).save(tmp_path / "b.png")
    bad = one_file(GOOD, {**GOOD, "id": "x", "image": "b.png"}, skip_bad_rows=True).bad
    assert "'b.png' is 402 x 2; Qwen2-VL takes sides of at most 200 : 1" in bad[0].reason


def test_many_pictures_are_not_decoded_unless_asked(one_file, tmp_path, monkeypatch):
    (tmp_path / "b.png").write_bytes(b"")
    monkeypatch.setattr(rows_module, "DECODE_UP_TO", 1)
    items = GOOD, {**GOOD, "id": "x", "image": "b.png"}
    assert len(one_file(*items).rows) == 2
    assert len(one_file(*items, verify_images="decode", skip_bad_rows=True).rows) == 1


def test_an_id_is_used_once_over_all_files_of_a_set(tmp_path):
    draw(layout(tmp_path, "train_jsons/A3-Visual-Counting-train-1.json", [GOOD]), "a.png")
    layout(tmp_path, "train_jsons/A3-Visual-Counting-train-2.json", [GOOD])
    with pytest.raises(
        UserError, match=r"train-2\.json, row 0 \(id 'r0'\): id is also that of row 0 in A3.*train-1\.json"
    ):
        load_rows(COUNTING, tmp_path, "train")


def test_the_first_three_of_many_bad_rows_are_listed(one_file):
    bad = [{**GOOD, "id": f"bad{i}", "answer": ""} for i in range(5)]
    with pytest.raises(
        UserError, match=r"5 of 6 rows of set 'train' are bad: .*bad0.*bad1.*bad2.*; and 2 more; fix"
    ) as e:
        one_file(GOOD, *bad)
    assert "bad3" not in str(e.value)


def test_bad_rows_are_skipped_with_one_line_when_asked(one_file, caplog):
    with caplog.at_level(logging.WARNING):
        loaded = one_file(GOOD, {**GOOD, "id": "bad", "answer": ""}, skip_bad_rows=True)
    assert [row.id for row in loaded.rows] == ["r0"]
    assert [(bad.index, bad.id) for bad in loaded.bad] == [(1, "bad")]
    assert len(caplog.records) == 1
    assert "skipped bad rows: 1 of 2 rows" in caplog.text


def test_a_set_without_a_good_row_stops_even_when_skipping(one_file):
    with pytest.raises(UserError, match=r"1 of 1 rows of set 'train' are bad"):
        one_file({**GOOD, "answer": ""}, skip_bad_rows=True)
    with pytest.raises(UserError, match=r"set 'train' of clevr_math holds no rows"):
        one_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"train": []}', r"rows\.json holds a JSON mapping, not a list; a data file is one JSON list"),
        (
            b'{"id": 1}\n{"id": 2}\n',
            r"rows\.json cannot be read as JSON \(Extra data.*\); a data file is one JSON list",
        ),
        (b"", r"rows\.json cannot be read as JSON"),
        (b'["\xff"]', r"rows\.json cannot be read as JSON"),
        (b"[" * 100_000, r"rows\.json cannot be read as JSON"),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path, content, message):
    (tmp_path / "rows.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_rows(COUNTING, tmp_path / "rows.json", "train")


def test_missing_files_and_unknown_sets_are_named(tmp_path):
    with pytest.raises(
        UserError, match=r"unknown set 'odo' in task clevr_math; valid: id, ood, train; did you mean 'ood'"
    ):
        load_rows(COUNTING, tmp_path, "odo")
    with pytest.raises(UserError, match=r"has no file test_jsons/\*Visual-Counting-id-test\*\.json"):
        load_rows(COUNTING, tmp_path, "id")
    layout(tmp_path, "train_jsons/A3-Visual-Counting-train-1.json", [GOOD])
    os.rmdir(tmp_path / "images" / "train_images")
    with pytest.raises(UserError, match=r"has no folder images/train_images.*--unpack_only --output"):
        load_rows(COUNTING, tmp_path, "train")
    with pytest.raises(UserError, match=r"image folder nowhere does not exist"):
        load_rows(COUNTING, tmp_path, "train", image_folder="nowhere")

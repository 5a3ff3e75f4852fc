"""Data of one's own: files of every kind, columns of every name, pictures anywhere, choices, several answers."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from open_r1.cli.check_data import main as check_data
from open_r1.data import image_files
from open_r1.data.choices import add_choices
from open_r1.data.columns import Columns
from open_r1.data.prompts import messages, prompt_text, to_dataset
from open_r1.data.rows import load_rows, read_rows
from open_r1.schema import Row, UserError
from open_r1.tasks import get_task

ONE = get_task("geomath")
ANY = dataclasses.replace(ONE, images_per_row=None)


def draw(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        Image.new("RGB", (28, 28), (40 * number, 35, 35)).save(folder / name)


@pytest.fixture
def load(tmp_path: Path):
    """Writes rows beside a.png, b.png and c.png, and loads them; `bad` loads what is wrong with the only row."""
    draw(tmp_path, "a.png", "b.png", "c.png")

    def load(*items: dict[str, Any], task=ANY, **columns: str) -> list[Row]:
        (tmp_path / "rows.json").write_text(json.dumps(items))
        return load_rows(task, tmp_path / "rows.json", "train", columns=Columns(**columns)).rows

    return load


def fault(load, item: dict[str, Any], **columns: str) -> str:
    with pytest.raises(UserError, match="1 of 1 rows of set 'train' are bad") as caught:
        load(item, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def seen(row: Row, task=ANY) -> list[str]:
    """The user's turn as a list of texts and names of pictures."""
    (turn,) = messages(row, task, "direct")
    return [part["image"].name if part["type"] == "image" else part["text"] for part in turn["content"]]


# --- kinds of files ---

ROWS = [
    {"id": f"r{i}", "image": "a.png", "problem": f"question {i}\u2028", "answer": answer}
    for i, answer in enumerate(["4", "B", "65°"])
]


def write_rows(path: Path, kind: str) -> Path:
    file = path / f"rows.{kind}"
    if kind == "json":
        file.write_text(json.dumps(ROWS))
    elif kind == "parquet":
        datasets.Dataset.from_list(ROWS).to_parquet(file)
    else:
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    return file


@pytest.mark.parametrize("kind", ["json", "jsonl", "ndjson", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind, capsys):
    draw(tmp_path, "a.png")
    file = write_rows(tmp_path, kind)
    rows = load_rows(ONE, file, "train").rows
    assert [(row.id, row.problem, row.answer) for row in rows] == [(r["id"], r["problem"], r["answer"]) for r in ROWS]
    assert {row.images for row in rows} == {(tmp_path / "a.png",)}
    assert load_rows(ONE, tmp_path, "train").rows == rows  # the folder around it
    assert check_data(["--data_path", str(file), "--task", "geomath"]) == 0
    assert ["geomath", "train", "3", "0", "1", "0%"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_numbers_in_json_lines_keep_their_digits_and_numbers_in_parquet_become_text(tmp_path):
    draw(tmp_path, "a.png")
    (tmp_path / "x.jsonl").write_text('{"id": 7, "image": "a.png", "problem": "p", "answer": 4.50, "cot": NaN}\n')
    (row,) = load_rows(ONE, tmp_path / "x.jsonl", "train").rows
    assert (row.id, row.answer, row.cot) == ("7", "4.50", None)
    columns = {"id": [7], "image": ["a.png"], "problem": ["p"], "answer": [4.5], "cot": [float("nan")]}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "x.parquet")
    (row,) = load_rows(ONE, tmp_path / "x.parquet", "train").rows
    assert (row.id, row.answer, row.cot) == ("7", "4.5", None)


def test_pictures_in_columns_of_a_hub_set_are_kept_by_their_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "KEPT", tmp_path / "kept")
    dark, red = Image.new("RGB", (28, 28), (0, 35, 35)), Image.new("RGB", (28, 28), (40, 35, 35))
    pictures = [[dark], [red, dark], []]
    features = datasets.Features({"images": datasets.List(datasets.Image()), "question": datasets.Value("string"),
                                  "label": datasets.Value("int64")})  # fmt: skip
    made = datasets.Dataset.from_dict({"images": pictures, "question": ["p", "q", "r"], "label": [1, 2, 3]}, features)
    (tmp_path / "data").mkdir()
    made.to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    rows = load_rows(ANY, tmp_path, "train").rows
    assert [len(row.images) for row in rows] == [1, 2, 0]
    assert (
        rows[0].images[0] == rows[1].images[1] and len(list((tmp_path / "kept").rglob("*"))) == 4
    )  # two in two folders
    assert [row.answer for row in rows] == ["1", "2", "3"]
    assert rows[0].id == "train-00000-of-00001-0"
    shown = to_dataset(rows, ANY)[1]["images"]
    assert [image.getpixel((0, 0)) for image in shown] == [(40, 35, 35), (0, 35, 35)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"id": 1}\n{"id": 2', r"x\.jsonl:2 is no JSON object"),
        ("x.jsonl", b"[]\n", r"x\.jsonl:1 is no JSON object but a list"),
        ("x.parquet", b"PAR1 no more", r"x\.parquet cannot be read as Parquet"),
        ("x.parquet", b"", r"x\.parquet cannot be read as Parquet"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_rows(ONE, tmp_path / name, "train")
    assert "\n" not in str(caught.value)


# --- names of columns ---


@pytest.mark.parametrize(
    "item",
    [
        {"problem": "How many?", "answer": "4", "image": "a.png"},
        {"question": "How many?", "solution": "4", "images": ["a.png"]},
        {"query": "How many?", "label": ["4"], "imgname": "a.png"},
        {"prompt": "How many?", "ground_truth": 4, "image_path": "a.png"},
        {"question": "How many?", "answers": ["4", "4"], "file_name": "a.png"},
        {"messages": [{"role": "user", "content": "<image>\nHow many?"}, {"role": "assistant", "content": "4"}],
         "images": ["a.png"]},
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"},
                                                   {"type": "text", "text": "How many?"}]}], "answer": "4"},
        {"conversations": [{"from": "human", "value": "<image>How many?"}, {"from": "gpt", "value": "4"}],
         "image": "a.png"},
        {"prompt": [{"role": "user", "content": "How many?"}], "answer": "4", "image": {"path": "a.png"}},
    ],
)  # fmt: skip
def test_the_usual_names_of_columns_are_recognised(load, item):
    (row,) = load(item, task=ONE)
    assert (row.problem, row.answer, [path.name for path in row.images]) == ("How many?", "4", ["a.png"])


def test_columns_of_other_names_are_named_by_settings(load):
    item = {
        "q": "Which?",
        "reward_model": {"ground_truth": "slide"},
        "pics": "a.png",
        "opts": ["swing", "slide"],
        "no": 5,
    }
    item |= {"problem": "not this", "answer": "nor this", "image": "b.png", "id": "nor this"}
    keys = {"problem": "q", "answer": "reward_model.ground_truth", "images": "pics", "choices": "opts", "id": "no"}
    (row,) = load(item, **keys)
    assert row == Row("5", "geomath", row.images, "Which?\nA. swing\nB. slide", "B") and row.images[0].name == "a.png"
    message = fault(load, item, problem="qq")
    assert (
        "has no column 'qq', which problem_key names; its columns are answer, id, image, no, opts, pics, problem, q"
        in (message)
    )


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            {"messages": [{"role": "user", "content": "a"}] * 2, "answer": "4"},
            "'messages' has 2 turns of the user and 0",
        ),
        ({"messages": [{"role": "system", "content": "Be brief."}], "answer": "4"}, "has a turn of 'system'"),
        ({"messages": ["hello"], "answer": "4"}, "'messages' holds a JSON text"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}], "answer": "4"}, "has a part of type 'video'"),
        (
            {"problem": "p", "answer": "4", "video": "a.mp4"},
            "has a video.*give some of its frames as a list of pictures",
        ),
        ({"problem": "<video>What happens?", "answer": "4"}, "names a video"),
    ],
)
def test_conversations_of_several_turns_and_videos_are_bad_rows_with_the_reason(load, item, message):
    assert re.search(message, fault(load, item))


# --- pictures ---


@pytest.mark.parametrize("mark", ["<image>", "<IMAGE>", "[IMG]", "[IMAGE]", "<IMG_CONTEXT>", "<image_soft_token>",
                                  "<start_of_image>", "<image 1>", "<image1>", "<image_1>"])  # fmt: skip
def test_a_picture_stands_where_its_mark_stands_and_no_mark_reaches_the_prompt(load, mark):
    (row,) = load({"problem": f"Look at {mark} and count.", "answer": "4", "image": "a.png"}, task=ONE)
    first, picture, rest = seen(row, ONE)
    assert (first, picture) == ("Look at ", "a.png") and rest.startswith(" and count. Answer with")
    (front,) = load({"problem": f"{mark}\nHow many?", "answer": "4", "image": "a.png"}, task=ONE)
    plain = load({"problem": "How many?", "answer": "4", "image": "a.png"}, task=ONE)
    assert [front] == plain and "<image>" not in prompt_text(front, ONE)


def test_rows_have_none_to_many_pictures_placed_or_in_front(load):
    rows = load(
        {"problem": "No picture", "answer": "1"},
        {"problem": "In front", "answer": "1", "images": ["c.png", "a.png"]},
        {"problem": "First <image>, then <image>, last <image>", "answer": "1", "images": ["a.png", "b.png", "c.png"]},
        {"problem": "Is <image 2> like <image 1>?", "answer": "1", "images": ["a.png", "b.png"]},
    )
    tail = ANY.instruction_for("direct")
    assert seen(rows[0]) == [f"No picture{tail}"]
    assert seen(rows[1]) == ["c.png", "a.png", f"In front{tail}"]
    assert seen(rows[2]) == ["First ", "a.png", ", then ", "b.png", ", last ", "c.png", tail]
    assert seen(rows[3]) == ["Is ", "b.png", " like ", "a.png", f"?{tail}"]
    prompts = to_dataset(rows, ANY, "direct")["prompt"]
    kinds = [[part["type"] for part in turn["content"]] for (turn,) in prompts]
    assert kinds == [[("image" if text.endswith(".png") else "text") for text in seen(row)] for row in rows]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"problem": "<image> and <image>", "image": "a.png"}, "marks 2 picture(s) (<image>) and the row has 1"),
        ({"problem": "What is [IMG]?"}, "marks 1 picture(s) ([IMG]) and the row has 0"),
        ({"problem": "<image 1><image 3>", "image": ["a.png", "b.png"]}, "marks pictures 1, 3 of 2"),
        ({"problem": "p", "cot": "as <image> shows"}, "the cot holds the picture mark <image>"),
        ({"problem": "p", "answer": "[IMG]"}, "the answer holds the picture mark [IMG]"),
        ({"problem": "p<end_of_turn>"}, "contains the chat special token <end_of_turn>"),
        ({"problem": "p<|vision_start|>"}, "contains the chat special token <|vision_start|>"),
    ],
)
def test_marks_that_fit_no_picture_make_a_row_bad(load, item, message):
    assert message in fault(load, {"answer": "4"} | item)


# --- choices and answers ---


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B.", "slide", "Slide"])
def test_a_choice_is_right_by_its_letter_or_its_text(load, answer):
    (row,) = load({"problem": "Which?", "choices": ["swing", "slide"], "answer": answer})
    assert (row.problem, row.answer) == ("Which?\nA. swing\nB. slide", "B")


def test_choices_that_the_problem_lists_are_not_repeated():
    listed = "Which?\n(A) swing (B) slide"
    assert add_choices(listed, ["B"], "choices", ["swing", "slide"]) == (listed, ["B"])
    assert add_choices("Which?", ["B"], "choices", ["A. swing", "B. slide"])[0] == "Which?\nA. swing\nB. slide"
    assert add_choices("Which?", ["2"], "choices", {"A": "3", "B": "2"}) == ("Which?\nA. 3\nB. 2", ["B"])


@pytest.mark.parametrize(
    ("choices", "answer", "message"),
    [
        (["swing", "slide"], "C", "means none of the choices; an answer is a letter from A to B"),
        (["swing", "slide"], "0", "means none of the choices"),
        (["B", "A"], "A", "means two choices"),
        (["swing"], "A", "holds 1 choices of which 1 differ"),
        (["swing", "swing"], "A", "holds 2 choices of which 1 differ"),
        ("swing, slide", "A", "'choices' is a JSON text; choices are a list of texts"),
        ({"1": "swing", "2": "slide"}, "1", "its keys are A, B"),
    ],
)
def test_choices_that_cannot_be_read_make_a_row_bad(load, choices, answer, message):
    assert message in fault(load, {"problem": "Which?", "choices": choices, "answer": answer})


def test_of_several_answers_any_counts_and_the_first_is_taught(load):
    (row,) = load({"problem": "Which colour?", "answers": ["grey", "gray", "grey"], "cot": "It is dull."})
    for reply, accuracy in (("grey", 1), ("gray", 1), ("green", 0)):
        assert ANY.grade(f"<think>x</think> <answer>{reply}</answer>", row.answer, "exact").accuracy == accuracy
    (turn,) = to_dataset([row], ANY, targets=True)[0]["completion"]
    assert turn["content"] == "<think>It is dull.</think>\n<answer>grey</answer>"
    assert "'answer' '**'" in fault(load, {"problem": "p", "answer": ["4", "**"]})


def test_bytes_in_a_row_that_are_no_picture_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "KEPT", tmp_path / "kept")
    rows = {"image": [b"no picture"], "problem": ["p"], "answer": ["4"]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "x.parquet")
    (bad,) = read_rows(ONE, tmp_path / "x.parquet", "train").bad
    assert "cannot be decoded (no format that Pillow reads)" in bad.reason

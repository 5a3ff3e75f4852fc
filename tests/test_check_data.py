"""The data check as a user meets it: what it prints, and its exit status."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from commands import status_of
from open_r1.cli.check_data import main
from open_r1.data.check import answer_kind

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "real_samples"


def row(name: str, answer: str, image: str | list[str] = "small.png", **more: str) -> dict[str, Any]:
    return {"id": name, "image": image, "problem": "p", "answer": answer, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four counting rows with two pictures of 10 x 10 and 30 x 20, and one spatial test row."""
    for kind in ("train", "test"):
        (tmp_path / f"{kind}_jsons").mkdir()
        (tmp_path / "images" / f"{kind}_images").mkdir(parents=True)
        Image.new("RGB", (10, 10)).save(tmp_path / "images" / f"{kind}_images" / "small.png")
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / f"{kind}_images" / "large.png")
    write_train(tmp_path, row("a", "4", cot="2 + 2"), row("b", "2.5"), row("c", "5", "large.png"), row("d", "B"))
    (tmp_path / "test_jsons" / "Spatial-Transformation-id-test-1.json").write_text(
        json.dumps([row("s", "change_size(2, small)", ["small.png", "large.png"])])
    )
    return tmp_path


def write_train(folder: Path, *rows: dict[str, Any]) -> None:
    (folder / "train_jsons" / "A3-Visual-Counting-train-4.json").write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("4", "integer"),
        (" -12 ", "integer"),
        ("2.5", "number"),
        (".5", "number"),
        ("1,200", "number"),
        ("40%", "number"),
        ("B", "choice"),
        ("b", "text"),
        ("E", "text"),
        ("65°", "expression"),
        ("14 π", "expression"),
        (r"\frac{1}{2}", "expression"),
        ("3x + 2", "expression"),
        ("slide", "text"),
        (".", "text"),
        ("change_size(2, small), change_color(1, red)", "functions"),
    ],
)
def test_answers_are_sorted_into_kinds(answer, kind):
    assert answer_kind(answer) == kind


def test_a_clean_folder_is_counted_and_passes(folder, capsys):
    assert status_of(main, ["--data_path", str(folder)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["clevr_math", "train", "4", "0", "2", "25%"] in lines
    assert ["trance", "id", "1", "0", "2", "0%"] in lines
    assert ["answers", "integer", "2,", "number", "1,", "choice", "1"] in lines
    assert ["answers", "functions", "1"] in lines
    assert lines.count(["images", "min", "10x10,", "median", "30x20,", "max", "30x20,", "2", "distinct", "sizes"]) == 2


def test_every_bad_row_is_printed_with_its_reason(folder, capsys):
    write_train(folder, row("a", "4"), *(row(f"bad{i}", "") for i in range(5)), row("gone", "1", "gone.png"))
    assert status_of(main, ["--data_path", str(folder)]) == 1
    printed = capsys.readouterr().out
    assert all(f"row {i + 1} (id 'bad{i}'): no answer" in printed for i in range(5))
    assert "row 6 (id 'gone'): image 'gone.png' is not in" in printed


def test_a_set_of_bad_rows_only_is_reported_too(folder, capsys):
    write_train(folder, row("a", ""))
    assert status_of(main, ["--data_path", str(folder), "--task", "clevr_math"]) == 1
    assert "answers  none" in capsys.readouterr().out


def test_a_misspelt_file_name_is_pointed_out(folder, capsys):
    (folder / "test_jsons" / "Visual-Couting-id-test.json").write_text("[]")
    assert status_of(main, ["--data_path", str(folder)]) == 0
    assert "Visual-Couting-id-test.json (no task has a set of that name)" in capsys.readouterr().out


@pytest.mark.skipif(not REAL.is_dir(), reason="the real sample rows are not in ../shared/data/real_samples")
def test_a_json_file_with_an_image_folder_is_checked(capsys):
    arguments = ["--data_path", str(REAL / "structure_perception.json"), "--task", "geomath"]
    assert status_of(main, [*arguments, "--image_folder", str(REAL / "images")]) == 0
    assert "geomath train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data_path", "nowhere"], "nowhere does not exist"),
        (["--data_path", "{folder}/train_jsons"], "holds no set in the Reason-RFT-CoT layout"),
        (["--data_path", "{folder}", "--task", "geomath"], "holds no set in the Reason-RFT-CoT layout"),
        (["--data_path", "{folder}", "--task", "trnce"], "did you mean 'trance'?"),
        (["--data_path", "{folder}/mine.json"], "with one of clevr_math, geomath, trance"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_status_2(folder, capsys, arguments, message):
    (folder / "mine.json").write_text("[]")
    assert status_of(main, [argument.format(folder=folder) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_it_answers_without_torch(folder):
    (folder / "run.py").write_text(
        "import runpy, sys\n"
        f"sys.argv = ['x', '--data_path', {str(folder)!r}]\n"
        "try:\n"
        "    runpy.run_module('open_r1.cli.check_data', run_name='__main__')\n"
        "except SystemExit as end:\n"
        '    sys.exit(f\'{end.code} {sorted({"torch", "transformers"} & set(sys.modules))}\')\n'
    )
    ended = subprocess.run([sys.executable, str(folder / "run.py")], capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == "0 []"
    assert "clevr_math train" in ended.stdout

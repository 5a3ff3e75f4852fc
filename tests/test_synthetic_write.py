"""The writer of synthetic data: layout, independence of the workers, reuse, and the base set's mixture."""

import json
import random
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path

import pytest
from PIL import Image

from open_r1.schema import UserError
from open_r1.synthetic import geomath, rows, write
from open_r1.synthetic.rows import BASE_OOD_EVERY, Job, make_row
from open_r1.synthetic.sample import RIGHT
from open_r1.synthetic.write import contact_sheet, set_file, write_dataset
from open_r1.tasks import TASKS

COUNTS = {"train": 12, "id": 6, "ood": 5, "base": 9}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "geomath-tiny"
    write_dataset("geomath", folder, "tiny", 1, COUNTS, workers=1)
    return folder


def test_the_files_do_not_depend_on_the_number_of_workers(written, tmp_path):
    write_dataset("geomath", tmp_path / "set", "tiny", 1, COUNTS, workers=2)
    assert contents(tmp_path / "set") == contents(written)
    assert len(contents(written)) == 12 + 6 + 5 + 9 + len(COUNTS) + 1  # pictures, JSON files, manifest


def test_the_layout_is_reason_rft_cots(written):
    task = TASKS["geomath"]
    (train,) = written.glob(task.train_files)
    assert train.name == "A2-Structure-Perception-train-synthetic-cot.json"
    (test,) = written.glob(task.test_files["ood"])
    assert test.name == "Structure-Perception-ood-test-synthetic.json"
    (base,) = (written / "train_jsons" / "base").iterdir()
    for file, count, images, fields in (
        (train, 12, "train_images", {"id", "image", "problem", "answer", "cot", "kind"}),
        (test, 5, "test_images", {"id", "image", "problem", "answer", "kind"}),
        (base, 9, "train_images", {"id", "image", "problem", "answer", "cot", "kind"}),
    ):
        found = json.loads(file.read_text(encoding="utf-8"))
        assert len(found) == len({row["id"] for row in found}) == count
        for row in found:
            # beside the right reasoning a base row has a wrong one
            assert set(row) - ({"instead"} if file == base else set()) == fields
            assert Image.open(written / "images" / images / row["image"]).size == (84, 84)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_file_names_match_the_globs_of_their_own_set_alone(task):
    globs = {"train": task.train_files} | task.test_files
    for split in globs:
        assert [other for other, glob in globs.items() if fnmatch(set_file(task, split), glob)] == [split]
    assert set_file(task, "base").startswith("train_jsons/base/")
    assert not Path(set_file(task, "base")).match(task.train_files)
    assert set_file(TASKS["clevr_math"], "train") == "train_jsons/A3-Visual-Counting-train-synthetic-cot.json"


def rows_of(folder: Path, split: str) -> list[dict]:
    return json.loads((folder / set_file(TASKS["geomath"], split)).read_text(encoding="utf-8"))


def test_no_set_shares_a_question_about_the_same_picture_with_another(written):
    folders = {"train": "train_images", "base": "train_images", "id": "test_images"}
    seen = [
        (row["problem"], (written / "images" / folder / row["image"]).read_bytes())
        for split, folder in folders.items()
        for row in rows_of(written, split)
    ]
    assert len(set(seen)) == len(seen) == 12 + 9 + 6


def test_training_rows_have_the_right_reasoning(written):
    for index, row in enumerate(rows_of(written, "train")):
        right = geomath.ask(random.Random(f"1/geomath/tiny/train/{index}"), "tiny", "train").procedures[RIGHT]
        assert (row["cot"], row["answer"]) == (right.cot, right.answer)


def test_a_whole_set_is_reused_without_work(written, monkeypatch):
    before = contents(written)
    monkeypatch.setattr(write, "make_row", lambda job: pytest.fail("made again"))
    write_dataset("geomath", written, "tiny", 1, dict(reversed(COUNTS.items())), workers=1)
    assert contents(written) == before


def test_other_settings_for_the_same_folder_are_refused(written):
    with pytest.raises(
        UserError, match=r"geomath-tiny holds synthetic data with seed 1 \(asked for: 2\); name another"
    ):
        write_dataset("geomath", written, "tiny", 2, COUNTS)


def test_data_of_another_generator_version_are_refused_and_a_run_looks_for_its_own_elsewhere(written, monkeypatch):
    mine = write.own_folder("geomath", "tiny", COUNTS)
    monkeypatch.setattr(write, "generator_version", lambda: "0badc0de")
    with pytest.raises(UserError, match=r"holds synthetic data with generator [0-9a-f]{8} \(asked for: 0badc0de\)"):
        write_dataset("geomath", written, "tiny", 1, COUNTS)
    assert (
        write.own_folder("geomath", "tiny", COUNTS).name == "geomath-tiny-12train-6id-5ood-9base-0badc0de" != mine.name
    )


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty and has no synthetic\.json"):
        write_dataset("geomath", tmp_path, "tiny", 1, COUNTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"counts": {"train": 5, "odd": 5}},
            "unknown set of geomath 'odd'; valid: base, id, ood, train; did you mean 'ood'",
        ),
        ({"counts": {"train": 0}}, r"counts\['train'\] is 0; a set has at least one row"),
        ({"size": "huge"}, "unknown size of synthetic data 'huge'; valid: full, tiny"),
        ({"task": "geomaths"}, "unknown task 'geomaths'.*did you mean 'geomath'"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_what_cannot_be_meant_is_named(tmp_path, change, message):
    asked = {"task": "geomath", "size": "tiny", "seed": 1, "counts": {"train": 5}, **change}
    with pytest.raises(UserError, match=message):
        write_dataset(folder=tmp_path / "set", **asked)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_no_half_set_and_the_next_one_is_whole(written, tmp_path, monkeypatch):
    def fails_at_seven(job: Job) -> dict:
        if job.split == "train" and job.index == 7:
            raise KeyboardInterrupt
        return make_row(job)

    folder = tmp_path / "set"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(write, "make_row", fails_at_seven)
        write_dataset("geomath", folder, "tiny", 1, COUNTS, workers=1)
    assert not folder.exists()
    write_dataset("geomath", folder, "tiny", 1, COUNTS, workers=1)
    assert contents(folder) == contents(written)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".set.lock"] == ["set"]


def test_the_base_set_is_right_as_often_as_its_families_say(tmp_path, monkeypatch):
    monkeypatch.setattr(geomath, "draw", lambda figure, size: Image.new("RGB", (1, 1)))
    monkeypatch.setattr(Image.Image, "save", lambda image, path: None)
    right = defaultdict(list)
    for index in range(3000):
        row = make_row(Job("geomath", "tiny", 0, "base", index, tmp_path))
        domain = "ood" if index % BASE_OOD_EVERY == 0 else "train"
        question = geomath.ask(random.Random(f"0/geomath/tiny/base/{index}"), "tiny", domain)
        procedures = {procedure.cot: procedure for procedure in question.procedures.values()}
        assert row["answer"] == procedures[row["cot"]].answer
        right[row["kind"]].append(row["cot"] == question.procedures[RIGHT].cot)
    for kind, hits in right.items():
        share = geomath.RIGHT_SHARE[kind]
        assert abs(sum(hits) / len(hits) - share) < 4 * (share * (1 - share) / len(hits)) ** 0.5, kind


def test_a_contact_sheet_has_four_rows_side_by_side(tmp_path):
    contact_sheet("geomath", "tiny", 0, tmp_path / "sheet.png", n=8)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width == 4 * write.TILE
    assert sheet.height > 2 * 336  # two lines of pictures, four times as large as they are


def test_rows_of_two_pictures_name_both(tmp_path, monkeypatch):
    one = geomath.sample(random.Random(0), "tiny", "train")
    pair = type(one)(one.images * 2, one.problem, one.kind, one.procedures)
    monkeypatch.setattr(rows, "make_sample", lambda job: (pair, random.Random(0)))
    row = make_row(Job("geomath", "tiny", 0, "id", 3, tmp_path))
    assert row["image"] == ["geomath-id-3-init.png", "geomath-id-3-fin.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(row["image"])

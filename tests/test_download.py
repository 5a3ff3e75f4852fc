"""Downloading and unpacking against a hub of our own making: a folder that `snapshot_download` copies from."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
from PIL import Image

from commands import status_of
from open_r1.cli.download import main
from open_r1.data.rows import load_rows
from open_r1.schema import UserError
from open_r1.tasks import get_task
from open_r1.utils import unpack as unpack_module
from open_r1.utils.hub import fetch
from open_r1.utils.unpack import DONE, unpack

REPO = "someone/counting"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> SimpleNamespace:
    """A data set of two counting rows on the hub; `hub.downloads` counts calls, `hub.breaks` makes one break off."""
    source = tmp_path / "hub"
    (source / "train_jsons").mkdir(parents=True)
    rows = [{"id": f"r{i}", "image": f"{i}.png", "problem": "p", "answer": "4"} for i in range(2)]
    (source / "train_jsons" / "A3-Visual-Counting-train-2.json").write_text(json.dumps(rows))
    with zipfile.ZipFile(source / "train_images.zip", "w") as archive:
        for i in range(2):
            Image.new("RGB", (10, 10)).save(tmp_path / "picture.png")
            archive.write(tmp_path / "picture.png", f"train_images/{i}.png")
        archive.writestr("__MACOSX/train_images/._0.png", "junk")
    state = SimpleNamespace(source=source, downloads=0, breaks=False)

    def snapshot_download(repo, *, repo_type, revision, local_dir):
        assert (repo, repo_type, revision) == (REPO, "dataset", "abc")
        state.downloads += 1
        shutil.copytree(source / "train_jsons", local_dir / "train_jsons", dirs_exist_ok=True)
        if state.breaks:
            raise httpx.ReadError("peer closed the connection")
        shutil.copy(source / "train_images.zip", local_dir)

    names = ["train_jsons/A3-Visual-Counting-train-2.json", "train_images.zip"]
    info = SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: info)
    monkeypatch.chdir(tmp_path)
    return state


def archive_of(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_download_ends_with_unpacked_pictures_and_a_table(hub, capsys):
    assert status_of(main, ["--repo", REPO, "--output", "data/there"]) == 0
    printed = capsys.readouterr().out
    assert ["clevr_math", "train", "2", "0", "2", "0%"] in [line.split() for line in printed.splitlines()]
    assert "ready: DATA_PATH=data/there" in printed
    assert sorted(path.name for path in Path("data/there/images/train_images").glob("*.png")) == ["0.png", "1.png"]


def test_a_complete_folder_is_used_again_without_network(hub, monkeypatch):
    rows = load_rows(get_task("clevr_math"), REPO, "train").rows
    assert rows[0].images == (Path("data/counting/images/train_images/0.png"),)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", None)
    assert load_rows(get_task("clevr_math"), REPO, "train").rows == rows
    assert hub.downloads == 1


def test_a_broken_off_download_says_so_and_continues_next_time(hub, capsys):
    hub.breaks = True
    assert status_of(main, ["--repo", REPO]) == 2
    error = capsys.readouterr().err
    assert "broke off (peer closed the connection); run the same command again" in error
    assert error.count("\n") == 1
    hub.breaks = False
    assert status_of(main, ["--repo", REPO]) == 0
    assert hub.downloads == 2


def test_half_a_download_is_not_taken_for_the_whole(hub, monkeypatch):
    """snapshot_download itself returns a half-filled folder when the network is gone after the first look."""
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *_, local_dir, **__: (local_dir / "train_jsons").mkdir()
    )
    with pytest.raises(UserError, match=r"not whole: 2 of 2 files are missing, first train_jsons/A3"):
        fetch(REPO)


def test_one_folder_holds_one_data_set(hub):
    fetch(REPO, Path("data/there"))
    with pytest.raises(UserError, match=r"data/there holds someone/counting, not another/set; .*give another --output"):
        fetch("another/set", Path("data/there"))


def test_pictures_copied_from_elsewhere_are_unpacked_without_the_hub(hub, capsys):
    assert status_of(main, ["--unpack_only", "--output", str(hub.source)]) == 0
    assert (hub.source / "images" / "train_images" / "1.png").is_file()
    assert status_of(main, ["--unpack_only", "--output", "nowhere"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "offline mode is enabled"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "Connection refused"),
    ],
)
def test_without_network_one_line_says_what_to_do(tmp_path, settings, reason):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **settings}
    ended = subprocess.run(
        [sys.executable, "-m", "open_r1.cli.download"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert reason in ended.stderr
    assert "DATA_PATH=data/Reason-RFT-CoT-Dataset" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_a_data_set_that_does_not_exist_is_named(hub, monkeypatch):
    def refuse(*_, **__):
        request = httpx.Request("GET", "http://hub")
        raise huggingface_hub.errors.RepositoryNotFoundError("404", response=httpx.Response(404, request=request))

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    with pytest.raises(
        UserError, match=r"no data set 'someone/countng' can be read on the hub \(404\); check the name"
    ):
        fetch("someone/countng")


# --- unpacking ---


@pytest.mark.parametrize("inside", ["", "train_images/", "images/train_images/"])
def test_leading_folders_up_to_the_targets_name_are_dropped(tmp_path, inside):
    archive = archive_of(tmp_path / "train_images.zip", **{f"{inside}sub/1.png": b"picture"})
    unpack(archive, tmp_path / "images" / "train_images")
    assert (tmp_path / "images" / "train_images" / "sub" / "1.png").read_bytes() == b"picture"


def test_an_interrupted_unpacking_continues_and_replaces_half_a_file(tmp_path, monkeypatch):
    archive = archive_of(tmp_path / "t.zip", **{"1.png": b"one", "2.png": b"two", "3.png": b"three"})
    target, written, whole = tmp_path / "t", [], unpack_module.replacing

    def replacing(path: Path):
        if path.name == "3.png" and len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        return whole(path)

    monkeypatch.setattr(unpack_module, "replacing", replacing)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, target)
    assert written == ["1.png", "2.png"]
    assert not (target / DONE).exists()
    (target / "2.png").write_bytes(b"tw\0")  # same size, other content: the disk lost it
    written.append("")
    unpack(archive, target)
    assert written[3:] == ["2.png", "3.png"]
    assert (target / "2.png").read_bytes() == b"two"
    assert sorted(path.name for path in target.iterdir()) == [DONE, "1.png", "2.png", "3.png"]
    unpack(archive, target)
    assert written[5:] == []


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (["."], r"member '\.' has no name"),
        (["./"], r"member '\./' has no name"),
        (["a", "a/b"], r"member 'a' is a file where another member needs a folder"),
        (["a/b/c.png", "a"], r"member 'a' is a file where another member needs a folder"),
        (["t/a/b", "a"], r"member 'a' is a file where another member needs a folder"),
        (["x" * 5000], r"member 'x{77}\.\.\.' has a longer name than the 255 bytes"),
        (["ü" * 200 + ".png"], r"has a longer name than the 255 bytes"),
        (["/".join(["x" * 200] * 20)], r"has a longer name than the 255 bytes \(a path 3000\)"),
        (["a\x1b[31m/../b"], r"member 'a\\x1b\[31m/\.\./b' leaves the folder"),
    ],
)
def test_a_member_that_no_folder_can_hold_is_refused_before_anything_is_written(tmp_path, members, reason):
    archive = archive_of(tmp_path / "t.zip", **{"good.png": b"g"}, **dict.fromkeys(members, b"content"))
    with pytest.raises(UserError, match=reason):
        unpack(archive, tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["t.zip"]


def test_a_name_of_255_bytes_is_unpacked(tmp_path):
    name = "ü" * 125 + "x.png"
    unpack(archive_of(tmp_path / "t.zip", **{name: b"picture"}), tmp_path / "t")
    assert (tmp_path / "t" / name).read_bytes() == b"picture"


def test_a_small_archive_of_much_is_unpacked_piece_by_piece(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bin", bytes(200_000_000))
    assert (tmp_path / "t.zip").stat().st_size < 300_000
    tracemalloc.start()
    unpack(tmp_path / "t.zip", tmp_path / "t")
    unpack_module._is_whole(tmp_path / "t" / "zeros.bin", zipfile.ZipFile(tmp_path / "t.zip").infolist()[0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert (tmp_path / "t" / "zeros.bin").stat().st_size == 200_000_000


def test_an_archive_of_more_than_the_disk_holds_is_refused(tmp_path, monkeypatch):
    archive = archive_of(tmp_path / "t.zip", **{"1.png": b"picture" * 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=6999))
    with pytest.raises(UserError, match=r"t\.zip unpacks to 0\.0 GB and .* has 0\.0 GB left; make room.*nothing was"):
        unpack(archive, tmp_path / "deep" / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["t.zip"]


@pytest.mark.parametrize("member", ["../evil.png", "/evil.png", "train_images/../../evil.png"])
def test_a_member_that_climbs_out_is_refused_before_anything_is_written(tmp_path, member):
    archive = archive_of(tmp_path / "t.zip", **{"good.png": b"g", member: b"evil"})
    with pytest.raises(UserError, match=r"t\.zip: member '.*evil\.png' leaves the folder; .*nothing was unpacked"):
        unpack(archive, tmp_path / "deep" / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["t.zip"]


def test_a_link_in_an_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    with pytest.raises(UserError, match="member 'link' is a link"):
        unpack(tmp_path / "t.zip", tmp_path / "t")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_broken_archive_is_named_with_the_remedy(tmp_path, damage):
    archive = archive_of(tmp_path / "t.zip", **{"1.png": b"picture" * 100})
    content = bytearray(archive.read_bytes())
    content[60] ^= 255
    archive.write_bytes({"cut": content[:300], "flipped": content, "empty": b""}[damage])
    with pytest.raises(UserError, match=r"t\.zip cannot be unpacked \(.*\); .*delete it and download it again"):
        unpack(archive, tmp_path / "t")
    assert not (tmp_path / "t" / DONE).exists()

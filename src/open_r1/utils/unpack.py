"""Unpack an archive of pictures: safe against hostile member names, and continuing where a run broke off."""

import json
import os
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from open_r1.schema import UserError

DONE = ".unpacked"  # inside the target, so that deleting the folder also deletes the mark


def unpack(archive: Path, target: Path) -> None:
    """Unpack `archive` into `target`; at once if that is done already.

    Every file is written aside and renamed, so a file under its own name is whole unless the disk lost it; files that
    an interrupted run left are compared by checksum and kept. Leading folders up to one called like `target` are
    dropped: train_images/1.png of train_images.zip becomes images/train_images/1.png.

    Raises:
        UserError: the archive is broken, or a member would be written outside `target`, is a link, or is encrypted
            (nothing has been written then).
    """
    stamp = json.dumps({"archive": archive.name, "bytes": archive.stat().st_size})
    mark = target / DONE
    if mark.is_file() and mark.read_text() == stamp:
        return
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack_members(opened, _members(opened, archive, target), f"unpacking {archive.name}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(
            f"{archive} cannot be unpacked ({error}); it must be a whole zip file; delete it and download it again"
        ) from error
    target.mkdir(parents=True, exist_ok=True)
    _write_aside(mark, stamp.encode())


def _members(opened: zipfile.ZipFile, archive: Path, target: Path) -> list[tuple[zipfile.ZipInfo, Path]]:
    """Pair every picture with its place below `target`; all are checked before the first is written."""
    members = []
    for info in opened.infolist():
        parts = PurePosixPath(info.filename).parts
        linked = stat.S_ISLNK(info.external_attr >> 16)
        if info.filename.startswith("/") or ".." in parts or linked or info.flag_bits & 1:
            fault = "is a link" if linked else "is encrypted" if info.flag_bits & 1 else "leaves the folder"
            raise UserError(
                f"{archive}: member '{info.filename}' {fault}; members are plain files inside the folder; nothing was"
                " unpacked: get the archive from a source that you trust"
            )
        if info.is_dir() or parts[0] == "__MACOSX" or parts[-1] == ".DS_Store":
            continue
        inner = parts[parts.index(target.name) + 1 :] if target.name in parts[:-1] else parts
        members.append((info, target.joinpath(*inner)))
    return members


def _unpack_members(opened: zipfile.ZipFile, members: list[tuple[zipfile.ZipInfo, Path]], title: str) -> None:
    total = sum(info.file_size for info, _ in members)
    with tqdm(total=total, desc=title, unit="B", unit_scale=True, delay=3) as bar:
        for info, path in members:
            if not _is_whole(path, info):
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_aside(path, opened.read(info))
            bar.update(info.file_size)


def _is_whole(path: Path, info: zipfile.ZipInfo) -> bool:
    return path.is_file() and path.stat().st_size == info.file_size and zlib.crc32(path.read_bytes()) == info.CRC


def _write_aside(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(content)
    os.replace(aside, path)

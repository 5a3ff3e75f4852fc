"""Unpack an archive of pictures: safe against hostile member names, and continuing where a run broke off."""

import errno
import json
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from open_r1.schema import UserError
from open_r1.utils.files import replace_text, replacing
from open_r1.utils.terminal import printable

DONE = ".unpacked"  # inside the target, so that deleting the folder also deletes the mark
PIECE = 2**20  # bytes that are in memory at once
LONGEST_NAME, LONGEST_PATH = 255, 3000  # in bytes; a path has the target's folders in front, and 4096 in all

# What zipfile and the decompressors raise on a damaged archive.
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError),
    *(ValueError, OverflowError, RuntimeError),
)


def unpack(archive: Path, target: Path) -> None:
    """Unpack `archive` into `target`; at once if that is done already.

    Every file is written to a temporary one and renamed, so a file under its own name is whole unless the disk lost it;
    files that an interrupted run left are compared by checksum and kept. Leading folders up to one called like `target`
    are dropped: train_images/1.png of train_images.zip becomes images/train_images/1.png.

    Raises:
        UserError: the archive is broken; its members would not fit on the disk; or a member would be written outside
            `target`, is a link, is encrypted, has a name that no file can have, or is a file where another member
            needs a folder. But for a broken member nothing has been written then.
    """
    stamp = json.dumps({"archive": archive.name, "bytes": archive.stat().st_size})
    mark = target / DONE
    if mark.is_file() and mark.read_text() == stamp:
        return
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, archive, target)
            _check_room(members, archive, target)
            _unpack_members(opened, members, f"unpacking {archive.name}")
    except UserError:
        raise
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's; bz2 gives its own no number, and a place before the file's beginning is invalid
        raise UserError(
            f"{archive} cannot be unpacked ({error}); it must be a whole zip file; delete it and download it again"
        ) from error
    replace_text(mark, stamp)


def _members(opened: zipfile.ZipFile, archive: Path, target: Path) -> list[tuple[zipfile.ZipInfo, Path]]:
    """Pair every picture with its place below `target`; all are checked before the first is written."""
    members: dict[Path, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        parts = PurePosixPath(info.filename).parts
        if fault := _member_fault(info, parts):
            raise _refused(archive, info, fault)
        if info.is_dir() or parts[0] == "__MACOSX" or parts[-1] == ".DS_Store":
            continue
        inner = parts[parts.index(target.name) + 1 :] if target.name in parts[:-1] else parts
        members[target.joinpath(*inner)] = info  # of two with one name the last, as in every program that unpacks
    folders = {parent for path in members for parent in path.parents if parent.is_relative_to(target)}
    for path in folders & members.keys():
        raise _refused(archive, members[path], "is a file where another member needs a folder")
    return [(info, path) for path, info in members.items()]


def _member_fault(info: zipfile.ZipInfo, parts: tuple[str, ...]) -> str | None:
    """Why a member may not be unpacked; None where it may."""
    if info.filename.startswith("/") or ".." in parts:
        return "leaves the folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 1:
        return "is encrypted"
    if not parts:
        return "has no name"
    if any(len(part.encode()) > LONGEST_NAME for part in parts) or len(info.filename.encode()) > LONGEST_PATH:
        return f"has a longer name than the {LONGEST_NAME} bytes (a path {LONGEST_PATH}) that a file can have"
    return None


def _refused(archive: Path, info: zipfile.ZipInfo, fault: str) -> UserError:
    return UserError(
        f"{archive}: member '{printable(info.filename, 80)}' {fault}; members are plain files inside the folder;"
        " nothing was unpacked: get the archive from a source that you trust"
    )


def _check_room(members: list[tuple[zipfile.ZipInfo, Path]], archive: Path, target: Path) -> None:
    """Raise UserError where the members would fill the disk."""
    wanted = sum(info.file_size for info, path in members if not path.is_file())
    there = next(folder for folder in (target, *target.absolute().parents) if folder.is_dir())
    if wanted > (free := shutil.disk_usage(there).free):
        raise UserError(
            f"{archive} unpacks to {wanted / 1e9:.1f} GB and {there} has {free / 1e9:.1f} GB left; make room, or get"
            " the archive from a source that you trust; nothing was unpacked"
        )


def _unpack_members(opened: zipfile.ZipFile, members: list[tuple[zipfile.ZipInfo, Path]], title: str) -> None:
    total = sum(info.file_size for info, _ in members)
    with tqdm(total=total, desc=title, unit="B", unit_scale=True, delay=3) as bar:
        for info, path in members:
            if _is_whole(path, info):
                bar.update(info.file_size)
                continue
            # Piece by piece: a small archive may hold more than the memory. The checksum is compared at the end.
            with replacing(path) as temporary, opened.open(info) as packed, temporary.open("wb") as file:
                while piece := packed.read(PIECE):
                    bar.update(file.write(piece))


def _is_whole(path: Path, info: zipfile.ZipInfo) -> bool:
    """Whether the file is there as the archive holds it."""
    if not path.is_file() or path.stat().st_size != info.file_size:
        return False
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            checksum = zlib.crc32(piece, checksum)
    return checksum == info.CRC

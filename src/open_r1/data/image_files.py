"""Find a row's pictures inside their folder; say which cannot be used, and which are changed when they are opened."""

import hashlib
import os
import stat
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from open_r1.schema import UserError
from open_r1.utils.files import replacing
from open_r1.utils.images import open_picture
from open_r1.utils.provenance import ROOT

KEPT = ROOT / "data" / "pictures"  # of rows that hold the pictures themselves; deleting it is safe
MAX_ASPECT = 200  # Qwen2-VL's image processor raises above this ratio of the sides, in the middle of a run


class Examined(NamedTuple):
    """What decoding a picture showed."""

    size: tuple[int, int]  # width and height of the upright picture; (0, 0) where it cannot be decoded
    changes: tuple[str, ...]  # see utils.images.Picture
    fault: str | None  # rule and remedy in one line; None where it can be used


def locate(folder: Path, name: str) -> Path:
    """Return `folder / name` if it is a file that lies inside `folder`.

    A name may have folders in it. A plain file costs one system call, because sets have up to 120,000 names.

    Raises:
        UserError: the name is absolute, climbs out with `..` or through a symbolic link, or names no file.
    """
    parts = name.split("/")
    if parts[0] == "" or ".." in parts:
        raise _leaves(name)
    path = folder / name
    try:
        mode = os.lstat(f"{folder}/{name}").st_mode  # the text, as pathlib's own conversion costs more than the call
    except (OSError, ValueError):  # ValueError: a name with a null byte or a lone surrogate
        raise UserError(f"image {name!r} is not in {folder}; add the picture or fix the name") from None
    if not stat.S_ISREG(mode) or len(parts) > 1:  # only then can a symbolic link lead elsewhere
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise _leaves(name)
        if not path.is_file():
            raise UserError(f"image {name!r} in {folder} is no file; add the picture or fix the name")
    return path


def keep_picture(content: bytes) -> Path:
    """Write a picture that stands in a row itself to a file named by its bytes, once for all, and return it."""
    digest = hashlib.sha256(content).hexdigest()
    path = KEPT / digest[:2] / digest
    if not path.is_file():
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return path


def _leaves(name: str) -> UserError:
    rule = "names are relative to it and stay inside"
    return UserError(f"image '{name}' leaves the image folder; {rule}; move the picture there and fix the name")


def examine(path: Path) -> Examined:
    """Decode one picture whole: only that finds a truncated file, whose header, and with it the size, is intact."""
    try:
        picture = open_picture(path)
    except UserError as error:
        return Examined((0, 0), (), str(error))
    width, height = picture.image.size
    fault = None
    if max(width, height) > MAX_ASPECT * min(width, height):
        rule = f"Qwen2-VL takes sides of at most {MAX_ASPECT} : 1"
        fault = f"image '{path.name}' is {width} x {height}; {rule}; crop it"
    return Examined((width, height), picture.changes, fault)


def examine_all(paths: Collection[Path]) -> dict[Path, Examined]:
    """Decode every picture, several at a time (Pillow's decoders release the GIL)."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        examined = tqdm(
            pool.map(examine, paths), total=len(paths), desc="checking images", unit="image", delay=3, leave=False
        )
        return dict(zip(paths, examined, strict=True))

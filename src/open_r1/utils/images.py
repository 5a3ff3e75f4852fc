"""Find a row's pictures inside their folder and say which of them cannot be read."""

import os
import stat
import struct
import zlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from open_r1.schema import UserError

MAX_ASPECT = 200  # Qwen2-VL's image processor raises above this ratio of the sides, in the middle of a run

# What Pillow's decoders raise on damaged files; anything else is a fault of the program and keeps its traceback.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


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
        raise UserError(f"image {name!r} is not in {folder}; add the picture or mend the name") from None
    if not stat.S_ISREG(mode) or len(parts) > 1:  # only then can a symbolic link lead elsewhere
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise _leaves(name)
        if not path.is_file():
            raise UserError(f"image {name!r} in {folder} is no file; add the picture or mend the name")
    return path


def _leaves(name: str) -> UserError:
    rule = "names are relative to it and stay inside"
    return UserError(f"image '{name}' leaves the image folder; {rule}; move the picture there and mend the name")


def image_fault(path: Path) -> str | None:
    """Decode one picture whole and say what is wrong with it; None if nothing is.

    Only decoding finds a truncated file: its header, and with it the size, is intact.
    """
    try:
        with Image.open(path) as image:
            image.load()
            width, height = image.size
    except DECODE_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"image '{path.name}' cannot be decoded ({reason}); copy it anew"
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"image '{path.name}' is {width} x {height}; Qwen2-VL takes sides of at most {MAX_ASPECT} : 1; crop it"
    return None


def image_faults(paths: Collection[Path]) -> dict[Path, str]:
    """Decode every picture, several at a time (Pillow's decoders release the GIL); returns only the faulty ones."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        faults = tqdm(
            pool.map(image_fault, paths), total=len(paths), desc="checking images", unit="image", delay=3, leave=False
        )
        return {path: fault for path, fault in zip(paths, faults, strict=True) if fault is not None}

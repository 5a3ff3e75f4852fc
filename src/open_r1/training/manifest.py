"""The manifest of a checkpoint: its files with sizes and digests, so that damage is seen before anything is loaded.

It is written last. A folder whose files do not match it, or that has none, is not whole.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors import SafetensorError, safe_open

from open_r1.utils.files import JsonObject, write_json

MANIFEST = "manifest.json"
THREADS = 8  # hashing releases Python's lock: a disk is the limit, not a core
UNREADABLE = (OSError, ValueError, SafetensorError)  # of open(), json and safetensors


def write_manifest(folder: Path, processes: int) -> None:
    """Read every file of a new checkpoint back and write down its size and its SHA-256.

    Args:
        folder: the checkpoint.
        processes: how many processes wrote it; each of them has random states of its own in it.

    Raises:
        OSError: a file cannot be read as what its name says.
    """
    for path in _files(folder):
        if problem := _unreadable(path):
            raise OSError(f"{path.name} cannot be read back: {problem}")
    write_json(folder / MANIFEST, {"processes": processes, "files": _digests(folder, list(_files(folder)))})


def read_manifest(folder: Path) -> JsonObject:
    """Return the manifest; raises ValueError with the reason where there is none that can be read."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{MANIFEST} is missing")
    try:
        manifest = json.loads(path.read_bytes())
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        return {"processes": int(manifest["processes"]), "files": files}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{MANIFEST} cannot be read") from error


def fault(folder: Path) -> str | None:
    """Say in a few words what is wrong with a checkpoint; None: every file is there as it was written.

    Files that the manifest does not name are ignored.
    """
    try:
        files = read_manifest(folder)["files"]
    except ValueError as error:
        return str(error)
    for name, (size, _) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes of {size}"
    try:
        found = _digests(folder, [folder / name for name in files])
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    changed = [name for name, (_, digest) in files.items() if found[name]["sha256"] != digest]
    return f"{changed[0]} is not what was written" if changed else None


def rename_damaged(folder: Path) -> Path:
    """Rename a damaged checkpoint, so that nothing takes it for one, and return its new path."""
    damaged = folder.with_name(f"broken-{folder.name}")
    shutil.rmtree(damaged, ignore_errors=True)  # of an earlier start
    return folder.rename(damaged)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)


def _digests(folder: Path, paths: list[Path]) -> dict[str, JsonObject]:
    """Size and digest by path relative to the folder."""

    def digest(path: Path) -> JsonObject:
        with path.open("rb") as file:
            return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(digest, paths))
    return {path.relative_to(folder).as_posix(): entry for path, entry in zip(paths, found, strict=True)}


def _unreadable(path: Path) -> str:
    """Say why a file is not whole, by its own format's table of contents; empty where it is, or where it has none."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "np"):
                pass
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix in (".pt", ".pth") and not zipfile.is_zipfile(path):
            return "it has no end"
    except UNREADABLE as error:
        return str(error)
    return ""

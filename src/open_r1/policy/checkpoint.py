"""Whether a path holds a policy that can be loaded: config, weights whole by their headers, processor; none is read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from open_r1.utils.hub import is_hub_id

ADAPTER, WEIGHTS = "adapter_config.json", "model.safetensors"
ARCHITECTURE = "Qwen2VLForConditionalGeneration"
PROCESSOR_FILES = ("tokenizer.json", "tokenizer_config.json")


def no_checkpoint(path: str) -> str:
    """Say in a few words why nothing is at `path`; "" where there is a folder, or where it may be a hub's id."""
    try:
        if Path(path).is_dir():
            return ""
        there = Path(path).exists()
    except OSError as error:  # a name that no file system takes
        return error.strerror or "no such path"
    if there:
        return "it is a file; a checkpoint is a folder"
    return "" if is_hub_id(path) else "no such folder"


def checkpoint_faults(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the checkpoint or adapter in `folder`, one line each, its base's faults too."""
    adapter = (folder / ADAPTER).is_file()
    config = _read_json(folder / (ADAPTER if adapter else "config.json"))
    if isinstance(config, str):
        yield config
        return
    if adapter:
        base = config.get("base_model_name_or_path") or ""
        if not base or (why := no_checkpoint(base)):
            reason = why if base else "no name"
            yield f"{folder / ADAPTER} names the base '{base}': {reason}; put it there, or correct the name"
        elif Path(base).is_dir():
            yield from checkpoint_faults(Path(base))
    else:
        named = config.get("architectures") or []
        if ARCHITECTURE not in named:
            shown = ", ".join(map(str, named)) or "not named"
            where = folder / "config.json"
            yield f"{where}: architecture {shown}; the policy must be {ARCHITECTURE}; give another MODEL_PATH"
            return
        for name in PROCESSOR_FILES:
            if isinstance(fault := _read_json(folder / name), str):
                yield fault
    yield from _weight_faults(folder, "adapter_model.safetensors" if adapter else WEIGHTS)


def _weight_faults(folder: Path, name: str) -> Iterator[str]:
    index = folder / f"{name}.index.json"
    if index.is_file():
        listed = _read_json(index)
        if isinstance(listed, str):
            yield listed
            return
        files = sorted(set(listed.get("weight_map", {}).values()))
    else:
        files = [name]
    for file in files:
        if fault := _torn(folder / file):
            yield f"{folder / file}: {fault}; the checkpoint is half written, copy it again"


def _torn(file: Path) -> str:
    """Say how a safetensors file is shorter than its header tells; "" where it is whole."""
    if not file.is_file():
        return "not there"
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            return f"its header needs {length} bytes, the file has {size}"
        try:
            header = json.loads(opened.read(length))
            end = max((part["data_offsets"][1] for key, part in header.items() if key != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return "its header cannot be read"
    wanted = 8 + length + end
    return "" if size == wanted else f"it has {size} bytes of {wanted}"


def _read_json(file: Path) -> dict[str, Any] | str:
    """Read a JSON object; a text says why it cannot be."""
    if not file.is_file():
        return f"{file.parent} holds no {file.name}; give the folder that save_pretrained wrote"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"{file} is no JSON ({str(error).splitlines()[0]}); the checkpoint is half written, copy it again"
    return content if isinstance(content, dict) else f"{file} holds no JSON object; copy the checkpoint again"

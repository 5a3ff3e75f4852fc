"""Files of a run: written whole or not at all, and JSON lines, which a kill may have cut short.

A line ends with a newline and nothing else: replies hold U+2028, U+2029 and U+0085, where `str.splitlines` breaks too.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeGuard

from open_r1.schema import UserError

JsonObject = dict[str, Any]  # as it was read: what its keys hold is known to whoever reads that kind of file


def is_object(value: object) -> TypeGuard[JsonObject]:
    """Whether what was parsed is an object, whose keys are texts in JSON and in our YAML."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether what was parsed is a list."""
    return isinstance(value, list)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it takes the place of `path` when the block ends without error.

    Readers find the old file or the new one, never half of one, and two processes that write the same file do not
    meet: the temporary name carries the process's number.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = os.fsencode(path.name)[:200].decode(errors="ignore")  # a name of 255 bytes leaves no room for more
    temporary = path.with_name(f".{name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)  # of a killed process that had our number
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all; NaN raises ValueError."""
    replace_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: Path, items: Iterable[Mapping[str, object]]) -> None:
    """Write JSON lines to `path`, whole or not at all."""
    with replacing(path) as temporary:
        append_jsonl(temporary, items)


def append_jsonl(path: Path, items: Iterable[Mapping[str, object]]) -> None:
    """Append JSON lines at once. Half a surrogate pair, which UTF-8 cannot hold, is written as its JSON escape."""
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    with path.open("ab") as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def read_jsonl(
    path: Path, cut: Literal["drop", "refuse"] = "refuse", loads: Callable[[bytes], object] = json.loads
) -> list[JsonObject]:
    """Read JSON lines; blank lines are skipped.

    Args:
        path: the file.
        cut: what to do with a last line without an end, which a kill cut short: "drop" it, or take it for a line.
        loads: what parses a line, where numbers or constants are to be read otherwise.

    Raises:
        UserError: a line is not a JSON object in UTF-8; the file and the line are named.
    """
    *lines, last = path.read_bytes().split(b"\n")
    if cut == "refuse":
        lines.append(last)
    return [parse_line(line, f"{path}:{number}", loads) for number, line in enumerate(lines, start=1) if line.strip()]


def parse_line(line: bytes, where: str, loads: Callable[[bytes], object] = json.loads) -> JsonObject:
    """Parse one line; raises UserError, which begins with `where`, for what is not a JSON object in UTF-8."""
    rule = "each line must be one; a stopped run may have cut its last line: delete that line"
    try:
        item = loads(line)
    except (ValueError, RecursionError) as error:  # no JSON; no UTF-8; nested too deeply
        raise UserError(f"{where} is no JSON object ({error}): {rule}") from error
    if not isinstance(item, dict):
        raise UserError(f"{where} is no JSON object but a {type(item).__name__}: {rule}")
    return item


def cut_after_step(path: Path, step: float = math.inf) -> list[JsonObject]:
    """Drop the lines of a JSON lines file that are of a later step than training goes on from; return the others."""
    kept = [line for line in read_jsonl(path, cut="drop") if line["step"] <= step]
    write_jsonl(path, kept)
    return kept

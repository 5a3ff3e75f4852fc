"""Rows as they lie in a file: a JSON list, JSON lines, or Parquet; numbers become their text, missing values None.

`datasets` would guess one type for a column: an answer 4.50 would become 4.5, and "4" beside "B" would be refused.
"""

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from open_r1.schema import UserError
from open_r1.utils.files import is_list, is_object, read_jsonl

ROWS_AT_ONCE = 256  # of a Parquet file; pictures may stand in its columns


def read_items(file: Path) -> Iterator[object]:
    """Yield a file's rows in order, each most likely a mapping; raises UserError where the file cannot be read."""
    kind = file.suffix.lower()
    if kind == ".parquet":
        return _read_parquet(file)
    if kind in (".jsonl", ".ndjson"):
        return iter(read_jsonl(file, loads=_loads))
    return iter(read_list(file))


def read_list(file: Path) -> list[object]:
    """Read the file's list of rows. Numbers are kept as their text: answer 4.50 stays "4.50"."""
    rule = "a data file is one JSON list of rows, [{...}, {...}], JSON lines in a .jsonl, or a .parquet; convert it"
    try:
        items = _loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as JSON ({error}); {rule}") from error
    if not is_list(items):
        raise UserError(f"{file} holds a JSON {json_type(items)}, not a list; {rule}")
    return items


def _loads(text: bytes) -> object:
    # NaN is what pandas writes for a missing value
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda _: None)


def _read_parquet(file: Path) -> Iterator[object]:
    # Only here: most data are JSON. It has no types.
    import pyarrow as untyped_arrow  # pyright: ignore[reportMissingTypeStubs]
    import pyarrow.parquet as untyped_parquet  # pyright: ignore[reportMissingTypeStubs]

    arrow: Any = untyped_arrow
    parquet: Any = untyped_parquet

    try:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(ROWS_AT_ONCE):
                yield from (_as_texts(row) for row in batch.to_pylist())
    except (arrow.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{file} cannot be read as Parquet ({first}); give a whole file, or JSON lines") from error


def _as_texts(value: object) -> object:
    """A value as JSON would have brought it: numbers as text, NaN as None."""
    if is_object(value):
        return {key: _as_texts(part) for key, part in value.items()}
    if is_list(value):
        return [_as_texts(part) for part in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else value


def json_type(value: object) -> str:
    """What JSON calls the type of a value."""
    known: dict[type, str] = {dict: "mapping", list: "list", str: "text", bool: "boolean", type(None): "null"}
    return known.get(type(value), type(value).__name__)

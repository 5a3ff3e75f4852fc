"""Test rows that no training row repeats: a share held out by a seed, and repeats found by pictures and question."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from open_r1.schema import Row

Key = tuple[object, ...]


def question_keys(rows: Sequence[Row]) -> list[Key]:
    """Return for each row what its question is known by: its text and its pictures' bytes, whatever id and file names.

    Pictures are read only where several rows have one text and pictures of the same sizes in bytes.
    """
    rough = [(" ".join(row.problem.split()), *(path.stat().st_size for path in row.images)) for row in rows]
    often = Counter(rough)
    digests: dict[Path, str] = {}

    def digest(path: Path) -> str:
        if path not in digests:
            with path.open("rb") as file:
                digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return digests[path]

    return [(key[0], *map(digest, row.images)) if often[key] > 1 else key for key, row in zip(rough, rows, strict=True)]


def hold_out(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Split rows into training and test rows, both in their old order; rows that repeat a question stay together.

    At least one row is held out. The choice follows from seed and questions alone, whatever the order of the rows.
    """
    keys = question_keys(rows)
    groups: dict[Key, int] = Counter(keys)

    def place(key: Key) -> bytes:
        return hashlib.sha256(f"{seed} {key!r}".encode(errors="replace")).digest()

    wanted, count = max(1, round(share * len(rows))), 0
    held: set[Key] = set()
    for key in sorted(groups, key=place):
        if count >= wanted:
            break
        held.add(key)
        count += groups[key]
    train = [row for row, key in zip(rows, keys, strict=True) if key not in held]
    return train, [row for row, key in zip(rows, keys, strict=True) if key in held]


def repeats(train: Sequence[Row], test: Sequence[Row]) -> list[Row]:
    """The test rows whose question, pictures and all, is a training row's."""
    keys = question_keys([*train, *test])
    trained = set(keys[: len(train)])
    return [row for row, key in zip(test, keys[len(train) :], strict=True) if key in trained]

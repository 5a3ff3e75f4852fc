"""Who keeps a claim in a store: a process holds a lock for as long as it lives, whatever its number and the clock say.

One empty file beside the store, `<store>-owners`. Each owner locks one byte of it, at a place drawn at random, which is
the owner's name. The kernel takes the lock back when the process ends, however it ends; others see it by trying.
Process numbers would not do: in another container they mean another process, and start times move with the clock.
"""

import fcntl
import os
import random
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

PLACES = 2**62  # of which owners draw theirs

# The places that this process has locked, by file: it does not see its own locks, and closing any descriptor of a file
# would give all of them up.
_ours: defaultdict[tuple[Path, int], set[int]] = defaultdict(set)
_descriptors: dict[tuple[Path, int], int] = {}


class Owner:
    """The present process as the keeper of claims in one store."""

    def __init__(self, store: Path):
        """Take a place of one's own and lock it."""
        self._file, self._place = _file_of(store), random.SystemRandom().randrange(PLACES)
        self.name = f"{os.getpid()}:{self._place}"
        key = (self._file, os.getpid())
        if key not in _descriptors:
            _descriptors[key] = _opened(self._file)
        fcntl.lockf(_descriptors[key], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._place)
        _ours[key].add(self._place)

    def release(self) -> None:
        """Let others see that this owner is gone; safe to call twice."""
        key = (self._file, os.getpid())
        if self._place in _ours[key]:
            _ours[key].discard(self._place)
            fcntl.lockf(_descriptors[key], fcntl.LOCK_UN, 1, self._place)
            if not _ours[key]:
                os.close(_descriptors.pop(key))


def is_alive(store: Path, owner: str) -> bool:
    """Whether the process that took this name still runs. A name of an earlier version's form is nobody's."""
    _, colon, place = owner.partition(":")
    if not colon or not place.isdecimal():
        return False
    file = _file_of(store)
    if int(place) in _ours[file, os.getpid()]:
        return True
    with _descriptor(file) as descriptor:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(place))
        except (BlockingIOError, PermissionError):
            return True
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, int(place))
        return False


def process_of(owner: str) -> str:
    """The owner's process number, in its own container, for messages."""
    return owner.partition(":")[0]


def _file_of(store: Path) -> Path:
    return store.absolute().with_name(store.name + "-owners")


def _opened(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


@contextmanager
def _descriptor(file: Path) -> Generator[int, None, None]:
    """The file, open: as it is where this process keeps locks in it, else for the block."""
    kept = _descriptors.get((file, os.getpid()))
    descriptor = _opened(file) if kept is None else kept
    try:
        yield descriptor
    finally:
        if kept is None:
            os.close(descriptor)

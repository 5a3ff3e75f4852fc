"""The last guard: grading that does not end is ended, with the row's answer, and never becomes a score.

The graders are bounded by the form of a text and need no clock. Should one loop all the same, a thread that wakes up
now and then raises `GradingTimeout` where it loops, in whatever thread that is.
"""

import ctypes
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from open_r1.schema import UserError

SECONDS = 5.0
_WAKE_UP = 0.5


class GradingTimeout(UserError):
    """Grading took longer than `SECONDS`: the step ends, no score is given."""


class _Watch:
    """What is graded at the moment, by thread; one for each process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.began: dict[int, float] = {}
        self.late: set[int] = set()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self.look, name="grading deadline", daemon=True)
        self.thread.start()

    def look(self) -> None:
        while True:
            time.sleep(_WAKE_UP)
            with self.lock:
                for thread, began in self.began.items():
                    if time.monotonic() - began > SECONDS and thread not in self.late:
                        self.late.add(thread)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(
                            ctypes.c_ulong(thread), ctypes.py_object(GradingTimeout)
                        )


_watch = _Watch()


def _fresh() -> None:
    global _watch
    _watch = _Watch()  # the thread did not come along, and another thread may have held the lock


import os  # noqa: E402

os.register_at_fork(after_in_child=_fresh)


@contextmanager
def guarded(answer: str) -> Generator[None]:
    """Raise GradingTimeout, which names the row's answer, where the block takes longer than `SECONDS`."""
    watch, thread = _watch, threading.get_ident()
    if watch.thread is None:
        watch.start()
    if thread in watch.began:  # a guarded block inside another
        yield
        return
    watch.began[thread] = time.monotonic()
    try:
        yield
    except GradingTimeout:
        raise GradingTimeout(
            f"grading against the answer {answer[:80]!r} took over {SECONDS:g} s; no score is given"
        ) from None
    finally:
        with watch.lock:
            watch.began.pop(thread, None)
            watch.late.discard(thread)

"""The last guard: grading that does not end is ended, with the row's name, and never becomes a score.

The graders are bounded by the form of a text and need no clock. Should one loop all the same, a thread that wakes up
now and then raises `GradingTimeout` where it loops, in whatever thread that is.
"""

import ctypes
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from open_r1.schema import UserError

SECONDS = 5.0
_WAKE_UP = 0.5


class GradingTimeout(UserError):
    """Grading took longer than `SECONDS`: the step ends, no score is given."""

    def __init__(self, message: object = "grading took too long"):  # Python raises it in a thread without a message
        super().__init__(message)


class _Watch:
    """What is graded at the moment, by thread; one for each process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.began: dict[int, float] = {}
        self.late: set[int] = set()
        self.started = False

    def start(self) -> None:
        """Begin to look, once."""
        self.started = True
        threading.Thread(target=self.look, name="grading deadline", daemon=True).start()

    def look(self) -> None:
        """Raise GradingTimeout in every thread that is late."""
        while True:
            time.sleep(_WAKE_UP)
            with self.lock:
                for thread, began in list(self.began.items()):
                    if time.monotonic() - began > SECONDS and thread not in self.late:
                        self.late.add(thread)
                        _raise_in(thread, GradingTimeout)

    def leave(self, thread: int) -> bool:
        """Stop to look after a thread; whether it was late."""
        with self.lock:
            self.began.pop(thread, None)
            late = thread in self.late
            self.late.discard(thread)
            if late:
                _raise_in(thread, None)  # what was raised may not have arrived yet
            return late


def _raise_in(thread: int, error: type[Exception] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)


_watch = _Watch()


def _renew() -> None:
    global _watch
    _watch = _Watch()  # its thread did not come along, and another thread may have held its lock


os.register_at_fork(after_in_child=_renew)


@contextmanager
def guarded(answer: str) -> Generator[None]:
    """Raise GradingTimeout, which names the row's answer, where the block takes longer than `SECONDS`."""
    watch, thread = _watch, threading.get_ident()
    if thread in watch.began:  # a guarded block inside another
        yield
        return
    if not watch.started:
        watch.start()
    watch.began[thread] = time.monotonic()
    late = False
    try:
        yield
    except GradingTimeout:
        late = True
    finally:
        late = watch.leave(thread) or late
    if late:
        raise GradingTimeout(f"grading against the answer {answer[:80]!r} took over {SECONDS:g} s: no score is given")


@contextmanager
def of_row(row_id: str) -> Generator[None]:
    """Name the row in a GradingTimeout of the block."""
    try:
        yield
    except GradingTimeout as late:
        raise GradingTimeout(f"row {row_id}: {late}; leave the row out and report its text") from None

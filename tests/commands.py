"""Run a command as `python -m` does: its exit status, with what a user's error prints."""

import sys
from unittest import mock

from open_r1.utils.entry import run_entry


def status_of(main, words) -> int:
    """The exit status of a command's `main` with these words."""
    with mock.patch.object(sys, "argv", ["command", *map(str, words)]):
        try:
            run_entry(main)
        except SystemExit as ended:
            return ended.code

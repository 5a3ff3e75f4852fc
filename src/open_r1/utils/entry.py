"""What every command shares: its options in one spelling, and one exit status for a user's error.

    python -m open_r1.cli.plan --task trance --model 7b

A command is a module with `main(argv) -> exit status`; its last lines are `if __name__ == "__main__": run_entry(main)`.
"""

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypedDict

from open_r1.schema import UserError


class Option(TypedDict, total=False):
    """What argparse is given of an option."""

    default: str
    type: type[Path]
    action: str
    help: str


OPTIONS: dict[str, Option] = {
    "task": {"default": "clevr_math", "help": "clevr_math, geomath or trance"},
    "model": {"default": "tiny", "help": "whose recipe gives sizes and sampling: tiny, 2b or 7b"},
    "method": {"default": "ekipl", "help": "a file in recipes/methods"},
    "teachers": {"default": "", "help": "files in recipes/teachers, by commas (default: the task's scripted ones)"},
    "model_path": {"default": "", "help": "checkpoint, adapter or run folder (default: the recipe's)"},
    "output": {"type": Path, "help": "file or folder to write"},
    "dry_run": {"action": "store_true", "help": "show what would happen; start, ask and write nothing"},
}
# Errors of the file system that the user puts right: the message says enough, a traceback would hide it.
USER_ERRNOS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR,
}  # fmt: skip


def command_parser(description: str | None, **options: str | None) -> argparse.ArgumentParser:
    """Build a command's parser with the shared options that it takes.

    Args:
        description: the module's docstring; its first line is shown.
        options: names of OPTIONS; a text takes the place of the shared help, None keeps it.
    """
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0], allow_abbrev=False)
    for name, help_ in options.items():
        option = OPTIONS[name]
        parser.add_argument(f"--{name}", **(option | {"help": help_} if help_ else option))
    return parser


def run_entry(main: Callable[[Sequence[str]], int | None], interrupted: str = "") -> NoReturn:
    """Run a command and exit: 2 with the message alone for what the user can put right, 130 for Ctrl-C.

    `interrupted` is said after Ctrl-C: what is kept, and how to go on.
    """
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        status = 2
    except OSError as error:
        if error.errno not in USER_ERRNOS:
            raise
        print(f"{error.filename or 'the disk'}: {error.strerror}; make it possible to write there", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        status = 130
    sys.exit(status or 0)

import errno
import os

import pytest

from open_r1.schema import UserError
from open_r1.utils.entry import command_parser, run_entry


def fails(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("x is 1; it must be 2; write 2"), 2, "x is 1; it must be 2; write 2\n"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/a/b"), 2, "/a/b: Read-only file system;"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_the_user_can_put_right_is_one_line_and_status_2(capsys, error, status, message):
    with pytest.raises(SystemExit) as ended:
        run_entry(fails(error))
    assert ended.value.code == status
    err = capsys.readouterr().err
    assert err.startswith(message) and err.count("\n") == (1 if message else 0)


@pytest.mark.parametrize("error", [RuntimeError("ours"), OSError(errno.EIO, "input/output error")])
def test_every_other_error_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run_entry(fails(error))


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1)])
def test_a_commands_own_status_is_the_exit_status(returned, status):
    with pytest.raises(SystemExit) as ended:
        run_entry(lambda argv: returned)
    assert ended.value.code == status


def test_options_have_one_spelling_and_a_command_may_say_what_its_own_are_for():
    parser = command_parser("First line.\nSecond.", task=None, output="folder of the evaluation", dry_run=None)
    args = parser.parse_args(["--task", "trance", "--dry_run"])
    assert (args.task, args.output, args.dry_run) == ("trance", None, True)
    assert "folder of the evaluation" in parser.format_help() and "Second" not in parser.format_help()

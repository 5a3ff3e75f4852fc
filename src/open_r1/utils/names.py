"""Errors for names that do not exist, with the nearest one that does."""

import difflib
from collections.abc import Iterable

from open_r1.schema import UserError


def unknown_name(what: str, name: str, valid: Iterable[str], where: str = "") -> UserError:
    """Build (not raise) the error for an unknown `name`: what, where, the rule, and the nearest valid name.

    >>> str(unknown_name("task", "trnce", ["trance", "geomath"]))
    "unknown task 'trnce'; valid: geomath, trance; did you mean 'trance'?"
    """
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.55)
    listed = ", ".join(valid) if len(valid) <= 12 else ", ".join(difflib.get_close_matches(name, valid, 5, 0.3))
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return UserError(f"unknown {what} '{name}'{' in ' + where if where else ''}; valid: {listed}{hint}")

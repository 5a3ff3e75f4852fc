"""The grader of spatial transformation: sets of (function, object, value), in full and with partial credit."""

import re
from collections import defaultdict
from functools import lru_cache
from importlib import import_module
from itertools import permutations

from open_r1.rewards.plain import plain
from open_r1.rewards.tags import MAX_ANSWER, parse_reply
from open_r1.schema import Score, UserError
from open_r1.utils.names import unknown_name

_NAMES = {"colour": "color"}
SPATIAL_SETTINGS = ("full", "partial")

Function = tuple[str, str, str]  # ("color", "2", "cyan")

# change_color(2, cyan), change-color('2', 'cyan'), Change Color ( Object_2 -> "Cyan" ); every repetition is bounded.
_FUNCTION = re.compile(
    r"change[ _-]?(?P<name>[a-z]{1,20})\s{0,3}\(\s{0,3}"
    r"['\"`]?(?:(?:object|obj|id)[ _#=:-]{0,3})?#?(?P<object>\d{1,6})['\"`]?"
    r"(?:\s{0,3}(?:->|→|[,;:])\s{0,3}|\s{1,3})"
    r"['\"`]?(?P<value>[a-z]{1,20}(?:[ _-]{1,2}[a-z]{1,20})?)['\"`]?\s{0,3}[,;]?\s{0,3}\)",
    re.IGNORECASE | re.ASCII,
)
# What that pattern does not know is read in its plain spelling, argument by argument: change_color(id=2, color=cyan).
_ANY_FUNCTION = re.compile(
    r"change[ _-]{0,2}([a-z]{1,20})['\"*]{0,2}\s{0,3}\(([^()]{1,120})\)", re.IGNORECASE | re.ASCII
)
_SEPARATOR = re.compile(r"\s*(?:[,;]|->|→|=>)\s*")
_WEAK_SEPARATOR = re.compile(r"\s*:\s*|\s+")
_KEYWORD = re.compile(r"['\"]?([a-z_ ]{1,20}?)['\"]?\s{0,3}[=:]\s{0,3}(?=\S)", re.IGNORECASE)
_OBJECT = re.compile(r"['\"*]*(?:(?:object|obj|id)[ _#:-]{0,3}){0,2}#?(\d{1,6})['\"*]*", re.IGNORECASE)
_OBJECT_KEYS = frozenset({"object", "obj", "id", "objectid", "objid", "index", "target", "item"})
_VALUE = re.compile(r"['\"*]*([a-z]{1,20}(?:[ _-]{1,2}[a-z]{1,20})?)['\"*]*", re.IGNORECASE | re.ASCII)
_CALL = re.compile(r"[a-z]\([^()]{0,120}", re.IGNORECASE)  # anything written as a function


def _value(text: str) -> str:
    """One spelling per value: "Front-Left" and "left front" are both "front_left"."""
    text = text.lower()
    return text if text.isalpha() else "_".join(sorted(re.split(r"[ _-]+", text)))


def parse_functions(text: str) -> frozenset[Function]:
    """Return the functions that a text names, whatever separates them; what cannot be read is no function.

    >>> sorted(parse_functions("change_color(2, cyan) -> Change-Position('Object_2', Front-Left)"))
    [('color', '2', 'cyan'), ('position', '2', 'front_left')]
    """
    if len(text) > MAX_ANSWER:
        return frozenset()
    found = _FUNCTION.findall(text)
    if len(found) != text.count("(") or not found:
        found = [function for match in _ANY_FUNCTION.finditer(plain(text)) if (function := _arguments(*match.groups()))]
    return frozenset(
        (
            _NAMES.get(name, name) if name.islower() else name.lower(),
            number if len(number) == 1 else str(int(number)),
            _value(value),
        )
        for name, number, value in found
    )


def _arguments(name: str, text: str) -> Function | None:
    """The function with these arguments: an object and a value, in this order unless both have keywords."""
    parts = [part for part in _SEPARATOR.split(text.strip()) if part]
    if len(parts) == 1:
        parts = [part for part in _WEAK_SEPARATOR.split(parts[0], maxsplit=1) if part]
    if len(parts) != 2:
        return None
    keys = [_KEYWORD.match(part) for part in parts]
    if all(keys) and re.sub("[_ ]", "", keys[1][1].lower()) in _OBJECT_KEYS:  # type: ignore[index]
        parts, keys = parts[::-1], keys[::-1]
    object_, value = (part[key.end() :] if key else part for part, key in zip(parts, keys, strict=True))
    number, word = _OBJECT.fullmatch(object_), _VALUE.fullmatch(value)
    return (name, number[1], word[1]) if number and word else None


def spatial_fault(answer: str) -> str | None:
    """Why no reply of the spatial task could be graded against a row's answer; None where one can."""
    text = parse_reply(answer).graded
    found, said = len(parse_functions(text)), len(set(_CALL.findall(plain(text))))
    example = "such as 'change_color(2, cyan)': correct the row's answer"
    if not found or len(text) > MAX_ANSWER:
        return f"names no function; a spatial answer must hold at least one, {example}"
    if found < said:
        return f"holds {said} functions of which {found} can be read; each has an object and a value, {example}"
    return None


@lru_cache(maxsize=65536)
def _true_functions(answer: str) -> frozenset[Function]:
    """The functions of a row's answer; raises UserError where it names none."""
    if (fault := spatial_fault(answer)) is not None:
        raise UserError(f"answer {answer[:80]!r} {fault}")
    return parse_functions(parse_reply(answer).graded)


def _credit(given: Function, true: Function) -> float:
    """Credit of a pair that is not equal: .5 with the object or the value right, .25 with the function alone."""
    if given[0] != true[0]:
        return 0.0
    return 0.5 if given[1] == true[1] or given[2] == true[2] else 0.25


def _pairing_credit(given: list[Function], true: list[Function]) -> float:
    """The largest total credit of a one-to-one pairing of functions with one name, none of them equal."""
    few, many = (given, true) if len(given) <= len(true) else (true, given)
    if len(many) <= 3:  # at most six pairings: quicker tried than solved
        return max(sum(map(_credit, few, chosen)) for chosen in permutations(many, len(few)))
    scipy_optimize = import_module("scipy.optimize")  # takes a second to import and is seldom needed
    credit = [[_credit(one, other) for other in true] for one in given]
    pairs: tuple[list[int], list[int]] = scipy_optimize.linear_sum_assignment(credit, maximize=True)
    return sum(credit[row][column] for row, column in zip(*pairs, strict=True))


def _partial(given: frozenset[Function], true: frozenset[Function]) -> float:
    """Total credit of the best pairing of two sets.

    Equal functions are paired first. That loses nothing: two pairs it breaks up earn at most .5 each, the equal pair
    earns 1. Functions of different names earn nothing together, so each name is paired on its own. Every credit is a
    multiple of 1/4, so the sum is exact and does not depend on the order of the sets.
    """
    rest: dict[str, tuple[list[Function], list[Function]]] = defaultdict(lambda: ([], []))
    for function in given - true:
        rest[function[0]][0].append(function)
    for function in true - given:
        if function[0] in rest:
            rest[function[0]][1].append(function)
    return len(given & true) + sum(_pairing_credit(*sides) for sides in rest.values() if all(sides))


def grade_spatial(reply: str, answer: str, setting: str = "full") -> Score:
    """Score a reply of the spatial task; `accuracy` is `full` or `partial`, as `setting` says; both are set.

    With P the reply's and S the answer's set of functions: full = |P and S| / max(|P|, |S|); partial gives 1 for an
    equal pair, .5 with the object or the value right, .25 with the function alone, over the same denominator, for the
    pairing with the largest total. Functions are read in the first answer tag, or in the whole reply where it has none.

    Unlike Reason-RFT, the pairing is the best one rather than a greedy one over a set (which changes with
    PYTHONHASHSEED), and functions said twice count once: there is no repetition factor |set| / |list|.

    Raises:
        UserError: `setting` is unknown, or `answer` names no function.
    """
    if setting not in SPATIAL_SETTINGS:
        raise unknown_name("setting", setting, SPATIAL_SETTINGS, where="the spatial grader")
    true = _true_functions(answer)
    parsed = parse_reply(reply)
    given = parse_functions(parsed.graded)
    if given == true:
        full = partial = 1.0
    elif not given:
        full = partial = 0.0
    else:
        most = max(len(given), len(true))
        full, partial = len(given & true) / most, _partial(given, true) / most
    return Score(full if setting == "full" else partial, float(parsed.well_formed), full, partial)

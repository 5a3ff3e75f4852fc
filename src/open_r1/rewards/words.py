"""Answers in words: equal as texts, whatever sentence they stand in."""

import re

_ARTICLES = re.compile(r"\b(?:a|an|the)\b|[^\w∠△⊙∥⊥+=<>≤≥≠-]")
_BEHIND = re.compile(r"\b(?:is|are|be|it's)\b|[:：是为]", re.IGNORECASE)


def same_words(given: str, true: str) -> bool:
    """Whether two plain texts say the same, or the first says it behind its first or last "is" or colon."""
    wanted = _bare(true)
    pieces = _BEHIND.split(given[-400:])
    first = re.split(r"[,.;\n]", given, maxsplit=1)
    if (
        len(first) == 2
        and wanted in ("yes", "no", "true", "false")
        and not re.search(r"\b(?:or|but|maybe)\b", first[1])
    ):
        return _bare(first[0]) == wanted
    said = {_bare(given), _bare(pieces[-1]), _bare(given[len(pieces[0]) + 1 :].lstrip("s"))}
    return bool(wanted) and wanted in said


def _bare(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.casefold()).split())

"""Text from outside as a terminal may show it."""


def printable(text: str, most: int = 200) -> str:
    r"""Escape what is not to be printed (line breaks, terminal sequences, half a surrogate pair) and cut long text.

    >>> print(printable("a\x1b[31mb\ud800"))
    a\x1b[31mb\ud800
    """
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: most + 1])
    return escaped if len(text) <= most else escaped[: most - 3] + "..."

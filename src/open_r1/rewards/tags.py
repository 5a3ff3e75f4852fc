"""Replies: how think and answer tags are written and read. Nothing else in the code base looks for tags."""

from typing import NamedTuple

_THINK, _THINK_END = "<think>", "</think>"
_ANSWER, _ANSWER_END = "<answer>", "</answer>"
MAX_ANSWER = 20_000  # characters; graders take a longer text for no answer


class ParsedReply(NamedTuple):  # a tuple, as graders make one per reply and a frozen dataclass takes thrice the time
    """A reply taken apart.

    Example: parse_reply("<think>3 + 2</think> <answer> 5 </answer>") is
    ParsedReply(think="3 + 2", answer="5", well_formed=True).
    """

    think: str | None  # text of the first think tag, stripped; None without one
    answer: str | None  # text of the first answer tag, stripped; None without one
    well_formed: bool  # one think tag, white space, one answer tag, and nothing else


def _between(text: str, start: str, end: str) -> str | None:
    """Text of the first `start`...`end`, stripped; None where the one or the other is missing."""
    begin = text.find(start)
    stop = text.find(end, begin + len(start)) if begin >= 0 else -1
    return text[begin + len(start) : stop].strip() if stop >= 0 else None


def parse_reply(text: str) -> ParsedReply:
    """Take a reply apart, in time linear in its length.

    A tag that appears twice, appears in the wrong order, stays open, or has text before or behind it (a trailing line
    break is such text) makes the reply not well formed; think and answer are read all the same.
    """
    return ParsedReply(_between(text, _THINK, _THINK_END), _between(text, _ANSWER, _ANSWER_END), _well_formed(text))


def _well_formed(text: str) -> bool:
    """Whether the text is <think>...</think>, white space, <answer>...</answer>, and holds no further tag."""
    if not (text.startswith(_THINK) and text.endswith(_ANSWER_END)):
        return False
    end, start = text.find(_THINK_END), text.find(_ANSWER)
    return (
        0 < end < start
        and not text[end + len(_THINK_END) : start].strip()
        and text.find(_THINK, 1) < 0
        and text.find(_THINK_END, end + 1) < 0
        and text.find(_ANSWER, start + 1) < 0
        and text.find(_ANSWER_END) == len(text) - len(_ANSWER_END)
    )


def graded_text(text: str, parsed: ParsedReply | None = None) -> str:
    """The part of a reply (or of a row's answer) that a grader reads, stripped.

    The first answer tag's text; all of it where no answer tag opens; nothing where one opens and never closes, because
    such a reply was cut off in the middle of its answer.
    """
    answer = (parsed or parse_reply(text)).answer
    if answer is not None:
        return answer
    return "" if _ANSWER in text else text.strip()


def format_reply(cot: str, answer: str) -> str:
    """Write a well-formed reply: the target of CoT-SFT and what scripted external models say.

    Args:
        cot: the reasoning, bare or already wrapped in think tags (data sets have both).
        answer: the answer, without tags.
    """
    inner = _between(cot, _THINK, _THINK_END)
    return f"{_THINK}{cot if inner is None else inner}{_THINK_END}\n{_ANSWER}{answer}{_ANSWER_END}"

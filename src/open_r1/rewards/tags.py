"""Replies: how think and answer tags are written and read. Nothing else in the code base looks for tags."""

import re
from typing import NamedTuple

_THINK, _THINK_END = "<think>", "</think>"
_ANSWER, _ANSWER_END = "<answer>", "</answer>"
MAX_ANSWER = 20_000  # characters; graders take a longer text for no answer
_MAX_REPLY = 500_000  # characters; a longer text is graded only where it is well formed

# Tags as models misspell them: graded like the right ones, never well formed. Runs of closing tags are one end.
_OPENING = re.compile(r"<\s{0,2}(?:(?P<think>think(?:ing)?|thought)|answer)\s{0,2}>", re.IGNORECASE)
_THOUGHT = re.compile(r"<\s{0,2}(?:think(?:ing)?|thought)\s{0,2}>", re.IGNORECASE)
_THOUGHT_END = re.compile(r"(?:<\s{0,2}/\s{0,2}(?:think(?:ing)?|thought)\s{0,2}>\s*+)++", re.IGNORECASE)
_END = re.compile(r"<\s{0,2}/\s{0,2}answer\s{0,2}>", re.IGNORECASE)
_ANY_TAG = re.compile(r"<\s{0,2}/?\s{0,2}(?:think(?:ing)?|thought|answer)\s{0,2}>", re.IGNORECASE)


class ParsedReply(NamedTuple):  # a tuple, as graders make one per reply and a frozen dataclass takes thrice the time
    """A reply taken apart.

    Example: parse_reply("<think>3 + 2</think> <answer> 5 </answer>") is
    ParsedReply(think="3 + 2", answer="5", graded="5", well_formed=True).
    """

    think: str | None  # text of the first thought, stripped; None without one, or where it was cut off
    answer: str | None  # text of the first answer tag outside a thought, stripped; None without one
    graded: str  # what a grader reads; "" where the reply was cut off
    well_formed: bool  # one think tag, white space, one answer tag, and nothing else


def parse_reply(text: str) -> ParsedReply:
    """Take a reply apart, in time linear in its length.

    A thought reaches from its opening tag (from the beginning, where only its end is tagged: chat templates open it
    in the prompt) to the last closing tag before the next thought that anything follows; tags named inside are text.
    `graded` is the first answer tag outside the thoughts; without one, what follows the last thought (all of the
    text, where there is none); nothing where a thought or an answer opens and never closes.

    A tag that appears twice, appears in the wrong order, stays open, or has text before or behind it (a trailing line
    break is such text) makes the reply not well formed.
    """
    if (parts := _well_formed(text)) is not None:
        think, answer = parts
        return ParsedReply(think, answer, answer, True)
    if len(text) > _MAX_REPLY:
        return ParsedReply(None, None, "", False)
    think, start = _skip_thoughts(text)
    opening = None if start is None else _OPENING.search(text, start)
    if start is None or opening is None:
        return ParsedReply(think, None, "" if start is None else text[start:].strip(), False)
    closing = _END.search(text, opening.end())
    if closing is None:
        return ParsedReply(think, None, "", False)
    answer = text[opening.end() : closing.start()]
    answer = (_OPENING.split(answer)[-1] if "<" in answer else answer).strip()
    return ParsedReply(think, answer, answer, False)


def _skip_thoughts(text: str) -> tuple[str | None, int | None]:
    """The first thought, and where the text behind the thoughts starts: None where a thought was cut off."""
    think, start = None, 0
    end, thought, opening = _THOUGHT_END.search(text), _THOUGHT.search(text), _OPENING.search(text)
    if end and not (thought and thought.start() < end.start()) and (end.end() < len(text) or opening is None):
        end = _thought_end(text, 0) or end
        think, start = text[: end.start()].strip(), end.end()
        opening = _OPENING.search(text, start)
    while opening and opening["think"]:
        end = _thought_end(text, opening.end())
        if end is None:
            return None, None
        think = text[opening.end() : end.start()].strip() if think is None else think
        start = end.end()
        opening = _OPENING.search(text, start)
    return think, start


def _well_formed(text: str) -> tuple[str, str] | None:
    """Thought and answer where the text is <think>...</think>, white space, <answer>...</answer>, with no more tags."""
    if not (text.startswith(_THINK) and text.endswith(_ANSWER_END)):
        return None
    end, start = text.find(_THINK_END), text.find(_ANSWER)
    behind = end + len(_THINK_END)
    if (
        0 < end < start
        and not text[behind:start].strip()
        and text.find(_THINK, 1) < 0
        and text.find(_THINK_END, end + 1) < 0
        and text.find(_ANSWER, start + 1) < 0
        and text.find(_ANSWER_END) == len(text) - len(_ANSWER_END)
    ):
        return text[len(_THINK) : end].strip(), text[start + len(_ANSWER) : -len(_ANSWER_END)].strip()
    return None


def _thought_end(text: str, start: int) -> re.Match[str] | None:
    """The closing tags that end the thought which is under way at `start`; None where it was cut off."""
    end = _THOUGHT_END.search(text, start)
    if end is None:
        return None
    following = _THOUGHT.search(text, end.end())
    for later in _THOUGHT_END.finditer(text, end.end(), following.start() if following else len(text)):
        if later.end() < len(text):
            end = later
    return end


def reasoning_fault(cot: str) -> str | None:
    """Why a row's bare reasoning cannot be trained on: it holds tags, which no reply could repeat in good form."""
    if found := _ANY_TAG.search(cot):
        return f"the reasoning holds the tag {found[0]}, so that no reply with it is well formed; remove the tag"
    return None


def answer_tag_fault(answer: str) -> str | None:
    """Why a row's answer cannot be graded for its tags: it holds one."""
    if found := _ANY_TAG.search(answer):
        return f"the answer holds the tag {found[0]}, which ends the answer of a reply; remove the tag"
    return None


def format_reply(cot: str, answer: str) -> str:
    """Write a well-formed reply: the target of CoT-SFT and what scripted external models say.

    Args:
        cot: the reasoning, bare or already wrapped in think tags (data sets have both).
        answer: the answer, without tags.
    """
    inner = parse_reply(cot).think if cot.lstrip().startswith(_THINK) else None
    return f"{_THINK}{cot if inner is None else inner}{_THINK_END}\n{_ANSWER}{answer}{_ANSWER_END}"

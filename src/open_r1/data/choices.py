"""Choices of a row as a list: written under the problem with letters, and the answer as the right one's letter."""

import re
from string import ascii_uppercase

from open_r1.data.sources import json_type
from open_r1.schema import UserError
from open_r1.utils.files import is_list, is_object

_LABELLED = re.compile(r"\s*\(?([A-Za-z])[).:]\s*(.*)", re.DOTALL)


def add_choices(problem: str, answers: list[str], key: str, choices: object) -> tuple[str, list[str]]:
    r"""Return the problem with the choices under it, and the right choice's letter for every answer.

    An answer is a choice's letter or its text. Choices that the problem lists already are not repeated.

    Raises:
        UserError: the choices are no list of two to 26 different texts, or an answer is none of them or two.

    >>> add_choices("Which?", ["slide"], "choices", ["swing", "slide"])
    ('Which?\nA. swing\nB. slide', ['B'])
    """
    texts = _texts(key, choices)
    pairs = list(zip(ascii_uppercase, texts, strict=False))
    if not all(re.search(rf"\b{letter}\s*[).:]\s*{re.escape(text)}", problem) for letter, text in pairs):
        lines = [f"{letter}. {text}" for letter, text in pairs]
        problem = "\n".join([problem.rstrip(), *lines])
    return problem, [_letter(answer, texts) for answer in answers]


def _texts(key: str, choices: object) -> list[str]:
    if is_object(choices):  # {"A": "swing", "B": "slide"}
        if list(choices) != list(ascii_uppercase[: len(choices)]):
            raise UserError(
                f"'{key}' is a mapping of {', '.join(map(str, choices))}; its keys are A, B, ...; make a list"
            )
        choices = list(choices.values())
    texts = [text.strip() for text in choices if isinstance(text, str)] if is_list(choices) else []
    if not is_list(choices) or not all(texts) or len(texts) < len(choices):
        raise UserError(f"'{key}' is a JSON {json_type(choices)}; choices are a list of texts; fix it")
    found = [_LABELLED.fullmatch(text) for text in texts]
    if all(match and match[1].upper() == letter for match, letter in zip(found, ascii_uppercase, strict=False)):
        texts = [match[2].strip() for match in found if match]
    if not 2 <= len(texts) <= len(ascii_uppercase) or len(set(texts)) < len(texts):
        raise UserError(
            f"'{key}' holds {len(texts)} choices of which {len(set(texts))} differ; there are 2 to 26; fix it"
        )
    return texts


def _letter(answer: str, texts: list[str]) -> str:
    """The letter that an answer means."""
    bare, letters = answer.strip(), ascii_uppercase[: len(texts)]
    known = re.fullmatch(r"\(?([A-Za-z])[).]?", bare)
    as_letter = known[1].upper() if known and known[1].upper() in letters else None
    same = [letter for letter, text in zip(letters, texts, strict=True) if text.casefold() == bare.casefold()]
    same = [letter for letter, text in zip(letters, texts, strict=True) if text == bare] or same
    meant = {*same[:2], *([as_letter] if as_letter else [])}
    if len(meant) != 1:
        why = "two choices" if meant else "none of the choices"
        raise UserError(
            f"the answer {bare[:40]!r} means {why}; an answer is a letter from A to {letters[-1]}, or a choice's text;"
            " fix it"
        )
    return meant.pop()

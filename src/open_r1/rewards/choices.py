"""Multiple choice: the one letter that a plain text chooses."""

import re

from open_r1.rewards.wording import ANSWER, ANSWER_CJK, COPULA, NEGATION, any_of

_OPEN, _CLOSE = r"[(\[{\"']", r"[)\]}\"']"
_LETTER = re.compile(
    rf"{_OPEN}*\s*(?:(?:option|choice|answer)\s*:?\s*|选项?|选择)?{_OPEN}*\s*([A-Za-z])\s*(?:{_CLOSE}|[.:,])*\s*(?:选?项)?",
    re.IGNORECASE,
)
# Labels of figures: in "triangle A." and "point C:" the letter is no choice.
_LABELLED = re.compile(
    r"\b"
    + any_of(
        "triangle point line angle circle figure square side vertex segment plane shape graph box set case"
        " statement ray"
        " region rectangle node gear wheel row column group car cup object cube ball part path arc chord edge"
        " face corner"
        " position from to at of and"
    )
    + r"\s*$",
    re.IGNORECASE,
)
_GOES_ON = r"(?=\s+(?:is|it is|because|since|as|-?\d|\\|√|\(|=)|\s*是)"
_FIRST = re.compile(
    rf"{_OPEN}*\s*(?:(?:option|choice)\s+|选项?|选择|故选)?(?:{_OPEN}(?P<boxed>[A-Za-z]){_CLOSE}+[.:,]?"
    rf"|(?P<marked>[A-Za-z])(?:\s?[)\]}}.:]|(?=[,;\n])|(?=\s?-\s))"
    rf"|(?P<spaced>(?-i:[B-HJ-Z])){_GOES_ON}|(?P<article>(?-i:A))(?!\s+as){_GOES_ON})\s*(?P<rest>.*)",
    re.DOTALL | re.IGNORECASE,
)
_ANSWER = re.compile(
    rf"(?P<final>final\s+|最终|最后)?(?:\b(?:{ANSWER}|solution)\b(?:\s+to\s[^.:\n]{{1,40}}?)?"
    rf"|(?P<weak>\b(?:option|choice|choose|select|pick)\b)|(?:故|应该?|因此)?选择?项?|正确选项|{ANSWER_CJK})"
    rf"\s{{0,2}}(?P<copula>(?:(?:{COPULA}|to be)\b|(?:应该?|应当)?[是为為は은는])?"
    rf"\s{{0,2}}[:=]?)\s{{0,2}}(?:therefore\s)?"
    r"(?:(?:the\s)?(?:letter|option|choice|选项)\s{0,2}:?\s{0,2})?"
    rf"(?:(?P<wrapped>{_OPEN}{{1,2}}\s?[A-Za-z]\s?(?:{_CLOSE}|$))|(?P<bare>[A-Za-z])(?![A-Za-z'’]))",
    re.IGNORECASE,
)
_CORRECT = re.compile(
    r"(?<![A-Za-z])\(?([A-Z])\)?\s+(?:is|was|must be|seems|looks)\s+(?:(?:therefore|thus|clearly|indeed|the|only"
    r"|most|best|one)\s)*"
    r"(?:correct|right|true|answer|best|one|choice)\b"
)
_REJECTED = re.compile(
    r"(?<![A-Za-z])\(?[A-Z]\)?,?\s?(?:but\s(?:it|that|this)\s)?(?:(?:is|was|are|seems)\s(?:also\s|clearly\s)?"
    r"(?:not|incorrect|wrong|false|impossible)|isn't|cannot|can't|不对|错误|不正确|是错)"
    r"|\b(?i:not|isn't|rather than|instead of|unlike|over)\s\(?(?:option\s|choice\s)?\(?[A-Z]\)?(?![A-Za-z])"
)
_DENIED = re.compile(
    r"(?:\b(?:not|neither|nor|never|exclude|rule out|eliminate)|n't|[不非])\s*(?:the\s)?$", re.IGNORECASE
)
_LAST = re.compile(
    rf"(?:\b(?i:{any_of('is be so therefore thus hence choose pick select chose with say but think believe')}|it's),?"
    r"|[:,→⇒>]|^|\n)"
    rf"\s*{_OPEN}*([A-Z])(?:{_CLOSE}|\.)*$"
)
_CONCLUSION = re.compile(r"[.\n;]\s|\b(?=(?:so|therefore|thus|hence)\b)|(?=所以|因此|故)")
_OTHER = re.compile(r"(?:^|[\s,;/|])\(?([A-H])[).:]\s")
_JOINED = re.compile(
    r"\s*[(\[]?(?:,|/|;|&|\+|\||\bor\b|\band\b|\bmaybe\b|[或和与、])+\s*"
    rf"(?:{any_of('but or and maybe perhaps possibly also even either option choice (?:it_)?(?:could|might)_be')}\s)"
    r"{0,4}[(\[]?([A-Z])(?![A-Za-z])[)\]]?",
    re.IGNORECASE,
)
_SEVERAL = re.compile(rf"(?<![A-Za-z])\(?[A-Z]\)?{_JOINED.pattern}", re.IGNORECASE)
_DOUBT = re.compile(
    rf"\b(?i:{any_of('maybe perhaps possibly might could not_sure unsure alternatively wait actually')})\b"
    r"[^.\n]{0,40}?(?<![A-Za-z])\(?([A-H])(?![A-Za-z'])|或者?\s?\(?([A-H])"
)


def true_choice(text: str) -> str | None:
    """The letter where a row's plain answer is a choice: a letter alone, or a letter in front of its text ("B. 12")."""
    alone = re.fullmatch(r"[(\[]?\s*([A-Za-z])\s*[)\].:]*", text) or re.fullmatch(r"\(?([A-H])[).:,]\s*[^=]*", text)
    if alone is None or _JOINED.match(text, alone.end(1)):
        return None
    return alone[1].upper()


def read_choice(text: str) -> str | None:
    """The letter that a plain text chooses, upper case: "B", "b", "(B)", "B. 12", "the answer is b", "答案是B".

    None where it chooses none, rejects one ("not B") or offers several ("A or B").
    """
    text = text[:300] + "\n" + text[-1700:] if len(text) > 2000 else text
    if match := _LETTER.fullmatch(text):
        return match[1].upper()
    first = _FIRST.match(text)
    return _first(text, first) if first else _stated(text)


def _first(text: str, match: re.Match[str]) -> str | None:
    """The letter in front, unless what follows offers another one or says that it is wrong."""
    place = next(name for name in ("boxed", "marked", "spaced", "article") if match[name])
    letter, rest = match[place].upper(), match["rest"]
    joined = _JOINED.match(text[match.end(place) :].lstrip(")]}\"'"))
    several = joined is not None and joined[1].upper() != letter and joined[1].isupper()
    if rest.startswith("=") or _REJECTED.match(text, match.start(place)) or several:
        return _stated(text)
    others = [other for other in _OTHER.finditer(rest) if other[1] != letter]
    if _doubted(rest, letter) or any(not _LABELLED.search(rest[: other.start(1)].rstrip("(")) for other in others):
        return None
    marked = _marked(rest)
    return letter if not marked or marked == {letter} else None


def _doubted(text: str, letter: str) -> bool:
    """Whether another letter is put forward."""
    return any((match[1] or match[2]) != letter for match in _DOUBT.finditer(text))


def _marked(text: str) -> set[str | None]:
    """The letters that stand behind "answer is" and the like; None for a statement that offers several."""
    strong, weak, final = set[str | None](), set[str | None](), set[str | None]()
    for match in _ANSWER.finditer(text):
        if not _is_letter(match, text):
            continue
        letter = re.sub(r"[^A-Za-z]", "", match["wrapped"] or match["bare"]).upper()
        joined = _JOINED.match(text, match.end())
        several = joined is not None and joined[1].upper() != letter and joined[1].isupper()
        kind = final if match["final"] else weak if match["weak"] else strong
        kind.add(None if several or _doubted(text[match.end() : match.end() + 80], letter) else letter)
    return final or strong or weak


def _is_letter(match: re.Match[str], text: str) -> bool:
    """Whether a letter behind "answer is" is chosen: it is no article and is not rejected."""
    behind = text[match.end() :]
    if _DENIED.search(text[: match.start()][-24:]) or _REJECTED.match(
        text, match.start("wrapped" if match["wrapped"] else "bare")
    ):
        return False
    if match["wrapped"]:
        return True
    if match["bare"].islower():  # "the answer is a." but not "the answer is a triangle"
        weak = match["weak"] and not match["copula"].strip()
        return not weak and re.match(r"\s*[)\]\"'.,;:!\n]|\s*$", behind) is not None
    return match["bare"] != "A" or not re.match(r"\s+(?!is\b|or\b|and\b|because\b|since\b|as\b|but\b)[a-z]{2,}", behind)


def _stated(text: str) -> str | None:
    """The letter that sentences come to: behind "answer", called correct, or at the very end."""
    if marked := _marked(text):
        return next(iter(marked)) if len(marked) == 1 else None
    text = _REJECTED.sub(" ", text)
    correct = {match[1] for match in _CORRECT.finditer(text)}
    if correct:
        return correct.pop() if len(correct) == 1 else None
    statement = _CONCLUSION.split(text.strip())[-1][-80:]
    found = _LAST.search(statement)
    if found is None or NEGATION.search(statement):
        return None
    before = statement[: found.start(1)]
    several = _SEVERAL.search(statement) or re.search(r"(?<![A-Za-z])[B-H](?![A-Za-z])", before)
    return None if several or _LABELLED.search(before) else found[1]

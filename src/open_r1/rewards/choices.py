"""Multiple choice: the one letter that a plain text chooses."""

import re

from open_r1.rewards.wording import NEGATION

_LETTER = re.compile(
    r"[(\[{\"']*\s*(?:(?:option|choice|answer)\s*:?\s*|选项?|选择)?[(\[{\"']*\s*([A-Za-z])\s*[)\]}\"'.:,]*\s*(?:选?项)?",
    re.IGNORECASE,
)
# Labels of figures: in "triangle A." and "point C:" the letter is no choice.
_LABELLED = (
    r"\b(?:triangle|point|line|angle|circle|figure|square|side|vertex|segment|plane|shape|graph|box|set|case|statement|ray|region"
    r"|rectangle|node|gear|wheel|row|column|group|car|cup|object|cube|ball|part|path|arc|chord|edge|face|corner|position|from|to|at|of|and)\s*$"
)
_FIRST = re.compile(
    r"[(\[\"']*\s*(?:(?:option|choice)\s+|选项?|选择|故选)?"
    r"(?:[(\[{\"'](?P<boxed>[A-Za-z])[)\]}\"']+[.:,]?|(?P<open>[A-Za-z])(?:\s?[)\]}.:]|(?=[,;\n])|(?=\s?-\s)))\s*(?P<rest>.*)",
    re.DOTALL | re.IGNORECASE,
)
_SPACED = re.compile(
    r"([B-HJ-Z])(?:\s+|(?=是))(?P<rest>(?:is|it is|because|since|as|-?\d|\\|√|\(|=|是).*)"
    r"|(A)(?:\s+|(?=是))(?P<other>(?:is|because|since|-?\d|\\|√|\(|=|是).*)",
    re.DOTALL,
)
_ANSWER = re.compile(
    r"(?P<final>final\s+|最终|最后)?(?:\b(?:answers?|ans|antwort|respuesta|réponse|risposta|resposta|ответ|solution)\b(?:\s+to\s[^.:\n]{1,40}?)?|(?P<weak>\b(?:option|choice|choose|select|pick)\b)"
    r"|(?:故|应|应该|因此)?选择?项?|答案|答え|正解|正确选项|정답|답)"
    r"\s{0,2}(?P<copula>(?:(?:is|are|would be|must be|should be|ist|es|est|è|é|to be)\b|(?:应该?|应当)?[是为]|是|为|為|は|은|는)?\s{0,2}[:=]?)\s{0,2}"
    r"(?:(?:the\s)?(?:letter|option|choice|选项)\s{0,2}:?\s{0,2})?(?:(?P<wrapped>[(\[{\"']{1,2}\s?[A-Za-z]\s?(?:[)\]}\"']|$))|(?P<bare>[A-Za-z])(?![A-Za-z'’]))",
    re.IGNORECASE,
)
_CORRECT = re.compile(
    r"(?<![A-Za-z])\(?([A-Z])\)?\s+(?:is|was|must be|seems|looks)\s+(?:therefore\s|thus\s|clearly\s|indeed\s)?(?:the\s)?(?:only\s|most\s|best\s|one\s)?"
    r"(?:correct|right|true|answer|best|one|choice)\b"
)
_REJECTED = re.compile(
    r"(?<![A-Za-z])\(?[A-Z]\)?,?\s?(?:but\s(?:it|that|this)\s)?(?:(?:is|was|are|seems)\s(?:also\s|clearly\s)?(?:not|incorrect|wrong|false|impossible)|isn't|cannot|can't"
    r"|不对|错误|不正确|是错)|\b(?i:not|isn't|rather than|instead of|unlike|over)\s\(?(?:option\s|choice\s)?\(?[A-Z]\)?(?![A-Za-z])"
)
_DENIED = re.compile(
    r"(?:\b(?:not|neither|nor|never|exclude|rule out|eliminate)|n't|[不非])\s*(?:the\s)?$", re.IGNORECASE
)
_LAST = re.compile(
    r"(?:\b(?i:is|be|so|therefore|thus|hence|choose|pick|select|chose|with|it's|say|but),?|[:：,→⇒>]|^|\n)\s*[(\[\"']*([A-Z])[)\]\"'.]*$"
)
_OTHER = re.compile(r"(?:^|[\s,;/|])\(?([A-H])[).:]\s")
_JOINED = re.compile(
    r"\s*[(\[]?(?:,|/|;|&|\+|\||\bor\b|\band\b|\bmaybe\b|[或和与、])+\s*(?:but\s|or\s|and\s|maybe\s|perhaps\s|possibly\s|also\s|even\s|could be\s|it could be\s|it might be\s|either\s|option\s|choice\s){0,4}[(\[]?([A-Z])(?![A-Za-z])[)\]]?",
    re.IGNORECASE,
)
_SEVERAL = re.compile(rf"(?<![A-Za-z])\(?[A-Z]\)?{_JOINED.pattern}", re.IGNORECASE)
_DOUBT = re.compile(
    r"\b(?:maybe|perhaps|possibly|might|could|not sure|unsure|alternatively)\b[^.\n]{0,40}?(?<![A-Za-z])\(?([A-H])(?![A-Za-z'])|或者?\s?\(?([A-H])"
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
    return _first(text) if (_FIRST.match(text) or _SPACED.match(text)) else _stated(text)


def _first(text: str) -> str | None:
    """The letter in front, unless what follows offers another one or says that it is wrong."""
    match = _FIRST.match(text) or _SPACED.match(text)
    assert match is not None
    groups = match.groupdict()
    place = next(
        index
        for index in range(1, len(match.groups()) + 1)
        if match[index] and len(match[index]) == 1 and match[index].isalpha()
    )
    letter, rest = match[place].upper(), groups["rest"] or groups.get("other") or ""
    if rest.startswith("=") or _REJECTED.match(text):
        return _stated(text)
    behind = text[match.end(place) :].lstrip(")]}\"'")
    if (joined := _JOINED.match(behind)) and joined[1].upper() != letter and joined[1].isupper():
        return _stated(text)
    if _doubted(rest, letter) or any(
        other[1] != letter and not re.search(_LABELLED, rest[: other.start(1)].rstrip("("), re.IGNORECASE)
        for other in _OTHER.finditer(rest)
    ):
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
        if _DENIED.search(text[: match.start()][-24:]) or _REJECTED.match(
            text, match.start("wrapped") if match["wrapped"] else match.start("bare")
        ):
            continue
        letter = re.sub(r"[^A-Za-z]", "", match["wrapped"] or match["bare"])
        lower_article = letter.islower() and not re.match(r"\s*[)\]\"'.,;:!\n]|\s*$", text[match.end() :])
        article = letter == "A" and not match["wrapped"] and re.match(r"\s+[a-z]{2,}", text[match.end() :])
        spelled = match["weak"] and not match["copula"].strip() and letter.islower() and not match["wrapped"]
        if (
            lower_article
            or (article and not re.match(r"\s+(?:is|or|and|because|since|as|but)\b", text[match.end() :]))
            or spelled
        ):
            continue
        joined = _JOINED.match(text, match.end())
        several = (
            joined is not None
            and joined[1].upper() != letter.upper()
            and (joined[1].isupper() or not joined[1].isalpha())
        )
        kind = final if match["final"] else weak if match["weak"] else strong
        kind.add(None if several or _doubted(text[match.end() : match.end() + 80], letter.upper()) else letter.upper())
    return final or strong or weak


def _stated(text: str) -> str | None:
    """The letter that sentences come to: behind "answer", called correct, or at the very end."""
    if marked := _marked(text):
        return next(iter(marked)) if len(marked) == 1 else None
    text = _REJECTED.sub(" ", text)
    correct = {match[1] for match in _CORRECT.finditer(text)}
    if correct:
        return correct.pop() if len(correct) == 1 else None
    statement = re.split(r"[.\n;]\s|\b(?=(?:so|therefore|thus|hence)\b)|(?=所以|因此|故)", text.strip())[-1][-80:]
    found = _LAST.search(statement)
    if found is None or NEGATION.search(statement):
        return None
    before = statement[: found.start(1)]
    several = _SEVERAL.search(statement) or re.search(r"(?<![A-Za-z])[B-H](?![A-Za-z])", before)
    return None if several or re.search(_LABELLED, before, re.IGNORECASE) else found[1]

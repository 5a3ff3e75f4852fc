"""Sentences: the one value that a plain text states in the end. Negations, doubts and alternatives state none.

What these rules cannot decide states nothing, and docs/DATA.md lists it.
"""

import re
from functools import lru_cache

from open_r1.rewards.formula import MAX_FORMULA
from open_r1.rewards.formula_value import Undefined
from open_r1.rewards.plain import trimmed
from open_r1.rewards.quantities import Quantity, read_unit
from open_r1.rewards.reading import read_value, symbol_name
from open_r1.rewards.values import Listed, Value, same
from open_r1.rewards.wording import ANSWER, ANSWER_CJK, COPULA, DOUBT, NEGATION, RETHOUGHT, any_of

_MAX_TEXT = 2000  # characters at the end of a text that are read
_MAX_SENTENCES = 24

# What puts an earlier word right: "not 4 but 5", "5, not 4", "5 rather than 4".
_NOT_BUT = re.compile(r"\b(?:not|no)\s[^,.;\n]{1,20},?\s(?:but|rather)\s(?!also\b)", re.IGNORECASE)
_AND_NOT = re.compile(
    r",?\s(?:and\s|but\s)?(?:not|rather than|instead of)\s\(?(?:-?\d[\w./√]{0,12}|[A-Z])\)?\s*$", re.IGNORECASE
)
_ASIDE = re.compile(r"\s*\((?:since|because|as|by|see|from|using|approx|i\.e\.|where|when)[^()]{0,80}\)", re.IGNORECASE)
_TWICE = re.compile(r"([^()]{1,60}?)\s\(([^()]{1,60})\)\W*")  # 0.5 (1/2)
_SUBORDINATE = re.compile(
    rf"^{any_of('after when if with since as by once removing subtracting adding taking of from in because')}\b"
    r"[^,]{1,80},\s+",
    re.IGNORECASE,
)
_TWO_EQUATIONS = re.compile(r"=\s*-?[\d.]+\s+[A-Za-z∠]{1,3}\s*=")
_SENTENCES = re.compile(r"\n|(?<=[^\d\s])\.\s|(?<=\d)\.\s(?!\d)|[!?;](?=\s)|\.(?=\s*$)")
_MARKER = re.compile(
    rf"\b(?P<final>(?:final|correct|right)\s+)?(?:{ANSWER}|{any_of('results? solutions? conclusion')})\b\s{{0,3}}"
    rf"(?P<opens>{COPULA}\b\s{{0,3}}[:=]?|[:=])?"
    rf"|(?P<last>最终|最后)?{ANSWER_CJK}\s{{0,3}}(?P<opens_cjk>(?:应该?)?[是为為は은는]?\s{{0,3}}[:=]?)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:\W{0,3}\b"
    + any_of(
        "so thus therefore hence then finally ok okay well overall now in_total in_conclusion consequently also donc"
    )
    + r"\b[\s,:]*|[因此所以故则即∴⇒→\s,]+|=>\s*|it follows that\s|we (?:get|have|find|obtain|conclude)\s(?:that\s)?"
    r"|(?:i'm |i am )?(?:sure|confident|certain)\s(?:that\s)?|i (?:think|believe|get|count|see|found"
    r"|find)\s(?:that\s)?)+",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"(?<=\S),?\s(?:because|since|due to|given that)\s.*|(?<=\S),?\s?因为.*", re.IGNORECASE | re.DOTALL
)
_CONNECTOR = re.compile(
    rf"(?:,\s*)?\b{any_of('so therefore thus hence then leaving meaning that_is')}\b,?"
    r"|\bwhich (?:leaves|gives|makes|is|means)\b"
    r"|\bi\.e\.|[⇒→∴]|=>|->|所以|因此|故|即",
    re.IGNORECASE,
)
_ROUGHLY = any_of("about approximately roughly around exactly just only a_total_of")
_VERB = re.compile(
    r"\b"
    + any_of(
        "is are was were be equals? leaves? leaving left_with gives? gave gets? got have has had makes? yields?"
        " becomes?"
        " totals? remains? comes_to ist sind est es son è"
    )
    + rf"\b(?:\s+(?:{_ROUGHLY}|now|then|thus|to|equal to)\b){{0,3}}"
    r"|(?<![<>])=|≈|(?<=[^\W\d_])\s?:(?!\w:)|是|为|為|等于|有|剩下?|共",
    re.IGNORECASE,
)
_SAYS = re.compile(
    r"\b(?:is equal to|is|are|equals?|be)\b(?:\s(?:exactly|therefore|thus|then)\b)?|等于|[是为為]", re.IGNORECASE
)
_ABOUT = re.compile(rf"^(?:{_ROUGHLY}\b|approx\.?|≈|~|约|大约|共)\s*", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+)?(?!\d)")
_STATES = re.compile(r"[\dπ∞∅∠△√]|\\frac|[=<>≤≥∥⊥]")
_CONFIRMS = re.compile(
    rf"\W*(?:(?:the|my|our)\s)?(?:{any_of('final correct right best required only')}\s){{0,2}}"
    rf"{any_of('answer result solution value one correct right true left remaining there in_total total choice it')}"
    r"\W*(?:here|left|then|now)?\W*",
    re.IGNORECASE,
)


@lru_cache(maxsize=16384)
def read_statement(text: str) -> Value | None:
    """The value that a plain text states; None where it states none, several that differ, or one in doubt.

    >>> read_statement("There are 3 balls, so 5 remain"), read_statement("It is not 5")
    (Quantity(number=5, unit=''), None)
    """
    text = text[-_MAX_TEXT:]
    try:
        if (whole := _once(_value(text))) is not None:
            return whole
        if marked := _marked(text):
            return _agreed(marked)
        return _last(_lines(text)[-_MAX_SENTENCES:])
    except Undefined:
        return None


def _value(text: str) -> Value | None:
    """What is nothing but a value, with the words in front that say so."""
    text = _ABOUT.sub("", _LEAD.sub("", trimmed(text)))
    if (twice := _TWICE.fullmatch(text)) and (value := read_value(twice[1])) is not None and _STATES.search(twice[2]):
        again = read_value(twice[2])
        return value if again is not None and same(again, value) else None
    if (value := read_value(text)) is not None:
        return value
    says = _SAYS.search(text) if len(text) <= MAX_FORMULA else None
    if says is None:
        return None
    label = symbol_name(text[: says.start()])
    if label is not None and not label[1]:
        behind = read_value(_ABOUT.sub("", trimmed(text[says.end() :])))
        if behind is not None:
            return behind
    return read_value(_SAYS.sub(" = ", text))


def _once(value: Value | None) -> Value | None:
    """A value that is said twice, or in two spellings, is one."""
    if isinstance(value, Listed) and len(value.items) > 1:
        first = value.items[0]
        if all(same(item, first) and same(first, item) for item in value.items[1:]):
            return first
    return value


def _marked(text: str) -> list[Value | None]:
    """What is said behind each "answer is" or "answer:"; only the final ones, where some are called so."""
    markers = [marker for marker in _MARKER.finditer(text) if _opens(marker, text)]
    ends = [marker.start() for marker in markers[1:]] + [len(text)]
    parts = [(marker, text[marker.end() : end]) for marker, end in zip(markers, ends, strict=False)]
    final = [(marker, part) for marker, part in parts if marker["final"] or marker["last"]]
    said = [_lines(part.strip(" \n*:")) for _, part in (final or parts)[-_MAX_SENTENCES:] if _STATES.search(part)]
    return [_behind(lines[:_MAX_SENTENCES]) for lines in said if lines]


def _lines(text: str) -> list[str]:
    return [sentence for sentence in _SENTENCES.split(text) if sentence.strip(" .*-#>")]


def _opens(marker: re.Match[str], text: str) -> bool:
    """Whether the word "answer" opens a statement: "the answer is 5", not "5 is the answer" nor "my answers differ"."""
    if marker["opens"] or marker["opens_cjk"]:
        return True
    return not text[: marker.start()].strip(" \nteh") and re.match(r"\s*[-\d(\\√]", text[marker.end() :]) is not None


def _behind(lines: list[str]) -> Value | None:
    """What the lines behind a marker say: all of them where they are values, else the first if it is not taken back."""
    if all(_value(line) is not None for line in lines):
        return _last(lines)
    taken_back = any(RETHOUGHT.match(line) and _STATES.search(line) for line in lines[1:2])
    return None if taken_back else _sentence(lines[0])


def _agreed(values: list[Value | None]) -> Value | None:
    """The one value that all say."""
    last = values[-1]
    if last is None or any(value is None or not same(value, last) for value in values):
        return None
    return last


def _last(sentences: list[str]) -> Value | None:
    """Lines that are nothing but values are several values; else the last sentence that states something counts."""
    values = [_value(sentence) for sentence in sentences]
    found = [value for value in values if value is not None]
    if len(found) == len(values) > 1 and not _LEAD.match(sentences[-1].strip()):
        return _once(Listed(tuple(found)))
    for place in range(len(sentences) - 1, -1, -1):
        if _STATES.search(sentences[place]):
            stated = _sentence(sentences[place])
            if stated is None or values[place] is None:
                return stated
            return None if _offered(sentences[:place], stated) else stated
        if NEGATION.search(sentences[place]) or DOUBT.search(sentences[place]):
            return None
    return None


def _offered(lines: list[str], stated: Value) -> bool:
    """Whether one of the lines is another value of the same kind and nothing else."""
    found = [read_value(trimmed(line)) for line in lines]
    return any(value is not None and type(value) is type(stated) and not same(value, stated) for value in found)


def _sentence(text: str) -> Value | None:
    """The value that one sentence states: all of it, what stands behind its last verb, or its only number."""
    text = trimmed(text)
    text = _LEAD.sub("", _AND_NOT.sub("", _NOT_BUT.sub("", _REASON.sub("", _ASIDE.sub("", text)))))
    if (value := _once(_value(text))) is not None:
        return value
    parts = [part for part in _CONNECTOR.split(text) if part.strip()]
    if len(parts) > 1:
        if NEGATION.search(parts[-1]):
            return None
        last = next((part for part in reversed(parts) if _STATES.search(part)), "")
        return _sentence(last) if last and last != text else None
    if NEGATION.search(text) or _TWO_EQUATIONS.search(text):
        return None
    return _behind_verb(_VERB.split(text))


def _behind_verb(pieces: list[str]) -> Value | None:
    """The value of the last piece between verbs that states something; what follows may only confirm or count it."""
    place = next((place for place in range(len(pieces) - 1, -1, -1) if _STATES.search(pieces[place])), None)
    if place is None:
        return None
    piece, rest = _ABOUT.sub("", trimmed(pieces[place])), pieces[place + 1 :]
    if not all(_CONFIRMS.fullmatch(words) or not words.strip() for words in rest):
        return _only_number(piece) if all(read_unit(trimmed(words)) is not None for words in rest) else None
    value = _once(read_value(piece)) if len(pieces) > 1 else None
    return value if value is not None else _only_number(piece)


def _only_number(text: str) -> Quantity | None:
    """The number of a phrase that has one only, and no word that makes it another: "a total of 5 red cubes"."""
    text = _SUBORDINATE.sub("", text)
    found = list(_NUMBER.finditer(text))
    if len(found) != 1 or DOUBT.search(text) or NEGATION.search(text):
        return None
    number = found[0]
    before = text[: number.start()].strip()
    if not re.fullmatch(r"[^\d+*/=^(){}\[\]\\_-]*[:,]?", before) or re.search(r"(?<![A-Za-z])[B-HJ-Zb-z]$", before):
        return None
    value = read_value(trimmed(text[number.start() :]))
    return value if isinstance(value, Quantity) else None

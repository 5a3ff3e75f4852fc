"""Sentences: the one value that a plain text states in the end. Negations, doubts and alternatives state none.

What these rules cannot decide states nothing, and docs/DATA.md lists it.
"""

import re
from functools import lru_cache

from open_r1.rewards.formula import MAX_FORMULA, Undefined
from open_r1.rewards.plain import trimmed
from open_r1.rewards.quantities import Quantity, read_unit
from open_r1.rewards.reading import read_value, symbol_name
from open_r1.rewards.values import Listed, Value, same
from open_r1.rewards.wording import DOUBT, NEGATION

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
    r"^(?:after|when|if|with|since|as|by|once|removing|subtracting|adding|taking|of|from|in|because)\b[^,]{1,80},\s+",
    re.IGNORECASE,
)
_TWO_EQUATIONS = re.compile(r"=\s*-?[\d.]+\s+[A-Za-z∠]{1,3}\s*=")
_SENTENCES = re.compile(r"\n|(?<=[^\d\s])\.\s|(?<=\d)\.\s(?!\d)|[!?;](?=\s)|\.(?=\s*$)")
_MARKER = re.compile(
    r"\b(?:the\s+|my\s+|our\s+)?(?P<final>(?:final|correct|right)\s+)?(?:answer|ans|result|solution|conclusion|antwort|respuesta|réponse"
    r"|risposta|resposta|ответ)s?\b\s{0,3}(?:(?:is|are|would be|must be|should be|equals|ist|es|est|è|é|to the question is)\b|[:=]|is:)?\s{0,3}[:=]?"
    r"|(?P<last>最终|最后)?(?:答案|答え|正解|结果|정답|답)\s{0,3}(?:是|为|為|は|은|는|应该是|应为)?\s{0,3}[::=]?|答\s?:",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:\W{0,3}\b(?:so|thus|therefore|hence|then|finally|ok|okay|well|overall|now|in total|in conclusion|consequently|also|alors|donc|also)\b[\s,:]*"
    r"|[因此所以故则即∴⇒→\s,]+|=>\s*|it follows that\s|we (?:get|have|find|obtain|conclude)\s(?:that\s)?|i (?:think|believe|get|count|see|found|find)\s(?:that\s)?"
    r"|(?:i'm |i am )?(?:sure|confident|certain)\s(?:that\s)?)+",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"(?<=\S),?\s(?:because|since|due to|given that)\s.*|(?<=\S),?\s?因为.*", re.IGNORECASE | re.DOTALL
)
_CONNECTOR = re.compile(
    r"(?:,\s*)?\b(?:so|therefore|thus|hence|then|leaving|which (?:leaves|gives|makes|is|means)|meaning|that is|i\.e\.)\b,?"
    r"|[⇒→∴]|=>|->|所以|因此|故|即",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|equals?|equal|leaves?|leaving|left with|gives?|gave|get|gets|got|have|has|had|makes?|yields?|becomes?|totals?|remains?"
    r"|comes to|ist|sind|est|es|son|è)\b(?:\s+(?:exactly|just|now|only|then|thus|to|equal to|about|approximately|roughly|around|a total of)\b){0,3}"
    r"|=|≈|(?<=[^\W\d_])\s?:(?!\w:)|是|为|為|等于|有|剩下?|共",
    re.IGNORECASE,
)
_SAYS = re.compile(
    r"\b(?:is|are|equals?|is equal to|be)\b(?:\s(?:equal to|exactly|therefore|thus|then)\b)?|等于|[是为為]",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"^(?:about|approximately|approx\.?|roughly|around|exactly|just|only|a total of|≈|~|约|大约|共)\s*", re.IGNORECASE
)
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+)?(?![\d])")
_STATES = re.compile(r"[\dπ∞∅∠△√]|\\frac|[=<>≤≥∥⊥]")
_CONFIRMS = re.compile(
    r"\W*(?:(?:the|my|our)\s)?(?:(?:final|correct|right|best|required|only)\s){0,2}"
    r"(?:answer|result|solution|value|one|correct|right|true|left|remaining|there|in total|total|choice|option|it)\W*(?:here|left|then|now)?\W*",
    re.IGNORECASE,
)


@lru_cache(maxsize=16384)
def read_statement(text: str) -> Value | None:
    """The value that a plain text states; None where it states none, several that differ, or one in doubt.

    >>> read_statement("There are 3 balls, so 5 remain"), read_statement("It is not 5"), read_statement("x = 5 or x = 5")
    (Quantity(number=5, unit=''), None, Quantity(number=5, unit=''))
    """
    text = text[-_MAX_TEXT:]
    try:
        whole = _once(_value(text))
        if whole is not None:
            return whole
        marked = _marked(text)
        if marked:
            return _agreed(marked)
        sentences = [sentence for sentence in _SENTENCES.split(text) if sentence.strip(" .*-#>")]
        return _last(sentences[-_MAX_SENTENCES:])
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
    if (
        label is not None
        and not label[1]
        and (value := read_value(_ABOUT.sub("", trimmed(text[says.end() :])))) is not None
    ):
        return value
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
    final = [marker for marker in markers if marker["final"] or marker["last"]]
    ends = dict(zip((marker.end() for marker in markers), [m.start() for m in markers[1:]] + [len(text)], strict=False))
    said = []
    for marker in (final or markers)[-_MAX_SENTENCES:]:
        part = text[marker.end() : ends[marker.end()]]
        sentences = [sentence for sentence in _SENTENCES.split(part.strip(" \n*:")) if sentence.strip(" .*-#>")]
        if sentences:
            bare = [sentence for sentence in sentences if _bare(sentence)]
            said.append(_last(sentences) if len(bare) == len(sentences) else _sentence(sentences[0]))
    return said


def _opens(marker: re.Match[str], text: str) -> bool:
    """Whether the word "answer" opens a statement: "the answer is 5", not "5 is the answer" nor "my answers differ"."""
    return (
        marker[0].rstrip()[-1:] in ":=："
        or re.search(
            r"[^a-z](?:is|are|be|equals|ist|es|est|è|é)\s*$|[是为為は은는案え解답果]\s*$", marker[0], re.IGNORECASE
        )
        is not None
        or (not text[: marker.start()].strip() and re.match(r"\s*[-\d(\\√]", text[marker.end() :]) is not None)
    )


def _agreed(values: list[Value | None]) -> Value | None:
    """The one value that all say."""
    last = values[-1]
    if last is None or any(value is None or not same(value, last) for value in values):
        return None
    return last


def _bare(sentence: str) -> bool:
    return _value(sentence) is not None


def _last(sentences: list[str]) -> Value | None:
    """Lines that are nothing but values are several values; else the last sentence that states something counts."""
    values = [_value(sentence) for sentence in sentences]
    found = [value for value in values if value is not None]
    if len(found) == len(values) > 1 and not _LEAD.match(sentences[-1].strip()):
        return _once(Listed(tuple(found)))
    for place in range(len(sentences) - 1, -1, -1):
        if _STATES.search(sentences[place]):
            stated = _sentence(sentences[place])
            alone = stated is not None and values[place] is not None
            return None if alone and _offered(sentences[:place], stated) else stated
        if NEGATION.search(sentences[place]) or DOUBT.search(sentences[place]):
            return None
    return None


def _offered(lines: list[str], stated: Value | None) -> bool:
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
    pieces = _VERB.split(text)
    for place in range(len(pieces) - 1, -1, -1):
        piece = _ABOUT.sub("", trimmed(pieces[place]))
        if not _STATES.search(piece):
            continue
        if place < len(pieces) - 1 and not all(
            _CONFIRMS.fullmatch(rest) or not rest.strip() for rest in pieces[place + 1 :]
        ):
            return (
                _only_number(piece)
                if all(read_unit(trimmed(rest)) is not None for rest in pieces[place + 1 :])
                else None
            )
        value = _once(read_value(piece)) if place or len(pieces) > 1 else None
        return value if value is not None else _only_number(piece)
    return None


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

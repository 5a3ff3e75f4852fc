"""One plain spelling for what an answer may be dressed in: HTML, Markdown, boxes, LaTeX text, wide and thin characters.

`plain` changes no meaning. Fractions, roots, powers and functions stay as they are; `formula.py` reads them.
Every pattern is linear in the length of the text.
"""

import html
import re
import unicodedata
from itertools import pairwise

from open_r1.rewards.wording import DOUBT, NEGATION

_WIDE = str.maketrans(
    {"²": "^2", "³": "^3", "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "⅕": " 1/5", "⅛": " 1/8"}
    | {chr(0x2080 + digit): f"_{digit}" for digit in range(10)}
    | {"¹": "^1", "⁰": "^0", "⁴": "^4", "⁵": "^5", "⁶": "^6", "⁷": "^7", "⁸": "^8", "⁹": "^9", "º": "°", "˚": "°"}
    | dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad", "")
)
_SIGNS = str.maketrans(
    dict.fromkeys("−‐‑﹣", "-")
    | {"—": " - ", "―": " - "}
    | dict.fromkeys("×·⋅∙∗•", "*")
    | dict.fromkeys("“”„‟«»「」『』《》〈〉＂", '"')
    | dict.fromkeys("‘’‚‛′´", "'")
    | {
        "÷": "/",
        "⁄": "/",
        "∕": "/",
        "∶": ":",
        "。": ".",
        "｡": ".",
        "、": ",",
        "【": "[",
        "】": "]",
        "〔": "(",
        "〕": ")",
    }
    | {"≦": "≤", "≧": "≥", "⩽": "≤", "⩾": "≥", "≒": "≈", "∼": "~", "〜": "~", "µ": "μ", "Δ": "△", "\r": "\n", "\t": " "}
)
_SUPERSCRIPTS = re.compile(r"⁻([¹²³⁰⁴-⁹])")
_POWERS = re.compile(r"(?:\^\d){2,9}")  # 10¹² is written 10^1^2 by now
_BREAK = re.compile(r"<(?:br|/p|/div|/li|/h[1-6]|hr)\s{0,3}/?>", re.IGNORECASE)
_SCRIPT = re.compile(r"<(su[bp])>([^<>]{0,40})</\1>", re.IGNORECASE)
_MARKUP = re.compile(
    r"</?(?:b|i|u|s|p|em|strong|span|div|code|pre|mark|small|big|center|font|math|m[nio]|mrow|h[1-6]|li|ul|ol"
    r"|t[dr]|answer|think"
    r"|final|result|output|response)(?:\s[^<>]{0,200})?\s{0,3}/?>|<\|[a-z_]{1,20}\|>",
    re.IGNORECASE,
)
_LINK = re.compile(r"!?\[([^\[\]\n]{1,80})\]\(https?:[^()\s]{0,200}\)")
_TEXT_COMMANDS = (
    "text|textrm|textbf|textit|textsf|texttt|textsc|textup|textnormal|mathrm|mathbf|mathit|mathsf|mathtt|mathbb"
    "|mathcal|"
    "mathnormal|operatorname|mbox|hbox|emph|underline|bm|boldsymbol|pmb|rm|bf|it|overline|bar|vec|overrightarrow"
    "|widehat|"
    "hat|arc|ensuremath|mathord|vphantom|phantom|unit|si|qty|num"
)
_GROUP = re.compile(
    r"\\(?P<box>boxed|fbox|framebox)\s*(?:\{|(?P<bare>[-+]?[\w.]+))"
    rf"|\\(?:{_TEXT_COMMANDS})(?![A-Za-z])\*?\s*\{{?|[{{}}]"
)
_REPEATING = re.compile(r"(\d\.\d*)\\(?:overline|dot|bar)(?![a-z])")  # 0.\overline{3} is not 0.3
_COLOUR = re.compile(r"\\(?:text)?color\s*\{[^{}]{0,30}\}")
_SPACES = re.compile(
    r"\\[,;!:> ]|(?<!\\)~(?=[A-Za-z\\])"
    r"|\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|quad|qquad|thinspace|enspace"
    r"|hspace\{[^{}]{0,9}\})(?![A-Za-z])\.?"
)
_DEGREE = re.compile(
    r"\^?\s{0,2}\{?\s{0,2}\\(?:circ|degree)(?![a-z])\s{0,2}\}?|\^\{?[°o]\}?(?![a-z])|\\degree|\^\{\\prime\}"
)
_COMMANDS = {
    **{"times": "*", "cdot": "*", "ast": "*", "bullet": "*", "div": "/", "pm": "±", "mp": "±", "pi": "π", "infty": "∞"},
    **{
        "le": "≤",
        "leq": "≤",
        "leqslant": "≤",
        "ge": "≥",
        "geq": "≥",
        "geqslant": "≥",
        "ne": "≠",
        "neq": "≠",
        "lt": "<",
    },
    **{
        "gt": ">",
        "approx": "≈",
        "equiv": "≡",
        "sim": "~",
        "cong": "≅",
        "parallel": "∥",
        "perp": "⊥",
        "cup": "∪",
        "in": "∈",
        "to": "→",
    },
    **{"angle": "∠", "measuredangle": "∠", "triangle": "△", "odot": "⊙", "therefore": "so ", "colon": ":", "mid": "|"},
    **{"lvert": "|", "rvert": "|", "vert": "|", "lbrack": "[", "rbrack": "]", "lbrace": "⦃", "rbrace": "⦄", "ohm": "Ω"},
    **{"Omega": "Ω", "alpha": "α", "beta": "β", "gamma": "γ", "theta": "θ", "phi": "φ", "varphi": "φ", "lambda": "λ"},
    **{
        "mu": "μ",
        "rho": "ρ",
        "sigma": "σ",
        "omega": "ω",
        "delta": "δ",
        "Rightarrow": "⇒",
        "rightarrow": "→",
        "land": "and",
    },
    **{
        "dfrac": r"\frac",
        "tfrac": r"\frac",
        "cfrac": r"\frac",
        "infin": "∞",
        "lor": "or",
        "emptyset": "∅",
        "neg": "not ",
    },
    **{
        "implies": "⇒",
        "because": "because ",
        "euro": "€",
        "pounds": "£",
        "varnothing": "∅",
        "cap": "∩",
        "setminus": "∖",
    },
}
_COMMAND = re.compile(r"\\([A-Za-z]{2,12})(?![A-Za-z])")
_ESCAPED_TWICE = re.compile(r"\\{2,4}(?=[A-Za-z]{2})")
_ESCAPED = re.compile(r"\\([%$#&_])")
_DOLLARS = re.compile(r"\\[()\[\]]|\$")
_BOX_START, _BOX_END = "\x01", "\x02"
_BOX = re.compile(f"{_BOX_START}([^{_BOX_START}{_BOX_END}]*){_BOX_END}")
_NESTED = re.compile(f"{_BOX_START}(?=\\s*{_BOX_START})|(?<={_BOX_END}){_BOX_END}")  # a box in a box is one
_LISTED = re.compile(r"(?:\s|[,;&]|and\b|[A-Za-z∠△]{1,4}\s?=)*")
_BOX_BEFORE = re.compile(r"[\n;:,.!?=≡≈]|\b(?:is|are|be|get|answer|so|thus|therefore|hence|gives|have|result)\b|[为是]")
_ADJOINS = re.compile(r"[-+*/^√|\\(\d±~<>≤≥]\s*$|(?<![A-Za-z])[A-Za-z]$|[}\]]\s*$")  # the box is part of a formula
_BOX_BEHIND = re.compile(
    r"[\n;!?=≈]|[.](?!\d)|,(?!\s?(?:or|but|maybe|perhaps|possibly|\d))|\b(?:because|since|as|which|where|is|are"
    r"|so|by|after|at|in|for|on|final|answer|that|this|i)\b|\\p?mod\b|\(mod|因为"
)
_STAR = re.compile(r"(?<![\w)\]}*])\*(?=[^\s*])([^*\n]{1,400}?)(?<=\S)\*(?![\w*(\[{\\])", re.ASCII)
_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9_\\)}])(_{1,3})(?=[^\s_])([^_\n]{1,400})(?<=\S)\1(?![A-Za-z0-9_])")
_LINE_START = re.compile(r"^[ ]{0,8}(?:#{1,6} |> ?(?=[A-Za-z*])|[*+•] +|- +(?=[A-Za-z∠△*_\\]))", re.MULTILINE)
_SIGN_WORD = re.compile(r"\b(?:minus|negative)\s+(?=[\d.√∞\\({$πA-Za-z]?[\d.√∞\\({π])|[负負](?=\d)", re.IGNORECASE)
_OPERATOR_WORD = re.compile(r"(?<=[\d)}π])\s+(plus|times|divided by|over)\s+(?=[\d({\\√π-])", re.IGNORECASE)
_OPERATORS = {"plus": "+", "times": "*", "divided by": "/", "over": "/"}
_COMPARED = re.compile(r"! ?=|=/=|/=|< ?=|> ?=|=<|==|:=|\\not ?=")
_COMPARISONS = {"!=": "≠", "=/": "≠", "/=": "≠", "<=": "≤", "=<": "≤", ">=": "≥", "==": "=", ":=": "=", "\\n": "≠"}
_CODE = re.compile(r"```(?:[a-z]{1,12}\n)?|`")
_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])")
_TIMES = re.compile(r"(?<=\d)\s*[xX]\s*(?=\d)")
_THOUSANDS = re.compile(r"(?<=\d)(?:\s?\{\s?,\s?\}|,\\!\s?|\\,|\\ |\\;|\\:|')(?=\d{3}(?!\d))")
_SIMPLE = re.compile(r"[^\\$~^{']*")
_EDGES = " \n,;:?'\"*_"
_SHOUT = re.compile(r"(?<![\d)}])!{1,9}$")  # 5! is 120
_PAIRS = {"{": "}", "[": "]", "(": ")"}
_INNER = re.compile(r"[][(){},;]")  # brackets around a list or an interval mean something


def plain(text: str) -> str:
    r"""The text in its plain spelling, without what it is dressed in.

    >>> plain(r"The answer is **$\boxed{5\,\mathrm{cm}}$**."), plain("**５**　cm²"), plain("2*3 = 5")
    ('5 cm', '5 cm^2', '2*3 = 5')
    """
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _SCRIPT.sub(lambda script: ("_{" if script[1].lower() == "sub" else "^{") + script[2] + "}", text)
        text = _MARKUP.sub("", _BREAK.sub("\n", text))
    if not text.isascii():
        text = _ascii(text)
    if "*" in text or "_" in text or "#" in text or "\n" in text or "](" in text:
        text = _without_markdown(text)
    if not _SIMPLE.fullmatch(text):
        text = _without_latex(text)
    if "`" in text:
        text = _CODE.sub("", text)
    if "=" in text:
        text = _COMPARED.sub(lambda sign: _COMPARISONS[sign[0].replace(" ", "")[:2]], text)
    text = _PI.sub("π", _SIGN_WORD.sub("-", text))
    text = _OPERATOR_WORD.sub(lambda word: _OPERATORS[word[1].lower()], text)
    return trimmed(_TIMES.sub("*", re.sub(r"[ \u00a0]+", " ", text)))


def _ascii(text: str) -> str:
    """Wide, thin, raised and typographic characters in their usual spelling."""
    text = _SUPERSCRIPTS.sub(lambda power: f"^-{unicodedata.digit(power[1])}", text).translate(_WIDE)
    text = _POWERS.sub(lambda power: "^{" + power[0].replace("^", "") + "}", text)
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    return re.sub(r"(?<=\d)\s?–\s?(?=\d)", "~", text).replace("–", "-")


def _without_markdown(text: str) -> str:
    """Without bold, italics, headings, quotes, bullets and code marks; products and powers keep their stars."""
    text = _LINK.sub(r"\1", _LINE_START.sub("", text))
    if "**" in text:
        text = _without_bold(text)
    return _UNDERSCORE.sub(r"\2", _UNDERSCORE.sub(r"\2", _STAR.sub(r"\1", text)))


def _without_bold(text: str) -> str:
    """Without the pairs of double stars that mark bold: an opening one stands at no number, letter or bracket."""
    pieces = re.split(r"\*{2,3}", text)
    kept, bold = [pieces[0]], False
    for before, piece in pairwise(pieces):
        if bold:  # this one closes
            bold = False
        elif piece[:1].strip() and not re.search(r"[A-Za-z0-9)\]}]$", before):
            bold = True
        elif before.strip() and piece.strip():
            kept.append("**")  # a power
        kept.append(piece)
    return "".join(kept)


def _without_latex(text: str) -> str:
    """Without LaTeX's boxes, text commands and spacing; fractions, roots, functions and braces stay."""
    text = _THOUSANDS.sub(",", _ESCAPED_TWICE.sub(r"\\", text))
    if "\\" in text:
        text = _REPEATING.sub(r"\1…", text).replace("\\{", "⦃").replace("\\}", "⦄").replace("\\\\", "\n")
        text = _DEGREE.sub("°", _COLOUR.sub("", _SPACES.sub(" ", _ESCAPED.sub(r"\1", text))))
        text = _COMMAND.sub(lambda command: _COMMANDS.get(command[1], command[0]), _ungroup(text))
        text = _DOLLARS.sub("", text)
        if _BOX_START in text:
            text = _from_boxes(text)
    return _DEGREE.sub("°", text.replace("$", ""))


def _ungroup(text: str) -> str:
    """The contents of text commands without command and braces; boxes become their contents between two marks."""
    pieces, closing, at = list[str](), list[str](), 0
    for match in _GROUP.finditer(text):
        token = match[0]
        pieces.append(text[at : match.start()])
        at = match.end()
        if token == "}":
            pieces.append(closing.pop() if closing else "}")
        elif token == "{":
            closing.append("}")
            pieces.append("{")
        elif match["box"]:
            closing.append(_BOX_END)
            pieces.append(_BOX_START)
            if not token.endswith("{"):  # \\boxed 5
                pieces.append(match["bare"] + closing.pop())
        elif token.endswith("{"):
            closing.append("")
        else:
            pieces.append(" ")
    return "".join([*pieces, text[at:], *reversed([mark for mark in closing if mark == _BOX_END])])


def _from_boxes(text: str) -> str:
    """What the boxes state: their contents with what belongs to it (a sign, "not", a unit), without the words around.

    Boxes that state different things are several values, joined by "or" unless they are listed one behind another.
    """
    text = _NESTED.sub("", text)
    boxes = _BOX.findall(text)
    if not boxes:
        return text
    first, last = text.index(_BOX_START), text.rindex(_BOX_END)
    inner = text[first : last + 1]
    if len(set(boxes)) == 1:
        inner = boxes[0]
    elif _LISTED.fullmatch(_BOX.sub("", inner)):
        inner = _BOX.sub(r"\1", inner)
    else:
        return " or ".join(boxes)
    before = _BOX_BEFORE.split(text[:first][-200:])[-1]
    if not (_ADJOINS.search(before) or NEGATION.search(before) or DOUBT.search(before)):
        before = ""
    named = re.search(r"[A-Za-z∠△]{1,4}\s*(?:=|∈)\s*$", text[:first][-20:])
    behind = _BOX_BEHIND.split(text[last + 1 :][:200])[0]
    return f"{named[0] if named else before}{inner}{behind}"


def trimmed(text: str) -> str:
    """Without quotes, full stops and pairs of brackets around the whole of it."""
    text = text.strip(_EDGES).rstrip(_EDGES + ".")
    text = _SHOUT.sub("", text).rstrip(_EDGES + ".") if text.endswith("!") else text
    while text[:1] in ("{", "[", "(") and text[-1:] == _PAIRS[text[0]] and not _INNER.search(text, 1, len(text) - 1):
        text = text[1:-1].strip(_EDGES)
    return text

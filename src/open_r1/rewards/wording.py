"""Words that take back, doubt, change or conclude, in the languages that replies come in."""

import re


def any_of(words: str) -> str:
    r"""A pattern for any of the words of a text; an underscore stands for white space.

    >>> any_of("more_than or")
    '(?:more\\s+than|or)'
    """
    return "(?:" + "|".join(word.replace("_", r"\s+") for word in words.split()) + ")"


NEGATION = re.compile(
    r"\b"
    + any_of(
        "not never neither nor cannot isnt arent except excluding without wrong incorrect false impossible"
        " untrue no unlike"
        " unequal differs? different anything_but all_but everything_but nothing_but other_than rather_than instead_of"
        " far_from kein nicht pas"
    )
    + r"\b|n't\b|≠|不|非|[未没無錯誤误]|除了?",
    re.IGNORECASE,
)
DOUBT = re.compile(
    r"\b"
    + any_of(
        "or either maybe perhaps possibly might could may_be between unsure uncertain guess guessing oder ou"
        " alternatively"
        " at_least at_most more_than less_than fewer_than greater_than up_to over under above below nearly"
        " almost within"
        " from minus negative opposite reciprocal inverse absolute half third twice double triple quarter out_of times"
        " square_of squared root cube_of product sum_of difference percent_of multiple log ln sin cos tan sqrt"
        " factorial"
        " dozen million thousand hundred billion"
    )
    + r"\b|[±<>≤≥√^!∪~]|或|也许|可能|大概|至少|至多|超过|不到|一半|之间",
    re.IGNORECASE,
)
# A sentence that starts so takes the one before it back.
RETHOUGHT = re.compile(
    r"\W*" + any_of("or no maybe perhaps possibly wait actually alternatively correction sorry hmm 或"), re.IGNORECASE
)
COPULA = any_of("is are would_be must_be should_be equals ist es est è é")
ANSWER = any_of("answers? ans antwort respuesta réponse risposta resposta ответ")
ANSWER_CJK = any_of("答案 答え 正解 结果 정답 답")

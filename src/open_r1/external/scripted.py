"""Scripted external models: they answer from the row's ground truth, as often as the recipe says; no network, no GPU.

How right. Each reply has a quality u, uniform in (0, 1), and is right iff u < accuracy, so mean accuracy is exactly
`accuracy`. Qualities of replies to one question are correlated by a probit model, u = Phi(sqrt(rho) z +
sqrt(1 - rho) e) with z ~ N(0, 1) per question, the same for all models of one seed (a hard question is hard for
everybody), and e ~ N(0, 1) per reply. `correlation` is rho, that of the latent values; 0/1 outcomes correlate less.

Spatial rows. There `accuracy` is the mean partial score, as published. A reply is right (score 1), near (one slip in
the list of functions, score m) or far (functions that the answer does not have, score 0). m follows from the list's
length, hence the shares for accuracy a: right p = max(a / 2, (a - m) / (1 - m)), near (a - p) / m, far what is left.
"""

import asyncio
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

from open_r1.external.provider import Request
from open_r1.rewards.spatial_answer import Function, parse_functions
from open_r1.rewards.tags import format_reply
from open_r1.schema import Failure, Reply, Row
from open_r1.tasks.task import answers_of
from open_r1.tasks.trance import TRANCE

# What each function of the spatial task may set, as its instruction says: {"size": ["small", "medium", "large"], ...}.
VALUES = {name: values.split("|") for name, values in re.findall(r"change_(\w+)\(id, ([\w|]+)\)", TRANCE.instruction)}
FACTORS = (0.5, 1.5, 2, 3)  # wrong numbers: far enough off that the tolerant grader gives nothing


@dataclass(frozen=True)
class ScriptedProvider:
    """An external model that knows the answer. A reply depends on (seed, name, row id, sample index) and nothing else.

    Example: ScriptedProvider("gpt-4o-scripted", n=8, accuracy=0.681, accuracy_by_kind={"multi_hop": 0.4}).
    """

    name: str
    n: int
    accuracy: float  # in [0, 1]: mean accuracy; on spatial rows mean partial score
    accuracy_by_kind: Mapping[str, float] = field(
        default_factory=dict[str, float]
    )  # by Row.kind, in place of `accuracy`
    correlation: float = 0.0  # rho in [0, 1)
    format_rate: float = 1.0  # share of replies whose tags are in place; the others lack the opening think tag
    fail_rate: float = 0.0  # share of questions that it fails on, always the same ones
    latency_s: float = 0.0  # seconds that every call takes
    logprobs: bool = True  # whether replies say how likely they were; on spatial rows they never do
    scores: bool = False  # whether it is asked how likely it finds others' replies
    seed: int = 0  # models of one run share it, and with it which questions are hard

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What a reply depends on; see `Provider`."""
        no_part = ("n", "fail_rate", "latency_s", "scores")
        settings = {key: value for key, value in vars(self).items() if key not in no_part}
        reads = ("id", "answer", "cot", "kind")
        return settings | {"accuracy_by_kind": dict(self.accuracy_by_kind), "provider": "scripted", "reads": reads}

    async def ask(self, request: Request) -> list[Reply] | Failure:
        """Answer after `latency_s`; see `Provider.ask`."""
        await asyncio.sleep(self.latency_s)
        row = replace(request.row, answer=answers_of(request.row.answer)[0])
        if self._random(row, "fails").random() < self.fail_rate:
            return Failure(self.name, "server", f"scripted failure on row '{row.id}'")
        return [self._reply(row, i) for i in range(request.first, request.first + request.n)]

    async def aclose(self) -> None:
        """Nothing to release."""

    def _random(self, row: Row, what: object) -> random.Random:
        return random.Random(f"{self.seed}/{self.name}/{row.id}/{what}")

    def _reply(self, row: Row, index: int) -> Reply:
        rng = self._random(row, index)
        z = random.Random(f"{self.seed}/{row.id}").gauss(0, 1)
        latent = math.sqrt(self.correlation) * z + math.sqrt(1 - self.correlation) * rng.gauss(0, 1)
        accuracy = self.accuracy_by_kind.get(row.kind or "", self.accuracy)
        answer = answer_at(row, accuracy, NormalDist().cdf(latent), rng)
        tagged = rng.random() < self.format_rate
        logprobs = None
        if self.logprobs and not true_functions(row):  # one spatial answer comes about in several ways
            share = answer_share(row, answer, self._right_share(accuracy, z))
            logprobs = (math.log(share * (self.format_rate if tagged else 1 - self.format_rate)),)
        return Reply(reply_text(row, answer, tagged), latency_s=self.latency_s, logprobs=logprobs)

    async def score(self, request: Request, texts: Sequence[str]) -> list[tuple[float, ...] | None]:
        """How likely its reply to the row is each text: -inf for what it never says; None on spatial rows."""
        row = replace(request.row, answer=answers_of(request.row.answer)[0])
        if true_functions(row):
            return [None] * len(texts)
        z = random.Random(f"{self.seed}/{row.id}").gauss(0, 1)
        right_share = self._right_share(self.accuracy_by_kind.get(row.kind or "", self.accuracy), z)
        shares = {
            reply_text(row, answer, tagged): answer_share(row, answer, right_share) * rate
            for answer in {row.answer, *wrong_answers(row)}
            for tagged, rate in ((True, self.format_rate), (False, 1 - self.format_rate))
        }
        return [(math.log(share) if (share := shares.get(text, 0.0)) else -math.inf,) for text in texts]

    def _right_share(self, accuracy: float, z: float) -> float:
        """Probability that a reply to a question of this difficulty z is right: P(u < accuracy | z)."""
        if accuracy in (0, 1):
            return float(accuracy)
        threshold = NormalDist().inv_cdf(accuracy) - math.sqrt(self.correlation) * z
        return NormalDist().cdf(threshold / math.sqrt(1 - self.correlation))


def reply_text(row: Row, answer: str, tagged: bool) -> str:
    """The one reply that gives this answer: the row's own reasoning, ending in it."""
    cot = row.cot or f"I look at what is asked and find {row.answer}"
    if last := re.search(rf"(?<![\w.]){re.escape(row.answer)}$", cot):
        cot = cot[: last.start()] + answer  # the reasoning ends in the answer it gives, right or wrong
    text = format_reply(cot, answer)
    return text if tagged else text.removeprefix("<think>")


def answer_share(row: Row, answer: str, right_share: float) -> float:
    """Probability of this answer, of which the reply's text follows: scripted models know their own distribution."""
    if answer == row.answer:
        return right_share
    wrong = wrong_answers(row)
    return (1 - right_share) * wrong.count(answer) / len(wrong)


def answer_at(row: Row, accuracy: float, quality: float, rng: random.Random) -> str:
    """Return the answer of a reply of this quality, in (0, 1); the form is the true answer's, right or wrong.

    The lower the quality the better the answer. `rng` chooses among the wrong ones.
    """
    true = true_functions(row)
    if not true:
        return row.answer if quality < accuracy else wrong_answer(row, rng)
    near = near_score(len(true))
    right_share = max(accuracy / 2, (accuracy - near) / (1 - near))
    if quality < right_share:
        return row.answer
    if quality < right_share + (accuracy - right_share) / near:
        return format_functions(near_functions(true, object_ids(row), rng))
    return format_functions(far_functions(true, object_ids(row), rng))


def wrong_answer(row: Row, rng: random.Random) -> str:
    """Return one of the wrong answers."""
    return rng.choice(wrong_answers(row))


def wrong_answers(row: Row) -> list[str]:
    """List wrong answers in the form of the true one: letters, counts within 0..10, numbers with its unit.

    One that is listed twice is twice as likely.
    """
    answer = row.answer.strip()
    if choice := re.match(r"\(?([A-Z])(?![A-Za-z])", answer):  # "B", and "(B)" or "B. 12" as well
        return [answer[: choice.start(1)] + other + answer[choice.end(1) :] for other in "ABCD" if other != choice[1]]
    if row.task == "clevr_math" and answer.isdecimal():
        return [str(count) for count in range(11) if count != int(answer)]
    number = re.search(r"\d+(\.\d+)?", answer)
    if number is None:
        return [{"yes": "no", "no": "yes"}.get(answer.lower(), "unknown")]
    value, decimals = float(number[0]), len(number[1] or ".") - 1
    wrong = [value * factor for factor in FACTORS] if value else [1.0, 2.0, 5.0]
    if not decimals:  # a whole number stays one, and no rounding brings it back: half of 1 is taken as 0
        wrong = [math.floor(w) if w < value else math.ceil(w) for w in wrong]
    return [f"{answer[: number.start()]}{w:.{decimals and decimals + 1}f}{answer[number.end() :]}" for w in wrong]


def true_functions(row: Row) -> list[Function]:
    """Return the functions of a spatial answer in its order; none for any other task."""
    if row.task != TRANCE.name:
        return []
    return sorted(parse_functions(row.answer), key=lambda f: (row.answer.find(format_functions([f])), f))


def format_functions(functions: list[Function]) -> str:
    """Write functions the way the data do: "change_color(2, cyan), change_position(2, front_left)"."""
    return ", ".join(f"change_{name}({id_}, {value})" for name, id_, value in functions)


def object_ids(row: Row) -> list[str]:
    """Return the ids that the problem lists as ('0', 'cube', ...), in order; "0" to "9" where it lists none."""
    return re.findall(r"\(\s*'?(\d+)'?\s*,", row.problem) or [str(i) for i in range(10)]


def near_score(length: int) -> float:
    """Return m, the mean partial score of `near_functions` on a list of this length: .5 for one function.

    A wrong value or object still earns .5 of its 1, a missing function 0, an additional one lengthens the list.
    """
    slips = [(length - 0.5) / length, (length - 0.5) / length, length / (length + 1)]
    if length > 1:
        slips.append((length - 1) / length)
    return sum(slips) / len(slips)


def near_functions(true: list[Function], ids: list[str], rng: random.Random) -> list[Function]:
    """Make one slip: another value, another object, one function too many, or (of several) one too few."""
    slip = rng.randrange(4 if len(true) > 1 else 3)
    at = rng.randrange(len(true))
    function, id_, value = true[at]
    taken = {(f, i) for f, i, _ in true}
    before, after = true[:at], true[at + 1 :]
    if slip == 0:
        values = [v for v in VALUES.get(function, []) if v != value] or ["unknown"]
        return [*before, (function, id_, rng.choice(values)), *after]
    if slip == 1:
        others = [i for i in ids if (function, i) not in taken] or [str(len(ids))]
        return [*before, (function, rng.choice(others), value), *after]
    if slip == 2:
        free = [(f, i) for f in VALUES for i in ids if (f, i) not in taken] or [("color", str(len(ids)))]
        function, id_ = rng.choice(free)
        return [*true, (function, id_, rng.choice(VALUES[function]))]
    return [*before, *after]


def far_functions(true: list[Function], ids: list[str], rng: random.Random) -> list[Function]:
    """List as many functions as the answer has, none of them by a name that the answer uses: partial score 0.

    An answer that uses all five names leaves none; then a single function is listed, whose score is small.
    """
    used = {function for function, _, _ in true}
    unused = [name for name in VALUES if name not in used]
    pairs = [(f, i) for f in unused or ["color"] for i in ids]
    chosen = rng.sample(pairs, k=min(len(true), len(pairs)) if unused else 1)
    return [(function, id_, rng.choice(VALUES[function])) for function, id_ in chosen]

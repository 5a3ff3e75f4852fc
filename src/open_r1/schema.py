"""The vocabulary: frozen records that the stages hand to one another.

Axis letters used in names everywhere: P prompts, M external models, N samples per source, K candidates in a pool,
G candidates kept, T completion tokens, R reward functions (docs/METHOD.md, section 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

POLICY = "policy"  # Candidate.source of the model that is trained; any other source is an external model's name


class UserError(ValueError):
    """The user gave a value that cannot be right: the message is one line with what, where, the rule and the remedy.

    Entries print the message alone and exit with status 2; every other exception keeps its traceback. What the message
    quotes (file names, a server's words) may hold escape codes that a terminal would obey; they are written out.
    """

    def __init__(self, message: object):
        """Take the message, made `printable`."""
        super().__init__(printable(str(message)))


def printable(text: str) -> str:
    r"""Write out what a terminal would obey or could not show; ends of lines stay.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


@dataclass(frozen=True)
class Row:
    """One question about one or more pictures, as the loader hands it on.

    Example: Row("train-12", "clevr_math", (Path("images/train_images/12.png"),), "Subtract all red cubes. How many
    objects are left?", "4", cot="5 objects, 1 red cube. 5 - 1 = 4", kind="subtract_all").
    """

    id: str
    task: str
    images: tuple[Path, ...]
    problem: str
    answer: str
    cot: str | None = None  # bare reasoning without tags; None in test sets
    kind: str | None = None  # question family, where the data say it (synthetic sets do)


@dataclass(frozen=True)
class Score:
    """What a grader says of one reply; every part lies in [0, 1].

    `accuracy` is the part the policy is rewarded for; `full` and `partial` are set by the spatial task only.
    """

    accuracy: float
    format: float
    full: float | None = None
    partial: float | None = None

    @property
    def reward(self) -> float:
        """R(o) = R_format(o) + R_accuracy(o), Eq. 7 of arXiv 2506.06856."""
        return self.format + self.accuracy


@dataclass(frozen=True)
class Reply:
    """One answer of an external model. Missing numbers are None, never 0."""

    text: str
    finish_reason: str = "stop"  # "stop" | "length" | "content_filter"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    logprobs: tuple[float, ...] | None = None  # per token of the external model's own tokenisation


@dataclass(frozen=True)
class Failure:
    """An external model did not answer: `reason` is a short word for counters, `message` the line for the log."""

    model: str
    # "timeout" | "rate_limit" | "server" | "refused" | "budget" | "connection" | "bad_reply" | "resting" | "missing"
    reason: str
    message: str


Answers = dict[str, list[Reply] | Failure]  # one prompt's answers by external model


@dataclass(frozen=True)
class Candidate:
    """One reply in a prompt's pool, tokenised by the policy's tokenizer and scored.

    An external candidate has no sampling log-probs under the policy; its importance ratio is therefore 1, unless it is
    weighted (weights.py) by the log-probs of the model that wrote it.
    """

    source: str  # POLICY or the external model's name
    text: str
    token_ids: tuple[int, ...]
    score: Score
    truncated: bool = False
    # Of every reward function of the trainer what it gave (NaN: nothing), and their weighted sum; empty and None where
    # the score's two parts are all there is.
    rewards_R: tuple[float, ...] = ()
    weighted_reward: float | None = None
    # Under the external model that wrote it: one per token of token_ids where the tokenisations agree, else in its own,
    # and only their sum is used. None: not known.
    logprobs: tuple[float, ...] | None = None
    # The same under external models that did not write it, by name; those that cannot tell are left out.
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    @property
    def external(self) -> bool:
        """Whether an external model wrote it."""
        return self.source != POLICY

    @property
    def reward(self) -> float:
        """R(o): what candidates are ranked by and advantages are made of; NaN where no function gave a reward."""
        return self.score.reward if self.weighted_reward is None else self.weighted_reward

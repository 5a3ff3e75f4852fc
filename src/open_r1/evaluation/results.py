"""What an evaluation of one test set comes to, and how sets are joined."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from open_r1.schema import Score


class PartialScores(TypedDict, total=False):
    """What the spatial task's sets have beside the others."""

    full: float
    partial: float


class SetScores(PartialScores):
    """A SetResult as files hold it."""

    n: int
    accuracy: float
    format: float


class CurveLine(TypedDict):
    """A line of curve.jsonl: the policy after `step` steps and `prompts` prompts, by test set."""

    step: int
    prompts: int
    sets: dict[str, SetScores]


class MeanOfRows(TypedDict):
    """A mean over rows and its standard error."""

    mean: float
    stderr: float


class SampledScores(SetScores):
    """A test set in scores.json: several replies a row."""

    replies: int
    failed: int
    stderr: float
    pass_at_k: dict[str, MeanOfRows]


class Scores(TypedDict):
    """What scores.json holds (docs/METRICS.md)."""

    task: str
    model: str
    model_path: str
    backend: str
    prompt_kind: str
    k: int
    temperature: float
    commit: str
    hardware: dict[str, str | float | None]
    seconds: float
    replies_per_s: float | None
    sets: dict[str, SampledScores]


@dataclass(frozen=True)
class SetResult:
    """Mean scores over one test set, in [0, 1]; `full` and `partial` for the spatial task only.

    Example: SetResult(300, .45, .97) reads "45 % of 300 replies are right, 97 % are well formed".
    """

    n: int  # rows graded; failed ones count as wrong
    accuracy: float
    format: float
    full: float | None = None
    partial: float | None = None

    @classmethod
    def from_scores(cls, scores: Iterable[Score]) -> "SetResult":
        """Average what the grader said of every row of a set; raises ValueError for an empty set."""
        return joined([cls(1, score.accuracy, score.format, score.full, score.partial) for score in scores])

    @property
    def stderr(self) -> float:
        """Standard error of `accuracy`: sqrt(p (1 - p) / n).

        Exact for right-or-wrong scores. For partial credit it is an upper bound, since no score in [0, 1] with mean p
        has a larger variance than p (1 - p) (Bhatia and Davis, 2000).
        """
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.n)

    def as_json(self) -> SetScores:
        """The fields that are set, as summary.json holds them."""
        scores: SetScores = {"n": self.n, "accuracy": self.accuracy, "format": self.format}
        if self.full is not None:
            scores["full"] = self.full
        if self.partial is not None:
            scores["partial"] = self.partial
        return scores


def joined(parts: Sequence[SetResult]) -> SetResult:
    """Join test sets so that every row weighs the same: 100 rows at .5 and 300 at .1 give 400 at .2.

    `full` and `partial` are None unless every part has them. Raises ValueError where there is nothing to join.
    """
    if not parts:
        raise ValueError("no rows to average: a test set without rows has no accuracy")
    n = sum(part.n for part in parts)

    def mean(values: list[float | None]) -> float | None:
        known = [value * part.n for value, part in zip(values, parts, strict=True) if value is not None]
        return math.fsum(known) / n if len(known) == len(parts) else None

    return SetResult(
        n,
        math.fsum(part.accuracy * part.n for part in parts) / n,
        math.fsum(part.format * part.n for part in parts) / n,
        mean([part.full for part in parts]),
        mean([part.partial for part in parts]),
    )


def with_pooled_ood(results: Mapping[str, SetResult]) -> dict[str, SetResult]:
    """Order test sets as id, ood, the parts of ood, then others; a task may have any of these, or one set of any name.

    `ood` pools `ood_left` and `ood_right` where it is not there itself.
    """
    parts = {name: result for name, result in results.items() if name.startswith("ood_")}
    known = ({"ood": joined(list(parts.values()))} if parts else {}) | dict(results)
    first = [name for name in ("id", "ood", *parts) if name in known]
    return {name: known[name] for name in (*first, *(name for name in known if name not in first))}

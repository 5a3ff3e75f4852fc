"""What an evaluation of one test set comes to, and how sets are joined."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from open_r1.schema import Score


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

    def as_json(self) -> dict[str, float]:
        """The fields that are set, as summary.json holds them."""
        return {key: value for key, value in asdict(self).items() if value is not None}


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

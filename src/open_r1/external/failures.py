"""Counts what external models failed to deliver, warns now and then, and ends the run where that is asked for."""

import logging
from collections.abc import Sequence

from open_r1.schema import Answers, Failure, Reply, UserError

WARN_EVERY = 50  # failures of one model between two warnings

logger = logging.getLogger(__name__)


class FailureLog:
    """Failures per model over the life of a gatherer."""

    def __init__(self, names: Sequence[str]):
        self.totals = dict.fromkeys(names, 0)
        self._warned_at: dict[str, int] = {}

    def settle(self, answers: list[Answers], step: int) -> dict[str, int]:
        """Drop blank replies from `answers` in place and record the failures of this step.

        A blank reply is legal but worthless, its reward is 0: one candidate less is the honest record. It counts as one
        failure ("bad_reply"); an answer with nothing but blank replies becomes a Failure, and counts once.

        Returns:
            The step's failures per model, 0 included.
        """
        failed: dict[str, list[Failure]] = {name: [] for name in self.totals}
        for by_model in answers:
            for name, answer in by_model.items():
                by_model[name], failures = _without_blanks(name, answer)
                failed[name] += failures
        for name, failures in failed.items():
            if failures:
                self._record(name, failures, step)
        return {name: len(failures) for name, failures in failed.items()}

    def _record(self, name: str, failures: list[Failure], step: int) -> None:
        """Add to the total; warn at a model's first failure and then at most every WARN_EVERY."""
        self.totals[name] += len(failures)
        total, last = self.totals[name], failures[-1]
        if name not in self._warned_at or total - self._warned_at[name] >= WARN_EVERY:
            self._warned_at[name] = total
            logger.warning(
                "external model '%s' failed %d times in step %d (%s: %s), %d times so far; groups are filled from the"
                " replies that came; next warning after %d more failures",
                *(name, len(failures), step, last.reason, last.message, total, WARN_EVERY),
            )


def require(answers: list[Answers], step: int) -> None:
    """Raise the UserError of `external_required` for the first model that left a prompt without any reply."""
    for name in answers[0]:
        failed = [answer for by_model in answers if isinstance(answer := by_model[name], Failure)]
        if failed:
            raise UserError(
                f"external model '{name}' failed for {len(failed)} of {len(answers)} prompts in step {step}"
                f" ({failed[-1].reason}: {failed[-1].message}), but external_required is true; correct the model or its"
                " deadline and resume from the last checkpoint, or set external_required: false"
            )


def _without_blanks(name: str, answer: list[Reply] | Failure) -> tuple[list[Reply] | Failure, list[Failure]]:
    """Return what is left of one answer without blank replies, and the failures to count for it."""
    if isinstance(answer, Failure):
        return answer, [answer]
    good = [reply for reply in answer if reply.text.strip()]
    if not good:
        refused = bool(answer) and all(reply.finish_reason == "content_filter" for reply in answer)
        blank = Failure(
            name, "refused" if refused else "bad_reply", f"{len(answer)} replies, none with text{why_blank(answer)}"
        )
        return blank, [blank]
    return good, [Failure(name, "bad_reply", "a reply without text")] * (len(answer) - len(good))


def why_blank(replies: Sequence[Reply]) -> str:
    """What blank replies have in common and what helps, to go behind their number."""
    if any(not reply.text.strip() and reply.finish_reason == "length" for reply in replies):
        return (
            ": hidden reasoning used up max_tokens; raise it (the replies are then bought anew) or ask for less effort"
        )
    return ""

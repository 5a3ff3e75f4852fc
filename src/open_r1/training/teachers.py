"""Asking: which prompts the external models get, and when: this step's, the coming steps', or those the policy fails.

The trainer hands over rows and its place in the training; what a request is made of, and how far ahead the sampler's
order is read, is settled here.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from open_r1.data.prompts import messages
from open_r1.external.gather import Gathered, Gatherer
from open_r1.external.provider import Request
from open_r1.method.candidates import scored_by
from open_r1.method.groups import Groups
from open_r1.recipe.settings import PromptKind
from open_r1.schema import Answers, Candidate, Row
from open_r1.tasks import Task
from open_r1.training.lookahead import LookAhead, Sampler
from open_r1.training.tally import Tally


class Asking(NamedTuple):
    """The settings of a run that say how external models are asked."""

    deadline_s: float = 60.0  # how long a step waits for them
    prompt_kind: PromptKind = "reasoning"  # which prompt they get: the policy's
    below: float | None = None  # only for prompts of which the policy answers less than this share right; None: all
    prefetch_steps: int = 0  # generations whose prompts they are asked ahead, where replies are kept


ASKING = Asking()


def nobody(own_PN: list[list[Candidate]]) -> Gathered:
    """What a run without external models gathers."""
    return Gathered([{} for _ in own_PN], 0.0, {})


class Teachers:
    """The external models of a run as the trainer sees them."""

    def __init__(self, gatherer: Gatherer, task: Task, asking: Asking = ASKING):
        """Ask through `gatherer` with the prompts of `task`."""
        self.gatherer, self.task, self.asking = gatherer, task, asking
        self._ahead: LookAhead | None = None
        self._rows: list[Row] = []  # by the sampler's index
        self._places: dict[str, int] = {}
        self._asked = (0, 0)  # prompts that were asked about, of how many, in the present generation

    def watch(self, sampler: Sampler, rows: list[Row], rows_per_block: int, processes: int, process: int) -> Sampler:
        """Return a sampler of the same order, which can be looked ahead in; `rows` by its index, the rest LookAhead's.

        Where the policy's own rewards decide whom to ask, nobody knows it ahead: then it is `sampler` itself.
        """
        if not self.asking.prefetch_steps or self.asking.below is not None:
            return sampler
        self._rows, self._places = rows, {row.id: place for place, row in enumerate(rows)}
        self._ahead = LookAhead(sampler, rows_per_block, processes, process)
        return self._ahead

    def ask(self, rows_P: Sequence[Row], step: int, left: int) -> Callable[[list[list[Candidate]]], Gathered]:
        """Ask about this step's prompts and, where replies are kept, about those of the coming generations.

        Args:
            rows_P: this step's prompts.
            step: the optimiser step.
            left: generations after this one until training ends; beyond them nothing is asked.

        Returns:
            A function to call once with the policy's scored candidates; it waits for the answers.
        """
        below = self.asking.below
        self._asked = len(rows_P), len(rows_P)
        if below is not None:
            return lambda own_PN: self._ask_where_weak(rows_P, own_PN, below, step)
        pending = self.gatherer.ask([self._request(row, step) for row in rows_P], self.asking.deadline_s)
        if self._ahead is not None:
            coming = self._ahead.coming(self._places[rows_P[0].id], min(self.asking.prefetch_steps, left))
            self.gatherer.prefetch([self._request(self._rows[place], step) for place in coming])
        return lambda _: pending()

    def score(self, rows_P: Sequence[Row], groups: Groups, step: int) -> Groups:
        """Ask the external models that can tell how likely they find the kept candidates that others wrote; waits."""
        requests = [self._request(row, step) for row in rows_P]
        written_PG = [
            [(pool[k].source, pool[k].text) for k in kept_G]
            for pool, kept_G in zip(groups.pools, groups.kept_PG, strict=True)
        ]
        known_P = self.gatherer.score(requests, written_PG, self.asking.deadline_s)

        def with_scores(p: int, candidate: Candidate) -> Candidate:
            names = [name for name in self.gatherer.names if (name, candidate.text) in known_P[p]]
            others = {name: known_P[p][name, candidate.text] for name in names if name != candidate.source}
            return scored_by(candidate, others)

        return groups.with_kept(with_scores)

    def count(self, tally: Tally, gathered: Gathered) -> None:
        """Count what came of this generation's questions (docs/METRICS.md)."""
        for name in self.gatherer.names:
            tally.sum(f"external/{name}/failures", gathered.failures.get(name, 0))
        tally.longest("external/wait_s", gathered.wait_s)
        tally.ratio("external/asked", *self._asked)
        for name, usage in self.gatherer.usage().items():
            tally.ratio(f"external/{name}/hit_rate", usage.hits, usage.asked)
            tally.latest(f"external/{name}/usd", usage.usd)

    def _ask_where_weak(
        self, rows_P: Sequence[Row], own_PN: list[list[Candidate]], below: float, step: int
    ) -> Gathered:
        """Ask about the prompts of which the policy's share of right answers lies below `below`."""
        right_P = [sum(c.score.accuracy == 1 for c in own) / len(own) for own in own_PN]
        weak = [p for p, right in enumerate(right_P) if right < below]
        self._asked = len(weak), len(rows_P)
        gathered = self.gatherer.ask([self._request(rows_P[p], step) for p in weak], self.asking.deadline_s)()
        answers: list[Answers] = [
            {name: [] for name in self.gatherer.names} for _ in rows_P
        ]  # not asked: no reply, no failure
        for p, answer in zip(weak, gathered.answers, strict=True):
            answers[p] = answer
        return gathered._replace(answers=answers)

    def _request(self, row: Row, step: int) -> Request:
        return Request(row, messages(row, self.task, self.asking.prompt_kind), step=step)

"""The groups of a batch: every prompt's pool of candidates, the G that are kept, and their way back to TRL."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from open_r1.method.advantages import baseline_advantages
from open_r1.method.selection import SELECTIONS, pad
from open_r1.schema import Candidate

T = TypeVar("T")


class Generated(NamedTuple):
    """What `GRPOTrainer._generate` returns, in its order; one entry per row of the batch in every list."""

    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    tool_mask: list[list[int]] | None
    completions: list[list[dict[str, str]]]  # one assistant turn each
    logprobs: list[list[float | None]] | None  # of the sampling engine; None where it is transformers' generate
    extra_fields: dict[str, object]
    images: list[object] | None
    tool_images: list[object]


@dataclass(frozen=True)
class Rule:
    """How a pool of K becomes a group of G with advantages.

    Attributes:
        selection: name of a rule in `selection.SELECTIONS`.
        max_external: most external candidates in a kept group; None sets no limit.
        baseline: over whose rewards the advantages' mean is taken, one of `advantages.BASELINES`.
        scaled: whether advantages are divided by a standard deviation.
    """

    selection: str
    max_external: int | None
    baseline: str
    scaled: bool


@dataclass(frozen=True)
class Groups:
    """Of every prompt of a batch its pool, which G of it are kept, and their advantages."""

    pools: list[list[Candidate]]  # a pool begins with the policy's N, in TRL's order
    kept_PG: list[list[int]]
    advantages_PG: NDArray[np.float64]

    @classmethod
    def choose(cls, pools: list[list[Candidate]], size: int, rule: Rule) -> "Groups":
        """Keep `size` candidates of every pool; raises ValueError where a pool has fewer."""
        rewards_PK = pad([[c.reward for c in pool] for pool in pools])
        external_PK = pad([[c.external for c in pool] for pool in pools], fill=False).astype(bool)
        there_PK = pad([[True] * len(pool) for pool in pools], fill=False).astype(bool)
        kept_PG = SELECTIONS[rule.selection](rewards_PK, external_PK, size, rule.max_external, there_PK)
        advantages_PG = baseline_advantages(rule.baseline, rewards_PK, external_PK, kept_PG, rule.scaled)
        return cls(pools, kept_PG.tolist(), advantages_PG)

    @property
    def kept(self) -> Iterator[Candidate]:
        """The kept candidates as TRL has its rows: G in a row per prompt."""
        return (candidate for _, _, candidate in self._kept_places())

    @property
    def dead_P(self) -> list[bool]:
        """Of every prompt whether its update is nothing: all its advantages are zero."""
        return [not advantages_G.any() for advantages_G in self.advantages_PG]

    def with_kept(self, change: Callable[[int, Candidate], Candidate]) -> "Groups":
        """Replace every kept candidate by change(prompt, candidate)."""
        pools = [list(pool) for pool in self.pools]
        for p, k, candidate in self._kept_places():
            pools[p][k] = change(p, candidate)
        return replace(self, pools=pools)

    def repack(self, generated: Generated) -> Generated:
        """Put the kept candidates where TRL expects its own completions."""
        N = len(generated.completion_ids) // len(self.pools)
        out_ids: list[list[int]] = []
        out_texts: list[list[dict[str, str]]] = []
        out_logprobs: list[list[float | None]] = []
        for p, k, candidate in self._kept_places():
            own = None if candidate.external else p * N + k
            turn = [{"role": "assistant", "content": candidate.text}]
            out_ids.append(list(candidate.token_ids) if own is None else generated.completion_ids[own])
            out_texts.append(turn if own is None else generated.completions[own])
            if generated.logprobs is not None:
                # None, not 0.0: TRL reads None as "unknown" and takes the ratio as 1
                unknown: list[float | None] = [None] * len(candidate.token_ids)
                out_logprobs.append(unknown if own is None else generated.logprobs[own])

        def per_row(values: list[T]) -> list[T]:
            return [values[p * N] for p, kept_G in enumerate(self.kept_PG) for _ in kept_G]

        return generated._replace(
            prompt_ids=per_row(generated.prompt_ids),
            completion_ids=out_ids,
            completions=out_texts,
            logprobs=None if generated.logprobs is None else out_logprobs,
            images=None if generated.images is None else per_row(generated.images),
        )

    def _kept_places(self) -> Iterator[tuple[int, int, Candidate]]:
        """(prompt, place in its pool, candidate) of every kept one."""
        return ((p, k, self.pools[p][k]) for p, kept_G in enumerate(self.kept_PG) for k in kept_G)

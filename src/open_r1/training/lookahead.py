"""Look-ahead: which prompts the coming steps will train on, read off the sampler's own order.

TRL's sampler yields each block of prompts G times per prompt, and whole blocks several times over where a generation
serves several updates. The order of an epoch is drawn at its beginning, so it can be read before it is trained on; the
next epoch's is drawn one epoch early, from the sampler's own generator, which changes neither.
"""

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Protocol


class Sampler(Iterable[int], Sized, Protocol):
    """What yields indices into the training set, another order each time it is iterated."""


Block = tuple[int, ...]  # the distinct prompts of one generation batch, of all processes, in order


class LookAhead:
    """Stands in for a sampler and yields exactly what it yields, but knows what comes after."""

    def __init__(self, sampler: Sampler, rows_per_block: int, processes: int = 1, process: int = 0):
        """Wrap `sampler`.

        Args:
            sampler: TRL's; consecutive `rows_per_block` indices are one generation batch.
            rows_per_block: rows that all processes generate at once (TRL's generation_batch_size).
            processes: how many train; each on one of as many equal parts of a block.
            process: which of them this one is, from 0.
        """
        self.sampler, self.rows_per_block = sampler, rows_per_block
        self.process, self.processes = process, processes
        self._blocks: list[Block] = []  # of this epoch and the next
        self._at = 0  # block that is trained on
        self._next: list[int] | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        order = list(self.sampler) if self._next is None else self._next
        self._next = list(self.sampler)
        self._blocks = [*self._distinct(order), *self._distinct(self._next)]
        self._at = 0
        yield from order

    def coming(self, now: int, steps: int) -> list[int]:
        """The prompts that this process generates for in the `steps` generations after the one that holds `now`.

        Blocks before that one are never looked at again: a resumed run that skips its first steps asks nothing for
        them. Without such a block, e.g. before the first epoch, nothing is known to come.

        Args:
            now: index of any prompt of the present generation batch.
            steps: how many generations to look ahead.
        """
        for place in range(self._at, len(self._blocks)):
            if now in self._blocks[place]:
                self._at = place
                return [index for block in self._blocks[place + 1 : place + 1 + steps] for index in self._share(block)]
        return []

    def _share(self, block: Block) -> Block:
        size = len(block) // self.processes
        return block[self.process * size : (self.process + 1) * size]

    def _distinct(self, order: list[int]) -> Iterator[Block]:
        """Blocks in order, each once however often it is repeated in a row."""
        rows, last = iter(order), None
        while block := tuple(dict.fromkeys(islice(rows, self.rows_per_block))):
            if block != last:
                yield block
            last = block

"""One evaluation on all GPUs: a process per GPU holds the policy and answers its share of the rows."""

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from accelerate.utils import patch_environment

from open_r1.evaluation.backends import BackEnd, Replied, Wanted
from open_r1.schema import UserError

POLL_S = 5.0  # how often a worker that says nothing is looked after


def visible_gpus() -> list[str]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = map(str, range(torch.cuda.device_count()))
    return list(numbers) if named is None else named.split(",")[: torch.cuda.device_count()]


class Spread:
    """A back end that deals the rows to several processes, each with a back end and a device of its own.

    The samples of a row stay together, so that its prompt and pictures are read once. Answers come in any order.

    Args:
        make: makes a back end; called in each process, and sent there by pickle.
        devices: what each process gets as CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, make: Callable[[], BackEnd], devices: Sequence[str]):
        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
        self.answers: Any = context.Queue()
        self.inboxes, self.workers = [], []
        for number, device in enumerate(devices):
            inbox = context.Queue()
            worker = context.Process(target=_work, args=(make, number, inbox, self.answers), daemon=True)
            with patch_environment(cuda_visible_devices=device):
                worker.start()
            self.inboxes.append(inbox)
            self.workers.append(worker)

    def __call__(self, wanted: Sequence[Wanted], label: str) -> Iterator[Replied]:
        """Yield each question with its reply; raises what a worker raised, or RuntimeError where one was killed."""
        rows = [list(group) for _, group in groupby(wanted, key=lambda question: question.row.id)]
        by_number = dict(enumerate(wanted))
        place = {(question.row.id, question.sample): number for number, question in by_number.items()}
        number = len(self.workers)
        shares = [[question for row in rows[n::number] for question in row] for n in range(number)]
        for n, (inbox, share) in enumerate(zip(self.inboxes, shares, strict=True)):
            inbox.put((share, f"{label} {n + 1}/{len(shares)}"))
        for _ in wanted:
            row_id, sample, reply = self._next()
            yield by_number[place[row_id, sample]], reply

    def _next(self) -> tuple[str, int, str | None]:
        while True:
            try:
                answer = self.answers.get(timeout=POLL_S)
            except queue.Empty:
                dead = [n for n, worker in enumerate(self.workers) if not worker.is_alive()]
                if dead:
                    codes = ", ".join(f"{n}: exit status {self.workers[n].exitcode}" for n in dead)
                    raise RuntimeError(f"evaluation processes ended without a word ({codes})") from None
                continue
            if isinstance(answer, Exception):
                raise answer
            return answer


def _work(make: Callable[[], BackEnd], number: int, inbox: Any, answers: Any) -> None:
    """Answer what comes in until the parent ends; an error goes to the parent."""
    try:
        back_end = make()
        while True:
            share, label = inbox.get()
            for question, reply in back_end(share, label) if share else ():
                answers.put((question.row.id, question.sample, reply))
    except UserError as error:
        answers.put(error)
    except Exception as error:  # noqa: BLE001  # raised again in the parent
        answers.put(RuntimeError(f"evaluation process {number}: {type(error).__name__}: {error}"))

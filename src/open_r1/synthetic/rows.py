"""Makes single synthetic rows: the part of writing a data set that worker processes do.

It imports no more than the generator, so that a worker starts quickly.
"""

import importlib
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from open_r1.synthetic.sample import RIGHT, Sample, Size
from open_r1.tasks import get_task

BASE = "base"  # set of the base policy's pre-training: mixed procedures, some pictures from out of domain
BASE_OOD_EVERY = 5  # every fifth base row: a pre-trained model has seen other domains, though it was not trained there
PAIR = ("init", "fin")  # what the names of a row's two pictures end in


@dataclass(frozen=True)
class Job:
    """One row to be made: row `index` of the set `split` ("train", "base", or a test set's name)."""

    task: str
    size: Size
    seed: int
    split: str
    index: int
    images: Path  # folder of the pictures


def generator(task: str) -> ModuleType:
    """Return the generator module of `task`, with `sample`, `KINDS` and `RIGHT_SHARE`."""
    return importlib.import_module(f"open_r1.synthetic.{task}")


def make_sample(job: Job) -> tuple[Sample, random.Random]:
    """Return the job's sample, which depends on the job alone, and the random stream after it."""
    rng = random.Random(f"{job.seed}/{job.task}/{job.size}/{job.split}/{job.index}")
    draw: Callable[[random.Random, Size, str], Sample] = generator(job.task).sample
    return draw(rng, job.size, _drawn_as(job)), rng


def _drawn_as(job: Job) -> str:
    """The generator's split for a job: base rows are training rows, every BASE_OOD_EVERY-th an out-of-domain one."""
    if job.split != BASE:
        return job.split
    turn, left = divmod(job.index, BASE_OOD_EVERY)
    ood = [name for name in get_task(job.task).test_files if name != "id"]
    return "train" if left else ood[turn % len(ood)]


def make_row(job: Job) -> dict:
    """Save the job's pictures below `job.images` and return its JSON row in the Reason-RFT-CoT layout.

    Training rows have the right reasoning as `cot`. Base rows have the `cot` and the answer of a procedure drawn from
    the mixture: right with `RIGHT_SHARE[kind]`, else any of the wrong ones; beside a right one stand a wrong one's cot
    and answer, `instead`; and, in the tasks that have one, an `exercise` with its own problem, cot and answer. Test
    rows have no `cot`.
    """
    sample, rng = make_sample(job)
    row_id = f"{job.task}-{job.split}-{job.index}"
    endings = [f"-{ending}" for ending in PAIR] if len(sample.images) == 2 else [""]
    names = [f"{row_id}{ending}.png" for ending in endings]
    for name, image in zip(names, sample.images, strict=True):
        image.save(job.images / name)
    chosen, other = sample.procedures[RIGHT], None
    if job.split == BASE:
        right = rng.random() < generator(job.task).RIGHT_SHARE[sample.kind]
        wrong = sample.procedures[rng.choice(sorted(name for name in sample.procedures if name != RIGHT))]
        chosen, other = (chosen, wrong) if right else (wrong, None)
    row: dict[str, Any] = {"id": row_id, "image": names if len(names) == 2 else names[0], "problem": sample.problem}
    row["answer"] = chosen.answer
    if job.split in ("train", BASE):
        row["cot"] = chosen.cot
    row["kind"] = sample.kind
    if other:
        row["instead"] = asdict(other)
    if job.split == BASE and sample.exercise:
        row["exercise"] = asdict(sample.exercise)
    return row

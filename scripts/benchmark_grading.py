"""Replies graded per second on one core, into results/grading.json; takes about a minute on a quiet machine.

    python scripts/benchmark_grading.py [--replies 20000] [--seconds 3] [--output results/grading.json]

Every reply is distinct and every case is graded several times; the best round counts, since other programs only slow
a round down. Answers repeat as they do in training, and the grader remembers what an answer states ("no answer twice"
has its caches cleared). What math-verify grades as well is set against it, in the same process.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from open_r1.rewards import math_answer
from open_r1.rewards.formula import read_formula
from open_r1.rewards.math_answer import grade_math, grade_spatial
from open_r1.rewards.reading import read_value
from open_r1.rewards.statements import read_statement
from open_r1.rewards.tags import format_reply
from open_r1.utils.provenance import ROOT, figure, write_figures

Pairs = Sequence[tuple[str, str]]  # (reply, answer)
COT = "left; large red metal cube 1; small blue rubber sphere 2; large gray metal cylinder 3; row {}; so 3 - 1 = 2"
VALUES = {"color": ("red", "blue", "cyan", "gray"), "size": ("small", "medium", "large"), "shape": ("cube", "sphere")}
MOVES = ("front", "behind", "left", "right", "front_left", "behind_right")


def replies(answers: Sequence[str], truths: Sequence[str], count: int) -> list[tuple[str, str]]:
    """`count` distinct replies; reply i gives answers[i % ...] to truths[i % ...]."""
    return [(format_reply(COT.format(i), answers[i % len(answers)]), truths[i % len(truths)]) for i in range(count)]


def functions(rng: random.Random) -> str:
    """One to four random changes, as the spatial task asks for them."""
    made = []
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(("position", *VALUES))
        made.append(f"change_{name}({rng.randrange(10)}, {rng.choice(VALUES.get(name, MOVES))})")
    return ", ".join(made)


def slip(answer: str, rng: random.Random) -> str:
    """The answer with one function replaced by another, or with one too many: partial credit has to be computed."""
    made = answer.split("), ")
    made[rng.randrange(len(made))] = functions(rng).split("), ")[0].rstrip(")") + ")" * (len(made) == 1)
    return "), ".join(made)


def cases(count: int) -> dict[str, Pairs]:
    """The replies to grade, by the name of the figure."""
    rng = random.Random(0)
    numbers = [str(n) for n in range(11)]
    truths = [functions(rng) for _ in range(min(count, 500))]
    structure = [  # (answer given, true answer): half of them right
        *(("65°", "65"), ("\\frac{1}{2}", "0.5"), ("B. 12", "B"), ("12 cm^2", "12"), ("3.50", "3.5"), ("(A)", "B")),
        *(("The answer is 40", "40"), ("8 - 3 = 5", "5"), ("41", "40"), ("1/3", "0.25"), ("x = 7", "8"), ("C", "D")),
    ]
    distinct = [(f"The area is {i}.{i % 7} cm^2", str(i % 50)) for i in range(min(count, 5000))]
    formulas = [
        (f"{a}\\sqrt{{{b}}}", f"{c}\\sqrt{{{b}}}") for a in range(2, 9) for b in (2, 3, 5, 7) for c in (a, a + 1)
    ]
    return {
        "counting, right": replies(numbers, numbers, count),
        "counting, wrong": replies(numbers[1:] + numbers[:1], numbers, count),
        "counting, mixed decimals": replies(["3.5", "4.0", "2.25", "7"], ["3.5", "4", "2.2", "7.5"], count),
        "spatial, right": replies(truths, truths, count),
        "spatial, wrong": replies(truths[1:] + truths[:1], truths, count),
        "spatial, one slip": replies([slip(truth, rng) for truth in truths], truths, count),
        "structure, as answers come": replies(*(list(column) for column in zip(*structure, strict=True)), count),
        "structure, no answer twice": replies(*(list(column) for column in zip(*distinct, strict=True)), len(distinct)),
        "structure, formulas": replies(*(list(column) for column in zip(*formulas, strict=True)), min(count, 2000)),
    }


def rate(grade: Callable[[str, str], Any], pairs: Pairs, seconds: float, cold: bool = False) -> float:
    """Replies per second of CPU time in the best of the rounds that fit into `seconds`, three at least."""
    import_module("scipy.optimize")  # what graders import late is no part of their rate
    for reply, answer in pairs[:100]:
        grade(reply, answer)
    best, rounds, until = 0.0, 0, time.monotonic() + seconds
    while rounds < 3 or time.monotonic() < until:
        rounds += 1
        if cold:
            for cache in (math_answer._accuracy, read_statement, read_value, read_formula):  # type: ignore[attr-defined]
                cache.cache_clear()
        began = time.process_time()
        for reply, answer in pairs:
            grade(reply, answer)
        best = max(best, len(pairs) / (time.process_time() - began))
    return best


def by_math_verify(reply: str, answer: str) -> bool:
    """What Open-R1's accuracy reward does: parse both, verify; without its time limits, which need signals."""
    from math_verify import parse, verify

    given = reply.rpartition("<answer>")[2].removesuffix("</answer>")
    gold = parse(f"${answer}$", parsing_timeout=None)
    return verify(gold, parse(f"${given}$", parsing_timeout=None), timeout_seconds=None)


def main() -> None:
    """Measure every case, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=20_000, help="distinct replies per case")
    parser.add_argument("--seconds", type=float, default=3.0, help="for the rounds of each case")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "grading.json")
    args = parser.parse_args()
    targets = {"counting": ">= 50000", "spatial": ">= 40000"}
    figures, made = [], cases(args.replies)
    for name, pairs in tqdm(made.items(), desc="grading", unit="case"):
        grade = grade_spatial if name.startswith("spatial") else grade_math
        ours = rate(grade, pairs, args.seconds, cold="twice" in name)
        target = None if "decimals" in name else targets.get(name.split(",")[0])
        figures.append(figure(name, ours, "replies/s", target))
        if name.startswith("structure"):
            theirs = rate(by_math_verify, pairs[:500], args.seconds)
            figures.append(figure(f"{name}: over math-verify's own rate", ours / theirs, "times", ">= 1"))
    write_figures(args.output, "Graders", figures)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

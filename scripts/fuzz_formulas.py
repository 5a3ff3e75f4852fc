"""Grade formulas that a grammar makes up, none of which may take over half a second, into results/formulas.json.

    python scripts/fuzz_formulas.py [--formulas 100000] [--seed 0] [--output results/formulas.json]

Each formula is a reply to the one before it as the row's answer, and to a plain answer; process time is counted.
"""

import argparse
import json
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from open_r1.rewards.math_answer import grade_math
from open_r1.schema import UserError
from open_r1.utils.provenance import ROOT, figure, write_figures

LIMIT_S = 0.5
OPERATORS = ("+", "-", "*", "/", "\\cdot ", " ", "^", "**", "\\times ")
FUNCTIONS = ("sin", "cos", "tan", "ln", "log_2 ", "arcsin", "exp")
PLAIN_ANSWERS = ("5", "B", "x+1", "x^2+y^2=25", "AB = 3, CD = 8", "(-\\infty, 5) \\cup (6, 7)", "1:2", "isosceles")
BOMBS = (
    *(
        "9^9^9^9",
        "10**(10**9)",
        "9^{9^{9^9}}",
        "((9!)!)!",
        "1/0",
        "2^{-99999999}",
        "((2/10)^{997/91},7)",
        "\\binom{99}{98}!",
    ),
    *(
        "9" * 1000,
        "1/" + "7" * 400,
        "\\frac{" * 40 + "1" + "}{2}" * 40,
        "(" * 90 + "1" + ")" * 90,
        "\\sqrt{" * 60 + "2" + "}" * 60,
    ),
    *(
        "-" * 200 + "1",
        "1e999999999",
        "(x+1)^{999}",
        "x^{x^{x^x}}",
        "\\sin(10^{300})",
        "\\tan(\\sin(\\cos(1/0)))",
        "|" * 80,
    ),
    *(
        "170!!!",
        "\\sum_{i=1}^{10^{10}} i",
        "\\int_0^1 x^x dx",
        "0^{0}",
        "\\log_{1}{5}",
        "(-8)^{1/3}",
        "\\frac{997}{91}^{-10^9}",
    ),
)


def formula(rng: random.Random, depth: int = 0) -> str:
    """One formula, equation, list or bomb, of up to some hundred characters."""
    if depth > 5 or (depth and rng.random() < 0.2):
        return _atom(rng)
    if depth == 0 and rng.random() < 0.1:
        return _statement(rng)
    part = lambda: formula(rng, depth + 1)  # noqa: E731
    make = rng.choice(
        [
            lambda: f"{part()}{rng.choice(OPERATORS)}{part()}",
            lambda: f"\\frac{{{part()}}}{{{part()}}}",
            lambda: f"\\sqrt{rng.choice(['', '[3]', '[n]', f'[{_atom(rng)}]'])}{{{part()}}}",
            lambda: f"({part()})^{{{part()}}}",
            lambda: f"\\{rng.choice(FUNCTIONS)}{rng.choice('({ ')}{part()})",
            lambda: f"{rng.choice('([{|')}{part()}{rng.choice(')]}|')}",
            lambda: f"{part()}{rng.choice(['!', '%', '°', '^2', ' cm', '^{-1}', '!!'])}",
            lambda: f"({part()}, {part()}{rng.choice(')]')}",
            lambda: f"\\left({part()}\\right)",
        ]
    )
    return make()


def _atom(rng: random.Random) -> str:
    return rng.choice(
        [
            *(str(rng.randrange(10 ** rng.randrange(1, 5))), f"{rng.uniform(-99, 99):.3f}", rng.choice("xyzabnABe")),
            *("\\pi", "\\infty", "x_{12}", "1.5e-7", "9" * rng.randrange(1, 60), rng.choice(BOMBS), "AB", "-1", "0"),
        ]
    )


def _statement(rng: random.Random) -> str:
    one, other = formula(rng, 2), formula(rng, 2)
    sign = rng.choice(
        ["=", "<", "\\le ", "\\ne ", ":", " or ", ", ", " \\cup ", "\\pm ", "\\approx ", " and ", "\n", "; "]
    )
    lead = rng.choice(["", "The answer is ", "x = ", "AB = ", "so ", "\\boxed{", "**", "not "])
    return f"{lead}{one}{sign}{other}"


def measure(count: int, seed: int) -> Iterator[tuple[float, str, str]]:
    """(seconds, reply, answer) of `count` made-up replies, each graded against a made-up and a plain answer."""
    rng = random.Random(seed)
    before = "5"
    for _ in range(count):
        text = formula(rng)
        for answer in (before, rng.choice(PLAIN_ANSWERS)):
            began = time.process_time()
            try:
                grade_math(f"<answer>{text}</answer>", answer, "tolerant")
            except UserError as error:
                if "took over" in str(error):
                    raise
            yield time.process_time() - began, text, answer
        before = text


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formulas", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "formulas.json")
    args = parser.parse_args()
    next(measure(1, args.seed))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    slowest = (0.0, "", "")
    for taken in tqdm(measure(args.formulas, args.seed), total=2 * args.formulas, desc="formulas", unit="grading"):
        times.append(taken[0])
        slowest = max(slowest, taken)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    figures = [
        figure("formulas made up", args.formulas, "formulas", None),
        figure("gradings", len(times), "gradings", None),
        figure("gradings over .5 s", sum(taken > LIMIT_S for taken in times), "gradings", "<= 0"),
        figure("slowest grading", slowest[0], "s", "<= 0.5"),
        figure("mean grading", sum(times) / len(times), "s", None),
        figure("memory grown, caches included", grown, "MiB", "<= 100"),
    ]
    write_figures(args.output, "Formulas made up by a grammar", figures)
    print(json.dumps(figures, indent=1))
    print("slowest:", repr(slowest[1][:200]), "against", repr(slowest[2][:80]))


if __name__ == "__main__":
    main()

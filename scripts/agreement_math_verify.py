"""Our grader against math-verify on math-verify's own tested pairs, with the reason of each disagreement.

    python scripts/agreement_math_verify.py [--source math_verify-0.9.0.tar.gz] [--output results/agreement.json]

The pairs are read (not run) from the tests in math-verify's source distribution, which pip fetches where no file is
named. First the pairs with the verdict that its tests demand; then, up to a thousand, each of its gold answers against
itself and against its neighbours, with the verdict that math-verify gives today.
"""

import argparse
import ast
import json
import logging
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from open_r1.rewards.math_answer import grade_math
from open_r1.rewards.tags import MAX_ANSWER
from open_r1.schema import UserError
from open_r1.utils.provenance import ROOT, figure, write_figures

WANTED = 1000
# The first pattern that is found in "gold ||| reply" gives the reason.
REASONS = (
    (r"\|\|\|[^|]*\\begin\{(?:[bp]matrix|array)", "matrices are compared as texts"),
    (r"\(3,3,2,3\)", "lists of different length are not the same here"),
    (r"10455", "a box outranks what is said behind it"),
    (r"not it's not", "the text itself says that something is wrong"),
    (r"(?<!\d)\d{1,4},\d{2,3}(?!\d)", "a comma is never a decimal sign here"),
    (r"\\sum|\\int|\\lim", "sums, integrals and limits are compared as texts"),
    (r"Answer (?:\$|\\\() \n", "a line break inside inline mathematics does not matter here"),
    (r"Note: The solution provided is incorrect", "the text itself says that something is wrong"),
    (r"W\(|\\quadx", "words and commands that run into one another are not taken apart"),
    (r"\\boxed\{.*\\boxed\{", "several boxes are several values, unless they are listed one behind another"),
    (r"approx|2\.6667|0\.33", "an approximation that is not equal to six decimals"),
    (r"f\(x\)|mathrm\{e\}|zzz", "math-verify drops what it cannot parse and compares the rest"),
    (r";p=|\{1,3\}|35 cm", "a list of points or roots in another structure"),
    (r"x \\in \[-2,7\]", "an inequality and its interval are the same here"),
    (r"\|z\|", "an inequality in |z| is not solved"),
    (r".{400}", "prose from which our rules read no value, or another last one"),
)


class Pair(NamedTuple):
    """A gold answer, a reply, and whether math-verify takes the reply for right."""

    gold: str
    reply: str
    right: bool


def source(path: Path | None) -> dict[str, str]:
    """The texts of math-verify's test files, by name."""
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            wanted = f"math-verify=={version('math-verify')}"
            command = ["download", wanted, "--no-deps", "--no-binary", "math-verify", "--dest", folder]
            subprocess.run([sys.executable, "-m", "pip", "-q", *command], check=True)
            path = next(Path(folder).glob("*.tar.gz"))
        with tarfile.open(path) as archive:
            members = [member for member in archive if re.search(r"/tests/test_\w+\.py$", member.name)]
            files = {member.name: archive.extractfile(member) for member in members}
            return {name: file.read().decode() for name, file in files.items() if file}


def tested(files: dict[str, str]) -> Iterator[Pair]:
    """The (gold, reply, verdict) triples that stand in the tests as constants."""
    for _, text in sorted(files.items()):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Tuple) and len(node.elts) >= 3:
                gold, reply, right = (part.value if isinstance(part, ast.Constant) else None for part in node.elts[:3])
                if isinstance(gold, str) and isinstance(reply, str) and isinstance(right, int):
                    yield Pair(gold, reply, bool(right))


def neighbours(pairs: list[Pair], count: int) -> Iterator[Pair]:
    """Gold answers of ordinary length against themselves and the next ones, judged by math-verify as it is."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    golds = list(dict.fromkeys(pair.gold for pair in pairs if len(pair.gold) < 200))
    for step in range(len(golds)):
        for place, gold in enumerate(golds):
            if count == 0:
                return
            reply = golds[(place + step) % len(golds)]
            count -= 1
            yield Pair(gold, reply, bool(verify(parse(gold), parse(reply))))


def ours(pair: Pair) -> bool | None:
    """What our grader says; None where the gold answer would be a bad row."""
    if len(pair.reply) > MAX_ANSWER:
        return False
    try:
        return grade_math(pair.reply, pair.gold).accuracy == 1
    except UserError:
        return None


def reason(pair: Pair) -> str:
    """Why the two disagree."""
    both = f"{pair.gold} ||| {pair.reply}"
    return next((said for pattern, said in REASONS if re.search(pattern, both, re.DOTALL)), "see the pair")


def compare(pairs: list[Pair], title: str) -> tuple[int, list[dict[str, object]]]:
    """How many verdicts are alike, and the pairs where they are not."""
    differing = []
    for pair in tqdm(pairs, desc=title, unit="pair"):
        said = ours(pair)
        if said != pair.right:
            texts = {"gold": pair.gold[-160:], "reply": pair.reply[-160:]}
            differing.append(texts | {"math_verify": pair.right, "ours": said, "reason": reason(pair)})
    return len(pairs) - len(differing), differing


def main() -> None:
    """Compare, print and write the figures and the disagreements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="math-verify's source distribution; fetched by pip where missing")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "agreement.json")
    args = parser.parse_args()
    pairs = list(tested(source(args.source)))
    more = list(neighbours(pairs, max(0, WANTED - len(pairs))))
    alike, differing = compare(pairs, "tested pairs")
    more_alike, more_differing = compare(more, "neighbours")
    figures = [
        figure("tested pairs", len(pairs), "pairs", None),
        figure("tested pairs, agreement", alike / len(pairs), "share", None),
        figure("tested pairs that are wrong, taken for right", sum(bool(d["ours"]) for d in differing), "pairs", None),
        figure("neighbours", len(more), "pairs", None),
        figure("neighbours, agreement", more_alike / len(more), "share", None),
        *(
            figure(f"disagreement: {said}", count, "pairs", None)
            for said, count in Counter(str(d["reason"]) for d in differing + more_differing).most_common()
        ),
    ]
    write_figures(args.output, "Agreement with math-verify", figures)
    written = json.loads(args.output.read_text(encoding="utf-8"))
    written["disagreements"] = differing + more_differing
    args.output.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()

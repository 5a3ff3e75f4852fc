"""Looks into the tiny base policies: do they see well and reason badly? Writes results/bases.json.

    python scripts/probe_base.py [--tasks trance] [--bases "bases/{task}"] [--n 400]
    python scripts/probe_base.py --tasks trance --bases runs/<run>/model --output probe.json    # or any tiny policy

A base is useful when its exact accuracy lies between 10 and 50 percent, when it reads its pictures, and when the right
procedure pays: RL can only reinforce a procedure whose replies are right more often than those of the others. Asked at
temperature 1, as in training. The description of a reply (what stands between its first word and its last step) is
compared with that of the row's own reasoning, part by part.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from open_r1.data.rows import load_rows
from open_r1.evaluation.policy_replies import Sampling, evaluate_set, generate_replies
from open_r1.policy.loading import load_policy
from open_r1.rewards.tags import parse_reply
from open_r1.schema import Row, UserError
from open_r1.synthetic.write import own_folder, write_dataset
from open_r1.tasks import TASKS, Task, get_task
from open_r1.utils.provenance import ROOT, figure, write_figures

DATA_SEED = 7  # neither the seed of the bases' own rows nor of a run's
SHARE = ">= 10 and <= 50"  # percent: where a base policy has something to learn and something to reinforce
DESCRIBED = {"clevr_math": slice(1, -1), "geomath": slice(1, 2), "trance": slice(1, None)}  # parts of a cot


def parts(cot: str, task: str) -> list[str]:
    """What a reasoning text says it sees; a running count at a part's end is reasoning, not seeing.

    >>> parts("left; large red metal cube 0; small blue rubber ball 1; 1", "clevr_math")
    ['large red metal cube', 'small blue rubber ball']
    """
    return [re.sub(r" \d+$", "", part.strip()) for part in cot.split(";")[DESCRIBED[task]]]


def seen(reply: str, row: Row, task: str) -> float:
    """Share of the row's described parts that the reply has in the same place."""
    told, true = parts(parse_reply(reply).think or "", task), parts(row.cot or "", task)
    return sum(a == b for a, b in zip(told, true, strict=False)) / max(len(told), len(true), 1)


def first_word(cot: str | None) -> str:
    """The name of the procedure that a reasoning text follows."""
    return (cot or "").split(";")[0].strip()


def ask(task: Task, base: Path, rows: Sequence[Row], temperature: float, output: Path) -> list[dict[str, Any]]:
    """Return the graded replies of the base policy, one per row."""
    model, processor = load_policy(str(base))
    sampling = Sampling(temperature, 1.0 if temperature == 1 else 0.9, 0, 96, 100)
    replies = generate_replies(model, processor, list(rows), task, sampling, "reasoning", output.stem)
    evaluate_set(replies, lambda reply, true: task.grade(reply, true, task.settings[0]), output)
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def probe(task: Task, base: Path, n: int) -> list[dict[str, Any]]:
    """Return the task's figures, in percent."""
    counts = {"train": n} | dict.fromkeys(task.test_files, n)
    folder = own_folder(f"{task.name}-probe", "tiny", counts)
    write_dataset(task.name, folder, "tiny", DATA_SEED, counts)
    figures = []

    def add(label: str, values: Sequence[float], target: str | None = None) -> None:
        if values:
            figures.append(figure(f"{task.title}: {label}", 100 * statistics.fmean(values), "%", target))

    rows = {row.id: row for row in load_rows(task, folder, "train").rows}
    with TemporaryDirectory() as replies:  # of this probe alone: another may be asking the same rows
        for name in task.test_files:
            lines = ask(task, base, load_rows(task, folder, name).rows, 0.1, Path(replies) / f"replies-{name}.jsonl")
            add(f"{name} exact", [line["accuracy"] for line in lines], SHARE if name == "id" else None)
        lines = ask(task, base, list(rows.values()), 1.0, Path(replies) / "replies-train.jsonl")
    right = [first_word(parse_reply(line["reply"]).think) == first_word(rows[line["id"]].cot) for line in lines]
    add("parts of the picture read rightly", [seen(line["reply"], rows[line["id"]], task.name) for line in lines])
    add("replies that choose the right procedure", [float(chosen) for chosen in right])
    for chosen, label in ((True, "right"), (False, "wrong")):
        scores = [line["accuracy"] for line, r in zip(lines, right, strict=True) if r == chosen]
        add(f"right answers among replies by the {label} procedure", scores)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Probe the bases and write results/bases.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--bases", default=str(ROOT / "bases/{task}"), help="folder of a policy, by its {task}")
    parser.add_argument("--n", type=int, default=400, help="rows of each set")
    parser.add_argument("--name", default="Base policies", help="of its section in docs/RESULTS.md")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "bases.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    folders = {name: Path(args.bases.replace("{task}", name)) for name in args.tasks}
    figures = [line for name, folder in folders.items() for line in probe(get_task(name), folder, args.n)]
    for line in figures:
        print(f"{line['value']:5.1f} %  {line['label']}")
    write_figures(args.output, args.name, figures)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

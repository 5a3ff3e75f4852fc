"""`make eval`: ask a model K times about every row of the test sets, grade each reply, say how good the model is.

One JSON line per reply is written as it comes (`<set>.jsonl`), so a stopped evaluation goes on where it stood; a line
cut by a kill and requests that failed are asked again. scores.json has means, standard errors and pass@k.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from open_r1.data.prepare import prepare_rows, test_sets
from open_r1.evaluation.backends import BackEnd, Wanted
from open_r1.evaluation.options import Evaluation, claim, make_back_end, read_evaluation
from open_r1.evaluation.pass_at_k import pass_at_k, powers_of_two, standard_error
from open_r1.evaluation.results import MeanOfRows, PartialScores, SampledScores, Scores
from open_r1.rewards.deadline import of_row
from open_r1.schema import Row, UserError
from open_r1.tasks import Task, get_task
from open_r1.utils.entry import command_parser
from open_r1.utils.files import JsonObject, append_jsonl, read_jsonl, write_json, write_jsonl
from open_r1.utils.provenance import ROOT, git_commit, hardware


def read_lines(path: Path) -> dict[tuple[str, int], JsonObject]:
    """Read the replies that an earlier start wrote, by row and sample; a last line that was cut is dropped."""
    if not path.is_file():
        return {}
    lines = read_jsonl(path, cut="drop")
    write_jsonl(path, lines)  # without the cut line, to which the next would be joined
    return {(line["id"], line["sample"]): line for line in lines if not line["failed"]}


def ask_set(
    name: str, rows: Sequence[Row], k: int, task: Task, setting: str, back_end: BackEnd, folder: Path
) -> list[JsonObject]:
    """Ask what is not answered yet, append each graded reply, and return one line per row and sample."""
    path = folder / f"{name}.jsonl"
    done = read_lines(path)
    ordered = sorted(rows, key=lambda row: len(row.problem))  # a batch of prompts of one length has little padding
    open_ = [Wanted(row, i) for row in ordered for i in range(k) if (row.id, i) not in done]
    for (row, sample), reply in back_end(open_, f"{name}: {len(open_)} replies") if open_ else ():
        line = {"id": row.id, "sample": sample, "kind": row.kind, "answer": row.answer, "reply": reply}
        with of_row(row.id):
            score = task.grade(reply or "", row.answer, setting)  # an empty reply is wrong for every grader
        parts = {part: value for part, value in asdict(score).items() if value is not None}
        done[row.id, sample] = line | {"failed": reply is None} | parts
        append_jsonl(path, [done[row.id, sample]])
    return [done[row.id, i] for row in rows for i in range(k)]


def summarise(lines: Sequence[JsonObject], seed: int) -> SampledScores:
    """Return n, failed, the mean of every part of the score, the standard error of accuracy, and pass@k.

    A reply is right for pass@k when all of its answer is: partial credit (trance) does not count there.
    """
    by_row = defaultdict(list)
    for line in lines:
        by_row[line["id"]].append(line)
    groups = list(by_row.values())
    accuracy_B = [np.mean([line["accuracy"] for line in group]) for group in groups]
    right_B = [sum(line.get("full", line["accuracy"]) == 1 for line in group) for group in groups]
    samples_B = [len(group) for group in groups]
    passes: dict[str, MeanOfRows] = {}
    for k in powers_of_two(min(samples_B)):
        pass_B = pass_at_k(right_B, samples_B, k)
        passes[str(k)] = {"mean": float(pass_B.mean()), "stderr": standard_error(pass_B, seed)}

    def mean(part: str) -> float:
        return float(np.mean([line[part] for line in lines]))

    spatial: PartialScores = {}
    if "full" in lines[0]:
        spatial["full"] = mean("full")
    if "partial" in lines[0]:
        spatial["partial"] = mean("partial")
    return {
        "n": len(groups),
        "replies": len(lines),
        "failed": sum(line["failed"] for line in lines),
        "accuracy": mean("accuracy"),
        "format": mean("format"),
        **spatial,
        "stderr": standard_error(accuracy_B, seed),
        "pass_at_k": passes,
    }


def evaluate(evaluation: Evaluation, split: str, folder: Path) -> Scores:
    """Ask, grade and summarise; writes and returns what scores.json holds."""
    recipe, k = evaluation.recipe, evaluation.k
    task = get_task(recipe.task)
    known = test_sets(task, recipe)
    names = [name for name in known if split == "all" or name.startswith(split)]
    if not names:
        raise UserError(f"these data have no test set '{split}'; they have {', '.join(known)}; give SPLIT=all")
    claim(folder, evaluation)
    sets = {name: rows[: evaluation.rows] for name, rows in prepare_rows(task, recipe, names).items()}
    done = sum(len(read_lines(folder / f"{name}.jsonl")) for name in names)
    wanted = k * sum(map(len, sets.values()))
    back_end = make_back_end(evaluation, task, done) if done < wanted else lambda *_: iter(())
    began = time.monotonic()
    lines = {
        name: ask_set(name, rows, k, task, recipe.evaluation_grader, back_end, folder) for name, rows in sets.items()
    }
    seconds = time.monotonic() - began
    cameras = [line for name in lines if name.startswith("ood_") for line in lines[name]]
    if cameras:  # as in summary.json, every row weighs the same
        lines["ood"] = cameras
    scores: Scores = {
        "task": recipe.task,
        "model": recipe.model,
        "model_path": evaluation.model_path,
        "backend": evaluation.backend,
        "prompt_kind": recipe.prompt_kind,
        "k": k,
        "temperature": evaluation.temperature,
        "commit": git_commit(),
        "hardware": hardware(),
        "seconds": round(seconds, 1),
        "replies_per_s": round((wanted - done) / seconds, 1) if done < wanted else None,
        "sets": {name: summarise(part, recipe.seed) for name, part in lines.items()},
    }
    write_json(folder / "scores.json", scores)
    return scores


def print_scores(scores: Scores, folder: Path) -> None:
    """Print accuracy with its standard error, failures and pass@k, in percent."""
    table = Table(title=f"{scores['task']} {scores['model_path']}, {scores['k']} a row; percent", box=None)
    passes = list(next(iter(scores["sets"].values()))["pass_at_k"])
    for head in ("test set", "accuracy", "format", *(f"pass@{k}" for k in passes if k != "1"), "failed", "rows"):
        table.add_column(head, justify="left" if head == "test set" else "right", no_wrap=True)
    for name, cell in scores["sets"].items():
        cells = [f"{100 * cell['accuracy']:.1f} ± {100 * cell['stderr']:.1f}", f"{100 * cell['format']:.1f}"]
        cells += [f"{100 * cell['pass_at_k'][k]['mean']:.1f}" for k in passes if k != "1"]
        table.add_row(name, *cells, str(cell["failed"]), str(cell["n"]))
    cameras = any(name.startswith("ood_") for name in scores["sets"])  # then "ood" pools them
    console = Console(width=120, highlight=False, soft_wrap=True)
    console.print(table)
    if failed := sum(scores["sets"][name]["failed"] for name in scores["sets"] if not (name == "ood" and cameras)):
        console.print(f"{failed} requests failed and count as wrong; the same command asks them again")
    console.print(str(folder / "scores.json"), markup=False)


def main(argv: Sequence[str]) -> None:
    """Run `make eval`."""
    parser = command_parser(
        "Ask a model and grade it. Any further --key value overrides the recipe.",
        task=None,
        model=None,
        method="whose prompt (default: zero_shot): ans_sft asks for the bare answer",
        model_path=None,
        teachers="for api: a file in recipes/teachers",
        output="folder (default: evals/<task>-<model>-k<k>)",
    )
    parser.set_defaults(method="zero_shot")
    parser.add_argument("--split", default="all", help="id, ood or all")
    parser.add_argument("--k", type=int, default=1, help="replies per row, for pass@1 to pass@k")
    parser.add_argument("--rows", type=int, help="rows of each test set, the first ones; default: all")
    parser.add_argument("--backend", default="hf", help="hf, vllm, or api: the one entry of external_models")
    parser.add_argument("--external", default="", help="for api: which of its models, by name")
    parser.add_argument("--temperature", type=float, help="default: the evaluation's for k = 1, else the training's")
    args, words = parser.parse_known_args(list(argv))
    evaluation = read_evaluation(args, words)
    label = args.external or Path(args.model_path).name or args.model
    folder = args.output or ROOT / "evals" / f"{args.task}-{label}-{evaluation.recipe.prompt_kind}-k{args.k}"
    print_scores(evaluate(evaluation, args.split, folder), folder)

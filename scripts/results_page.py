"""docs/RESULTS.md and the README's picture, made from results/*.json alone; `--check` says whether the page is current.

    python scripts/results_page.py                                        # writes docs/RESULTS.md
    python scripts/results_page.py --check                                # exit 1 where the page would change
    python scripts/results_page.py --figure docs/images/learning.png      # base and methods of results/reproduce.json

A results file is a study (made by scripts/study_learning.py), a ready table (scripts/study_ablation.py) or a list of
figures: {"name", "command", "commit", "hardware", "figures": [{"label", "value", "unit", "target"}]}, `target` being
">= 50000", "<= 15", "> 0", "< 1" or null.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from open_r1.report.published import COLUMNS, QWEN2_VL
from open_r1.report.study_figures import draw_study
from open_r1.schema import POLICY, UserError
from open_r1.tasks import get_task
from open_r1.utils.markdown import markdown, number_text, verdict

ROOT = Path(__file__).resolve().parents[1]
GAIN_TARGET = ">= 10"  # points over the base policy
LEAD_TARGET = "> 0"  # points over plain GRPO
BASELINE, OURS = "grpo", "ekipl"
STUDY_KEYS = {"command", "commit", "hardware", "date", "seeds", "runs", "table", "failed"}
TABLE_KEYS = {"name", "note", "image", "head", "rows", "command", "commit", "hardware", "failed"}
FIGURE_KEYS = {"name", "command", "commit", "hardware", "figures"}
FIRST = ("reproduce", "shape", "ablation", "teachers_weak", "teachers_strong")  # then the others by name
HEAD = """# Results

Made by `python scripts/results_page.py` from the files in `results/`; not edited by hand. Under each table stand the
command that made its numbers, the commit, the seeds and the machine.
"""
STUDY_NOTE = """Test accuracy in percent: mean over the runs (lowest to highest). Gains in points, over GRPO seed by
seed. Ours are the tiny policy on synthetic data; "paper, 2B" are Qwen2-VL-2B's published numbers on the real sets, for
the shape only.
"""


def origin(result: dict[str, Any]) -> str:
    """The line under a table: where its numbers come from."""
    machine = result["hardware"]
    if isinstance(machine, dict):
        gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
        machine = f"{gpu}{machine['cpu']}, {machine['cores']} cores, {machine['ram_gib']} GiB"
    seeds = f"Seeds {', '.join(map(str, result['seeds']))}. " if "seeds" in result else ""
    date = f" {result['date']}." if "date" in result else ""
    stages = [run["seconds"] | {"install": None} for run in result.get("runs", ())]
    hours = sum(sum(filter(None, seconds.values())) for seconds in stages) / 3600
    took = f" {len(stages)} runs, {hours:.1f} hours of one core." if hours else ""
    return f"{seeds}Command: `{result['command']}`. Commit: {result['commit']}. Machine: {machine}.{date}{took}\n"


def percent(cell: dict[str, float]) -> str:
    """A mean over seeds with its extremes, in percent: "45.3 (42.1 to 48.0)"."""
    return f"{100 * cell['mean']:.1f} ({100 * cell['min']:.1f} to {100 * cell['max']:.1f})"


def leads(runs: Sequence[dict[str, Any]], task: str, method: str, name: str) -> list[float]:
    """Points by which `method` ends above GRPO, for every seed that both have."""
    final = {(run["method"], run["seed"]): run["final"][name]["accuracy"] for run in runs if run["task"] == task}
    seeds = [seed for run_method, seed in final if run_method == method and (BASELINE, seed) in final]
    return [round(100 * (final[method, seed] - final[BASELINE, seed]), 6) for seed in seeds]


def paper(method: str, task: str, name: str) -> str:
    """Qwen2-VL-2B's published accuracy before and after: "82.4 → 99.1"; TRANCE's OOD is the mean of its cameras."""
    if ("2b", method) not in QWEN2_VL:
        return ""
    at = [i for i, (of_task, of_set, _) in enumerate(COLUMNS) if of_task == task and of_set.startswith(name)]
    before, after = (statistics.fmean(QWEN2_VL["2b", row][i] for i in at) for row in ("zero_shot", method))
    return f"{before:.1f} → {after:.1f}"


def over_grpo(ahead: Sequence[float], judged: bool) -> str:
    """Mean lead with its extremes, and the verdict: "+5.0 (-1.0 to +9.0), reached (> 0)"; nothing without a pair."""
    if not ahead:
        return ""
    mean = statistics.fmean(ahead)
    lead = f"{mean:+.1f} ({min(ahead):+.1f} to {max(ahead):+.1f})"
    return f"{lead}, {verdict(mean, LEAD_TARGET)}" if judged else lead


def study_section(title: str, study: dict[str, Any]) -> str:
    """Accuracy before and after with both targets, then what training was like."""
    accuracy, training = [], []
    for row in study["table"]:
        task, method = row["task"], row["method"]
        for name in ("id", "ood"):
            gain = round(100 * row[f"gain_{name}"]["mean"], 6)
            judged = method == OURS  # the targets are for the paper's rule, not for what it is compared with
            ahead = [] if method == BASELINE else leads(study["runs"], task, method, name)
            accuracy.append(
                [
                    *(get_task(task).title, name.upper(), method, str(row["runs"])),
                    *(percent(row[f"base_{name}"]), percent(row[f"final_{name}"])),
                    f"{gain:+.1f}, {verdict(gain, GAIN_TARGET)}" if judged else f"{gain:+.1f}",
                    over_grpo(ahead, judged),
                    paper(method, task, name),
                ]
            )
        group = [run for run in study["runs"] if (run["task"], run["method"]) == (task, method)]
        if any(run["kept_share"] is None for run in group):
            continue  # a method without an rl stage keeps no candidates
        training.append([get_task(task).title, method, *training_cells(group)])
    text = f"## {title}\n\n{STUDY_NOTE}\n"
    head = ["task", "set", "method", "runs", "before", "after", "gain over base", "gain over GRPO", "paper, 2B"]
    text += markdown(head, accuracy) + "\n"
    head = ["task", "method", "dead before", "dead after", "external kept, start", "end", "training s", "peak MiB"]
    text += markdown(head, training) + "\n"
    for failure in study["failed"]:
        text += f"Failed: {failure['task']} {failure['method']} seed {failure['seed']}: {failure['reason']}.\n\n"
    if "report" in study:
        text += f"Table 1, ours beside the paper's numbers: [report]({study['report']}).\n\n"
    text += "".join(f"![{caption}]({path})\n\n" for caption, path in study.get("images", {}).items())
    return text + origin(study)


def training_cells(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Means over runs: dead groups before and after selection, external share at both ends, seconds, memory."""
    dead = [[run["dead_groups"][when] for run in runs] for when in ("before", "after")]
    external = [[1 - run["kept_share"][end][POLICY] for run in runs] for end in ("start", "end")]
    shares = [f"{100 * statistics.fmean(column):.0f} %" for column in (*dead, *external)]
    seconds = statistics.fmean(run["seconds"]["train"] for run in runs)
    return [*shares, f"{seconds:,.0f}", f"{max(run['peak_rss_mib'] for run in runs):,.0f}"]


def table_section(result: dict[str, Any]) -> str:
    """A table that its study has made ready, with the picture and the runs that failed."""
    text = f"## {result['name']}\n\n{result['note']}\n\n![{result['name']}]({result['image']})\n\n"
    text += markdown(result["head"], result["rows"]) + "\n"
    lacking: dict[tuple[str, str], list[str]] = {}
    for failure in result["failed"]:
        cell = f"{failure['cell']} (seed {failure['seed']})"
        lacking.setdefault((get_task(failure["task"]).title, failure["reason"]), []).append(cell)
    for (task, reason), cells in lacking.items():
        text += f"{task}, {reason}: {'; '.join(cells)}.\n\n"
    return text + origin(result)


def figures_section(result: dict[str, Any]) -> str:
    """A table of single figures with their targets."""
    rows = [
        [f["label"], number_text(f["value"]), f["unit"], verdict(f["value"], f["target"])] for f in result["figures"]
    ]
    return f"## {result['name']}\n\n{markdown(['figure', 'value', 'unit', 'target'], rows)}\n{origin(result)}"


def page(results: Path) -> str:
    """The whole page; raises UserError for a file that is neither a study nor a list of figures."""
    sections = [HEAD]
    places = {stem: place for place, stem in enumerate(FIRST)}
    for path in sorted(results.glob("*.json"), key=lambda path: (places.get(path.stem, len(FIRST)), path.stem)):
        result = json.loads(path.read_text())
        if result.keys() >= STUDY_KEYS:
            sections.append(study_section(result.get("title", f"Learning: {path.stem}"), result))
        elif result.keys() >= TABLE_KEYS:
            sections.append(table_section(result))
        elif result.keys() >= FIGURE_KEYS:
            sections.append(figures_section(result))
        else:
            raise UserError(f"{path} lacks {sorted(FIGURE_KEYS - result.keys())}: see scripts/results_page.py --help")
    return "\n".join(sections if len(sections) > 1 else [HEAD, "No results yet.\n"])


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the page, or draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder with the results files")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/RESULTS.md", help="the page to write or check")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page would change")
    parser.add_argument("--figure", type=Path, help="draw reproduce.json of that folder into this PNG instead")
    args = parser.parse_args(argv)
    try:
        if args.figure:
            draw_study(args.results / "reproduce.json", args.figure)
            return 0
        text = page(args.results)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if not args.check:
        args.page.write_text(text)
    elif not args.page.is_file() or args.page.read_text() != text:
        print(f"{args.page} is not what results/*.json give; run python scripts/results_page.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

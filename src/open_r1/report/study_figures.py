"""The pictures of studies: base, GRPO and EKIPL per task, in and out of domain; and the cells of an ablation."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from open_r1.report.figures import COLOURS, DPI, HATCHES, legend_below
from open_r1.schema import UserError
from open_r1.tasks import TASKS, get_task
from open_r1.utils.files import JsonObject

# Method of the table's row, which of its accuracies, label, index of colour and hatch.
BARS = (
    ("ekipl", "base", "base policy", 1),
    ("grpo", "final", "GRPO", 2),
    ("ekipl", "final", "Vision-EKIPL", 0),
    ("ekipl_plus", "final", "EKIPL+", 3),  # where the study has it
)
# Test set, label, index of colour, marker, and how far beside the cell's line it stands.
SETS = (("id", "in domain", 0, "o", -0.14), ("ood", "out of domain", 2, "s", 0.14))


def draw_study(results: Path, path: Path) -> None:
    """Draw the study in the file `results` into the PNG `path`; a bar's line reaches from the worst to the best seed.

    Raises UserError where there is no such file or one of the two methods was not run on every task.
    """
    if not results.is_file():
        raise UserError(f"{results} is not there: the picture shows a study; run scripts/reproduce.py")
    rows = {(row["task"], row["method"]): row for row in json.loads(results.read_text())["table"]}
    tasks = [task for task in TASKS if any(task == of for of, _ in rows)]
    lacking = [f"{task} {method}" for task in tasks for method in ("grpo", "ekipl") if (task, method) not in rows]
    if lacking:
        raise UserError(f"{results} has no run of {', '.join(lacking)}: the picture compares both; finish the study")
    bars = [bar for bar in BARS if all((task, bar[0]) in rows for task in tasks)]
    width = 0.82 / len(bars)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("id", "ood"), strict=True):
        for i, (method, when, label, look) in enumerate(bars):
            cells = [rows[task, method][f"{when}_{name}"] for task in tasks]
            axes.bar(
                [x + width * (i - (len(bars) - 1) / 2) for x in range(len(tasks))],
                [cell["mean"] for cell in cells],
                yerr=[[c["mean"] - c["min"] for c in cells], [c["max"] - c["mean"] for c in cells]],
                width=0.93 * width,
                capsize=3,
                label=label,
                color=COLOURS[look],
                hatch=HATCHES[look],
                edgecolor="black",
                linewidth=0.6,
            )
        axes.set_xticks(range(len(tasks)), [get_task(task).title.replace(" ", "\n") for task in tasks])
        axes.set(title={"id": "in domain", "ood": "out of domain"}[name], xlabel="task", ylim=(0, None))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        axes.grid(axis="y", linewidth=0.5, alpha=0.4)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("test accuracy")
    legend_below(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def draw_cells(runs: Sequence[JsonObject], path: Path) -> None:
    """Draw an ablation: final accuracy of every cell (one line each) per task, dots for the mean, lines for the seeds.

    Args:
        runs: each with `task`, `cell` and `final`: accuracy by test set, as in summary.json.
        path: the PNG to write.
    """
    tasks, cells = (list(dict.fromkeys(run[key] for run in runs)) for key in ("task", "cell"))
    size = (3.2 * len(tasks) + 2.4, 0.34 * len(cells) + 1.4)
    figure = Figure(figsize=size, layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0], tasks, strict=True):
        for name, label, look, marker, offset in SETS:
            for y, cell in enumerate(cells):
                values = [r["final"][name]["accuracy"] for r in runs if (r["task"], r["cell"]) == (task, cell)]
                if not values:
                    continue
                axes.plot([min(values), max(values)], [y + offset] * 2, color=COLOURS[look], linewidth=1.5)
                axes.plot(fmean(values), y + offset, marker, color=COLOURS[look], label=label if y == 0 else None)
        axes.set_yticks(range(len(cells)), cells)
        axes.set(title=get_task(task).title, xlabel="test accuracy")
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
        axes.grid(axis="x", linewidth=0.5, alpha=0.4)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()  # shared: the first cell on top
    legend_below(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)

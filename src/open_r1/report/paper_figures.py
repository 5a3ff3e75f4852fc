"""Figures 3, 4 and 5 of the paper from our runs, a panel per task: PNG and SVG, in the style of figures.py."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from open_r1.report.figures import COLOURS, DPI, HATCHES, STYLES, legend_below, smooth
from open_r1.report.published import METHODS
from open_r1.report.run_folder import column, sources
from open_r1.report.runs import Run, mean_curve, of, tasks_of
from open_r1.schema import UserError
from open_r1.tasks import get_task

LETTERS_PER_INCH = 11  # of a title
MARKERS = ("o", "s", "^", "D", "v", "P")
SETS = {"id": "in domain", "ood": "out of domain"}
COMPARED = ("grpo", "reason_rft", "ekipl", "ekipl_plus")  # in figure 3: those trained by reinforcement


def _look(method: str) -> dict:
    """Colour, line style and marker of a method, the same in every figure."""
    i = list(METHODS).index(method)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": STYLES[i % 6],
        "marker": MARKERS[i % 6],
    }


def _panels(rows: int, columns: int, title: str) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows + 0.9), layout="constrained")
    figure.suptitle(textwrap.fill(title, round(LETTERS_PER_INCH * figure.get_figwidth())), fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.grid(axis="y", linewidth=0.5, alpha=0.4)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """One legend of all panels below them; PNG and SVG."""
    legend_below(figure)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        # without a date and with ids by its content the same runs give the same file
        with mpl.rc_context({"svg.hashsalt": name}):
            figure.savefig(path, dpi=DPI, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def draw_samples(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Figure 3: accuracy against training prompts, with GRPO's final score as a line."""
    tasks = tasks_of(runs)
    figure, axes = _panels(2, len(tasks), "Accuracy against training prompts (band: standard deviation over seeds)")
    for column_, task in enumerate(tasks):
        for ax, (name, where) in zip(axes[:, column_], SETS.items(), strict=True):
            for method in COMPARED:
                if group := [run for run in of(runs, task, method) if run.curve]:
                    prompts, mean, spread = mean_curve(group, name)
                    look = _look(method)
                    ax.plot(prompts, mean, label=METHODS[method], markersize=4, **look)
                    ax.fill_between(prompts, mean - spread, mean + spread, color=look["color"], alpha=0.15, linewidth=0)
            if baseline := [run for run in of(runs, task, "grpo") if run.curve]:
                final = np.mean([run.on_curve_rows("after", name) for run in baseline])
                ax.axhline(final, color="black", linestyle=(0, (1, 1)), linewidth=1.2, label="GRPO's final score")
            ax.set(title=f"{get_task(task).title}, {where}", xlabel="training prompts", ylabel="accuracy")
            ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return _save(figure, folder, "figure3")


def draw_sources(runs: Sequence[Run], folder: Path, method: str = "ekipl") -> list[Path]:
    """Figure 4: share of the kept candidates per source as training goes on, mean over seeds."""
    tasks = [task for task in tasks_of(runs) if of(runs, task, method)]
    if not tasks:
        raise UserError(f"no run of {method}: figure 4 shows where its kept candidates come from; add one to RUNS")
    figure, axes = _panels(1, len(tasks), "Where the kept candidates come from")
    for ax, task in zip(axes[0], tasks, strict=True):
        logs = [run.metrics for run in of(runs, task, method)]
        names, steps = sources(logs[0]), min(map(len, logs))
        window = steps // 10 // 2 * 2 + 1
        shares = [
            smooth(np.mean([np.nan_to_num(column(log[:steps], f"kept_share/{name}")) for log in logs], axis=0), window)
            for name in names
        ]
        looks = {"colors": [COLOURS[i % len(COLOURS)] for i in range(len(names))], "hatch": HATCHES[: len(names)]}
        prompts = column(logs[0][:steps], "prompts")
        ax.stackplot(prompts, shares, labels=names, edgecolor="white", linewidth=0.6, **looks)
        ax.set(title=get_task(task).title, xlabel="training prompts", ylabel="share of kept candidates", ylim=(0, 1))
    return _save(figure, folder, "figure4")


def draw_passes(runs: Sequence[Run], folder: Path, name: str = "id") -> list[Path]:
    """Figure 5: pass@k of every method that was evaluated with several replies per row, mean over seeds.

    Raises UserError where there is no such evaluation, or two were made with different numbers of replies.
    """
    known = [run for run in runs if run.passes and name in run.passes["sets"]]
    if not known:
        raise UserError(
            "no run has passk/scores.json: figure 5 needs evaluations with several replies per row; make them with"
            " `make eval MODEL_PATH=RUN K=64 SPLIT=id OUTPUT=RUN/passk`"
        )
    tasks = tasks_of(known)
    figure, axes = _panels(1, len(tasks), "pass@k in domain (bars: standard error over questions)")
    for ax, task in zip(axes[0], tasks, strict=True):
        for method in METHODS:
            if group := of(known, task, method):
                _draw_passes(ax, group, name, method)
        ax.set_xscale("log", base=2)
        ax.set(title=get_task(task).title, xlabel="k", ylabel="pass@k")
        ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return _save(figure, folder, "figure5")


def _draw_passes(ax: Axes, group: Sequence[Run], name: str, method: str) -> None:
    cells = [run.passes["sets"][name]["pass_at_k"] for run in group if run.passes]
    if len({tuple(cell) for cell in cells}) > 1:
        most = sorted({max(map(int, cell)) for cell in cells})
        raise UserError(f"runs of {method} were evaluated with K = {most}; a curve needs one K; evaluate them alike")
    ks = list(cells[0])
    mean = [np.mean([cell[k]["mean"] for cell in cells]) for k in ks]
    error = [np.sqrt(np.mean([cell[k]["stderr"] ** 2 for cell in cells]) / len(cells)) for k in ks]
    ax.errorbar([int(k) for k in ks], mean, yerr=error, label=METHODS[method], capsize=2, markersize=4, **_look(method))


def draw_teachers(studies: Mapping[str, Sequence[Run]], baseline: Sequence[Run], folder: Path) -> list[Path]:
    """EKIPL's final accuracy with external models of different accuracy, beside GRPO's as a line.

    Args:
        studies: EKIPL runs by a word for their external models ("weak", "published", "strong").
        baseline: runs of GRPO.
        folder: gets teachers.png and teachers.svg.
    """
    tasks = tasks_of([run for runs in studies.values() for run in runs])
    figure, axes = _panels(1, len(tasks), "Vision-EKIPL with external models of different accuracy")
    for ax, task in zip(axes[0], tasks, strict=True):
        for i, (name, where) in enumerate(SETS.items()):
            heights = [
                [run.summary["final"][name]["accuracy"] for run in of(runs, task, "ekipl")] or [np.nan]
                for runs in studies.values()
            ]
            at = np.arange(len(studies)) + 0.4 * (i - 0.5)
            look = {"color": COLOURS[i], "hatch": HATCHES[i], "edgecolor": "black", "linewidth": 0.6}
            ax.bar(at, [np.mean(seeds) for seeds in heights], width=0.38, label=where, **look)
            if final := [run.summary["final"][name]["accuracy"] for run in of(baseline, task, "grpo")]:
                ax.axhline(float(np.mean(final)), color=COLOURS[i], linestyle=STYLES[i], label=f"GRPO, {where}")
        ax.set_xticks(range(len(studies)), list(studies))
        ax.set(title=get_task(task).title, xlabel="external models", ylabel="test accuracy")
        ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return _save(figure, folder, "teachers")

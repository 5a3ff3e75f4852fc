"""The pictures of a run and of a study: PNGs that are read in grey and by colour-blind people alike."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from open_r1.evaluation.results import SetResult
from open_r1.report.run_folder import Metrics, Summary, column, read_metrics, sources
from open_r1.schema import POLICY, UserError
from open_r1.tasks import get_task


class Style(TypedDict):
    """How a series is drawn."""

    color: str
    linestyle: str | tuple[int, tuple[int, ...]]


# Okabe and Ito's palette, ordered so that neighbours differ in lightness too; every series also has its own line style
# and hatch, since a print in grey has no colours at all.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
HATCHES = ("", "//", "..", "xx", "\\\\", "++")
KEPT: Style = {
    "color": "#000000",
    "linestyle": (0, (1, 1)),
}  # dots: a plain GRPO run keeps what it samples, line on line
DPI = 130


def smooth(values_S: np.ndarray, window: int) -> np.ndarray:
    """Centred mean over `window` logged steps (S,) -> (S,): shorter at both ends, leaving NaN out of the mean.

    >>> smooth(np.array([0.0, 3.0, np.nan, 6.0]), 3).tolist()
    [1.5, 1.5, 4.5, 6.0]
    """
    known = ~np.isnan(values_S)
    ones = np.ones(min(window, len(values_S)))
    total = np.convolve(np.where(known, values_S, 0.0), ones, "same")
    count = np.convolve(known, ones, "same")
    return np.divide(total, count, out=np.full(len(values_S), np.nan), where=count > 0.5)


def _window(metrics: Metrics) -> int:
    """Steps that a smoothed line averages over: a tenth of the run, an odd number so that it is centred."""
    return len(metrics) // 10 // 2 * 2 + 1


def _styles(names: Sequence[str]) -> dict[str, Style]:
    """Colour and line style of each name, the same in every picture of a run since the order of names is."""
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)]} for i, name in enumerate(names)
    }


def _line(axes: Axes, metrics: Metrics, key: str, label: str, style: Style) -> None:
    """One metric over the prompts seen: the smoothed line over the faint raw one, dots where a run has few steps."""
    prompts_S, raw_S = column(metrics, "prompts"), column(metrics, key)
    window = _window(metrics)
    if window > 1:
        axes.plot(prompts_S, raw_S, color=style["color"], linewidth=0.8, alpha=0.25)
    dots = {"marker": "o", "markersize": 3} if len(metrics) < 10 else {}
    axes.plot(prompts_S, smooth(raw_S, window), label=label, linewidth=1.8, **style, **dots)
    axes.set(xlabel="prompts seen", xlim=(0, None))


def _figure(summary: Summary, what: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A titled figure with `panels` axes in a row; constrained layout keeps legends outside of the data."""
    figure = Figure(figsize=(7.2 if panels == 1 else 9.6, 4.4), layout="constrained")
    run = f"{get_task(summary['task']).title}, {summary['model']}, {summary['method']}, seed {summary['seed']}"
    figure.suptitle(f"{what}\n{run}", fontsize=11)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for ax in axes:
        ax.grid(axis="y", linewidth=0.5, alpha=0.4)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def legend_below(figure: Figure) -> None:
    """Put one legend of all axes below them, with as many columns as the figure's width holds."""
    handles = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False, handlelength=3.5
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def _save(figure: Figure, path: Path) -> Path:
    """Put one legend below the axes and write the PNG."""
    legend_below(figure)
    figure.savefig(path, dpi=DPI)
    return path


def _reward(metrics: Metrics, summary: Summary, path: Path) -> Path:
    """Mean reward per source before selection, and of the kept group."""
    figure, (ax,) = _figure(summary, "Mean reward before selection, and of the group that is kept")
    for source, style in _styles(sources(metrics)).items():
        key = "policy/reward" if source == POLICY else f"external/{source}/reward"
        if any(key in row for row in metrics):  # a model whose every call failed has no reward
            _line(ax, metrics, key, f"{source} (before selection)", style)
    _line(ax, metrics, "kept/reward", "kept group", KEPT)
    ax.set(ylabel="reward = format + accuracy (0 to 2)", ylim=(-0.05, 2.05))
    return _save(figure, path)


def _external_share(metrics: Metrics, summary: Summary, path: Path) -> Path:
    """Share of the kept candidates per source, stacked to 1; smoothing keeps the sum."""
    figure, (ax,) = _figure(summary, "Where the kept candidates come from")
    names = sources(metrics)
    share_MS = [smooth(np.nan_to_num(column(metrics, f"kept_share/{name}")), _window(metrics)) for name in names]
    # The first step's share holds from prompt 0 on: so a run of one step is an area as well, not an empty picture.
    prompts = np.concatenate([[0.0], column(metrics, "prompts")])
    stacked = [np.concatenate([share_S[:1], share_S]) for share_S in share_MS]
    colours = [style["color"] for style in _styles(names).values()]
    hatches = [HATCHES[i % len(HATCHES)] for i in range(len(names))]
    ax.stackplot(prompts, stacked, labels=names, colors=colours, hatch=hatches, edgecolor="white", linewidth=0.6)
    ax.set(xlabel="prompts seen", ylabel="share of kept candidates", ylim=(0, 1), xlim=(0, prompts[-1]))
    return _save(figure, path)


def _dead_groups(metrics: Metrics, summary: Summary, path: Path) -> Path:
    """Share of prompts that teach nothing: before selection (plain GRPO), after it, and in the whole pool."""
    figure, (ax,) = _figure(summary, "Dead groups: prompts whose rewards are all the same")
    labels = {"before": "before selection (policy only)", "after": "after selection (kept)", "pool": "whole pool"}
    for (when, label), style in zip(labels.items(), _styles(list(labels)).values(), strict=True):
        _line(ax, metrics, f"dead_groups/{when}", label, style)
    ax.set(ylabel="share of prompts", ylim=(-0.03, 1.03))
    return _save(figure, path)


def _loss(metrics: Metrics, summary: Summary, path: Path) -> Path:
    """The loss of a supervised run."""
    figure, (ax,) = _figure(summary, "Loss on the completions of the training rows")
    _line(ax, metrics, "loss", "loss", _styles(["loss"])["loss"])
    ax.set(ylabel="nats per token", ylim=(0, None))
    return _save(figure, path)


def _accuracy(metrics: Metrics, summary: Summary, path: Path) -> Path:
    """Test accuracy before and after training with its standard error, beside the policy's accuracy in RL training."""
    in_training = any("policy/accuracy" in row for row in metrics)
    what = "Accuracy on the test sets" + (" and in training" if in_training else "")
    figure, (bars, *line) = _figure(summary, what, panels=1 + in_training)
    names = list(summary["final"])
    for i, when in enumerate(("base", "final")):
        results = [SetResult(**summary[when][name]) for name in names]
        bars.bar(
            np.arange(len(names)) + 0.4 * (i - 0.5),
            [result.accuracy for result in results],
            width=0.38,
            yerr=[result.stderr for result in results],
            capsize=3,
            color=COLOURS[1 - i],
            hatch=HATCHES[1 - i],
            edgecolor="black",
            linewidth=0.6,
            label=f"{('before', 'after')[i]} training, ± standard error",
        )
    bars.set_xticks(range(len(names)), [f"{name}\n(n = {summary['final'][name]['n']})" for name in names])
    bars.set(title="before and after training", xlabel="test set", ylabel="accuracy")
    for ax in line:
        _line(ax, metrics, "policy/accuracy", POLICY, _styles([POLICY])[POLICY])
        ax.set(title="policy on training prompts, before selection", ylabel="accuracy")
    for ax in (bars, *line):
        ax.set_ylim(0, 1)
        ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return _save(figure, path)


def draw_run(run: Path) -> list[Path]:
    """Draw figures/*.png of a finished run from its summary.json and, where it was trained, its metrics.jsonl.

    Raises UserError where either file is missing or broken. Returns the paths.
    """
    if not (run / "summary.json").is_file():
        raise UserError(
            f"{run / 'summary.json'} is missing: pictures are drawn of finished runs; let the run end first"
        )
    summary: Summary = json.loads((run / "summary.json").read_text())
    metrics = read_metrics(run) if summary["steps"] else []
    folder = run / "figures"
    folder.mkdir(exist_ok=True)
    if summary["kept_share"] is None:
        losses = [_loss(metrics, summary, folder / "loss.png")] if metrics else []
        return [*losses, _accuracy(metrics, summary, folder / "accuracy.png")]
    return [
        _reward(metrics, summary, folder / "reward.png"),
        _external_share(metrics, summary, folder / "external_share.png"),
        _dead_groups(metrics, summary, folder / "dead_groups.png"),
        _accuracy(metrics, summary, folder / "accuracy.png"),
    ]

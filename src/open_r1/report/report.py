"""A report of finished runs: Table 1, figures 3, 4 and 5, and what could not be drawn."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from open_r1.report.paper_figures import draw_passes, draw_samples, draw_sources, draw_teachers
from open_r1.report.published import METHODS
from open_r1.report.runs import Run, of, passing_share, tasks_of
from open_r1.report.table import table
from open_r1.schema import UserError
from open_r1.tasks import get_task
from open_r1.utils.markdown import markdown

NOTE = """Percent; ours: mean ± standard deviation over seeds. TRANCE is the partial-credit score. `mean` is the mean of
a task's sets, ours and not the paper's average. Runs with MODEL=tiny are of a small policy on synthetic pictures:
compare the order of methods with the paper's, not the numbers."""

CURVES = """Curves are taken on the first rows of each test set (`curve_rows`), their ends and GRPO's final score on the
same rows. Where a mean curve first reaches that score:"""


def write_table(runs: Sequence[Run], folder: Path) -> str:
    """Write table1.md and table1.csv; returns the Markdown."""
    head, rows = table(runs)
    text = f"{markdown(head, rows)}\n{NOTE}\n"
    (folder / "table1.md").write_text(text, encoding="utf-8")
    with (folder / "table1.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return text


def passing_table(runs: Sequence[Run]) -> str:
    """Say at which share of GRPO's prompts its final score is reached with external models (the paper's figure 3)."""
    rows = []
    for task in tasks_of(runs):
        for method in ("ekipl", "ekipl_plus"):
            for name in ("id", "ood"):
                if (found := passing_share(of(runs, task, method), of(runs, task, "grpo"), name)) is not None:
                    share, prompts = found["share"], found["prompts"]
                    reached = ["not reached"] * 2 if share is None else [f"{prompts:.0f}", f"{100 * share:.0f} %"]
                    level = f"{100 * (found['level'] or 0):.1f}"
                    rows.append([get_task(task).title, METHODS[method], name.upper(), level, *reached])
    return markdown(["task", "method", "set", "GRPO's final score", "prompts", "share of GRPO's prompts"], rows)


def write_report(runs: Sequence[Run], folder: Path, teachers: Mapping[str, Sequence[Run]] | None = None) -> list[str]:
    """Write everything into `folder`; returns why figures were left out, one line each.

    `teachers` are further EKIPL runs, by a word for their external models.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text, lacking = [f"# Report\n\n{write_table(runs, folder)}"], []
    for title, draw in (
        ("Figure 3: accuracy against training prompts", draw_samples),
        ("Figure 4: sources of the kept candidates", draw_sources),
        ("Figure 5: pass@k", draw_passes),
    ):
        try:
            picture, _ = draw(runs, folder)
        except UserError as error:
            lacking.append(str(error))
        else:
            text.append(f"## {title}\n\n![{title}]({picture.name})\n")
            if draw is draw_samples:
                text.append(f"{CURVES}\n\n{passing_table(runs)}")
    if teachers:
        picture, _ = draw_teachers({"published": runs, **teachers}, runs, folder)
        text.append(f"## External models of different accuracy\n\n![Accuracy by teachers]({picture.name})\n")
    commits = sorted({run.summary["commit"] for run in runs})
    folders = sorted({os.path.relpath(run.folder.parent) for run in runs})
    text.append(f"{len(runs)} runs from {', '.join(folders)}, made at commit {', '.join(commits)}.\n")
    (folder / "report.md").write_text("\n".join(text), encoding="utf-8")
    return lacking

"""`make report`: Table 1 beside the paper's numbers, the three figures, and what cannot be reported."""

import csv
import json

import pytest
from matplotlib.figure import Figure
from PIL import Image

from commands import status_of
from open_r1.cli import report
from open_r1.report.paper_figures import draw_samples
from open_r1.report.published import COLUMNS, METHODS, QWEN2_VL
from open_r1.report.runs import curve_points, passing_share, read_runs
from open_r1.report.table import table
from open_r1.schema import UserError

SETS = {"clevr_math": ("id", "ood"), "trance": ("id", "ood", "ood_left", "ood_right"), "geomath": ("id", "ood")}


def write_replies(folder, sets, step, before, after):
    """Replies to four rows of each set, of which the curve has the first two."""
    (folder / "replies").mkdir(exist_ok=True)
    for name in sets:
        for when, scores in (("before", before), (f"step{step}", before[:2]), ("after", after)):
            lines = [{"id": f"{name}-{i}", "accuracy": score} for i, score in enumerate(scores)]
            text = "".join(json.dumps(line) + "\n" for line in reversed(lines))  # in no order
            (folder / "replies" / f"{when}-{name}.jsonl").write_text(text)


@pytest.fixture
def make(tmp_path):
    """Returns make(method, seed, final, ...): a finished run's folder of 640 prompts that began at .2."""

    def run(method, seed=0, final=0.4, curve=(), task="clevr_math", model="tiny", k=None):
        folder = tmp_path / "runs" / f"{task}-{method}-s{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        base, end = ({name: {"n": 100, "accuracy": x, "format": 1.0} for name in SETS[task]} for x in (0.2, final))
        summary = {"task": task, "method": method, "seed": seed, "model": model, "commit": "abc", "prompts": 640}
        (folder / "summary.json").write_text(json.dumps(summary | {"base": base, "final": end}))
        steps = [{"prompts": 8 * s, "kept_share/policy": s / 80, "kept_share/t": 1 - s / 80} for s in range(1, 81)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
        points = [{"step": x, "prompts": x, "sets": {name: {"accuracy": y} for name in SETS[task]}} for x, y in curve]
        write_replies(folder, SETS[task], points[0]["step"] if points else 0, [0.2] * 4, [final] * 2 + [1.0, 0.0])
        (folder / "curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
        if k:
            (folder / "passk").mkdir()
            cells = {str(2**i): {"mean": final + 0.1 * i, "stderr": 0.01} for i in range(k.bit_length())}
            (folder / "passk" / "scores.json").write_text(json.dumps({"sets": {"id": {"pass_at_k": cells}}}))
        return folder

    return run


def test_the_table_has_the_paper_s_rows_and_the_mean_and_spread_of_ours(make, tmp_path):
    make("grpo", 0, 0.3), make("grpo", 1, 0.5), make("ekipl", 0, 0.456, task="trance")
    head, rows = table(read_runs([tmp_path / "runs"]))
    assert head[4:7] == ["Clevr-Math", "Super-CLEVR", "mean visual counting"] and len(head) == 4 + 7 + 3
    told = {tuple(row[:3]): row[3:] for row in rows}
    assert told["Qwen2-VL-2B", "Vision-EKIPL", "paper"][1:4] == ["99.1", "52.3", "75.7"]
    ours = told["tiny", "Reason-RFT-Zero (GRPO)", "ours"]
    assert ours[:4] == ["0 1", "40.0 ± 14.1", "40.0 ± 14.1", "40.0 ± 14.1"]  # .3 and .5; sd = .1 sqrt(2)
    assert ours[4:] == [""] * 7
    assert told["tiny", "Vision-EKIPL", "ours"] == ["0", *[""] * 6, *["45.6"] * 4]
    make("grpo", 2, 0.5, task="trance")
    [grpo] = [row for row in table(read_runs([tmp_path / "runs"]))[1] if row[1:3] == ["Reason-RFT-Zero (GRPO)", "ours"]]
    assert grpo[3] == "clevr_math 0 1, trance 2"


def test_the_published_numbers_are_those_of_the_paper_s_own_averages():
    """Its averages over both counting sets, as printed: a digit typed wrongly would show."""
    printed = {
        "zero_shot": 57.20,
        "ans_sft": 67.70,
        "cot_sft": 66.00,
        "grpo": 71.60,
        "reason_rft": 74.00,
        "ekipl": 75.70,
    }
    for method, average in printed.items():
        assert sum(QWEN2_VL["2b", method][:2]) / 2 == pytest.approx(average, abs=0.011)
    assert all(len(cells) == len(COLUMNS) for cells in QWEN2_VL.values())


def test_ekipl_passes_grpo_s_final_score_after_a_quarter_of_its_prompts(make, tmp_path):
    make("grpo", 0, 0.4, curve=[(80, 0.3)]), make("ekipl", 0, 0.5, curve=[(80, 0.3), (160, 0.41), (320, 0.39)])
    ekipl, grpo = read_runs([tmp_path / "runs"])
    assert passing_share([ekipl], [grpo], "id") == {"level": 0.4, "prompts": 160.0, "share": 0.25}
    make("grpo", 0, 0.9, curve=[(80, 0.3)])
    assert passing_share([ekipl], read_runs([tmp_path / "runs"])[1:], "id")["share"] is None
    make("grpo", 0, 0.4)
    assert passing_share([ekipl], read_runs([tmp_path / "runs"])[1:], "id") is None  # without a curve nothing is said


def test_a_curve_ends_on_the_rows_that_its_points_are_of(make, tmp_path):
    folder = make("grpo", 0, 0.4, curve=[(80, 0.3)])
    write_replies(folder, ("id", "ood"), 80, [1.0, 0.5, 0.0, 0.0], [0.0, 0.5, 1.0, 1.0])
    [run] = read_runs([folder])
    assert curve_points(run, "id") == [(0, 0.75), (80, 0.3), (640, 0.25)]  # of four rows .375 and .625
    assert passing_share([run], [run], "id") == {"level": 0.25, "prompts": 0.0, "share": 0.0}
    (folder / "replies" / "after-id.jsonl").unlink()
    with pytest.raises(UserError, match="lacks the replies of after and of step 80 to set id"):
        curve_points(run, "id")


def test_a_report_has_its_table_and_every_figure_twice(make, tmp_path, capsys):
    for task in SETS:
        for method in ("zero_shot", "grpo", "ekipl"):
            make(method, 0, 0.4, curve=[(320, 0.3)], task=task, k=4)
    out = tmp_path / "out"
    assert status_of(report.main, [str(tmp_path / "runs"), "--output", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        *("report.md", "table1.md", "table1.csv"),
        *(f"figure{n}.{kind}" for n in (3, 4, 5) for kind in ("png", "svg")),
    }
    with (out / "table1.csv").open() as file:
        assert len({len(row) for row in csv.reader(file)}) == 1
    for n in (3, 4, 5):
        with Image.open(out / f"figure{n}.png") as picture:
            grey = picture.convert("L")
            assert len(grey.getcolors(256)) > 20 and grey.getextrema()[1] == 255
    text = (out / "report.md").read_text()
    assert (
        "![Figure 5: pass@k](figure5.png)" in text
        and "| Visual counting | Vision-EKIPL | ID | 40.0 | 640 | 100 % |" in text
    )
    assert "left out" not in capsys.readouterr().out
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert status_of(report.main, [str(tmp_path / "runs"), "--output", str(out)]) == 0
    assert [
        path.name for path, text in before.items() if path.read_bytes() != text
    ] == []  # no noise in version control


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_title_and_legend_of_figure_3_stay_inside_the_figure_and_outside_its_panels(make, tmp_path, monkeypatch, tasks):
    for task in list(SETS)[:tasks]:
        for method in METHODS:
            make(method, 0, 0.4, curve=[(320, 0.3)], task=task)
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    draw_samples(read_runs([tmp_path / "runs"]), tmp_path)
    figures[0].draw_without_rendering()
    page, [legend] = figures[0].bbox, figures[0].legends
    title, below = figures[0]._suptitle.get_window_extent(), legend.get_window_extent()
    assert len(legend.get_texts()) == 5
    for box in (title, below):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    assert all(below.y1 <= ax.get_tightbbox().y0 and ax.get_tightbbox().y1 <= title.y0 for ax in figures[0].axes)


def test_teachers_of_other_accuracy_are_drawn_beside_the_published_ones(make, tmp_path):
    make("grpo", 0, 0.4), make("ekipl", 0, 0.5)
    weak = make("ekipl", 0, 0.3).rename(tmp_path / "weak")
    make("ekipl", 0, 0.5)
    out = tmp_path / "out"
    assert status_of(report.main, [str(tmp_path / "runs"), "--output", str(out), "--teachers", f"weak={weak}"]) == 0
    assert (out / "teachers.svg").is_file() and "(teachers.png)" in (out / "report.md").read_text()


def test_a_figure_without_its_data_is_left_out_and_named(make, tmp_path, capsys):
    make("grpo", 0, 0.4)
    assert status_of(report.main, [str(tmp_path / "runs"), "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "left out: no run of ekipl" in out and "left out: no run has passk/scores.json" in out
    assert not (tmp_path / "out" / "figure5.png").exists()


def test_what_cannot_be_reported_is_one_line(make, tmp_path, capsys):
    def refused(*folders):
        assert status_of(report.main, [*map(str, folders), "--output", str(tmp_path / "out")]) == 2
        return capsys.readouterr().err

    assert "none is no folder" in refused(tmp_path / "none")
    assert "holds no summary.json" in refused(tmp_path)
    folder = make("grpo", 0)
    assert "are both clevr_math grpo 0" in refused(folder, folder)
    make("ekipl", 0, model="2b")
    assert "runs of different models (2b, tiny)" in refused(tmp_path / "runs")


def test_curves_of_different_k_are_not_drawn_as_one(make, tmp_path, capsys):
    make("grpo", 0, k=4), make("grpo", 1, k=8)
    status_of(report.main, [str(tmp_path / "runs"), "--output", str(tmp_path / "out")])
    assert "evaluated with K = [4, 8]; a curve needs one K" in capsys.readouterr().out

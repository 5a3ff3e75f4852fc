import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from open_r1.report.figures import COLOURS, HATCHES, STYLES, draw_run, smooth
from open_r1.schema import UserError

NAMES = ["reward.png", "external_share.png", "dead_groups.png", "accuracy.png"]


@pytest.fixture
def make_run(tmp_path):
    """Returns make(steps, models, missing): a run's folder with `models` external sources."""

    def make(steps=30, models=("gpt-4o-scripted", "gemini-1.5-pro-scripted"), task="trance", sets=("id", "ood")):
        with (tmp_path / "metrics.jsonl").open("w") as file:
            for s in range(1, steps + 1):
                line = {"step": s, "prompts": 16 * s, "policy/reward": 1.2, "policy/accuracy": 0.2, "kept/reward": 1.7}
                line |= {f"dead_groups/{when}": 0.1 for when in ("before", "after", "pool")}
                line |= {f"external/{m}/reward": None if s % 5 == 0 else 1.5 for m in models}
                line |= {f"kept_share/{source}": 1 / (1 + len(models)) for source in ("policy", *models)}
                file.write(json.dumps(line) + "\n")
        result = {name: {"n": 100, "accuracy": 0.4, "format": 1.0} for name in sets}
        summary = {"task": task, "model": "tiny", "method": "ekipl", "seed": 0, "base": result, "final": result}
        summary |= {"steps": steps, "kept_share": {}}
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        return tmp_path

    return make


@pytest.mark.parametrize(("steps", "models"), [(30, ("gpt-4o-scripted", "gemini-1.5-pro-scripted")), (1, ())])
def test_a_run_gives_four_pictures_that_are_not_blank(make_run, steps, models):
    run = make_run(steps, models)
    paths = draw_run(run)
    assert paths == [run / "figures" / name for name in NAMES]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.width > 600
            assert len(set(picture.convert("L").get_flattened_data())) > 20


def test_legends_stand_outside_of_the_axes_and_axes_are_labelled(make_run, monkeypatch):
    figures = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path, dpi: (self.draw_without_rendering(), figures.append(self))
    )
    draw_run(make_run(sets=("id", "ood", "ood_left", "ood_right")))
    assert len(figures) == 4
    for figure in figures:
        (legend,) = figure.legends
        for axes in figure.axes:
            assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
            assert axes.get_xlabel()
            assert axes.get_ylabel()


def test_drawing_again_replaces_the_pictures(make_run):
    run = make_run(2, ())
    assert draw_run(run) == draw_run(run)
    assert len(list((run / "figures").iterdir())) == 4


def test_a_run_that_has_not_ended_is_refused(make_run):
    run = make_run()
    (run / "summary.json").unlink()
    with pytest.raises(UserError, match=r"summary\.json is missing"):
        draw_run(run)


def test_colours_line_styles_and_hatches_all_differ():
    assert all(len(set(looks)) == len(looks) == 6 for looks in (COLOURS, STYLES, HATCHES))


def test_smoothing_leaves_missing_values_out_of_the_mean():
    values = np.array([0.0, 3.0, np.nan, 6.0])
    assert smooth(values, 3).tolist() == [1.5, 1.5, 4.5, 6.0]
    assert np.isnan(smooth(np.array([np.nan, np.nan, np.nan, 1.0]), 3)[:2]).all()


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.integers(1, 60))
def test_a_smoothed_line_stays_within_the_values_it_is_made_of(values, window):
    smoothed = smooth(np.array(values), window)
    assert len(smoothed) == len(values)
    assert min(values) - 1e-9 <= smoothed.min() <= smoothed.max() <= max(values) + 1e-9

"""The renderer: geometry that can be checked by hand, and materials that differ to the eye."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from open_r1.synthetic.render import GROUND, Camera, Solid, project, render

ABOVE = Camera((0.001, 0.0, 10.0), focal_mm=32.0)  # nearly straight down: at height 0 one unit is 100 / 10 pixels
SLANTED = Camera((9.481, 0.0, 6.344))
RED = (173, 35, 35)


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int16)


def _redness(image: Image.Image) -> np.ndarray:
    pixels = _pixels(image)
    return pixels[..., 0] - pixels[..., 1]


def _ball(**changes) -> Solid:
    return dataclasses.replace(Solid("sphere", (0, 0, 1), (1, 1, 1), 0.0, RED), **changes)


def test_the_target_lies_in_the_middle_and_plus_y_lies_to_the_right():
    flat = project(np.array([(0, 0, 0), (0, 1, 0), (0, 0, 1)]), SLANTED, 320, 240)
    assert flat[0] == pytest.approx((160, 120))
    assert flat[1, 0] > 160 and flat[1, 1] == pytest.approx(120, abs=0.5)
    assert flat[2, 1] < 120 and flat[2, 0] == pytest.approx(160)


def test_focal_length_over_sensor_width_times_distance_gives_pixels():
    # 32 mm focal length and sensor, 10 units away, 100 pixels wide: one unit is 10 pixels
    flat = project(np.array([(0.0, 2.0, 0.0)]), ABOVE, 100, 100)
    assert flat[0] == pytest.approx((70, 50), abs=0.01)


@pytest.mark.parametrize(("shape", "area"), [("cube", 16.0), ("cylinder", 4 * np.pi)])
def test_seen_from_above_a_flat_solid_covers_its_area(shape, area):
    solid = Solid(shape, (0, 0, 0.0), (2, 2, 0.01), 0.0, RED)
    covered = (_redness(render([solid], ABOVE, 100, 100)) > 40).sum()
    assert covered == pytest.approx(area * 100, rel=0.03)  # one square unit is 10 x 10 pixels


def test_yaw_turns_a_long_box_and_axis_lays_a_cylinder_down():
    beam = Solid("cube", (0, 0, 0), (3, 0.3, 0.1), np.pi / 2, RED)
    rows, cols = np.nonzero(_redness(render([beam], ABOVE, 100, 100)) > 40)
    assert np.ptp(cols) > 50 > 10 > np.ptp(rows)  # its long axis now points along y, to the right
    rod = Solid("cylinder", (0, 0, 0), (0.3, 0.3, 3), 0.0, RED, axis="y")
    rows, cols = np.nonzero(_redness(render([rod], ABOVE, 100, 100)) > 40)
    assert np.ptp(cols) > 50 > 10 > np.ptp(rows)


def test_the_nearer_solid_hides_the_farther_whatever_the_order():
    near, far = _ball(centre=(2, 0, 1)), _ball(centre=(-2, 0, 1), colour=(42, 75, 215))
    one, other = render([near, far], SLANTED, 160, 120), render([far, near], SLANTED, 160, 120)
    assert one.tobytes() == other.tobytes()
    x, y = project(np.array([near.centre]), SLANTED, 160, 120)[0].astype(int)
    assert _redness(one)[y, x] > 40


def test_glass_shows_what_is_behind_it_and_rubber_does_not():
    hidden = _ball(centre=(-1.5, 0, 1), colour=(42, 75, 215))
    for material, shows in (("glass", True), ("rubber", False)):
        front = _ball(centre=(1, 0, 1), material=material)
        alone, both = (_pixels(render(solids, SLANTED, 160, 120)) for solids in ([front], [front, hidden]))
        x, y = project(np.array([(1.0, 0, 1.6)]), SLANTED, 160, 120)[0].astype(int)
        assert bool(np.abs(alone[y, x] - both[y, x]).max() > 20) is shows


def test_metal_has_a_highlight_and_a_wider_range_of_tones_than_rubber():
    tones = {}
    for material in ("rubber", "metal"):
        pixels = _pixels(render([_ball(material=material)], SLANTED, 84, 84))
        ball = pixels[_redness(Image.fromarray(pixels.astype(np.uint8))) > 25]
        tones[material] = np.ptp(ball.sum(1))
    assert tones["metal"] > 1.5 * tones["rubber"]


def test_a_solid_throws_a_shadow_and_an_empty_scene_is_bright():
    empty = _pixels(render([], SLANTED, 84, 84))
    assert empty.min() > 150 and empty.max() <= max(GROUND)
    shaded = _pixels(render([_ball()], SLANTED, 84, 84))
    darker = (empty - shaded).min(-1) > 25  # all channels fall together, on the ground as on the ball's dark side
    assert darker[:, 50:].sum() > 30


def test_a_solid_at_the_border_is_cut_and_one_outside_is_not_drawn():
    outside = _ball(centre=(0, 60, 1))
    assert render([outside], SLANTED, 84, 84).tobytes() == render([], SLANTED, 84, 84).tobytes()
    assert (_redness(render([_ball(centre=(0, 4.2, 1))], SLANTED, 84, 84))[:, -1] > 40).any()


def test_the_same_scene_gives_the_same_bytes_and_the_size_asked_for():
    pictures = [render([_ball()], SLANTED, 90, 60, samples=1) for _ in range(2)]
    assert pictures[0].size == (90, 60)
    assert pictures[0].tobytes() == pictures[1].tobytes()

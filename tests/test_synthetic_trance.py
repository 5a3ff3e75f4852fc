"""Synthetic TRANCE: answers lead from the first scene to the second, rules hold, directions are the data's.

Longer than most, since rules, views and procedures are tested on the same drawn questions.
"""

import itertools
import json
import math
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from open_r1.schema import UserError
from open_r1.synthetic.render import project
from open_r1.synthetic.rows import Job, make_row
from open_r1.synthetic.sample import RIGHT, SIZES
from open_r1.synthetic.trance import KINDS, RIGHT_SHARE, WEIGHTS, describe, question, reason, sample
from open_r1.synthetic.trance_layout import LAYOUTS, Thing, picture
from open_r1.synthetic.trance_scene import Change, apply, draw_scene, follows_rules
from open_r1.tasks import TASKS

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "real_samples" / "spatial_transformation.json"
SEEDS = 300
CALL = re.compile(r"change_(size|color|material|shape|position)\((\d), ([a-z_]+)\)")
PROBLEM = re.compile(r"The attributes of the initial objects are: \[(\('\d', '\w+', '\w+', '\w+', '\w+'\)(, )?)+\]\.")
TOWARD = {"front": (-1, 0), "behind": (1, 0), "left": (0, -1), "right": (0, 1)}


@pytest.fixture(scope="module")
def questions():
    return {size: [question(random.Random(f"test/{i}"), size) for i in range(SEEDS)] for size in SIZES}


def calls(answer):
    assert CALL.sub("", answer).replace(", ", "") == ""
    return CALL.findall(answer)


def along(direction):
    return tuple(map(sum, zip(*(TOWARD[word] for word in direction.split("_")), strict=True)))


@pytest.mark.parametrize("size", SIZES)
def test_the_answer_turns_the_initial_scene_into_the_final_one(questions, size):
    for _, before, after, procedures in questions[size]:
        scene = [vars(thing).copy() for thing in before]
        for function, object_id, value in calls(procedures[RIGHT].answer):
            thing, end = scene[int(object_id)], after[int(object_id)]
            if function == "position":  # the answer does not tell the steps: one or two, each ten units
                x, y = along(value)
                steps = [n for n in (1, 2) if (thing["x"] + 10 * n * x, thing["y"] + 10 * n * y) == (end.x, end.y)]
                assert len(steps) == 1
                thing.update(x=end.x, y=end.y)
            else:
                assert thing[function] != value
                thing[function] = value
        assert scene == [vars(thing) for thing in after]


@pytest.mark.parametrize(("size", "limit"), [("tiny", 10), ("full", 40)])
def test_objects_stand_apart_inside_the_square_and_differ_in_two_attributes(questions, size, limit):
    radii = {"small": 0.3, "medium": 0.6, "large": 0.9} if size == "full" else LAYOUTS["tiny"].radii
    for _, before, after, _ in questions[size]:
        for a, b in (pair for scene in (before, after) for pair in itertools.combinations(scene, 2)):
            apart = math.dist(LAYOUTS[size].place(a), LAYOUTS[size].place(b))
            assert apart >= radii[a.size] + radii[b.size] + 0.15 - 1e-6
        assert all(max(abs(t.x), abs(t.y)) <= limit for t in (*before, *after))
        for a, b in itertools.combinations(before, 2):
            assert sum(p != q for p, q in zip(a.attributes, b.attributes, strict=True)) >= 2


def test_every_change_can_be_seen(questions):
    crossings = moves = 0
    for _, before, after, procedures in questions["full"]:
        for function, object_id, _ in calls(procedures[RIGHT].answer):
            ends = [max(abs(t.x), abs(t.y)) <= 20 for t in (before[int(object_id)], after[int(object_id)])]
            assert any(ends) if function == "position" else ends[1]
            moves += function == "position"
            crossings += function == "position" and not all(ends)
    assert 0.03 < crossings / moves < 0.3  # TRANCE moves some objects in or out of sight
    assert all(LAYOUTS["tiny"].sees(t) for _, b, a, _ in questions["tiny"] for t in (*b, *a))


def test_no_changed_object_is_hidden_in_any_view(questions):
    layout = replace(LAYOUTS["full"], width=80, height=60)  # a sixteenth of the pixels is quick to draw
    for _, _, after, procedures in questions["full"][:10]:
        for object_id, view in itertools.product({int(c[1]) for c in calls(procedures[RIGHT].answer)}, layout.cameras):
            if layout.sees(after[object_id]):
                rest = [thing for i, thing in enumerate(after) if i != object_id]
                with_it, without = (np.asarray(picture(s, layout, view), int) for s in (after, rest))
                assert (np.abs(with_it - without).sum(-1) > 30).sum() >= 2


@pytest.mark.parametrize("size", SIZES)
def test_behind_comes_toward_the_centre_camera_and_right_goes_right(size):
    start = [Thing("cube", "small", "red", "metal", x=0, y=0, yaw=0.0)]
    layout = LAYOUTS[size]

    def pixel(things, view="centre"):
        return project(np.array([layout.centre(things[0])]), layout.cameras[view], layout.width, layout.height)[0]

    for direction, (right, down) in {"behind": (0, 1), "front": (0, -1), "right": (1, 0), "left": (-1, 0)}.items():
        moved = apply(start, Change("position", 0, direction))
        assert (moved[0].x, moved[0].y) == (10 * down, 10 * right)
        shift = pixel(moved) - pixel(start)
        assert np.sign(np.where(np.abs(shift) < 0.5, 0, shift)).tolist() == [right, down]
    far = apply(start, Change("position", 0, "front_left", steps=2))[0]
    assert (far.x, far.y) == (-20, -20)
    near = apply(start, Change("position", 0, "behind"))  # across the side cameras' pictures, away from their side
    assert (pixel(near, "left") - pixel(start, "left"))[0] > 5
    assert (pixel(near, "right") - pixel(start, "right"))[0] < -5


def test_a_cell_of_the_tiny_grid_is_one_visual_token_wide_and_high():
    layout = LAYOUTS["tiny"]
    cells = [Thing("sphere", "medium", "red", "metal", x, y, 0.0) for x in (-10, 0, 10) for y in (-10, 0, 10)]
    pixels = project(np.array([layout.centre(t) for t in cells]), layout.cameras["centre"], 112, 112).reshape(3, 3, 2)
    assert np.abs(pixels[:, :, 0] - [14, 42, 70]).max() < 1.5
    assert np.abs(np.diff(pixels[:, :, 1], axis=0) - 28).max() < 1.5


@pytest.mark.parametrize(("size", "edge", "part"), [("tiny", 10, 1.0), ("full", 20, 0.5)])
def test_visible_objects_lie_inside_every_picture(size, edge, part):
    """Whole in tiny pictures; in full ones TRANCE's own side cameras cut the border of an object in a far corner."""
    layout = LAYOUTS[size]
    turns = np.linspace(0, 2 * math.pi, 40)
    for view, x, y in itertools.product(layout.cameras, (-edge, edge), (-edge, edge)):
        big = Thing("cylinder", "large", "red", "metal", x, y, 0.0)
        radius = layout.radii["large"]
        shell = np.stack([np.cos(turns), np.sin(turns), np.ones(40)], 1) * part * radius
        points = np.concatenate([shell, shell * [1, 1, -1]]) + layout.centre(big)
        pixels = project(points, layout.cameras[view], layout.width, layout.height)
        assert pixels.min() > -0.5
        assert (pixels.max(0) < (layout.width + 0.5, layout.height + 0.5)).all()


def test_side_views_show_the_same_final_scene_from_elsewhere():
    views = {s: sample(random.Random(3), "tiny", s) for s in ("train", "id", "ood_left", "ood_right")}
    first = {s.images[0].tobytes() for s in views.values()}
    final = {s: v.images[1].tobytes() for s, v in views.items()}
    assert len(first) == 1
    assert final["train"] == final["id"]
    assert len(set(final.values())) == 3
    assert len({(v.problem, v.answer) for v in views.values()}) == 1


@pytest.mark.parametrize(("size", "pixels", "counts"), [("tiny", (112, 112), {2, 3}), ("full", (320, 240), {10})])
def test_a_seed_gives_one_sample_with_two_pictures(size, pixels, counts):
    one, again, other = (sample(random.Random(seed), size, "train") for seed in (7, 7, 8))
    assert (one.problem, one.kind, one.procedures) == (again.problem, again.kind, again.procedures)
    assert [p.tobytes() for p in one.images] == [p.tobytes() for p in again.images]
    assert one.problem != other.problem
    assert [picture.size for picture in one.images] == [pixels, pixels]
    assert PROBLEM.fullmatch(one.problem)
    assert one.problem.count("('") in counts


@pytest.mark.parametrize("size", SIZES)
def test_every_answer_is_a_list_of_functions_and_only_the_right_one_is_right(questions, size):
    task = TASKS["trance"]
    for kind, before, _, procedures in questions[size]:
        right = procedures[RIGHT].answer
        number = {"two": (2,), "many": (3, 4)}.get(kind, (1,))
        assert len(calls(right)) in number
        for name, procedure in procedures.items():
            for function, object_id, value in calls(procedure.answer):
                assert int(object_id) < len(before)
                options = re.search(rf"change_{function}\(id,\s([^)]+)\)", task.instruction)
                assert options is not None
                assert value in options[1].split("|")
            score = task.grade(f"<think>{procedure.cot}</think>\n<answer>{procedure.answer}</answer>", right, "full")
            lucky = (name, kind) == ("colors", "color")
            assert (score.accuracy == 1) == (name == RIGHT or lucky), (name, procedure.answer, right)


def test_reasoning_names_the_procedure_first_and_stays_short(questions):
    words = {procedures[name].cot.split(";")[0] for *_, procedures in questions["tiny"] for name in procedures}
    assert words == {"compare", "undo", "next", "colors", "turn"}
    assert max(len(p.cot.split()) for *_, procedures in questions["tiny"] for p in procedures.values()) == 50
    for *_, procedures in questions["tiny"]:
        assert len({p.cot.split(";", 1)[1] for p in procedures.values()}) == 1  # all see the same


def test_procedures_on_a_scene_worked_by_hand():
    before = [
        Thing("cube", "small", "red", "metal", -10, -10, 0.0),
        Thing("sphere", "large", "blue", "glass", 0, 0, 0.0),
    ]
    changes = [Change("color", 0, "cyan"), Change("position", 1, "behind_right")]
    after = apply(apply(before, changes[0]), changes[1])
    procedures = reason(before, after, changes, LAYOUTS["tiny"])
    assert procedures[RIGHT].cot == "; ".join(
        [
            "compare",
            "0 cube small red metal 0 0 > 0 0 cube small cyan metal = cyan",
            "1 sphere large blue glass 1 1 > 2 2 sphere large blue glass = behind_right",
        ]
    )
    assert {name: procedure.answer for name, procedure in procedures.items()} == {
        "right": "change_color(0, cyan), change_position(1, behind_right)",
        "undo": "change_color(0, red), change_position(1, front_left)",
        "next": "change_position(0, behind_right), change_color(1, cyan)",
        "colors": "change_color(0, cyan)",
        "turn": "change_position(1, front_right)",
    }


def test_a_procedure_that_finds_nothing_guesses():
    before = [
        Thing("cube", "small", "red", "metal", -10, 10, 0.0),
        Thing("sphere", "large", "blue", "glass", 0, 0, 0.0),
    ]
    change = Change("shape", 1, "cube")
    procedures = reason(before, apply(before, change), [change], LAYOUTS["tiny"])
    assert procedures["colors"].answer == "change_color(0, red)"
    assert procedures["turn"].answer == "change_position(0, front_right)"


def test_an_object_out_of_sight_is_said_to_be_unseen():
    before = [Thing("cube", "small", "red", "metal", 0, 25, 0.0), Thing("sphere", "large", "blue", "glass", 39, 0, 0.0)]
    change = Change("position", 0, "left")
    cot = reason(before, apply(before, change), [change], LAYOUTS["full"])[RIGHT].cot
    seen = ["0 cube small red metal unseen > 2 3 cube small red metal = left"]
    seen += ["1 sphere large blue glass unseen > unseen = same"]
    assert cot.split("; ") == ["compare", *seen]


def test_the_base_policy_is_also_asked_what_the_pictures_show_without_being_told():
    """Else the looks are copied from the question and nothing has to be seen (docs/LOG.md)."""
    layout = LAYOUTS["tiny"]
    before = [Thing("cube", "small", "red", "glass", 10, 0, 0), Thing("sphere", "large", "blue", "metal", -10, 10, 0)]
    after = [replace(before[0], x=30), replace(before[1], y=0)]  # one leaves the picture, one moves to the left
    exercise = describe(before, after, layout)
    assert exercise.cot == "look; 0 2 sphere large blue metal; 2 1 cube small red glass > 0 1 sphere large blue metal"
    assert exercise.answer == "2 > 1" and "red" not in exercise.problem


def test_base_rows_and_no_others_have_such_an_exercise(tmp_path):
    base, train = (make_row(Job("trance", "tiny", 0, split, 0, tmp_path)) for split in ("base", "train"))
    assert base["exercise"]["problem"] == "What do the pictures show?" and "exercise" not in train


def test_overlap_is_judged_by_radii_and_a_gap():
    pair = [Thing("cube", size, "red", "metal", 0, y, 0.0) for size, y in (("small", 0), ("large", 9))]
    assert follows_rules(pair, LAYOUTS["full"])  # 9 x .15 = 1.35 = .3 + .9 + .15
    assert not follows_rules(apply(pair, Change("size", 0, "medium")), LAYOUTS["full"])


def test_changes_without_a_scene_are_given_up():
    swap = [Change("position", 0, "behind_right", steps=2), Change("position", 1, "front_left", steps=2)]
    assert draw_scene(random.Random(0), LAYOUTS["tiny"], swap, 2) is None


def test_no_constant_answer_scores_well():
    drawn = [question(random.Random(f"balance/{i}"), "tiny") for i in range(1000)]
    for kind in WEIGHTS["tiny"]:
        answers = Counter(procedures[RIGHT].answer for k, *_, procedures in drawn if k == kind)
        assert answers.most_common(1)[0][1] / answers.total() < 0.22
    assert Counter(procedures[RIGHT].answer for *_, procedures in drawn).most_common(1)[0][1] / 1000 < 0.05


def test_shares_of_the_right_procedure_cover_the_kinds_and_average_a_quarter():
    assert set(RIGHT_SHARE) == set(KINDS) == {kind for weights in WEIGHTS.values() for kind in weights}
    weights = WEIGHTS["tiny"]
    assert sum(weights.values()) == pytest.approx(1)
    share = sum(weight * RIGHT_SHARE[kind] for kind, weight in weights.items())
    lucky = weights["color"] * (1 - RIGHT_SHARE["color"]) / 4  # "colors", one of four wrong procedures
    assert share == pytest.approx(0.22)
    assert share + lucky == pytest.approx(0.244)


def test_an_unknown_split_names_the_nearest_one():
    with pytest.raises(UserError, match=r"unknown split 'ood_lef'.*did you mean 'ood_left'"):
        sample(random.Random(0), "tiny", "ood_lef")


def test_real_rows_are_worded_like_ours():
    if not REAL.exists():
        pytest.skip(f"real TRANCE rows are not at {REAL}")
    for row in json.loads(REAL.read_text()):
        assert PROBLEM.fullmatch(row["problem"])
        assert calls(row["answer"]) == [("color", "2", "cyan"), ("position", "2", "behind"), ("color", "4", "brown")]

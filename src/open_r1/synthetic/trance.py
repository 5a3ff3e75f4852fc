"""Synthetic spatial transformation: which changes turn the first picture of a TRANCE scene into the second."""

import random

from open_r1.synthetic.sample import RIGHT, Exercise, Procedure, Sample, Size
from open_r1.synthetic.trance_layout import DIRECTIONS, FUNCTIONS, LAYOUTS, STEP, Layout, Thing, picture
from open_r1.synthetic.trance_scene import Change, draw_changes, draw_scene, in_order
from open_r1.utils.names import unknown_name

KINDS = (*FUNCTIONS, "two", "many")  # one change of a type, or several of any
# Share of the right procedure in the base policy's pre-training mixture. Mean over the tiny questions as drawn: .22;
# base policies answer about .25 of them, since "colors" is right about a single change of color.
RIGHT_SHARE = {"size": 0.5, "color": 0.4, "material": 0.2, "shape": 0.2, "position": 0.05, "two": 0.05, "many": 0.05}
WEIGHTS: dict[Size, dict[str, float]] = {
    "tiny": {"size": 0.16, "color": 0.16, "material": 0.14, "shape": 0.14, "position": 0.2, "two": 0.2},
    "full": dict.fromkeys(FUNCTIONS, 0.05) | {"two": 0.25, "many": 0.5},  # 1 to 4 changes, equally often
}
VIEWS = {"train": "centre", "id": "centre", "ood_left": "left", "ood_right": "right"}  # final picture's camera


def sample(rng: random.Random, size: Size, split: str) -> Sample:
    """Draw one question; the splits "ood_left" and "ood_right" see the final state from the side.

    "tiny": 2 or 3 objects in nine cells, 1 or 2 changes, 112 x 112 pixels. "full": ten objects as in TRANCE, 1 to 4
    changes, 320 x 240 pixels. Raises UserError where `split` is not one of `VIEWS`.
    """
    if split not in VIEWS:
        raise unknown_name("split", split, VIEWS, "the synthetic trance data")
    layout = LAYOUTS[size]
    kind, before, after, procedures = question(rng, size)
    images = picture(before, layout, "centre"), picture(after, layout, VIEWS[split])
    listed = [(str(i), *thing.attributes) for i, thing in enumerate(before)]
    problem = f"The attributes of the initial objects are: {listed}."
    return Sample(images, problem, kind, procedures, describe(before, after, layout))


def question(rng: random.Random, size: Size) -> tuple[str, list[Thing], list[Thing], dict[str, Procedure]]:
    """Draw the kind, the things before and after, and the procedures of a question, without its pictures.

    A question is drawn again where a wrong procedure happens upon the answer; only "colors" may be right, and only
    about a single change of color.
    """
    layout = LAYOUTS[size]
    while True:
        kind = rng.choices(list(WEIGHTS[size]), list(WEIGHTS[size].values()))[0]
        functions = [kind] if kind in FUNCTIONS else rng.choices(list(FUNCTIONS), k=_number(rng, kind))
        count = rng.choice(layout.counts)
        changes = draw_changes(rng, functions, count)
        scene = draw_scene(rng, layout, changes, count)
        if scene is None:
            continue
        before, after = scene
        procedures = reason(before, after, changes, layout)
        right = procedures[RIGHT].answer
        lucky = [name for name, procedure in procedures.items() if name != RIGHT and procedure.answer == right]
        if not lucky or (lucky, kind) == (["colors"], "color"):
            return kind, before, after, procedures


def _number(rng: random.Random, kind: str) -> int:
    return 2 if kind == "two" else rng.choice((3, 4))


def reason(before: list[Thing], after: list[Thing], changes: list[Change], layout: Layout) -> dict[str, Procedure]:
    """The ways to answer: all see the same things, each begins with its own word.

    right ("compare") compares everything. "undo" tells how to get back: old values, opposite moves. "next" blames the
    object after the one that changed. "colors" looks at nothing else. "turn" looks at places only and is a quarter
    turn off. The last two guess where they find no change.
    """
    seen = "; ".join(_seen(i, before[i], after[i], layout) for i in range(len(before)))
    first = next(i for i, thing in enumerate(after) if layout.sees(thing))
    colors = [change for change in changes if change.function == "color"]
    moves = [change for change in changes if change.function == "position"]
    turned = [_turn(change) for change in moves] or [_guess_move(first, after[first])]
    answers = {
        "compare": changes,
        "undo": [_undo(change, before[change.object_id]) for change in changes],
        "next": [Change(c.function, (c.object_id + 1) % len(before), c.value) for c in changes],
        "colors": colors or [Change("color", first, after[first].color)],
        "turn": turned,
    }
    return {
        RIGHT if word == "compare" else word: Procedure(f"{word}; {seen}", ", ".join(map(str, in_order(answer))))
        for word, answer in answers.items()
    }


def describe(before: list[Thing], after: list[Thing], layout: Layout) -> Exercise:
    """Ask what the pictures show: row, column and look of everything in sight, from the far left, picture by picture.

    The question of the task lists the looks, so a policy that learns from it alone copies them and never learns to see.
    """
    pictures = [
        "; ".join(f"{_cell(thing, layout)} {' '.join(thing.attributes)}" for thing in _in_sight(things, layout))
        for things in (before, after)
    ]
    counts = [str(len(_in_sight(things, layout))) for things in (before, after)]
    return Exercise("What do the pictures show?", f"look; {' > '.join(pictures)}", " > ".join(counts))


def _in_sight(things: list[Thing], layout: Layout) -> list[Thing]:
    return sorted((thing for thing in things if layout.sees(thing)), key=lambda thing: _cell(thing, layout))


def _cell(thing: Thing, layout: Layout) -> str:
    """Row and column of a visible thing's cell, from the far left."""
    return f"{(thing.x + layout.visible) // STEP} {(thing.y + layout.visible) // STEP}"


def _seen(object_id: int, before: Thing, after: Thing, layout: Layout) -> str:
    """Say what a thing looked like, where it was and is (row, column from the far left), its look now, and what is new.

    The first look is in the question; saying it again brings it next to the places that are searched by it, and naming
    what is new brings the comparison next to what is compared: a tiny policy needs both (docs/LOG.md).

    >>> before = Thing("cube", "small", "red", "glass", x=-10, y=0, yaw=0)
    >>> after = Thing("cube", "small", "red", "metal", x=0, y=10, yaw=0)
    >>> _seen(1, before, after, LAYOUTS["tiny"])
    '1 cube small red glass 0 1 > 1 2 cube small red metal = metal behind_right'
    """
    cells = [_cell(thing, layout) if layout.sees(thing) else "unseen" for thing in (before, after)]
    look = f" {' '.join(after.attributes)}" if layout.sees(after) else ""
    new = [now for then, now in zip(before.attributes, after.attributes, strict=True) if now != then]
    steps = after.x - before.x, after.y - before.y
    new += [_direction(*((step > 0) - (step < 0) for step in steps))] if any(steps) else []
    told = " ".join(new) or "same"
    return f"{object_id} {' '.join(before.attributes)} {cells[0]} > {cells[1]}{look} = {told}"


def _undo(change: Change, before: Thing) -> Change:
    if change.function != "position":
        return Change(change.function, change.object_id, getattr(before, change.function))
    along_x, along_y = DIRECTIONS[change.value]
    return Change("position", change.object_id, _direction(-along_x, -along_y))


def _turn(change: Change) -> Change:
    along_x, along_y = DIRECTIONS[change.value]
    return Change("position", change.object_id, _direction(-along_y, along_x))


def _guess_move(object_id: int, thing: Thing) -> Change:
    """Guess that a thing came from the middle; one that stands there is said to come forward."""
    signs = [(at > STEP // 2) - (at < -STEP // 2) for at in (thing.x, thing.y)]
    return Change("position", object_id, _direction(*signs) if any(signs) else "behind")


def _direction(along_x: int, along_y: int) -> str:
    return next(name for name, step in DIRECTIONS.items() if step == (along_x, along_y))

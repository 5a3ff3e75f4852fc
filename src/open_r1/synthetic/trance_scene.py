"""TRANCE scenes: atomic changes, the rules they obey, and the drawing of scenes that allow given changes."""

import functools
import itertools
import math
import random
from dataclasses import dataclass, replace

import numpy as np

from open_r1.synthetic.render import Camera
from open_r1.synthetic.trance_layout import ATTRIBUTES, DIRECTIONS, FUNCTIONS, STEP, Layout, Thing

GAP = 0.15  # least space between the circles around two objects, in world units
TRIES = 200  # for a thing to find its place, and for a scene to fit


@dataclass(frozen=True)
class Change:
    """One atomic change, say Change("color", 2, "cyan"); a move goes `steps` steps, which answers do not tell."""

    function: str
    object_id: int
    value: str
    steps: int = 1

    def __str__(self) -> str:
        return f"change_{self.function}({self.object_id}, {self.value})"


def apply(things: list[Thing], change: Change) -> list[Thing]:
    """Return `things` after one change; rules are not checked."""
    old = things[change.object_id]
    if change.function == "position":
        along_x, along_y = DIRECTIONS[change.value]
        new = replace(old, x=old.x + STEP * change.steps * along_x, y=old.y + STEP * change.steps * along_y)
    else:
        new = replace(old, **{change.function: change.value})
    return [new if i == change.object_id else thing for i, thing in enumerate(things)]


def follows_rules(things: list[Thing], layout: Layout) -> bool:
    """Whether all things stand in the square and no two of them overlap."""
    if any(max(abs(thing.x), abs(thing.y)) > layout.limit for thing in things):
        return False
    return all(
        math.dist(layout.place(a), layout.place(b)) >= layout.radii[a.size] + layout.radii[b.size] + GAP - 1e-9
        for a, b in itertools.combinations(things, 2)
    )


def _unlike(a: Thing, b: Thing, layout: Layout) -> int:
    """In how many of shape, size, color, material and visible place two things differ."""
    places = [(thing.x, thing.y) if layout.sees(thing) else None for thing in (a, b)]
    return sum(p != q for p, q in zip(a.attributes, b.attributes, strict=True)) + (places[0] != places[1])


def draw_changes(rng: random.Random, functions: list[str], count: int) -> list[Change]:
    """Draw one change per function name on `count` objects, objects and values evenly, in an answer's order.

    No object changes more than twice: with three changes it could as well be taken for another object.
    """
    while True:
        changes = [
            Change(name, rng.randrange(count), rng.choice(FUNCTIONS[name]), rng.choice((1, 2))) for name in functions
        ]
        ids = [change.object_id for change in changes]
        if len({(c.function, c.object_id) for c in changes}) == len(changes) and max(map(ids.count, ids)) <= 2:
            return in_order(changes)


def in_order(changes: list[Change]) -> list[Change]:
    """Sort changes as an answer lists them: by object, then by function."""
    return sorted(changes, key=lambda change: (change.object_id, list(FUNCTIONS).index(change.function)))


def draw_scene(
    rng: random.Random, layout: Layout, changes: list[Change], count: int
) -> tuple[list[Thing], list[Thing]] | None:
    """Draw `count` things that allow `changes`, and return them before and after; None where no scene was found.

    Changes come first and scenes are drawn until one fits, so that no value is rarer than another. A fitting scene
    follows the rules after each change, shows at least two things in each picture, shows enough of every change to
    name it (an attribute by its final look, a move by one of its ends), and leaves no doubt which thing became which.
    Not every set of changes has one: two things cannot swap opposite corners of the tiny grid, one move at a time.
    """
    for _ in range(TRIES):
        before = _draw_things(rng, layout, changes, count)
        if not before:
            continue
        *_, after = states = list(itertools.accumulate(changes, apply, initial=before))
        if all(follows_rules(state, layout) for state in states) and _recognisable(before, after, changes, layout):
            return before, after
    return None


def _draw_things(rng: random.Random, layout: Layout, changes: list[Change], count: int) -> list[Thing]:
    """Draw `count` things that stand apart, any two of them unlike in two attributes; none where one finds no place."""
    things: list[Thing] = []
    for object_id in range(count):
        own = [replace(change, object_id=0) for change in changes if change.object_id == object_id]
        crosses = any(change.function == "position" for change in own) and rng.random() < layout.crossing
        for _ in range(TRIES):
            thing = _draw_thing(rng, layout, own)
            alike = any(_alike(thing, other, layout) for other in things)
            if not alike and _in_view(layout, thing, own, crosses) and follows_rules([*things, thing], layout):
                things.append(thing)
                break
        else:
            return []
    return things


def _alike(a: Thing, b: Thing, layout: Layout) -> bool:
    return (layout.plain and a.color == b.color) or sum(map(str.__ne__, a.attributes, b.attributes)) < 2


def _draw_thing(rng: random.Random, layout: Layout, own: list[Change]) -> Thing:
    """Draw a thing anywhere that does not have the values yet that its `own` changes give it."""
    new = [(change.function, change.value) for change in own]
    look = {name: rng.choice([v for v in values if (name, v) not in new]) for name, values in ATTRIBUTES.items()}
    places = range(-layout.limit, layout.limit + 1, layout.spacing)
    return Thing(**look, x=rng.choice(places), y=rng.choice(places), yaw=rng.uniform(-layout.yaw, layout.yaw))


def _in_view(layout: Layout, thing: Thing, own: list[Change], crosses: bool) -> bool:
    """Whether a place suits what is to happen to a thing: anywhere for nothing, seen at both ends for most moves."""
    if not own:
        return True
    ends = layout.sees(thing), layout.sees(functools.reduce(apply, own, [thing])[0])
    return ends[0] != ends[1] if crosses else all(ends)


def _recognisable(before: list[Thing], after: list[Thing], changes: list[Change], layout: Layout) -> bool:
    """Whether the two pictures show the changes, and no two things could be swapped with as few changes."""
    if min(sum(map(layout.sees, before)), sum(map(layout.sees, after))) < 2:
        return False
    if any(c.function != "position" and not layout.sees(after[c.object_id]) for c in changes):
        return False
    views = [(before, "centre"), *((after, view) for view in layout.cameras)]
    if any(_hidden(state, c.object_id, layout, layout.cameras[view]) for state, view in views for c in changes):
        return False
    told = [_unlike(a, b, layout) for a, b in zip(before, after, strict=True)]
    return all(
        _unlike(before[i], after[j], layout) + _unlike(before[j], after[i], layout) > told[i] + told[j]
        for i, j in itertools.combinations(range(len(before)), 2)
    )


def _hidden(things: list[Thing], object_id: int, layout: Layout, camera: Camera) -> bool:
    """Whether another visible thing stands between a visible thing's centre and the camera."""
    if not layout.sees(things[object_id]):
        return False
    target = np.subtract(layout.centre(things[object_id]), camera.position)
    reach = float(np.linalg.norm(target))
    for other in things:
        if other is things[object_id] or not layout.sees(other):
            continue
        centre = np.subtract(layout.centre(other), camera.position)
        along = float(centre @ target) / reach
        if along < reach and np.linalg.norm(centre - target * (along / reach)) < layout.radii[other.size]:
            return True
    return False

"""Scenes of visual counting: things with attributes, where they stand, and their picture.

Full scenes look like CLEVR's; a tiny scene gives every thing one of 3 x 3 blocks of 28 x 28 pixels, because Qwen2-VL
sees one token per block and a model of one or two million parameters cannot put a thing together from several.
A little longer than most files, so that a scene and its two layouts stay together.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL.Image import Image

from open_r1.synthetic.render import COLOURS, Camera, Material, Shape, Solid, corners, plain_to_see, project, render
from open_r1.synthetic.sample import Size
from open_r1.synthetic.vehicles import VEHICLES, vehicle

SHAPES = ("cube", "sphere", "cylinder")
MATERIALS: tuple[Material, ...] = ("rubber", "metal")
PICTURE: dict[Size, tuple[int, int]] = {"tiny": (84, 84), "full": (320, 240)}  # width, height in pixels
THINGS: dict[Size, tuple[int, int]] = {"tiny": (3, 5), "full": (3, 10)}  # fewest and most in a scene

# Half extents in world units: CLEVR's radii .7 and .35; in a tiny scene a block of 28 pixels is one unit wide.
_RADIUS = {"full": {"large": 0.7, "small": 0.35}, "tiny": {"large": 0.41, "small": 0.22}}
_VEHICLE = {"full": {"large": 1.15, "small": 0.62}, "tiny": {"large": 0.44, "small": 0.3}}  # half lengths
_SLIM = {"full": {"cube": 0.71, "sphere": 1, "cylinder": 1}, "tiny": {"cube": 0.68, "sphere": 1, "cylinder": 0.76}}
_TILT = math.radians(50)  # how far the tiny camera looks down
_TINY_CAMERA = Camera((40 * math.cos(_TILT), 0, 40 * math.sin(_TILT)), focal_mm=32 * 40 / 3)  # 3 units fill the width

_Placed = tuple["Thing", tuple[Solid, ...], np.ndarray]  # a thing, its solids, its box in pixels


@dataclass(frozen=True)
class Thing:
    """One object by its attributes; `subtype` is set for the vehicles of full scenes."""

    size: str
    colour: str
    material: Material
    shape: str
    subtype: str | None = None

    @property
    def words(self) -> str:
        """As the reasoning text names it.

        >>> Thing("large", "red", "metal", "cube").words
        'large red metal cube'
        """
        return " ".join(filter(None, (self.size, self.colour, self.material, self.subtype, self.shape)))


@dataclass(frozen=True)
class Scene:
    """Things in reading order of the picture (row by row, from left to right), `bodies[i]` being the solids of i."""

    things: tuple[Thing, ...]
    bodies: tuple[tuple[Solid, ...], ...]
    camera: Camera
    size: Size

    def draw(self) -> Image:
        """Render the picture."""
        width, height = PICTURE[self.size]
        return render([solid for body in self.bodies for solid in body], self.camera, width, height)

    def boxes(self) -> np.ndarray:
        """(things, 4) pixels left, top, right, bottom around each thing."""
        return np.array([_box(body, self.camera, self.size) for body in self.bodies])


def draw_things(rng: random.Random, size: Size, vehicles: bool) -> list[Thing]:
    """Draw what a scene holds; few colours and shapes per scene, so that the groups in questions have members."""
    fewest, most = THINGS[size]
    number = rng.randint(fewest, most)
    colours = rng.sample(list(COLOURS), rng.randint(2, 3) if size == "tiny" else rng.randint(3, 5))
    names = rng.sample(list(VEHICLES) if vehicles else SHAPES, rng.randint(2, 3))
    things = []
    for _ in range(number):
        name = rng.choice(names)
        subtype = rng.choice(VEHICLES[name]) if vehicles and size == "full" else None
        looks = rng.choice(("large", "small")), rng.choice(colours), rng.choice(MATERIALS)
        things.append(Thing(*looks, name, subtype))
    return things


def arrange(rng: random.Random, things: Sequence[Thing], size: Size) -> Scene:
    """Find a place for each of `things`: all inside the picture, none inside or mostly behind another."""
    return _arrange_tiny(rng, things) if size == "tiny" else _arrange_full(rng, things)


def _arrange_tiny(rng: random.Random, things: Sequence[Thing]) -> Scene:
    bodies = []
    for thing, cell in zip(things, sorted(rng.sample(range(9), len(things))), strict=True):
        row, col = divmod(cell, 3)
        slack = 0.02 if thing.size == "large" else 0.09
        right, down = (rng.uniform(-slack, slack) for _ in range(2))
        yaw = rng.uniform(-0.25, 0.25) + (rng.choice((-1, 1)) * math.pi / 2 if thing.shape in VEHICLES else 0)
        # A step down the picture is 1 / sin(tilt) on the ground; what has a height appears above where it stands.
        height = _height(thing, "tiny")
        x = (row - 1 + down) / math.sin(_TILT) + height / 2 / math.tan(_TILT)
        bodies.append(_body(thing, x, col - 1 + right, yaw, "tiny"))
    return Scene(tuple(things), tuple(bodies), _TINY_CAMERA, "tiny")


def _arrange_full(rng: random.Random, things: Sequence[Thing]) -> Scene:
    away = 1.0
    while True:  # start over from a little farther away where the last thing found no room
        eye = rng.uniform(9.6, 10.8) * away, rng.uniform(-0.6, 0.6) * away, rng.uniform(6.2, 7.4) * away
        camera = Camera(eye, (0.3, 0, 0))
        placed: list[_Placed] = []
        for thing in things:
            found = next(filter(None, (_try_place(rng, thing, camera, placed, away) for _ in range(60))), None)
            if found is None:
                away += 0.03
                break
            placed.append(found)
        else:
            placed.sort(key=lambda p: (int(p[2][1] + p[2][3]) // 96, p[2][0]))  # five rows of 48 pixels
            return Scene(tuple(p[0] for p in placed), tuple(p[1] for p in placed), camera, "full")


def _try_place(
    rng: random.Random, thing: Thing, camera: Camera, placed: Sequence[_Placed], away: float
) -> _Placed | None:
    """Put `thing` somewhere, or return None where it is in the way or outside the picture."""
    x, y = rng.uniform(-4.5, 3.5) * away, rng.uniform(-3.8, 3.8) * away
    body = _body(thing, x, y, rng.uniform(0, 2 * math.pi), "full")
    box = _box(body, camera, "full")
    if not _fits(box):
        return None
    clear = all(_apart(box, other_box) and _clear_of(body, other) for _, other, other_box in placed)
    return (thing, body, box) if clear else None


def _clear_of(body: Sequence[Solid], other: Sequence[Solid], gap: float = 0.15) -> bool:
    """Whether the circles on the ground around two bodies are at least `gap` apart."""
    footprints = [np.concatenate([corners(solid)[:, :2] for solid in solids]) for solids in (body, other)]
    centres = [(flat.min(0) + flat.max(0)) / 2 for flat in footprints]
    radii = [np.linalg.norm(flat - centre, axis=1).max() for flat, centre in zip(footprints, centres, strict=True)]
    return bool(np.linalg.norm(centres[0] - centres[1]) >= sum(radii) + gap)


def _height(thing: Thing, size: Size) -> float:
    if thing.shape in VEHICLES:
        return 0.85 * _VEHICLE[size][thing.size]
    return 2 * _RADIUS[size][thing.size] * _SLIM[size][thing.shape]


def _body(thing: Thing, x: float, y: float, yaw: float, size: Size) -> tuple[Solid, ...]:
    colour = COLOURS[thing.colour] if size == "full" else plain_to_see(COLOURS[thing.colour], thing.material)
    if thing.shape in VEHICLES:
        subtype = thing.subtype or VEHICLES[thing.shape][0]
        return tuple(vehicle(subtype, x, y, _VEHICLE[size][thing.size], yaw, colour, thing.material))
    half = _height(thing, size) / 2
    return (Solid(cast(Shape, thing.shape), (x, y, half), (half, half, half), yaw, colour, thing.material),)


def _box(body: Sequence[Solid], camera: Camera, size: Size) -> np.ndarray:
    """(4,) pixels left, top, right, bottom."""
    flat = project(np.concatenate([corners(solid) for solid in body]), camera, *PICTURE[size])
    return np.concatenate([flat.min(0), flat.max(0)])


def _fits(box: np.ndarray, margin: float = 4) -> bool:
    width, height = PICTURE["full"]
    return bool(box.min() >= margin and box[2] <= width - margin and box[3] <= height - margin)


def _apart(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the boxes share at most a fifth of the smaller: then both things are seen."""
    overlap = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    if overlap.min() <= 0:
        return True
    smaller = min(np.prod(one[2:] - one[:2]), np.prod(other[2:] - other[:2]))
    return bool(overlap.prod() <= 0.2 * smaller)

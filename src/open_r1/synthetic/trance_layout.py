"""TRANCE's objects, grid and cameras in two sizes, and the pictures the cameras take.

Values, rules, cameras and directions are those of the TRANCE data (arXiv 2011.13160); positions are in grid units.
Directions are in the centre camera's frame in every view: "behind" comes toward that camera, "front" goes away.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from PIL.Image import Image

from open_r1.synthetic.render import COLOURS, Camera, Material, Shape, Solid, Vector, plain_to_see, render
from open_r1.synthetic.sample import Size

DIRECTIONS = {
    "front": (-1, 0),
    "behind": (1, 0),
    "left": (0, -1),
    "right": (0, 1),
    "front_left": (-1, -1),
    "front_right": (-1, 1),
    "behind_left": (1, -1),
    "behind_right": (1, 1),
}
ATTRIBUTES = {  # in the order in which a question names them
    "shape": ("cube", "sphere", "cylinder"),
    "size": ("small", "medium", "large"),
    "color": tuple(COLOURS),
    "material": ("rubber", "metal", "glass"),
}
FUNCTIONS = {  # what change_<name>(id, value) takes, in the order in which an answer lists one object's changes
    name: ATTRIBUTES.get(name, tuple(DIRECTIONS)) for name in ("size", "color", "material", "shape", "position")
}
STEP = 10  # grid units; a move is one or two steps


@dataclass(frozen=True)
class Thing:
    """One object; x grows toward the centre camera and y to its right, in grid units; yaw in radians."""

    shape: Shape
    size: str
    color: str
    material: Material
    x: int
    y: int
    yaw: float

    @property
    def attributes(self) -> tuple[str, str, str, str]:
        """Shape, size, color and material, as a question lists them."""
        return self.shape, self.size, self.color, self.material


@dataclass(frozen=True)
class Layout:
    """What differs between the sizes; lengths without a unit in their name are grid units."""

    width: int  # pixels
    height: int  # pixels
    counts: tuple[int, ...]  # numbers of objects
    limit: int  # objects stay in |x|, |y| <= limit
    visible: int  # and are in the picture where |x|, |y| <= visible
    spacing: int  # objects start on multiples of it
    crossing: float  # share of moves that cross the visible border
    unit: tuple[float, float]  # world units per grid unit along x and y
    radii: dict[str, float]  # world units
    cube: float  # half edge of a cube, in radii
    yaw: float  # objects are turned by at most this much, radians
    plain: bool  # each object starts in a color of its own, its material shows in its paint, and its cell in the floor
    cameras: dict[str, Camera]

    def place(self, thing: Thing) -> tuple[float, float]:
        """World x and y of a thing."""
        return thing.x * self.unit[0], thing.y * self.unit[1]

    def centre(self, thing: Thing) -> Vector:
        """World coordinates of a thing's centre."""
        return (*self.place(thing), self.half(thing))

    def half(self, thing: Thing) -> float:
        """Half extent of a thing along its own axes, in world units."""
        return self.radii[thing.size] * (self.cube if thing.shape == "cube" else 1)

    def sees(self, thing: Thing) -> bool:
        """Whether a thing stands in the visible square."""
        return max(abs(thing.x), abs(thing.y)) <= self.visible


def _tiny_camera(azimuth_deg: float, target: Vector) -> Camera:
    """A camera 90 units from `target`, 60 degrees up, through a long lens: 28 pixels are 1.95 world units."""
    flat, turn = 90 * math.cos(math.pi / 3), math.radians(azimuth_deg)
    x, y, z = target
    position = (x + flat * math.cos(turn), y + flat * math.sin(turn), z + 90 * math.sin(math.pi / 3))
    return Camera(position, target, focal_mm=32 * 90 / 1.95 / 4)


LAYOUTS: dict[Size, Layout] = {
    "full": Layout(
        width=320,
        height=240,
        counts=(10,),
        limit=40,
        visible=20,
        spacing=1,
        crossing=0.15,
        unit=(0.15, 0.15),
        radii={"small": 0.3, "medium": 0.6, "large": 0.9},
        cube=1 / math.sqrt(2),
        yaw=math.pi,
        plain=False,
        cameras={
            "centre": Camera((9.481, 0.0, 6.344)),
            "left": Camera((7.481, -6.508, 6.344)),
            "right": Camera((7.481, 6.508, 6.344)),
        },
    ),
    # Nine cells: from the centre camera each is 28 x 28 pixels, one visual token, so the grid is set off by half a
    # token. The cameras look down more steeply than TRANCE's, since near objects would hide far ones.
    "tiny": Layout(
        width=112,
        height=112,
        counts=(2, 3),
        limit=10,
        visible=10,
        spacing=STEP,
        crossing=0.0,
        unit=(0.195 / math.sin(math.pi / 3), 0.195),
        radii={"small": 0.48, "medium": 0.67, "large": 0.86},
        cube=0.75,
        yaw=0.3,
        plain=True,
        cameras={
            "centre": _tiny_camera(0.0, (-0.975 / math.sin(math.pi / 3), 0.975, 0.0)),
            "left": _tiny_camera(-41.0, (0.0, 0.0, 0.5)),
            "right": _tiny_camera(41.0, (0.0, 0.0, 0.5)),
        },
    ),
}


def picture(things: list[Thing], layout: Layout, view: str) -> Image:
    """Draw the visible things as `view` ("centre", "left" or "right") sees them."""
    solids = [_solid(thing, layout) for thing in things if layout.sees(thing)]
    ground = functools.partial(_tiles, layout) if layout.plain else None
    return render(solids, layout.cameras[view], layout.width, layout.height, ground)


def _tiles(layout: Layout, places: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) of a floor whose cells have a tint each: redder to the front, bluer to the right.

    On a plain floor a tiny policy learned every word of an object's look and never its place. Qwen2-VL's positions are
    relative, so a visual token there may not say where it lies: a supposition, not yet tested (docs/LOG.md).
    """
    rows, columns = np.moveaxis(np.clip(np.rint(places / np.array(layout.unit) / STEP), -1, 1), -1, 0)
    return np.stack([0.8 - 0.18 * rows, np.full_like(rows, 0.8), 0.8 + 0.18 * columns], axis=-1)


def _solid(thing: Thing, layout: Layout) -> Solid:
    half = layout.half(thing)
    colour = COLOURS[thing.color]
    if layout.plain:
        colour = plain_to_see(colour, thing.material)
    return Solid(thing.shape, layout.centre(thing), (half, half, half), thing.yaw, colour, thing.material)

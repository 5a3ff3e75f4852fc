"""A small vectorised ray caster: boxes, spheres and cylinders of three materials on a light ground.

World: right-handed, z up, ground at z = 0. Pixels: x to the right, y down, (0, 0) is the top left corner.
Every solid is an affine image of a unit cube, unit sphere or unit cylinder, so that one formula per shape serves all.
Longer than most files: geometry, materials and shadows share the unit-shape coordinates and are read together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

Vector = tuple[float, float, float]
Shape = Literal["cube", "sphere", "cylinder"]
Material = Literal["rubber", "metal", "glass"]

COLOURS = {  # CLEVR's eight, which TRANCE took over
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
GROUND = (214, 214, 210)
_LIGHT = np.array([0.42, -0.50, 0.76], np.float32)  # unit vector towards the key light: front left, above
_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
_TURNED = {"z": [0, 1, 2], "y": [0, 2, 1], "x": [2, 1, 0]}  # order of own axes that lays a cylinder along y or x


def plain_to_see(colour: tuple[int, int, int], material: Material) -> tuple[int, int, int]:
    """Return the paint of a thing in a tiny picture, where metal is half white and rubber is darker.

    Seven pixels of highlight are enough for a person; a tiny policy stayed at guessing the material by them.
    """
    keep, add = {"metal": (0.5, 128), "rubber": (0.75, 0), "glass": (1.0, 0)}[material]
    red, green, blue = colour
    return round(keep * red + add), round(keep * green + add), round(keep * blue + add)


@dataclass(frozen=True)
class Solid:
    """One body. `half` holds its half extents along its own axes, in world units.

    A cube with unequal halves is a box, a sphere with unequal halves an ellipsoid; a cylinder has radii half[0] and
    half[1] and half height half[2] along `axis`. `pitch` turns about the own y axis, then `yaw` about the vertical
    (radians).
    """

    shape: Shape
    centre: Vector
    half: Vector
    yaw: float
    colour: tuple[int, int, int]
    material: Material = "rubber"
    axis: Literal["z", "y", "x"] = "z"
    pitch: float = 0.0

    @cached_property
    def frame(self) -> np.ndarray:
        """(3, 3) matrix from unit-shape coordinates to offsets from the centre; columns are the scaled own axes."""
        cos, sin, up, down = np.cos(self.yaw), np.sin(self.yaw), np.cos(self.pitch), np.sin(self.pitch)
        turn = np.array([[cos * up, -sin, cos * down], [sin * up, cos, sin * down], [-down, 0, up]], np.float32)
        return turn[:, _TURNED[self.axis]] * np.array(self.half, np.float32)

    @cached_property
    def unframe(self) -> np.ndarray:
        """(3, 3) matrix that takes world offsets (n, 3) in rows to unit-shape coordinates, by `offsets @ unframe`."""
        return np.linalg.inv(self.frame).T


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that holds the horizon level; `sensor_mm` is the sensor's width."""

    position: Vector
    target: Vector = (0.0, 0.0, 0.0)
    focal_mm: float = 35.0
    sensor_mm: float = 32.0

    @property
    def axes(self) -> np.ndarray:
        """(3, 3): the unit vectors right, down and forward, in rows."""
        forward = np.subtract(self.target, self.position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward]).astype(np.float32)


def project(points: np.ndarray, camera: Camera, width: int, height: int) -> np.ndarray:
    """Project world points (n, 3) to pixels (n, 2) of a `width` x `height` picture.

    A point beside or behind the camera lands far outside the picture.
    """
    seen = (np.asarray(points, np.float64) - camera.position) @ camera.axes.T
    flat = seen[:, :2] / np.maximum(seen[:, 2:], 1e-3)
    return flat * (camera.focal_mm / camera.sensor_mm * width) + (width / 2, height / 2)


def render(
    solids: list[Solid],
    camera: Camera,
    width: int,
    height: int,
    ground: Callable[[np.ndarray], np.ndarray] | None = None,
    samples: int = 2,
) -> Image.Image:
    """Draw `solids` on the ground as an RGB picture; `samples` x `samples` rays per pixel.

    `ground` gives the floor's colours in [0, 1], (h, w, 3), for its places in the world, (h, w, 2); None: plain.

    Deterministic. Opaque solids hide one another by depth; glass is laid over them from far to near.
    """
    wide, high = width * samples, height * samples
    eye, rays = np.array(camera.position, np.float32), _rays(camera, wide, high)
    canvas = _draw_ground(solids, camera, rays, ground, samples)
    depth = np.full((high, wide), np.inf, np.float32)

    def far_first(solid: Solid) -> tuple[bool, float]:
        return solid.material == "glass", -float(np.linalg.norm(np.subtract(solid.centre, camera.position)))

    for solid in sorted(solids, key=far_first):
        window = _window(corners(solid), camera, wide, high)
        canvas_here, depth_here, rays_here = canvas[window], depth[window], rays[window]  # views: written in place
        to_unit = solid.unframe
        unit_eye = (eye - np.array(solid.centre, np.float32)) @ to_unit
        t = _enter(solid.shape, unit_eye, rays_here @ to_unit)
        seen = t < depth_here
        views = rays_here[seen]
        points = unit_eye + t[seen][:, None] * (views @ to_unit)
        canvas_here[seen] = _shade(solid, points, views, canvas_here[seen])
        if solid.material != "glass":
            depth_here[seen] = t[seen]
    pixels = canvas.reshape(height, samples, width, samples, 3).mean((1, 3))
    return Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))


@lru_cache(maxsize=4)
def _rays(camera: Camera, wide: int, high: int) -> np.ndarray:
    """(high, wide, 3) unit directions through the pixel centres."""
    x, y = np.meshgrid(np.arange(wide) + 0.5 - wide / 2, np.arange(high) + 0.5 - high / 2)
    focal = np.full_like(x, camera.focal_mm / camera.sensor_mm * wide)
    rays = np.stack([x, y, focal], -1).astype(np.float32) @ camera.axes
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def corners(solid: Solid) -> np.ndarray:
    """(8, 3) corners of the box around a solid along its own axes, in the world."""
    return _CORNERS @ solid.frame.T + np.array(solid.centre, np.float32)


def _window(points: np.ndarray, camera: Camera, wide: int, high: int) -> tuple[slice, slice]:
    """Rows and columns of the picture that hold the convex hull of `points` (n, 3)."""
    flat = project(points, camera, wide, high)
    low = np.clip(np.floor(flat.min(0)), 0, (wide, high)).astype(int)
    top = np.clip(np.ceil(flat.max(0)) + 1, 0, (wide, high)).astype(int)
    return slice(low[1], top[1]), slice(low[0], top[0])


def _enter(shape: Shape, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Distance (...), in lengths of the ray, at which rays from `origin` enter the unit shape; inf where they miss it.

    `origin` and `rays` are (..., 3) and broadcast. All three shapes are convex: a ray is inside between the last entry
    into and the first exit from the bounding surfaces.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        near, far = -np.inf, np.inf
        if shape != "sphere":
            flat = slice(0, 3) if shape == "cube" else slice(2, 3)
            d = rays[..., flat] + np.float32(1e-9)  # a ray that runs along a wall divides by almost 0 instead of 0
            middle, half = -origin[..., flat] / d, 1 / np.abs(d)
            near, far = (middle - half).max(-1), (middle + half).min(-1)
        if shape != "cube":
            round_ = slice(0, 3) if shape == "sphere" else slice(0, 2)
            o, d = origin[..., round_], rays[..., round_]
            a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1
            root = np.sqrt(b * b - a * c)  # nan where the ray misses, and nan compares as false below
            near, far = np.maximum(near, (-b - root) / a), np.minimum(far, (-b + root) / a)
        return np.where((near <= far) & (far > 0), near, np.inf)


def _surface(solid: Solid, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World normals (n, 3) at unit-shape points (n, 3), and how near each point is to a sharp edge (n,), in [0, 1]."""
    size = np.abs(points)
    normals = points.copy()
    edge = np.zeros(len(points), np.float32)
    if solid.shape == "cube":
        side = size.argmax(1)[:, None]
        normals = np.where(np.arange(3) == side, points, 0)
        edge = np.sort(size, 1)[:, 1]
    elif solid.shape == "cylinder":
        radius = np.hypot(points[:, 0], points[:, 1])
        cap = size[:, 2] > radius
        normals = np.where(cap[:, None], points * (0, 0, 1), points * (1, 1, 0))
        edge = np.minimum(size[:, 2], radius)
    normals = normals @ solid.unframe.T
    return normals / np.linalg.norm(normals, axis=1, keepdims=True), edge


def _shade(solid: Solid, points: np.ndarray, views: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Colours (n, 3) in [0, 1] of unit-shape `points` seen along `views` before the colours `behind`, all (n, 3)."""
    colour = np.array(solid.colour, np.float32) / 255
    normals, edge = _surface(solid, points)
    if solid.material == "rubber":  # matte: light and fill, no highlight
        lit = 0.42 + 0.5 * np.maximum(normals @ _LIGHT, 0) + 0.16 * -(normals * views).sum(1)
        return lit[:, None] * (colour * 0.92 + 0.06)
    if solid.shape != "sphere":  # bend flat faces outwards, or they would mirror a single point of the surroundings
        normals = normals + 0.35 * points @ solid.unframe.T * max(solid.half)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    facing = np.abs((normals * views).sum(1))
    mirrored = views - 2 * (normals * views).sum(1, keepdims=True) * normals
    spot = np.maximum(mirrored @ _LIGHT, 0)
    bevel = np.clip((edge - 0.86) / 0.1, 0, 1)
    if solid.material == "metal":  # mirrors a bright sky and ground with a dark horizon between them, and the lamp
        lamp = spot**14
        if solid.shape == "cylinder":  # its wall never mirrors a lamp above, so the lamp has a stand
            flat = mirrored[:, :2] @ (_LIGHT[:2] / np.linalg.norm(_LIGHT[:2]))
            lamp = np.maximum(lamp, np.maximum(flat / np.linalg.norm(mirrored[:, :2], axis=1), 0) ** 20)
        sky = np.clip(np.abs(mirrored[:, 2] + 0.05) * 1.35, 0, 1)
        base = (0.22 + 0.85 * sky)[:, None] * colour
        return base + (np.clip(0.95 * lamp + 0.3 * bevel, 0, 1))[:, None] * (1 - base)
    rim = np.clip((1 - facing) ** 1.6 * (solid.shape == "sphere") + 0.8 * bevel, 0, 1)
    body = behind * (0.52 + 0.48 * colour) * 0.72 + 0.26 * colour + 0.05  # glass: what is behind, tinted
    return body + (0.75 * rim + 0.9 * spot**30)[:, None] * (1 - body)


def _draw_ground(
    solids: list[Solid],
    camera: Camera,
    rays: np.ndarray,
    ground: Callable[[np.ndarray], np.ndarray] | None,
    samples: int,
) -> np.ndarray:
    """(high, wide, 3) picture of the bare ground with soft shadows; glass throws a faint one."""
    high, wide = rays.shape[:2]
    down = np.minimum(rays[..., 2:], -1e-3)  # a ray above the horizon meets the ground very far away
    feet = np.array(camera.position, np.float32) - rays / down * camera.position[2]
    light = np.ones((high, wide), np.float32)
    for solid in solids:
        around = corners(solid)
        window = _window(around - _LIGHT * (around[:, 2:] / _LIGHT[2]), camera, wide, high)  # where its shadow falls
        to_unit = solid.unframe
        starts = (feet[window] - np.array(solid.centre, np.float32)) @ to_unit
        shaded = np.isfinite(_enter(solid.shape, starts, _LIGHT @ to_unit))
        light_here = light[window]
        light_here[shaded] = np.minimum(light_here[shaded], 0.9 if solid.material == "glass" else 0.72)
    light = gaussian_filter(light, 0.004 * wide * samples / 2)
    away = np.linalg.norm(feet[..., :2] - np.array(camera.target[:2], np.float32), axis=-1)
    reach = np.linalg.norm(np.subtract(camera.position, camera.target))
    fade = 1 - 0.16 * np.clip(away / reach, 0, 1.5)
    colours = np.array(GROUND, np.float32) / 255 if ground is None else ground(feet[..., :2]).astype(np.float32)
    return (light * fade)[..., None] * colours

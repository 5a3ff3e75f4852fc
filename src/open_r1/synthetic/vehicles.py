"""Vehicles put together from solids: the out-of-domain objects of visual counting, after Super-CLEVR's five types.

Parts are given for a vehicle of half length 1 that drives along +x over the ground z = 0.
Longer than most files: it is mostly lists of parts.
"""

import math
from dataclasses import replace

from open_r1.synthetic.render import GROUND, Material, Solid, Vector

Colour = tuple[int, int, int]
_DARK = (38, 38, 42)  # tyres, windows, saddles: every vehicle's own colour is on the rest

# What a vehicle is called, and the sub-types that are drawn where the picture is large enough to tell them apart; the
# first is the one that stands for the type.
VEHICLES: dict[str, tuple[str, ...]] = {
    "car": ("sedan", "minivan"),
    "bus": ("regular", "double", "articulated"),
    "motorbike": ("chopper", "scooter"),
    "aeroplane": ("jet", "biplane"),
    "bicycle": ("road", "tandem"),
}


def vehicle(
    subtype: str, x: float, y: float, half_length: float, yaw: float, colour: Colour, material: Material
) -> list[Solid]:
    """The solids of a vehicle of `subtype` that stands at (x, y) and looks along `yaw` (radians)."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return [
        replace(
            part,
            centre=(
                x + half_length * (cos * part.centre[0] - sin * part.centre[1]),
                y + half_length * (sin * part.centre[0] + cos * part.centre[1]),
                half_length * part.centre[2],
            ),
            half=(half_length * part.half[0], half_length * part.half[1], half_length * part.half[2]),
            yaw=part.yaw + yaw,
        )
        for part in _PARTS[subtype](colour, material)
    ]


def _box(centre: Vector, half: Vector, colour: Colour = _DARK, material: Material = "rubber") -> Solid:
    return Solid("cube", centre, half, 0.0, colour, material)


def _egg(centre: Vector, half: Vector, colour: Colour, material: Material) -> Solid:
    return Solid("sphere", centre, half, 0.0, colour, material)


def _wheels(places: tuple[tuple[float, float], ...], radius: float, half_width: float, hub: Colour) -> list[Solid]:
    """Tyres with a `hub` disc that stands out a little on both sides; one in the ground's colour looks like spokes."""
    tyre, inner = (radius, radius, half_width), (radius * 0.68, radius * 0.68, half_width * 1.15)
    return [
        Solid("cylinder", (x, y, radius), half, 0.0, colour, "rubber", "y")
        for x, y in places
        for half, colour in ((tyre, _DARK), (inner, hub))
    ]


def _tube(
    start: tuple[float, float], end: tuple[float, float], radius: float, colour: Colour, material: Material
) -> Solid:
    """A rod in the middle plane from (x, z) `start` to (x, z) `end`."""
    dx, dz = end[0] - start[0], end[1] - start[1]
    centre = ((start[0] + end[0]) / 2, 0.0, (start[1] + end[1]) / 2)
    half = (radius, radius, math.hypot(dx, dz) / 2)
    return Solid("cylinder", centre, half, 0.0, colour, material, pitch=math.atan2(dx, dz))


def _bar(x: float, z: float, half_width: float, radius: float, colour: Colour = _DARK) -> Solid:
    return Solid("cylinder", (x, 0.0, z), (radius, radius, half_width), 0.0, colour, "rubber", "y")


_FOUR = ((0.62, 0.4), (0.62, -0.4), (-0.62, 0.4), (-0.62, -0.4))
_PALE = (150, 150, 150)


def _sedan(colour: Colour, material: Material) -> list[Solid]:
    return [
        _box((0, 0, 0.3), (1.0, 0.42, 0.17), colour, material),
        _box((-0.1, 0, 0.56), (0.54, 0.37, 0.12)),
        _box((-0.1, 0, 0.71), (0.46, 0.36, 0.05), colour, material),
        *_wheels(_FOUR, 0.21, 0.07, _PALE),
    ]


def _minivan(colour: Colour, material: Material) -> list[Solid]:
    return [
        _box((0, 0, 0.38), (1.0, 0.44, 0.25), colour, material),
        _box((-0.18, 0, 0.73), (0.8, 0.4, 0.12)),
        _box((-0.2, 0, 0.89), (0.76, 0.41, 0.05), colour, material),
        *_wheels(_FOUR, 0.21, 0.07, _PALE),
    ]


def _windows(x: float, z: float, half_length: float, half_width: float) -> list[Solid]:
    """A row of three dark panes on each side, and one in front."""
    step = 2 * half_length / 3
    panes = [_box((x + k * step, 0, z), (0.4 * step, half_width + 0.012, 0.1)) for k in (-1, 0, 1)]
    return [*panes, _box((x + half_length + 0.03, 0, z), (0.02, 0.8 * half_width, 0.1))]


def _bus(colour: Colour, material: Material) -> list[Solid]:
    wheels = _wheels(((0.6, 0.25), (0.6, -0.25), (-0.6, 0.25), (-0.6, -0.25)), 0.15, 0.07, _PALE)
    return [_box((0, 0, 0.42), (1.0, 0.28, 0.32), colour, material), *_windows(0, 0.54, 0.98, 0.28), *wheels]


def _double_bus(colour: Colour, material: Material) -> list[Solid]:
    wheels = _wheels(((0.5, 0.25), (0.5, -0.25), (-0.5, 0.25), (-0.5, -0.25)), 0.15, 0.07, _PALE)
    body = _box((0, 0, 0.58), (0.85, 0.28, 0.48), colour, material)
    return [body, *_windows(0, 0.45, 0.83, 0.28), *_windows(0, 0.85, 0.83, 0.28), *wheels]


def _articulated_bus(colour: Colour, material: Material) -> list[Solid]:
    wheels = _wheels(tuple((x, y) for x in (-0.75, -0.3, 0.6) for y in (-0.18, 0.18)), 0.11, 0.06, _PALE)
    halves = [_box((x, 0, 0.31), (0.46, 0.2, 0.23), colour, material) for x in (-0.54, 0.54)]
    panes = [pane for x in (-0.54, 0.54) for pane in _windows(x, 0.39, 0.43, 0.2)]
    return [*halves, _box((0, 0, 0.29), (0.09, 0.17, 0.2)), *panes, *wheels]


def _chopper(colour: Colour, material: Material) -> list[Solid]:
    return [
        *_wheels(((0.64, 0.0), (-0.64, 0.0)), 0.34, 0.11, _PALE),
        _box((-0.02, 0, 0.4), (0.32, 0.15, 0.17), colour, material),
        _egg((0.08, 0, 0.66), (0.36, 0.19, 0.17), colour, material),
        _box((-0.46, 0, 0.68), (0.3, 0.15, 0.06)),
        _egg((-0.66, 0, 0.62), (0.3, 0.13, 0.13), colour, material),
        _tube((0.64, 0.34), (0.38, 1.0), 0.06, colour, material),
        _bar(0.36, 1.0, 0.34, 0.05),
    ]


def _scooter(colour: Colour, material: Material) -> list[Solid]:
    shield = replace(_box((0.54, 0, 0.55), (0.06, 0.24, 0.36), colour, material), pitch=-0.3)
    return [
        *_wheels(((0.68, 0.0), (-0.6, 0.0)), 0.23, 0.1, _PALE),
        _box((0.1, 0, 0.24), (0.5, 0.2, 0.06), colour, material),
        _egg((-0.5, 0, 0.46), (0.44, 0.22, 0.26), colour, material),
        _box((-0.44, 0, 0.72), (0.36, 0.18, 0.06)),
        shield,
        _bar(0.4, 0.98, 0.32, 0.05),
    ]


def _jet(colour: Colour, material: Material) -> list[Solid]:
    wings = [replace(_box((-0.1, y, 0.36), (0.2, 0.5, 0.035), colour, material), yaw=y * 0.8) for y in (-0.5, 0.5)]
    engines = [Solid("cylinder", (0.1, y, 0.26), (0.1, 0.1, 0.2), 0.0, _PALE, "metal", "x") for y in (-0.4, 0.4)]
    return [
        _egg((0, 0, 0.42), (1.0, 0.19, 0.19), colour, material),
        *wings,
        *engines,
        _box((-0.84, 0, 0.72), (0.15, 0.035, 0.24), colour, material),
        _box((-0.84, 0, 0.48), (0.13, 0.4, 0.03), colour, material),
        _egg((0.74, 0, 0.5), (0.16, 0.12, 0.09), _DARK, "rubber"),
        *_wheels(((0.5, 0.0), (-0.1, 0.22), (-0.1, -0.22)), 0.1, 0.04, _DARK),
    ]


def _biplane(colour: Colour, material: Material) -> list[Solid]:
    struts = [_box((0.35, y, 0.55), (0.03, 0.03, 0.24)) for y in (-0.65, 0.65)]
    return [
        _egg((-0.05, 0, 0.44), (0.9, 0.19, 0.19), colour, material),
        _box((0.35, 0, 0.32), (0.22, 0.9, 0.035), colour, material),
        _box((0.35, 0, 0.8), (0.22, 0.9, 0.035), colour, material),
        *struts,
        _box((0.88, 0, 0.44), (0.03, 0.05, 0.34)),
        _box((-0.82, 0, 0.66), (0.14, 0.035, 0.2), colour, material),
        _box((-0.82, 0, 0.46), (0.13, 0.36, 0.03), colour, material),
        *_wheels(((0.45, 0.2), (0.45, -0.2)), 0.13, 0.05, _DARK),
    ]


def _bicycle(saddles: tuple[float, ...], colour: Colour, material: Material) -> list[Solid]:
    """A bicycle with a seat post and saddle at each x of `saddles`."""
    tubes = [((-0.6, 0.36), (-0.42, 0.86)), ((0.6, 0.36), (0.42, 0.92)), ((-0.42, 0.82), (0.46, 0.82))]
    tubes += [((-0.6, 0.36), (-0.1, 0.32)), ((-0.1, 0.32), (0.46, 0.8))]
    tubes += [((-0.1, 0.32), (x, 0.9)) for x in saddles]
    return [
        *_wheels(((0.6, 0.0), (-0.6, 0.0)), 0.37, 0.035, GROUND),
        *[_tube(start, end, 0.075, colour, material) for start, end in tubes],
        *[_box((x, 0, 0.93), (0.14, 0.09, 0.04)) for x in saddles],
        _bar(0.42, 0.98, 0.28, 0.045),
    ]


_PARTS = {
    "sedan": _sedan,
    "minivan": _minivan,
    "regular": _bus,
    "double": _double_bus,
    "articulated": _articulated_bus,
    "chopper": _chopper,
    "scooter": _scooter,
    "jet": _jet,
    "biplane": _biplane,
    "road": lambda colour, material: _bicycle((-0.38,), colour, material),
    "tandem": lambda colour, material: _bicycle((-0.45, 0.1), colour, material),
}

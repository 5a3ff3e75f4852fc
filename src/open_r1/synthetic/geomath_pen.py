"""The pen that draws the synthetic structure-perception figures: lines, discs, labels, marked angles.

Lengths are in units of 1/84 of the picture's height, y pointing down, so that one layout serves both sizes; a tiny
picture is 84 pixels high and its nine 28 x 28-pixel blocks are the visual tokens of a tiny Qwen2-VL.
"""

import functools
import math
import random
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from open_r1.synthetic.sample import Size

Point = tuple[float, float]

PIXELS: dict[str, tuple[int, int]] = {"tiny": (84, 84), "full": (320, 240)}
SUPERSAMPLING = 4
INK = ((20, 60, 160), (0, 110, 150), (30, 30, 30), (120, 30, 30))  # of lines; labels are always black
LABEL = (0, 0, 0)


class Pen:
    """Draws lines and labels on one picture; `em` is the label's font size and `tiny` says which size it is."""

    def __init__(self, size: Size, style: int):
        self.tiny = size == "tiny"
        self.pixels = PIXELS[size]
        self.width = 84 * self.pixels[0] / self.pixels[1]
        self.em = 17.0 if self.tiny else 7.0
        self.rng = random.Random(style)
        self.ink = self.rng.choice(INK)
        spread = 1.5 if self.tiny else 2.5
        self.shift = (self.rng.uniform(-spread, spread), self.rng.uniform(-spread, spread))
        self.scale = SUPERSAMPLING * self.pixels[1] / 84
        wide, high = self.pixels
        self.image = Image.new("RGB", (SUPERSAMPLING * wide, SUPERSAMPLING * high), "white")
        self._draw = ImageDraw.Draw(self.image)

    def _at(self, point: Point) -> Point:
        return (point[0] + self.shift[0]) * self.scale, (point[1] + self.shift[1]) * self.scale

    def line(self, *points: Point, closed: bool = False, stroke: float | None = None) -> None:
        """Draw a line through `points`, `stroke` units thick."""
        width = round((stroke or (2.6 if self.tiny else 0.8)) * self.scale)
        path = [self._at(point) for point in (*points, *(points[:2] if closed else ()))]
        self._draw.line(path, fill=self.ink, width=width, joint="curve")

    def fill(self, *points: Point, colour: tuple[int, int, int]) -> None:
        """Fill the polygon through `points`."""
        self._draw.polygon([self._at(point) for point in points], fill=colour)

    def disc(self, centre: Point, radius: float, colour: tuple[int, int, int] | None = None) -> None:
        """Fill a disc, or draw a circle where no colour is given."""
        x, y = self._at(centre)
        reach = radius * self.scale
        box = (x - reach, y - reach, x + reach, y + reach)
        if colour:
            self._draw.ellipse(box, fill=colour)
        else:
            self._draw.ellipse(box, outline=self.ink, width=round((2.6 if self.tiny else 0.8) * self.scale))

    def label(self, centre: Point, text: str, scale: float = 1.0) -> None:
        """Write `text` centred at `centre`, `scale` times the usual size, on a thin white edge."""
        font = load_font(round(self.em * scale * self.scale), bold=self.tiny)
        left, _, right, _ = font.getbbox(text)
        _, top, _, bottom = font.getbbox("0")  # one base line for all words in a row
        x, y = self._at(centre)
        place = (x - (left + right) / 2, y - (top + bottom) / 2)
        edge = round(0.08 * self.em * self.scale)
        self._draw.text(place, text, fill=LABEL, font=font, stroke_width=edge, stroke_fill="white")

    def corner(self, vertex: Point, one: Point, other: Point, text: str) -> None:
        """Mark the angle at `vertex` between the rays to `one` and `other` (below 180 degrees) with `text`."""
        first, second = (math.atan2(vertex[1] - end[1], end[0] - vertex[0]) for end in (one, other))
        turn = (second - first + math.pi) % math.tau - math.pi
        middle = first + turn / 2
        reach = (0.8 if self.tiny else 1.05) * self.em / math.sin(abs(turn) / 2)
        reach = max(reach, 1.1 * self.em if self.tiny else 1.9 * self.em)
        if not self.tiny:
            x, y = self._at(vertex)
            arc = 0.9 * self.em * self.scale
            start, end = sorted((-math.degrees(first), -math.degrees(first + turn)))
            self._draw.arc((x - arc, y - arc, x + arc, y + arc), start, end, fill=self.ink, width=round(self.scale / 2))
        if text:
            self.label((vertex[0] + reach * math.cos(middle), vertex[1] - reach * math.sin(middle)), text)

    def finish(self) -> Image.Image:
        """Return the picture at its own size."""
        return self.image.resize(self.pixels, Image.Resampling.BOX)


@functools.cache
def load_font(pixels: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, `pixels` high, as matplotlib carries it: pictures are the same on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), pixels)

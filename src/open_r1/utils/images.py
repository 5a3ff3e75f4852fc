"""One picture, one view: the only place that opens a picture for training, evaluation, external models or the gallery.

Whoever looks sees the same RGB pixels: turned upright as EXIF data say, transparency laid on white, other colour spaces
converted, and more than 8 bits a channel scaled by the range of the picture's own values.
"""

import functools
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image, ImageCms, ImageOps

from open_r1.schema import UserError

# What Pillow's decoders raise on damaged files; anything else is a fault of the program and keeps its traceback.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

# Pillow refuses above twice this number of pixels; between the two it only warns, which says nothing to a user here.
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

DEEP = ("I", "F")  # first letters of modes with more than 8 bits a channel: I, I;16, I;16B, F, ...
LYING = (5, 6, 7, 8)  # EXIF orientations whose width and height change places
TOPS = (255, 2**16 - 1, 2**32 - 1)  # white in pictures of 8, 16 and 32 bits


class Picture(NamedTuple):
    """A picture as everyone sees it."""

    image: Image.Image  # RGB, 8 bits a channel, upright, opaque
    format: str  # the file's: "PNG", "JPEG", ...; "" where there is no file
    changes: tuple[str, ...]  # what had to be changed to see it so, for example "turned upright (EXIF orientation 6)"


def open_picture(path: Path) -> Picture:
    """Open and decode a picture.

    Raises:
        UserError: the file is no picture, is damaged, or has more than MOST_PIXELS pixels.
    """
    with _opened(path) as file:
        return view(file)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture in pixels, from the file's header alone; raises as `open_picture`."""
    with _opened(path) as file:
        width, height = file.size
        lying = _orientation(file) in LYING and file.format != "TIFF"  # whose size Pillow gives upright
        return (height, width) if lying else (width, height)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture's file; what goes wrong there or in the block becomes one line with the file's name."""
    try:
        # Not by its name: Pillow would map a grey TIFF into memory, and mix up width and height as it turns it.
        with path.open("rb") as opened, Image.open(opened) as file:
            yield file
    except Image.DecompressionBombError:
        rule = f"at most {MOST_PIXELS:,} pixels are decoded"
        raise UserError(f"image '{path.name}' is too large; {rule}; scale it down") from None
    except Image.UnidentifiedImageError:
        why = "no format that Pillow reads"
        raise UserError(f"image '{path.name}' cannot be decoded ({why}); convert it to PNG or copy it anew") from None
    except DECODE_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"image '{path.name}' cannot be decoded ({reason}); copy it anew") from error


def view(image: Image.Image) -> Picture:
    """Return an opened picture as everyone sees it; may raise DECODE_ERRORS where it is decoded only now.

    Of several frames or pages it is the first.
    """
    changes = []
    if image.format != "MPO" and getattr(image, "is_animated", False):  # an MPO is a photograph with its previews
        changes.append("first frame taken (of several)")
    orientation, format_ = _orientation(image), image.format or ""
    image.load()
    turned_already = _orientation(image) != orientation  # Pillow turns a TIFF when it is decoded
    image, converted = _eight_bits(image) if image.mode.startswith(DEEP) else _known_to_rgb(image)
    changes += converted
    if image.has_transparency_data:
        image, laid = _on_white(image.convert("RGBA"))
        changes += laid
    image = image.convert("RGB")
    if orientation in (2, 3, 4, *LYING):
        changes.append(f"turned upright (EXIF orientation {orientation})")
        image = image if turned_already else _turned(image, orientation)
    return Picture(image, "JPEG" if format_ == "MPO" else format_, tuple(changes))


def _orientation(image: Image.Image) -> object:
    """The EXIF orientation; 1, upright, where the file has none or its EXIF data cannot be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS:
        return 1


def _turned(image: Image.Image, orientation: object) -> Image.Image:
    """Turn pixels upright; what else the EXIF data hold, and whether it can be written, does not matter here."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.info = {"exif": exif.tobytes()}
    return ImageOps.exif_transpose(image)


def _known_to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Convert what is neither grey, palette nor RGB; Pillow's own conversion where it has one."""
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _lab_to_rgb()), ["LAB made RGB"]  # pyright: ignore[reportReturnType]
    if image.mode in ("CMYK", "YCbCr", "HSV"):
        return image.convert("RGB"), [f"{image.mode} made RGB"]
    return image, []


@functools.cache
def _lab_to_rgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _eight_bits(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Scale a picture of 16 or 32 bits, or of floats, so that its darkest value is 0 and its brightest 255.

    One whose pixels are all equal has no range; it is placed between 0 and white of the fewest bits that hold its value
    (1 counts as white of floats).
    """
    import numpy as np  # only here: a run without such pictures does without it

    values_HW = np.asarray(image).astype(np.float64)
    finite = values_HW[np.isfinite(values_HW)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    change = f"scaled to 8 bits a channel ({image.mode}, {low:g} to {high:g})"
    if low == high:
        tops = (1, *TOPS) if image.mode == "F" else TOPS
        low, high = 0.0, float(next((top for top in tops if high <= top), high))
    shown_HW = np.nan_to_num(values_HW, nan=low, posinf=high, neginf=low).clip(low, high)
    grey = Image.fromarray(np.rint((shown_HW - low) / (high - low) * 255).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # a 16-bit PNG may name one value that is transparent
        grey = Image.merge("LA", (grey, Image.fromarray(np.where(values_HW == clear, 0, 255).astype(np.uint8))))
    return grey, [change]


def _on_white(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Lay RGBA on white; nothing changes where every pixel is opaque."""
    if image.getchannel("A").getextrema() == (255, 255):
        return image, []
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white, ["laid on white (transparency)"]

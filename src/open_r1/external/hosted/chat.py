"""A request as a chat API wants it: the same text, and the pictures as base64 data URLs.

A picture is read and encoded once, however many models and calls it goes to. It goes out as the policy sees it
(utils/images.py): as the very bytes of its file where nothing had to be changed and it has at most `max_pixels`, else
encoded anew without loss; a larger one is scaled down, as it is for the policy.
"""

import base64
import functools
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from open_r1.external.provider import Request
from open_r1.utils.images import Picture, open_picture, picture_size, view

KEPT = 256  # encoded pictures; at 480k pixels a photograph takes about .1 to .5 MB
WEB_FORMATS = ("PNG", "JPEG", "WEBP")  # what every vision API reads
QUALITY = 95  # of a photograph that is scaled down, out of 100


class Chat(NamedTuple):
    """One prompt, ready to be sent any number of times."""

    messages: list[dict[str, Any]]  # in OpenAI's form
    wire: bytes  # the same as JSON
    text: str  # of all turns, for counting tokens
    sizes: list[tuple[int, int]]  # width and height of the pictures in pixels


class _Encoded(NamedTuple):
    url: str
    size: tuple[int, int]


def chat(request: Request, max_pixels: int) -> Chat:
    """Build the messages; reads and may scale pictures, so it is run in a thread."""
    opened = iter(request.images)
    sizes: list[tuple[int, int]] = []
    texts: list[str] = []
    messages: list[dict[str, Any]] = []

    def part(piece: Mapping[str, Any]) -> dict[str, Any]:
        if piece["type"] != "image":
            texts.append(piece["text"])
            return dict(piece)
        given = next(opened, None)
        picture = _file(Path(piece["image"]), max_pixels) if given is None else encode(view(given), max_pixels)
        sizes.append(picture.size)
        return {"type": "image_url", "image_url": {"url": picture.url}}

    for message in request.messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        messages.append({"role": message["role"], "content": [part(piece) for piece in parts]})
    return Chat(messages, json.dumps(messages).encode(), "".join(texts), sizes)


def answered(asked: Chat, text: str) -> Chat:
    """The same with an assistant's turn at its end; the pictures are not encoded again."""
    turn = {"role": "assistant", "content": text}
    wire = asked.wire[:-1] + b", " + json.dumps(turn).encode() + b"]"
    return asked._replace(messages=[*asked.messages, turn], wire=wire)


def prompt_sizes(request: Request, max_pixels: int) -> list[tuple[int, int]]:
    """Width and height of each picture as it will be sent, from the files' headers alone."""
    files = [Path(part["image"]) for part in _parts(request) if part["type"] == "image"]
    given = [image.size for image in request.images]
    return [_scaled(size, max_pixels) for size in (given or [_header(path) for path in files])]


def prompt_text(request: Request) -> str:
    """The text of all turns."""
    return "".join(part["text"] for part in _parts(request) if part["type"] == "text")


def _parts(request: Request) -> list[Mapping[str, Any]]:
    contents = [message["content"] for message in request.messages]
    texts = [[{"type": "text", "text": content}] if isinstance(content, str) else content for content in contents]
    return [part for content in texts for part in content]


def encode(picture: Picture, max_pixels: int) -> _Encoded:
    """Encode a picture: scaled down where it is too large, else to the last bit."""
    image, file = picture.image, io.BytesIO()
    size = _scaled(image.size, max_pixels)
    if image.size == size:
        image.save(file, format=(kind := "PNG"))
    else:
        kind = picture.format if picture.format in WEB_FORMATS else "PNG"
        image.resize(size, Image.Resampling.BICUBIC).save(file, format=kind, quality=QUALITY)
    return _Encoded(_data_url(kind, file.getvalue()), size)


def _file(path: Path, max_pixels: int) -> _Encoded:
    stat = path.stat()
    return _encoded(path, stat.st_size, stat.st_mtime_ns, max_pixels)


@functools.lru_cache(maxsize=KEPT)
def _encoded(path: Path, size: int, changed: int, max_pixels: int) -> _Encoded:
    picture = open_picture(path)
    shown = picture.image.size
    if not picture.changes and picture.format in WEB_FORMATS and _scaled(shown, max_pixels) == shown:
        return _Encoded(_data_url(picture.format, path.read_bytes()), shown)
    return encode(picture, max_pixels)


@functools.lru_cache(maxsize=2**14)
def _header(path: Path) -> tuple[int, int]:
    return picture_size(path)


def _scaled(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    width, height = size
    shrink = math.sqrt(max_pixels / (width * height))
    return size if shrink >= 1 else (max(1, int(width * shrink)), max(1, int(height * shrink)))


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"

"""A request as a chat API wants it: the same text, and the pictures as base64 data URLs.

A picture is read and encoded once, however many models and calls it goes to. One that has at most `max_pixels` goes out
as the very bytes of its file; a larger one is scaled down, as it is for the policy.
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

KEPT = 256  # encoded pictures; at 480k pixels a photograph takes about .1 to .5 MB
WEB_FORMATS = ("PNG", "JPEG", "WEBP")  # what every vision API reads


class Chat(NamedTuple):
    """One prompt, ready to be sent any number of times."""

    messages: list[dict[str, Any]]  # in OpenAI's form
    wire: bytes  # the same as JSON
    text: str  # of all turns, for counting tokens
    sizes: list[tuple[int, int]]  # width and height of the pictures in pixels


class _Picture(NamedTuple):
    url: str
    size: tuple[int, int]


def chat(request: Request, max_pixels: int) -> Chat:
    """Build the messages; reads and may scale pictures, so it is run in a thread."""
    opened = iter(request.images)
    sizes, texts, messages = [], [], []

    def part(piece: Mapping[str, Any]) -> dict[str, Any]:
        if piece["type"] != "image":
            texts.append(piece["text"])
            return dict(piece)
        given = next(opened, None)
        picture = _file(Path(piece["image"]), max_pixels) if given is None else encode(given, max_pixels)
        sizes.append(picture.size)
        return {"type": "image_url", "image_url": {"url": picture.url}}

    for message in request.messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        messages.append({"role": message["role"], "content": [part(piece) for piece in parts]})
    return Chat(messages, json.dumps(messages).encode(), "".join(texts), sizes)


def answered(told: Chat, text: str) -> Chat:
    """The same with an assistant's turn at its end; the pictures are not encoded again."""
    turn = {"role": "assistant", "content": text}
    wire = told.wire[:-1] + b", " + json.dumps(turn).encode() + b"]"
    return told._replace(messages=[*told.messages, turn], wire=wire)


def picture_sizes(request: Request, max_pixels: int) -> list[tuple[int, int]]:
    """Width and height of each picture as it will be sent, from the files' headers alone."""
    pieces = [piece for message in request.messages for piece in message["content"] if isinstance(piece, Mapping)]
    files = [Path(piece["image"]) for piece in pieces if piece["type"] == "image"]
    given = [image.size for image in request.images]
    return [_scaled(size, max_pixels) for size in (given or [_header(path) for path in files])]


def encode(image: Image.Image, max_pixels: int) -> _Picture:
    """Encode an opened picture, scaled down where it is too large."""
    size, file = _scaled(image.size, max_pixels), io.BytesIO()
    kind = image.format if image.format in WEB_FORMATS else "PNG"
    (image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)).save(file, format=kind)
    return _Picture(_data_url(kind, file.getvalue()), size)


def _file(path: Path, max_pixels: int) -> _Picture:
    stat = path.stat()
    return _encoded(path, stat.st_size, stat.st_mtime_ns, max_pixels)


@functools.lru_cache(maxsize=KEPT)
def _encoded(path: Path, size: int, changed: int, max_pixels: int) -> _Picture:
    with Image.open(path) as image:
        if image.format in WEB_FORMATS and _scaled(image.size, max_pixels) == image.size:
            return _Picture(_data_url(image.format or "", path.read_bytes()), image.size)
        return encode(image, max_pixels)


@functools.lru_cache(maxsize=2**14)
def _header(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _scaled(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    width, height = size
    shrink = math.sqrt(max_pixels / (width * height))
    return size if shrink >= 1 else (max(1, int(width * shrink)), max(1, int(height * shrink)))


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"

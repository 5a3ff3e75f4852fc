"""One picture, one view: whatever the file, training, evaluation and every external model see the same RGB pixels."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from open_r1.cli.check_data import main as check_data
from open_r1.data.prompts import conversations, messages, to_dataset
from open_r1.evaluation.backends import vllm_part
from open_r1.external.hosted.chat import chat, prompt_sizes
from open_r1.external.provider import Request
from open_r1.schema import Row, UserError
from open_r1.tasks import get_task
from open_r1.utils import images as images_module
from open_r1.utils.images import open_picture, picture_size, view

TASK = get_task("clevr_math")
RED, BLUE, WHITE, BLACK = [255, 0, 0], [0, 0, 255], [255] * 3, [0] * 3

# 40 x 24, black, a red corner at the upper left and a blue one at the lower right.
SCENE = np.zeros((24, 40, 3), np.uint8)
SCENE[:8, :8], SCENE[-8:, -8:] = RED, BLUE
CLEAR = np.dstack([SCENE, np.full((24, 40), 255, np.uint8)])
CLEAR[8:16, :, 3] = 0  # a transparent band across the middle
RAMP = np.tile(np.linspace(0, 1, 40), (24, 1))  # from black at the left to white at the right


def scene(mode: str = "RGB") -> Image.Image:
    if mode == "LAB":
        to_lab = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        return ImageCms.profileToProfile(Image.fromarray(SCENE), *to_lab, outputMode="LAB")
    return Image.fromarray(SCENE).convert(mode)


def clear(mode: str = "RGBA") -> Image.Image:
    return Image.fromarray(CLEAR).convert(mode)


def turned(orientation: int) -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif.tobytes()}


def clear_palette() -> Image.Image:
    """Colour 0 of the palette is transparent, and stands in the middle."""
    image = Image.fromarray(np.where(CLEAR[..., 3] == 0, 0, 1).astype(np.uint8))
    image.putpalette([0, 255, 0, 0, 0, 0])
    return image


def deep_png(values: np.ndarray, clear: int) -> bytes:
    """A 16-bit grey PNG that names one value as transparent, which Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"tRNS", struct.pack(">H", clear)), chunk(b"IDAT", zlib.compress(lines))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def shown(picture: np.ndarray, orientation: int = 1) -> np.ndarray:
    """The array as a viewer shows it at an EXIF orientation (the table in the EXIF standard)."""
    upright = {1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
               6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}  # fmt: skip
    return upright[orientation](picture)


def ramp(low: float, high: float) -> np.ndarray:
    return low + RAMP * (high - low)


GREY_RAMP = np.repeat(np.rint(RAMP * 255)[..., None], 3, axis=2)
BANDED = np.where(CLEAR[..., 3:] == 0, WHITE, SCENE)
BLACK_BANDED = np.where(CLEAR[..., 3:] == 0, WHITE, np.zeros_like(SCENE))
NOT_BLACK = np.where((SCENE == BLACK).all(2, keepdims=True), WHITE, SCENE)
GREY = np.repeat(np.asarray(scene("L"))[..., None], 3, axis=2)
EXACT, LOSSY = 1, 12  # most that a pixel may differ in the mean over the picture

Save = Callable[[Path], object]
Case = tuple[Save, np.ndarray, float, str]


def saved(image: Image.Image, expected: np.ndarray, change: str = "", most: float = EXACT, **options) -> Case:
    return lambda path: image.save(path, **options), expected, most, change


FILES: dict[str, Case] = {
    "rgb.png": saved(scene(), SCENE),
    "rgb.jpg": saved(scene(), SCENE, most=LOSSY, quality=100, subsampling=0),
    "rgb.webp": saved(scene(), SCENE, lossless=True),
    "rgb.tif": saved(scene(), SCENE),
    "rgb.bmp": saved(scene(), SCENE),
    "rgb.ppm": saved(scene(), SCENE),
    "rgb.tga": saved(scene(), SCENE),
    "rgb.gif": saved(scene(), SCENE),
    "rgb.jp2": saved(scene(), SCENE, irreversible=False),
    "grey.png": saved(scene("L"), GREY),
    "grey.jpg": saved(scene("L"), GREY, most=LOSSY),
    "bits.png": saved(scene("L").point(lambda v: 255 * (v > 50), "1"), np.where(GREY > 50, WHITE, BLACK)),
    "palette.png": saved(scene("P"), SCENE),
    "opaque.png": saved(scene("RGBA"), SCENE),
    "clear.png": saved(clear(), BANDED, "laid on white"),
    "clear.webp": saved(clear(), BANDED, "laid on white", lossless=True),
    "clear.tif": saved(clear(), BANDED, "laid on white"),
    "clear-grey.png": saved(clear("LA"), np.where(CLEAR[..., 3:] == 0, WHITE, GREY), "laid on white"),
    "clear-palette.png": saved(clear_palette(), BLACK_BANDED, "laid on white", transparency=0),
    "clear-palette.gif": saved(clear_palette(), BLACK_BANDED, "laid on white", transparency=0),
    "clear-colour.png": saved(scene(), NOT_BLACK, "laid on white", transparency=(0, 0, 0)),
    "cmyk.tif": saved(scene("CMYK"), SCENE, "CMYK made RGB"),
    "cmyk.jpg": saved(scene("CMYK"), SCENE, "CMYK made RGB", most=LOSSY),
    "ycbcr.tif": saved(scene("YCbCr"), SCENE, "YCbCr made RGB"),
    "lab.tif": saved(scene("LAB"), SCENE, "LAB made RGB", most=LOSSY),
    "sixteen.png": saved(Image.fromarray(ramp(0, 65535).astype(np.uint16)), GREY_RAMP, "scaled to 8 bits a channel"),
    "twelve-bits.png": saved(Image.fromarray(ramp(0, 4095).astype(np.uint16)), GREY_RAMP, "scaled to 8 bits a channel"),
    "sixteen.tif": saved(Image.fromarray(ramp(100, 9000).astype(">u2")), GREY_RAMP, "scaled to 8 bits a channel"),
    "integers.tif": saved(Image.fromarray(ramp(-9e5, 9e5).astype(np.int32)), GREY_RAMP, "scaled to 8 bits a channel"),
    "floats.tif": saved(Image.fromarray(ramp(0, 1).astype(np.float32)), GREY_RAMP, "scaled to 8 bits a channel"),
    "heights.tif": saved(Image.fromarray(ramp(-3, 80).astype(np.float32)), GREY_RAMP, "scaled to 8 bits a channel"),
    "sixteen-clear.png": (
        lambda path: path.write_bytes(deep_png(ramp(0, 65535), clear=0)),
        np.where(RAMP[..., None] == 0, WHITE, GREY_RAMP), EXACT, "laid on white",
    ),
    "frames.gif": saved(scene(), SCENE, "first frame taken", save_all=True, append_images=[clear_palette()]),
    "frames.png": saved(scene(), SCENE, "first frame taken", save_all=True, append_images=[Image.new("RGB", (40, 24))]),
    "pages.tif": saved(scene(), SCENE, "first frame taken", save_all=True, append_images=[scene("L")]),
    **{
        f"turned{k}.{kind}": saved(scene(), shown(SCENE, k), "turned upright", LOSSY, quality=100, **turned(k))
        for kind in ("jpg", "png", "webp", "tif")
        for k in (2, 3, 4, 5, 6, 7, 8)
    },
}  # fmt: skip
FILES["turned6-clear.png"] = saved(clear(), shown(BANDED, 6), "laid on white", **turned(6))
FILES |= {f"turned{k}-grey.tif": saved(scene("L"), shown(GREY, k), "turned upright", **turned(k)) for k in (2, 6, 8)}
FILES["turned8-sixteen.tif"] = saved(
    Image.fromarray(ramp(0, 9000).astype(np.uint16)), shown(GREY_RAMP, 8), "scaled to 8 bits a channel", **turned(8)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, (save, *_) in FILES.items():
        save(folder / name)
    return folder


def row(path: Path) -> Row:
    return Row(path.name, "clevr_math", (path,), "How many?", "4")


def sent(path: Path, max_pixels: int = 480_000) -> Image.Image:
    """The picture that goes over the wire to an external model, decoded as its server decodes it."""
    (turn,) = chat(Request(row(path), messages(row(path), TASK)), max_pixels).messages
    image = Image.open(io.BytesIO(base64.b64decode(turn["content"][0]["image_url"]["url"].split(",")[1])))
    assert image.format in ("PNG", "JPEG", "WEBP") and image.getexif().get(0x0112, 1) == 1
    return image.convert("RGB")


@pytest.mark.parametrize("name", FILES)
def test_training_evaluation_and_external_models_see_the_same_pixels_of_every_file(folder, name):
    _, expected, most, change = FILES[name]
    path = folder / name
    picture = open_picture(path)
    assert picture.image.mode == "RGB"
    pixels = np.asarray(picture.image).astype(int)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < most
    assert change in "; ".join(picture.changes) if change else picture.changes == ()
    (trained,) = to_dataset([row(path)], TASK)[0]["images"]
    (turn,) = conversations([row(path)], TASK, "reasoning")[0]
    (vllm_turn,) = conversations([row(path)], TASK, "reasoning", vllm_part)[0]
    for other in (trained, turn["content"][0]["image"], vllm_turn["content"][0]["image_pil"], sent(path)):
        assert np.array_equal(np.asarray(other), pixels)
    assert picture_size(path) == picture.image.size
    assert prompt_sizes(Request(row(path), messages(row(path), TASK)), 480_000) == [picture.image.size]


def test_check_data_names_every_picture_that_it_had_to_change(folder, capsys):
    rows = [{"id": name, "image": name, "problem": "p", "answer": "4"} for name in FILES]
    (folder / "rows.json").write_text(json.dumps(rows))
    assert check_data(["--data_path", str(folder / "rows.json"), "--task", "clevr_math"]) == 0
    changed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  changed  ")]
    assert any(line.startswith("  changed  33 turned upright: turned2.jpg (EXIF orientation 2), ") for line in changed)
    assert any("twelve-bits.png (I;16, 0 to 4095)" in line for line in changed)
    assert any(line.startswith("  changed  3 first frame taken: frames.gif (of several), ") for line in changed)
    whole = [name for name, (*_, change) in FILES.items() if not change]
    assert not any(f" {name}" in line for line in changed for name in whole)


def test_what_needs_no_change_goes_out_as_the_very_bytes_of_its_file_and_the_rest_without_loss(folder):
    def url(name: str) -> str:
        (turn,) = chat(Request(row(folder / name), messages(row(folder / name), TASK)), 480_000).messages
        return turn["content"][0]["image_url"]["url"]

    for name, kind in (("rgb.png", "png"), ("rgb.jpg", "jpeg"), ("rgb.webp", "webp"), ("opaque.png", "png")):
        assert url(name) == f"data:image/{kind};base64," + base64.b64encode((folder / name).read_bytes()).decode()
    assert url("turned6.jpg").startswith("data:image/png;")
    assert url("cmyk.jpg").startswith("data:image/png;")


def test_a_turned_photograph_is_scaled_down_upright(tmp_path):
    Image.fromarray(np.kron(SCENE, np.ones((20, 20, 1), np.uint8))).save(tmp_path / "a.jpg", **turned(6))
    assert picture_size(tmp_path / "a.jpg") == (480, 800)
    request = Request(row(tmp_path / "a.jpg"), messages(row(tmp_path / "a.jpg"), TASK))
    small = sent(tmp_path / "a.jpg", max_pixels=960)
    assert small.size == (24, 40) and prompt_sizes(request, 960) == [(24, 40)]
    assert np.abs(np.asarray(small).astype(int) - shown(SCENE, 6)).mean() < LOSSY


def test_a_picture_of_one_value_keeps_its_brightness_and_what_is_no_number_is_black():
    def grey(values, kind) -> list[int]:
        return np.asarray(view(Image.fromarray(np.array([values], kind))).image)[0, :, 0].tolist()

    assert grey([65535, 65535], np.uint16) == [255, 255]
    assert grey([200, 200], np.int32) == [200, 200]
    assert grey([0.5, 0.5], np.float32) == [128, 128]
    assert grey([np.nan, np.inf, 1, 3], np.float32) == [0, 255, 0, 255]
    assert grey([np.nan, np.nan], np.float32) == [0, 0]


def test_a_data_set_that_is_shuffled_or_mapped_still_opens_pictures_our_way(folder):
    dataset = to_dataset([row(folder / "clear.png")] * 2, TASK)
    for copy in (dataset.shuffle(seed=0), dataset.select([0]), dataset.map(lambda row: {"more": 1})):
        assert np.array_equal(np.asarray(copy[0]["images"][0]), BANDED)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_data_do_not_make_a_picture_bad(tmp_path):
    scene().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    scene().save(tmp_path / "b.png", exif=b"no EXIF data at all")
    assert open_picture(tmp_path / "a.jpg").changes == open_picture(tmp_path / "b.png").changes == ()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_above_the_decoder_s_limit_is_named_with_the_limit(tmp_path, monkeypatch):
    scene().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(images_module, "MOST_PIXELS", 200)
    with pytest.raises(UserError, match=r"^image 'a\.png' is too large; at most 200 pixels are decoded; scale"):
        open_picture(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert open_picture(tmp_path / "a.png").image.size == (40, 24)  # Pillow warns only, and so the picture is taken


@pytest.mark.parametrize("reader", ["dataset", "conversations", "chat", "size"])
def test_a_file_that_is_no_picture_is_one_line_for_everyone(tmp_path, reader):
    (tmp_path / "a.png").write_bytes(b"no picture")
    bad = row(tmp_path / "a.png")
    readers = {
        "dataset": lambda: to_dataset([bad], TASK)[0],
        "conversations": lambda: conversations([bad], TASK, "reasoning"),
        "chat": lambda: chat(Request(bad, messages(bad, TASK)), 1000),
        "size": lambda: picture_size(tmp_path / "a.png"),
    }
    with pytest.raises(UserError, match=r"^image 'a\.png' cannot be decoded \(no format that Pillow reads\); convert"):
        readers[reader]()


def test_the_table_of_orientations_is_pillow_s():
    for k in range(2, 9):
        image = scene()
        image.info.update(turned(k))
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(image)), shown(SCENE, k))

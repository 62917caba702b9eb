"""Pictures as the application keeps them: sizes, borders, modes, and what is refused."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from bookpipe.targets.mybookshelf2 import cover_images
from bookpipe.targets.mybookshelf2.cover_images import BadImageError, fit, is_jpeg, render, trim

Colour = tuple[int, int, int]
WHITE, RED, BLUE = (255, 255, 255), (200, 20, 20), (20, 20, 200)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    assert (image.format, image.mode) == ("JPEG", "RGB")
    return image


def quarters(size: tuple[int, int], left: Colour = RED, right: Colour = BLUE) -> Image.Image:
    """The one colour left above and right below, the other in the other two quarters: nothing of it is border."""
    image = Image.new("RGB", size, left)
    middle = size[0] // 2, size[1] // 2
    image.paste(right, (middle[0], 0, size[0], middle[1]))
    image.paste(right, (0, middle[1], middle[0], size[1]))
    return image


def bordered(size: tuple[int, int], border: int, colour: Colour = WHITE) -> Image.Image:
    image = Image.new("RGB", (size[0] + 2 * border, size[1] + 2 * border), colour)
    image.paste(quarters(size), (border, border))
    return image


def near(one: object, other: Colour, by: int) -> bool:
    assert isinstance(one, tuple)
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("size", "cover", "thumbnail"),
    [
        ((600, 900), (301, 452), (93, 140)),
        ((700, 960), (320, 439), (100, 137)),  # as the application's own, seen live
        ((320, 452), (320, 452), (99, 140)),
        ((32, 45), (320, 450), (100, 140)),  # upwards, too
        ((900, 600), (320, 213), (100, 67)),
        ((4, 3000), (1, 452), (1, 140)),
        ((3000, 4), (320, 1), (100, 1)),
        ((2, 2), (320, 320), (100, 100)),
    ],
)
def test_a_cover_and_its_thumbnail_fit_and_keep_the_ratio(
    size: tuple[int, int], cover: tuple[int, int], thumbnail: tuple[int, int]
) -> None:
    images = render(encoded(quarters(size)))
    assert decoded(images.cover).size == cover
    assert decoded(images.thumbnail).size == thumbnail


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_every_size_fits_and_touches_a_side(width: int, height: int) -> None:
    found = fit(Image.new("RGB", (width, height)), (100, 140))
    assert found.width == 100 or found.height == 140
    assert 1 <= found.width <= 100 and 1 <= found.height <= 140
    exact = min(100 / width, 140 / height)
    assert abs(found.width - width * exact) <= 1 and abs(found.height - height * exact) <= 1


# Borders


@pytest.mark.parametrize("colour", [WHITE, (0, 0, 0), (250, 245, 240)])
def test_borders_of_one_colour_are_trimmed(colour: Colour) -> None:
    assert trim(bordered((60, 90), 17, colour)).size == (60, 90)


def test_a_border_may_vary_by_seven_percent_and_no_more() -> None:
    for level, trimmed in ((255 - 17, True), (255 - 19, False)):
        image = bordered((60, 90), 10)
        ImageDraw.Draw(image).line((0, 3, image.width, 3), fill=(level, level, level))
        assert (trim(image).size == (60, 90)) is trimmed


def test_a_picture_of_one_colour_is_left_whole() -> None:
    assert trim(Image.new("RGB", (30, 40), RED)).size == (30, 40)
    assert decoded(render(encoded(Image.new("RGB", (30, 40), RED))).cover).size == (320, 427)


def nearly(one: Colour, other: Colour) -> bool:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) <= 3 * (0.07 * 255) ** 2


def reference_trim(image: Image.Image) -> tuple[int, int]:
    """ImageMagick's rule, pixel by pixel: left and upper bound against the upper left corner, right against the upper
    right one, lower against the lower left one."""
    w, h = image.size
    pixels: dict[tuple[int, int], Any] = {(x, y): image.getpixel((x, y)) for x in range(w) for y in range(h)}
    others = {corner: [at for at, p in pixels.items() if not nearly(p, pixels[corner])]
              for corner in ((0, 0), (w - 1, 0), (0, h - 1))}  # fmt: skip
    if not all(others.values()):
        return image.size
    left = min(x for x, _ in others[0, 0])
    top = min(y for _, y in others[0, 0])
    right = max(x for x, _ in others[w - 1, 0])
    bottom = max(y for _, y in others[0, h - 1])
    return (right - left + 1, bottom - top + 1) if left <= right and top <= bottom else image.size


# Levels that are the same, nearly the same, and different; none on the very edge, where rounding decides.
_LEVELS = st.sampled_from([0, 4, 12, 60, 128, 240, 250, 255])


@given(st.data())
def test_trimming_is_imagemagicks(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    image = Image.new("RGB", (width, height))
    for x in range(width):
        for y in range(height):
            image.putpixel((x, y), data.draw(st.tuples(_LEVELS, _LEVELS, _LEVELS)))
    assert trim(image).size == reference_trim(image)


def test_a_large_jpeg_that_is_mostly_border_loses_no_detail() -> None:
    image = Image.new("RGB", (4000, 4000), WHITE)
    fine = Image.new("RGB", (300, 420), BLUE)
    for x in range(0, 300, 6):
        fine.paste(RED, (x, 0, x + 3, 420))
    image.paste(fine, (1800, 1800))
    cover = decoded(render(encoded(image, "JPEG", quality=95)).cover)
    assert abs(cover.width - 320) <= 4 and abs(cover.height - 448) <= 6
    row = [cover.getpixel((x, 200)) for x in range(cover.width)]
    reds: list[int] = [pixel[0] for pixel in row if isinstance(pixel, tuple)]
    assert max(reds) - min(reds) > 100  # an eighth of it would be one purple


# Modes and kinds


def sixteen_bits() -> Image.Image:
    image = Image.new("I;16", (60, 80))
    for x in range(60):
        for y in range(80):
            image.putpixel((x, y), 0 if (x < 30) == (y < 40) else 32768)
    return image


def on_clear() -> Image.Image:
    image = Image.new("RGBA", (60, 80), (0, 255, 0, 0))
    image.paste((*RED, 255), (10, 10, 50, 70))
    image.paste((*BLUE, 255), (30, 10, 50, 70))
    return image


def palette_with_clear() -> bytes:
    image = Image.new("P", (60, 80), 0)
    image.putpalette([0, 255, 0, *RED, *BLUE])
    image.paste(1, (10, 10, 30, 70))
    image.paste(2, (30, 10, 50, 70))
    return encoded(image, "PNG", transparency=0)


PICTURES: dict[str, tuple[Callable[[], bytes], Colour, Colour]] = {
    "png": (lambda: encoded(quarters((60, 80))), RED, BLUE),
    "jpeg": (lambda: encoded(quarters((60, 80)), "JPEG", quality=95), RED, BLUE),
    "gif": (lambda: encoded(quarters((60, 80)).convert("P"), "GIF"), RED, BLUE),
    "webp": (lambda: encoded(quarters((60, 80)), "WEBP", lossless=True), RED, BLUE),
    "bmp": (lambda: encoded(quarters((60, 80)), "BMP"), RED, BLUE),
    "tiff": (lambda: encoded(quarters((60, 80)), "TIFF"), RED, BLUE),
    "cmyk": (lambda: encoded(quarters((60, 80)).convert("CMYK"), "JPEG", quality=95), RED, BLUE),
    "grey": (lambda: encoded(quarters((60, 80), (0, 0, 0)).convert("L"), "JPEG"), (0, 0, 0), (42, 42, 42)),
    "1 bit": (lambda: encoded(quarters((60, 80), (0, 0, 0), WHITE).convert("1"), "PNG"), (0, 0, 0), WHITE),
    "16 bits": (lambda: encoded(sixteen_bits(), "PNG"), (0, 0, 0), (127, 127, 127)),
    "float": (lambda: encoded(quarters((60, 80), (0, 0, 0), WHITE).convert("F"), "TIFF"), (0, 0, 0), WHITE),
    "rgba": (lambda: encoded(on_clear(), "PNG"), RED, BLUE),
    "webp with alpha": (lambda: encoded(on_clear(), "WEBP", lossless=True), RED, BLUE),
    "grey with alpha": (
        lambda: encoded(Image.merge("LA", [quarters((60, 80), (0, 0, 0)).convert("L"), Image.new("L", (60, 80), 255)])),
        (0, 0, 0), (42, 42, 42),
    ),
    "palette with a clear colour": (palette_with_clear, RED, BLUE),
    "animation": (
        lambda: encoded(quarters((60, 80)), "GIF", save_all=True, append_images=[Image.new("RGB", (60, 80), "green")]),
        RED, BLUE,
    ),
    "turned": (
        lambda: encoded(quarters((60, 80)).transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=_turned()),
        RED, BLUE,
    ),
}  # fmt: skip


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    return exif


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_becomes_a_jpeg_in_its_colours(name: str) -> None:
    make, left, right = PICTURES[name]
    cover = decoded(render(make()).cover)
    assert cover.height > cover.width > 200
    assert near(cover.getpixel((cover.width // 4, cover.height // 4)), left, 20)
    assert near(cover.getpixel((cover.width * 3 // 4, cover.height // 4)), right, 20)
    assert render(make()) == render(make())


# What is refused


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


WHOLE = encoded(quarters((600, 900)), "JPEG")
REFUSED = {
    "nothing": b"",
    "text": b"not a picture at all",
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
    "icon": encoded(Image.new("RGB", (32, 32)), "ICO"),
    "portable": encoded(quarters((60, 80)), "PPM"),
    "truncated jpeg": WHOLE[: len(WHOLE) // 2],
    "jpeg head": WHOLE[:200],
    "truncated png": encoded(quarters((600, 900)))[:300],
    "truncated gif": encoded(quarters((600, 900)).convert("P"), "GIF")[:200],
    "bomb": png_header(30_000, 30_000),
    "larger bomb": png_header(2**31 - 1, 2**31 - 1),
    "bomb below pillow's own limit": png_header(8_100, 8_100),
    "no pixels": png_header(0, 10),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_whole_picture_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(BadImageError) as found:
        render(REFUSED[name])
    assert 5 < len(str(found.value)) <= 200


def test_too_many_bytes_are_refused_before_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cover_images, "MAX_BYTES", 10)
    with pytest.raises(BadImageError, match="bytes"):
        render(WHOLE)


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)), st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP"]))
def test_damaged_pictures_are_covers_or_refused_and_nothing_else(noise: bytes, at: int, kind: str) -> None:
    data = bytearray(encoded(quarters((40, 60)), kind))
    at %= len(data)
    data[at : at + len(noise)] = noise
    try:
        images = render(bytes(data))
    except BadImageError:
        return
    decoded(images.cover)
    decoded(images.thumbnail)


def test_a_jpeg_is_told_from_what_is_none_or_breaks_off(tmp_path: Path) -> None:
    for content, expected in ((WHOLE, True), (WHOLE[:-2], False), (WHOLE[:20], False), (b"", False),
                              (encoded(quarters((6, 8))), False)):  # fmt: skip
        (tmp_path / "c").write_bytes(content)
        assert is_jpeg(str(tmp_path / "c")) is expected
    assert not is_jpeg(str(tmp_path / "none"))
    assert not is_jpeg(str(tmp_path))

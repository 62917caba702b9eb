"""A book's picture as MyBookshelf2 keeps it: trimmed and fitted into 320x452, and from that a thumbnail of 100x140.

These are the application's own steps (ImageMagick's -fuzz 7% -trim, then a resize that keeps the ratio, upwards, too).
Where it keeps a picture it cannot read as it is, this module refuses: what cannot be named is not served as a JPEG.
"""

import io
import math
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

COVER_SIZE = (320, 452)  # pixels, width and height at most
THUMBNAIL_SIZE = (100, 140)
FUZZ = 0.07  # of the full range: how far a border's colour may be from that of its corner
QUALITY = 92  # ImageMagick's, where it cannot tell the original's
MAX_BYTES = 32 << 20
MAX_PIXELS = 64_000_000  # a bomb's few bytes unpack to gigabytes; 64 million take 256 MB
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")

# Decoded this much larger than needed, a JPEG loses nothing that would be seen, and most of the decoding's time.
_DRAFT_SIZE = (2 * COVER_SIZE[0], 2 * COVER_SIZE[1])
_REDUCING_GAP = 3.0
_ORIENTATION = 0x0112  # an EXIF tag
_WHITE = (255, 255, 255, 255)
# Squares of differences, scaled so that three of them add up to 255 where the colours differ by FUZZ.
_SQUARES = [min(255, round(255 * d * d / (3 * (FUZZ * 255) ** 2))) for d in range(256)] * 3


@dataclass(frozen=True, slots=True)
class CoverImages:
    """Two JPEG files."""

    cover: bytes
    thumbnail: bytes


class BadImageError(Exception):
    """The bytes are no picture that is read here; the message is for people."""


def render(data: bytes) -> CoverImages:
    """The cover and the thumbnail of a picture. BadImageError for what is none, is damaged, or is too large.

    The same bytes give the same result. Threads may call this at once: Pillow lets go of Python's lock.
    """
    if len(data) > MAX_BYTES:
        raise BadImageError(f"{len(data)} bytes")
    try:
        image = _decode(data)
        cover = fit(image, COVER_SIZE)
        return CoverImages(_jpeg(cover), _jpeg(fit(cover, THUMBNAIL_SIZE)))
    except BadImageError:
        raise
    except Exception as error:  # whatever a decoder says about any bytes
        raise BadImageError(_describe(error)) from error


def _describe(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no JPEG, PNG, GIF, WEBP, BMP or TIFF"
    return f"{type(error).__name__}: {error}"[:200]


def _decode(data: bytes) -> Image.Image:
    """The trimmed picture in RGB: whole, or a JPEG that is much larger than a cover in an eighth, quarter or half."""
    image, scaled = _open(data, _DRAFT_SIZE)
    trimmed = trim(image)
    if scaled and trimmed.width < COVER_SIZE[0] and trimmed.height < COVER_SIZE[1]:  # most of it was border
        trimmed = trim(_open(data, None)[0])
    return trimmed


def _open(data: bytes, draft: tuple[int, int] | None) -> tuple[Image.Image, bool]:
    """The first frame in RGB, upright, and whether it was decoded smaller than it is."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        size = image.size
        if size[0] * size[1] > MAX_PIXELS:
            raise BadImageError(f"{size[0]} x {size[1]} pixels")
        if draft and image.format in ("JPEG", "MPO"):
            image.draft(None, draft)
        image.load()
        rgb = _to_rgb(image)
        if image.getexif().get(_ORIENTATION, 1) != 1:  # a cover keeps no metadata that would say so
            rgb = ImageOps.exif_transpose(rgb)
        return rgb, image.size != size


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        image = image.convert("I")
    if image.mode in ("I", "F"):  # grey with more than eight bits, which a conversion would cut off at 255
        top = 65535.0 if image.mode == "I" else 1.0
        top = max(top, float(image.getextrema()[1]))  # type: ignore[arg-type]
        if not math.isfinite(top):
            raise BadImageError("infinitely bright")
        return image.convert("F").point(lambda value: value * (255 / top)).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, _WHITE), clear).convert("RGB")
    return image.convert("RGB")


def trim(image: Image.Image) -> Image.Image:
    """Without borders of nearly one colour. As ImageMagick does it: the left and upper border are compared with the
    upper left corner, the right one with the upper right corner, the lower one with the lower left corner."""
    right, bottom = image.width - 1, image.height - 1
    sides = zip(("left", "upper", "right", "lower"), ((0, 0), (0, 0), (right, 0), (0, bottom)), strict=True)
    box = []
    for side, corner in sides:
        edge = _edge(image, side, image.getpixel(corner))  # type: ignore[arg-type]
        if edge is None:  # all of one colour
            return image
        box.append(edge)
    left, upper, right, lower = box
    if (left, upper, right, lower) == (0, 0, *image.size) or left >= right or upper >= lower:
        return image
    return image.crop((left, upper, right, lower))


def _edge(image: Image.Image, side: str, colour: tuple[int, int, int]) -> int | None:
    """Where the border of this colour ends, seen from a side; None when there is nothing else.

    In strips that grow: most pictures have no border, and then there is no need to look at all of them.
    """
    width, height = image.size
    length = width if side in ("left", "right") else height
    done, strip = 0, 4
    while done < length:
        end = min(length, done + strip)
        box = {
            "left": (done, 0, end, height),
            "upper": (0, done, width, end),
            "right": (width - end, 0, width - done, height),
            "lower": (0, height - end, width, height - done),
        }[side]
        if other := _other_box(image.crop(box), colour):
            return {"left": box[0] + other[0], "upper": box[1] + other[1],
                    "right": box[0] + other[2], "lower": box[1] + other[3]}[side]  # fmt: skip
        done, strip = end, 2 * strip
    return None


def _other_box(image: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """The box around all pixels that are not nearly of this colour."""
    red, green, blue = ImageChops.difference(image, Image.new("RGB", image.size, colour)).point(_SQUARES).split()
    return ImageChops.add(ImageChops.add(red, green), blue).point([0] * 255 + [255]).getbbox()


def fit(image: Image.Image, most: tuple[int, int]) -> Image.Image:
    """As large as fits into `most`, with the same ratio."""
    ratio = min(most[0] / image.width, most[1] / image.height)
    size = tuple(min(limit, max(1, round(side * ratio))) for side, limit in zip(image.size, most, strict=True))
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def is_jpeg(path: str) -> bool:
    """Whether a file is a JPEG with a readable head and its end."""
    try:
        with open(path, "rb") as file, Image.open(file, formats=("JPEG",)) as image:
            file.seek(-2, io.SEEK_END)
            return file.read(2) == b"\xff\xd9" and min(image.size) > 0
    except Exception:  # whatever a decoder says about any bytes
        return False

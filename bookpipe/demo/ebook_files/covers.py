"""Covers for the demo: a real JPEG with the title and the author on a flat colour."""

import colorsys
import io
import textwrap
from functools import cache

from anyascii import anyascii
from PIL import Image, ImageDraw, ImageFont

_GOLDEN_ANGLE = 0.381966  # of a full turn: neighbouring seeds get colours far apart
_QUALITY = 70


def make_cover_jpeg(title: str, author: str, seed: int, size: tuple[int, int] = (600, 900)) -> bytes:
    """A JPEG of `size` (width, height) pixels in a colour chosen by `seed`.

    The font is the one Pillow brings along, which has few letters: all are written in ASCII.
    """
    width, height = size
    hue = seed * _GOLDEN_ANGLE % 1.0
    background = tuple(round(255 * part) for part in colorsys.hls_to_rgb(hue, 0.28, 0.45))
    accent = tuple(round(255 * part) for part in colorsys.hls_to_rgb(hue, 0.75, 0.6))
    image = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(image)
    margin = max(1, width // 12)
    # A frame: without one, whoever trims borders would trim all that is not written on.
    draw.rectangle((0, 0, width - 1, height - 1), outline=accent, width=max(1, width // 60))
    draw.rectangle((margin, height * 5 // 8, width - margin, height * 5 // 8 + max(1, height // 150)), fill=accent)
    lines = "\n".join(textwrap.wrap(anyascii(title), 16)[:6])
    draw.multiline_text(
        (margin, height // 8), lines, fill="white", font=_font(max(8, width // 12)), spacing=width // 40
    )
    draw.text((margin, height * 11 // 16), anyascii(author)[:40], fill=accent, font=_font(max(8, width // 20)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)

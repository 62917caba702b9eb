"""Books with pictures in a shard, on a shelf, and the covers that are made of them."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

from PIL import Image

from bookpipe.demo.ebook_files import MAKERS, BookText
from bookpipe.pipelines.covers import CoversResult, list_ebooks, make_covers
from bookpipe_tests.pipelines.shards import load, make_shard, numbered
from bookpipe_tests.targets.shelf import Shelf

SHARD = "16470000"


def picture(number: int, size: tuple[int, int] = (60, 85), kind: str = "JPEG") -> bytes:
    """Another one for each number, with nothing to trim."""
    image = Image.new("RGB", size, (number % 200, 30, 200 - number % 200))
    middle = size[0] // 2, size[1] // 2
    image.paste((20, 220, number % 256), (middle[0], 0, size[0], middle[1]))
    image.paste((20, 220, number % 256), (0, middle[1], middle[0], size[1]))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def text(number: int, cover: bytes = b"") -> BookText:
    return BookText(
        title=f"Book {number}",
        authors=(f"First{number % 3} Last{number % 3}",),
        language="en",
        series=None,
        series_index=None,
        tags=(),
        year=2001,
        body=f"This is book {number}.",
        cover=cover,
    )


def book(number: int, kind: str = "epub", cover: bytes | None = None) -> bytes:
    """A book with a picture, unless that is empty."""
    return MAKERS[kind](text(number, picture(number) if cover is None else cover))


def load_books(shelf: Shelf, folder: Path, count: int = 12, *, without: int = 0, key: str = SHARD) -> None:
    """A shard of `count` EPUBs with pictures and so many more without, loaded."""
    first = int(key)
    contents = [book(first + n) for n in range(count)]
    contents += [book(first + count + n, cover=b"") for n in range(without)]
    load(shelf, make_shard(folder / key, numbered(contents, first)))


def make(shelf: Shelf, key: str = SHARD, **options: Any) -> CoversResult:
    """Make the covers of a shard's books."""
    ebooks = list_ebooks(shelf.target, "tars", key)
    return make_covers(shelf.target, ebooks, pipeline="tars_covers", partition=key, threads=2, **options)


def covers(shelf: Shelf) -> dict[str, tuple[str, str]]:
    """Title -> digests of the cover and the thumbnail, of the ebooks that have them."""
    rows = shelf.sql("SELECT id, title, cover FROM ebook WHERE cover IS NOT NULL")
    return {title: (_sha1(shelf.books / cover), _sha1(thumbnail(shelf, ebook))) for ebook, title, cover in rows}


def thumbnail(shelf: Shelf, ebook: int) -> Path:
    return shelf.data_dir / "thumbs" / f"{ebook}.jpg"


def _sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def pictures_on_disk(shelf: Shelf) -> list[str]:
    """Every cover, thumbnail and unfinished file, whether a row names it or not."""
    found = []
    for top, _, names in os.walk(shelf.data_dir):
        found += [os.path.relpath(os.path.join(top, n), shelf.data_dir) for n in names if "jpg" in n or "part" in n]
    return sorted(found)


def expected_on_disk(shelf: Shelf) -> list[str]:
    """What the rows say there should be."""
    rows = shelf.sql("SELECT id, cover FROM ebook WHERE cover IS NOT NULL")
    return sorted([f"books/{cover}" for _, cover in rows] + [f"thumbs/{ebook}.jpg" for ebook, _ in rows])


def assert_whole(shelf: Shelf, count: int) -> None:
    """So many covers with thumbnails, and nothing besides."""
    assert len(covers(shelf)) == count
    assert pictures_on_disk(shelf) == expected_on_disk(shelf)
    assert shelf.placements() == 0

"""Small tars to load, and what a load of them is compared with."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import zstandard

from bookpipe.demo.ebook_files import BookText, make_epub
from bookpipe.pipelines.tars import Limits, ShardResult, load_shard
from bookpipe.resolve.books import BookOptions
from bookpipe.runtime.state import State
from bookpipe.sources.tar_shards import Shard, ShardKind
from bookpipe_tests.targets.shelf import Shelf

Member = tuple[str, bytes] | tarfile.TarInfo
SMALL = Limits(members=5)
_PACKERS: dict[str, tuple[ShardKind, Callable[[bytes], bytes]]] = {
    "gz": ("tar.gz", gzip.compress),
    "xz": ("tar.xz", lzma.compress),
    "zst": ("tar.zst", zstandard.ZstdCompressor().compress),
    "bz2": ("tar.bz2", bz2.compress),
}


def book(number: int, *, authors: Sequence[str] | None = None, pad_to: int = 0) -> bytes:
    """An EPUB, another one for each number; books share authors, series and languages."""
    return make_epub(
        BookText(
            title=f"Book {number}",
            authors=tuple(authors) if authors is not None else (f"First{number % 4} Last{number % 4}",),
            language=("en", "cs", "de")[number % 3],
            series=f"Series {number % 3}" if number % 2 else None,
            series_index=float(number) if number % 2 else None,
            tags=("Fantasy",),
            year=2001,
            body=f"This is book {number}.",
            pad_to=pad_to,
        )
    )


def link(name: str, target: str, kind: bytes = tarfile.LNKTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def make_shard(path: Path, members: Iterable[Member], *, cut: int | None = None) -> Shard:
    """Write a tar, packed as its suffix says and cut after `cut` bytes; its shard, keyed by the name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    packed = path.suffix.removeprefix(".")
    kind, pack = _PACKERS.get(packed, ("tar", bytes))
    path.write_bytes(pack(buffer.getvalue()[:cut]))
    return Shard(path.name.partition(".")[0], path, kind)


def numbered(contents: Iterable[bytes], first: int = 16_470_000) -> list[Member]:
    """Members named by bare numbers."""
    return [(str(first + n), data) for n, data in enumerate(contents)]


def load(
    shelf: Shelf,
    shard: Shard,
    *,
    limits: Limits = SMALL,
    options: BookOptions | None = None,
    state: State | None = None,
    **more: Any,
) -> ShardResult:
    return load_shard(
        shelf.target, shard, options or BookOptions(), state or Silent(), limits=limits, workers=2, **more
    )


class Silent(State):
    """Remembers nothing."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"), read_only=True)

    def replace_rejections(self, *_: Any) -> None:
        """Save nothing."""


def files_of(shelf: Shelf) -> dict[str, bytes]:
    """Every file below the book folder."""
    found = {}
    for folder, _, names in os.walk(shelf.books):
        for name in names:
            path = Path(folder, name)
            assert not path.is_symlink()
            found[str(path.relative_to(shelf.books))] = path.read_bytes()
    return found


class Heard:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.steps: dict[str, list[tuple[int, int | None]]] = {}

    def advance(self, step: str, done: int, total: int | None) -> None:
        self.steps.setdefault(step, []).append((done, total))

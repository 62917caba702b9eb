"""Tar shards of ebooks for the demo, the tests and the benchmarks, as bulk collections come: members without
extensions, named by bare numbers. The same arguments give the same bytes on every machine, but for the pictures, which
are as Pillow packs them."""

import gzip
import os
import random
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bookpipe.demo.calibre_content import FREE_TAGS, GENRES, LANGUAGE_WEIGHTS, LANGUAGES, draw_credits
from bookpipe.demo.ebook_files import MAKERS, BookText, make_cover_jpeg, make_epub, make_mobi

_COVERS = 0.6  # of the books whose format can hold one
_COVER_SIZE = (300, 400)
_MTIME = 1_600_000_000
_SHARDS = ("16470000", "16480000.tar", "16490000.tar.gz")  # a bare number is how the large ones come
_BOOKS = 120  # in each shard
_TWICE, _FROM_LIBRARY, _FROM_BEFORE = 6, 15, 8  # duplicates in each shard
_LIBRARY_FORMATS = {".epub": b"PK\x03\x04", ".pdf": b"%PDF-", ".fb2": b"<?xml"}
_WEIGHTS = {
    "mobi": 30, "epub": 28, "fb2": 10, "pdf": 12, "azw3": 8, "djvu": 4, "prc": 1, "pdb": 1, "rtf": 1, "doc": 1,
    "docx": 1, "odt": 1, "html": 1, "txt": 1, "chm": 1, "lit": 1,
}  # fmt: skip


@dataclass(frozen=True)
class DemoShards:
    """What the demo's shards hold, known from making them. Members, by what becomes of them in an empty target."""

    keys: tuple[str, ...]
    members: int
    books: int  # contents that are nowhere else
    twice: int  # the bytes of an earlier member, of this shard or of one before it
    from_library: int  # the bytes of a file of the Calibre library
    junk: int  # rejected


def make_demo_shards(directory: Path, seed: int = 1, *, calibre_library: Path | None = None) -> DemoShards:
    """Make three small shards in `directory`: one without extension, one .tar, one .tar.gz.

    Each has books of all formats, some of them twice, some that are in the shard before or in `calibre_library`, and
    junk: an empty member, a zip, a picture, bytes of no kind, a symbolic link, a device and a name that leads out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"demo shards {seed}")
    texts = _draw_texts(rng)
    library = _library_files(calibre_library) if calibre_library else []
    rng.shuffle(library)
    before: list[bytes] = []
    members = books = twice = from_library = junk = 0
    for number, name in enumerate(_SHARDS):
        formats = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=_BOOKS)
        fresh = [MAKERS[kind](text) for kind, text in zip(formats, texts, strict=False)]
        again = rng.sample(fresh, _TWICE) + rng.sample(before, min(_FROM_BEFORE, len(before)))
        shelved = [path.read_bytes() for path in library[number * _FROM_LIBRARY :][:_FROM_LIBRARY]]
        contents = fresh + again + shelved
        rng.shuffle(contents)
        first = 16_470_000 + 10_000 * number
        refused = list(_junk(rng, first + len(contents)))
        rows = [(_info(str(first + n), len(data)), data) for n, data in enumerate(contents)]
        _write_tar(directory / name, [*rows, *refused])
        members += len(rows) + len(refused)
        books += len(fresh)
        twice += len(again)
        from_library += len(shelved)
        junk += len(refused)
        before += fresh
    keys = tuple(name.partition(".")[0] for name in _SHARDS)
    return DemoShards(keys, members, books, twice, from_library, junk)


def _draw_texts(rng: random.Random) -> Iterator[BookText]:
    """Books without end, no two alike."""
    for number, credit in enumerate(draw_credits(rng, in_series=0.2)):
        language = rng.choices(LANGUAGES, LANGUAGE_WEIGHTS)[0]
        title = f"{language.title(rng)} {number + 1}"
        authors = tuple(language.person(author) for author in credit.authors)
        yield BookText(
            title=title,
            authors=authors,
            language=language.short_code,
            series=f"{language.series_name(rng)}" if credit.series is not None else None,
            series_index=credit.series_index if credit.series is not None else None,
            tags=tuple(rng.sample(GENRES, 1) + rng.sample(FREE_TAGS, rng.randint(0, 1))),
            year=rng.randint(1850, 2020),
            body="\n\n".join(language.prose(rng, 8) for _ in range(rng.randint(2, 8))),
            cover=make_cover_jpeg(title, authors[0], number, _COVER_SIZE) if rng.random() < _COVERS else b"",
        )


def _library_files(library: Path) -> list[Path]:
    """Book files of a Calibre library that are what their names say, in the order of their paths."""
    found = []
    for path in sorted(library.rglob("*")):
        magic = _LIBRARY_FORMATS.get(path.suffix)
        if magic and path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(len(magic)) == magic:
                    found.append(path)
    return found


def _junk(rng: random.Random, number: int) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    contents = (b"", b"PK\x05\x06" + bytes(18), b"\x89PNG\r\n\x1a\n" + bytes(64), b"\0" + rng.randbytes(2_000))
    for n, data in enumerate(contents):
        yield _info(str(number + n), len(data)), data
    link = _info(str(number + len(contents)))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    yield link, b""
    device = _info(str(number + len(contents) + 1))
    device.type = tarfile.CHRTYPE
    yield device, b""
    yield _info("../outside", 7), b"outside"


def _info(name: str, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, _MTIME, 0o644
    return info


def _write_tar(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Write a tar, packed when its name says so, older than any reader waits for."""
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                _write_members(packed, members)
        else:
            _write_members(raw, members)
    os.utime(path, (_MTIME, _MTIME))


def _write_members(file: object, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> None:
    write = file.write  # type: ignore[attr-defined]
    size = 0
    for info, data in members:
        block = info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
        write(block)
        size += len(block)
    write(bytes(2 * tarfile.BLOCKSIZE + -(size + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE))


def make_bench_shard(path: Path, members: int = 20_000, size: int = 100_000) -> None:
    """Make a shard of so many books of about `size` bytes, every second one an EPUB and a MOBI, no two alike."""

    def contents() -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        rng = random.Random("bench shard")
        for number, credit in enumerate(draw_credits(rng, in_series=0.2)):
            if number == members:
                return
            language = rng.choices(LANGUAGES, LANGUAGE_WEIGHTS)[0]
            text = BookText(
                title=f"{language.title(rng)} {number + 1}",
                authors=tuple(language.person(author) for author in credit.authors),
                language=language.short_code,
                series=f"Series {credit.series}" if credit.series is not None else None,
                series_index=credit.series_index if credit.series is not None else None,
                tags=(rng.choice(GENRES),),
                year=None,
                body=f"Book {number + 1}.",
                pad_to=size - 40 + rng.randrange(40),
            )
            data = (make_mobi if number % 2 else make_epub)(text)
            yield _info(str(16_470_000 + number), len(data)), data

    path.parent.mkdir(parents=True, exist_ok=True)
    _write_tar(path, contents())

"""Covers and thumbnails for the ebooks that a partition's loads made, after the fact, chunk by chunk.

The pictures of the next chunk are found and rendered, in threads, while the files and rows of the last one are
written: only that holds other loads up, and at most two chunks are in memory.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa

from bookpipe.model.counts import LoadCounts
from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason, Rejection, rejected_rows
from bookpipe.model.schemas import COVER_OUTCOMES, LOADED_EBOOKS
from bookpipe.pipelines.shard_workers import RENDER_COVER, RENDER_PICTURE, MemberWorkers
from bookpipe.runtime.files import Refused, open_inside, refuse
from bookpipe.runtime.progress import NoProgress, Progress
from bookpipe.runtime.stopping import check_stop
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe.sources.tar_streams import OpenFile
from bookpipe.targets.mybookshelf2.cover_images import MAX_BYTES, CoverImages
from bookpipe.targets.mybookshelf2.covers import (
    GONE,
    HAS_ONE,
    MADE,
    BookFile,
    EbookFiles,
    Ending,
    NewCover,
    check_names,
    find_files,
    loaded_ebooks,
    loaded_partitions,
    place_covers,
)
from bookpipe.targets.mybookshelf2.server import MyBookshelf2, Session
from bookpipe.targets.mybookshelf2.storage import BookFolder

CHUNK = 500  # ebooks; two chunks of rendered covers are in memory, some 40 MB
# Which of an ebook's files is asked first: publishers' own formats before those that are mostly conversions, and a
# picture that was meant as a cover before the first page of a PDF.
_FORMATS = ("epub", "azw3", "mobi", "prc", "fb2", "fbz", "docx", "odt")
_LAST = "pdf"

_MISSING = (Reason.MISSING_FILE, Reason.MISSING_DIR)


@dataclass
class CoversResult:
    """How a partition ended: COVER_OUTCOMES rows, counts, and what this run did."""

    outcomes: pa.Table
    counts: LoadCounts
    from_library: int = 0  # covers that were beside the book in Calibre's library
    from_files: int = 0  # covers that were inside one of the book's files
    bytes: int = 0  # of covers and thumbnails
    seconds: dict[str, float] = field(default_factory=dict)

    def rejections(self) -> list[Rejection]:
        return rejected_rows(self.outcomes, "base_dir")


def covers_pipeline(books: str) -> str:
    """The name of the pipeline that makes the covers of the pipeline `books`."""
    return f"{books}_covers"


def find_partitions(target: MyBookshelf2, books: str) -> dict[str, str]:
    """The partitions of the pipeline `books` that are loaded -> a text that changes when another load brings more."""
    with target.reading() as (connection, journal):
        return loaded_partitions(connection, journal, books)


def list_ebooks(target: MyBookshelf2, books: str, partition: str) -> pa.Table:
    """LOADED_EBOOKS rows of one partition of the pipeline `books`. Writes nothing."""
    with target.reading() as (connection, journal):
        return loaded_ebooks(connection, journal, books, partition)


def make_covers(
    target: MyBookshelf2,
    ebooks: pa.Table,
    *,
    pipeline: str,
    partition: str,
    library: CalibreLibrary | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> CoversResult:
    """Make what is missing of LOADED_EBOOKS rows and say how each ended. Safe to kill, repeat and run beside others.

    Pictures come from `library`, where the ebook is a book of it, else out of the ebook's own files. Progress is told
    as the steps "books" and "bytes" (of pictures). StoppedError behind a chunk when a stop was requested.
    """

    def write(session: Session, covers: Sequence[NewCover]) -> dict[int, Ending]:
        return place_covers(session, covers, pipeline=pipeline, partition=partition)

    return _make(target, ebooks, write, library, threads, progress or NoProgress(), chunk)


def plan_dry(
    target: MyBookshelf2, ebooks: pa.Table, *, library: CalibreLibrary | None = None, threads: int | None = None
) -> LoadCounts:
    """What `make_covers` would do: it finds and renders every picture, and writes nothing."""

    def plan(session: Session, covers: Sequence[NewCover]) -> dict[int, Ending]:
        wanted, refused = check_names(session.target.folder, covers)
        return {**dict.fromkeys(wanted, MADE), **refused}

    return _make(target, ebooks, plan, library, threads, NoProgress(), CHUNK).counts


_Book = tuple[int, str, int]  # ebook id, origin, item


@dataclass(frozen=True, slots=True)
class _Picture:
    """A rendered cover, and whether it was beside the book in the library."""

    images: CoverImages
    from_library: bool


_Found = _Picture | Refused


def _make(
    target: MyBookshelf2,
    ebooks: pa.Table,
    write: Callable[[Session, Sequence[NewCover]], dict[int, Ending]],
    library: CalibreLibrary | None,
    threads: int | None,
    progress: Progress,
    chunk: int,
) -> CoversResult:
    started = time.perf_counter()
    columns = [ebooks.column(name).to_pylist() for name in LOADED_EBOOKS.names]
    rows: list[tuple[int, str, int, bool]] = list(zip(*columns, strict=True))
    endings = {ebook: HAS_ONE for ebook, _, _, has_cover in rows if has_cover}
    # In the order of the items, so that a chunk of Calibre's books is a range of ids.
    todo = sorted((row[:3] for row in rows if not row[3]), key=lambda row: row[1:])
    folders: dict[int, str] = {}
    result = CoversResult(COVER_OUTCOMES.empty_table(), LoadCounts())
    writing = 0.0
    with target.session() as session, closing(_Renderer(session, library, threads or os.cpu_count() or 1)) as renderer:
        for done, (files, pictures) in renderer.chunks(todo, chunk):
            began = time.perf_counter()
            endings |= {ebook: HAS_ONE for ebook, found in files.items() if found.has_cover}  # by now
            covers = []
            for ebook, picture in pictures.items():
                folders[ebook] = files[ebook].base_dir
                if isinstance(picture, Refused):
                    endings[ebook] = Ending("rejected", picture.reason, picture.detail)
                else:
                    covers.append(NewCover(ebook, files[ebook].base_dir, picture.images))
            written = write(session, covers)
            endings |= written
            for ebook, ending in written.items():
                picture = pictures[ebook]
                if ending is MADE and isinstance(picture, _Picture):
                    result.from_library += picture.from_library
                    result.from_files += not picture.from_library
                    result.bytes += len(picture.images.cover) + len(picture.images.thumbnail)
            writing += time.perf_counter() - began
            progress.advance("books", len(rows) - len(todo) + done, len(rows))
            progress.advance("bytes", result.bytes, None)
            if done < len(todo):
                check_stop(f"{done:,} books are done.")
    result.outcomes = _outcomes(rows, endings, folders)
    result.counts = LoadCounts.of(*(result.outcomes.column(name).to_pylist() for name in ("outcome", "reason")))
    total = time.perf_counter() - started
    result.seconds = {"find_and_render": round(total - writing, 4), "place_and_update": round(writing, 4)}
    return result


def _outcomes(
    rows: Sequence[tuple[int, str, int, bool]], endings: Mapping[int, Ending], folders: Mapping[int, str]
) -> pa.Table:
    ended = [endings.get(row[0], GONE) for row in rows]
    return pa.table(
        {
            "ebook_id": pa.array([row[0] for row in rows], pa.int64()),
            "origin": pa.array([row[1] for row in rows], pa.string()),
            "item": pa.array([row[2] for row in rows], pa.int64()),
            "outcome": pa.array([ending.outcome for ending in ended], pa.string()),
            "reason": pa.array([ending.reason and ending.reason.value for ending in ended], pa.string()),
            "detail": pa.array([ending.detail or None for ending in ended], pa.string()),
            "base_dir": pa.array([folders.get(row[0]) for row in rows], pa.string()),
        },
        schema=COVER_OUTCOMES,
    )


class _Renderer:
    """Finds and renders the pictures of ebooks, a chunk ahead of who takes them."""

    def __init__(self, session: Session, library: CalibreLibrary | None, threads: int) -> None:
        self.session = session
        self.folder: BookFolder = session.target.folder
        self.library = library
        self.origin = library.origin() if library else None
        self.inside = os.path.realpath(os.fsencode(library.path)) if library else b""
        self._pool = ThreadPoolExecutor(threads, "render_covers")
        self._processes = MemberWorkers((), threads)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._processes.close()

    def chunks(
        self, books: Sequence[_Book], size: int
    ) -> Iterator[tuple[int, tuple[dict[int, EbookFiles], dict[int, _Found]]]]:
        """How many books are done with this chunk, and of its ebooks that are there their files, and the pictures of
        those that need one."""
        parts = [books[i : i + size] for i in range(0, len(books), size)]
        done = 0
        following = self._start(parts[0]) if parts else None
        for n, part in enumerate(parts):
            assert following is not None
            files, futures = following
            pictures = {ebook: future.result() for ebook, future in futures.items()}
            self._check_library(pictures.values())
            following = self._start(parts[n + 1]) if n + 1 < len(parts) else None
            done += len(part)
            yield done, (files, pictures)

    def _check_library(self, pictures: Iterable[_Found]) -> None:
        """A library that has gone away looks like one without pictures."""
        lacking = any(isinstance(each, Refused) and each.reason in (Reason.NO_COVER, *_MISSING) for each in pictures)
        if lacking and self.library is not None and not (self.library.path / "metadata.db").exists():
            raise TransientError(
                f"{self.library.path} has gone away while its covers were read: is the disk or network share still "
                "there? The partition is tried again."
            )

    def _start(self, books: Sequence[_Book]) -> tuple[dict[int, EbookFiles], "dict[int, Future[_Found]]"]:
        with self.session.reading() as (connection, journal):
            files = find_files(connection, journal, books) if journal else {}
        covers = self._library_covers(books)
        return files, {
            ebook: self._pool.submit(self._picture, covers.get(ebook), files[ebook].files)
            for ebook, _, _ in books
            if ebook in files and not files[ebook].has_cover
        }

    def _library_covers(self, books: Sequence[_Book]) -> dict[int, bytes]:
        """Ebook id -> where its cover would be in the library."""
        items = {item: ebook for ebook, origin, item in books if origin == self.origin}
        if self.library is None or not items:
            return {}
        paths = self.library.cover_paths(min(items), max(items))
        return {items[item]: path for item, path in paths.items() if item in items}

    def _picture(self, cover: bytes | None, files: Sequence[BookFile]) -> _Found:
        """The first picture that can be rendered; else why the first that is there could not be."""
        problem: Refused | None = None
        for found in self._candidates(cover, files):
            if isinstance(found, _Picture):
                return found
            problem = problem or found
        return problem or Refused(Reason.NO_COVER, "")

    def _candidates(self, cover: bytes | None, files: Sequence[BookFile]) -> Iterator[_Found | None]:
        """What comes of the library's picture, and of each of the book's own files: None of one without a picture."""
        if cover is not None:
            found = self._render(cover, self.inside, RENDER_PICTURE, None)
            if not (isinstance(found, Refused) and found.reason in _MISSING):
                yield found
        ranks = {extension: rank for rank, extension in enumerate(_FORMATS)} | {_LAST: len(_FORMATS) + 1}
        for file in sorted(files, key=lambda file: ranks.get(file.extension, len(_FORMATS))):
            try:
                path = self.folder.host_path(file.location)
            except OSError as error:
                yield refuse(error, os.fsencode(file.location))
                continue
            found = self._render(path, None, RENDER_COVER, file.extension)
            yield Refused(found.reason, found.detail or file.location) if isinstance(found, Refused) else found

    def _render(self, path: bytes, inside: bytes | None, what: str, given: str | None) -> _Found | None:
        try:
            with open_inside(path, inside) as opened:
                if isinstance(opened, Refused):
                    return opened
                fd, status = opened
                if what == RENDER_PICTURE and status.st_size > MAX_BYTES:
                    return Refused(Reason.BAD_IMAGE, f"{status.st_size} bytes")
                images = self._processes.render(OpenFile(os.dup(fd)), (0, status.st_size, given), what)
        except OSError as error:
            return refuse(error, path)
        if images is None:
            return None
        if isinstance(images, str):
            return Refused(Reason.BAD_IMAGE, images)
        return _Picture(CoverImages(*images), from_library=what == RENDER_PICTURE)

"""Covers and thumbnails of ebooks that have none: which ebooks these are, and how two files and a row get there.

An ebook's cover is books/<base_dir>/cover.jpg, its thumbnail thumbs/<id>.jpg. Both are real files, for the
application writes its own over them. Files are announced in the journal before they are placed, as those of a load
are; the rows are locked while they are placed, so that whatever the application did before is seen, and whatever it
does comes afterwards and wins.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha1
from typing import NamedTuple

import pyarrow as pa

from bookpipe.model.book_plans import Content, Placement
from bookpipe.model.errors import BookpipeError
from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import LOADED_EBOOKS
from bookpipe.targets.mybookshelf2.cover_images import CoverImages
from bookpipe.targets.mybookshelf2.files import NameTakenError, sha1_of
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.load import Writer
from bookpipe.targets.mybookshelf2.server import Session
from bookpipe.targets.mybookshelf2.storage import CONTENT, THUMBS, BookFolder
from bookpipe.targets.postgres import Connection, as_array, joined, lock_patiently, translating

COVER_NAME = "cover.jpg"
UNFINISHED = "unfinished"
MAX_COVER_PATH = 512  # characters of ebook.cover
ATTEMPTS = 5  # at a chunk whose names the application takes while it is written


class BookFile(NamedTuple):
    """One of an ebook's own files."""

    location: str
    extension: str


class EbookFiles(NamedTuple):
    """An ebook that may need a cover, and the files that came with it."""

    base_dir: str
    has_cover: bool
    files: list[BookFile]


@dataclass(frozen=True, slots=True)
class NewCover:
    """Images for an ebook, and the folder it had when they were made."""

    ebook: int
    base_dir: str
    images: CoverImages


class Ending(NamedTuple):
    """How one ebook ended: inserted, existing or rejected."""

    outcome: str
    reason: Reason | None = None
    detail: str = ""


MADE, HAS_ONE, GONE = Ending("inserted"), Ending("existing"), Ending("rejected", Reason.EBOOK_GONE)


def loaded_partitions(connection: Connection, journal: Journal | None, pipeline: str) -> dict[str, str]:
    """Partitions whose loads brought something -> a text that changes when another load does.

    Of a shard whose loading is not finished it does not change: each of its chunks is a load.
    """
    if journal is None:
        return {}
    with translating("reading the journal"):
        rows = connection.execute(
            f"SELECT partition, max(id) FROM {journal.name('load')} WHERE pipeline = %s AND inserted > 0 "
            "GROUP BY 1 ORDER BY 1".encode(),
            (pipeline,),
        ).fetchall()
        unfinished: set[str] = set()
        row = connection.execute("SELECT to_regclass(%s)", (journal.name("shard"),)).fetchone()
        if row and row[0]:
            shards = connection.execute(
                f"SELECT partition FROM {journal.name('shard')} WHERE pipeline = %s AND NOT finished".encode(),
                (pipeline,),
            )
            unfinished = {partition for (partition,) in shards}
    return {partition: UNFINISHED if partition in unfinished else f"load {last}" for partition, last in rows}


def loaded_ebooks(connection: Connection, journal: Journal | None, pipeline: str, partition: str) -> pa.Table:
    """LOADED_EBOOKS rows: the living ebooks that the loads of one partition made, each once."""
    if journal is None:
        return LOADED_EBOOKS.empty_table()
    with translating("reading the journal"):
        rows = connection.execute(
            "SELECT DISTINCT ON (e.id) e.id, o.name, b.item, e.cover IS NOT NULL "
            f"FROM {journal.name('load')} l JOIN {journal.name('book')} b ON b.load_id = l.id "
            f"JOIN {journal.name('origin')} o ON o.id = b.origin_id JOIN ebook e ON e.id = b.ebook_id "
            "WHERE l.pipeline = %s AND l.partition = %s ORDER BY e.id, o.name, b.item".encode(),
            (pipeline, partition),
        ).fetchall()
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, LOADED_EBOOKS, strict=True)],
        schema=LOADED_EBOOKS,
    )


def find_files(
    connection: Connection, journal: Journal, books: Sequence[tuple[int, str, int]]
) -> dict[int, EbookFiles]:  # fmt: skip
    """Ebook id -> its folder and its files, of those that are still there. `books`: ebook id, origin and item.

    The files are those the loads of the item brought: by the journal, for source.ebook_id has no index.
    """
    ids, origins, items = zip(*books, strict=True) if books else ((), (), ())
    with translating("looking up ebooks"):
        found = {
            ebook: EbookFiles(base_dir, has_cover, [])
            for ebook, base_dir, has_cover in connection.execute(
                f"SELECT id, base_dir, cover IS NOT NULL FROM ebook WHERE id = ANY({as_array('bigint')})".encode(),
                (joined(ids),),
            )
        }
        rows = connection.execute(
            f"SELECT s.ebook_id, s.location, t.extension FROM unnest({as_array('bigint')}, {as_array('text')}, "
            f"{as_array('bigint')}) AS k(ebook, origin, item) JOIN {journal.name('origin')} o ON o.name = k.origin "
            f"JOIN {journal.name('file')} f ON f.origin_id = o.id AND f.item = k.item "
            "JOIN source s ON s.id = f.source_id AND s.ebook_id = k.ebook JOIN format t ON t.id = s.format_id "
            "ORDER BY s.id".encode(),
            (joined(ids), joined(origins), joined(items)),
        )
        for ebook, location, extension in rows:
            if ebook in found:
                found[ebook].files.append(BookFile(location, extension))
    return found


def place_covers(session: Session, covers: Sequence[NewCover], *, pipeline: str, partition: str) -> dict[int, Ending]:
    """Place the files of ebooks that still have no cover and set their rows, all in one transaction; how each ended.

    Safe to repeat, beside other loads and beside the application.
    """
    if not covers:
        return {}
    with session.writing() as writer:
        writer.remove_leftovers()
        for attempt in range(ATTEMPTS):
            try:
                return _write(writer, covers, pipeline, partition)
            except NameTakenError:
                if attempt == ATTEMPTS - 1:
                    raise
    raise AssertionError("unreachable")


def check_names(folder: BookFolder, covers: Sequence[NewCover]) -> tuple[dict[int, list[Placement]], dict[int, Ending]]:
    """The files to place for each ebook, and the ebooks whose files have no place. Looks, and touches nothing."""
    taken = folder.is_taken()
    wanted: dict[int, list[Placement]] = {}
    refused: dict[int, Ending] = {}
    folders: set[str] = set()
    for cover in covers:
        if reason := _unusable(cover.base_dir):
            refused[cover.ebook] = Ending("rejected", Reason.NAME_UNUSABLE, reason)
            continue
        both = (
            _placement(f"{cover.base_dir}/{COVER_NAME}", cover.images.cover),
            _placement(f"{THUMBS}/{cover.ebook}.jpg", cover.images.thumbnail),
        )
        there = [placement for placement in both if taken(placement.location)]
        # Exactly our bytes can only be ours: of a load whose rows were lost, with a database from a backup.
        foreign = [placement for placement in there if not _is_same(folder, placement)]
        if foreign or cover.base_dir in folders:
            name = foreign[0].location if foreign else both[0].location
            refused[cover.ebook] = Ending("rejected", Reason.NAME_TAKEN, name.removeprefix("../"))
            continue
        folders.add(cover.base_dir)
        wanted[cover.ebook] = [placement for placement in both if placement not in there]
    return wanted, refused


def _unusable(base_dir: str) -> str:
    parts = base_dir.split("/")
    if not base_dir or {"", ".", ".."} & set(parts) or "\0" in base_dir:
        return f"folder {base_dir!r}"
    if len(f"{base_dir}/{COVER_NAME}") > MAX_COVER_PATH:
        return f"the folder's name has {len(base_dir)} characters"
    return ""


def _placement(location: str, data: bytes) -> Placement:
    def write(file: int) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]

    content = Content(sha1(data, usedforsecurity=False).hexdigest(), write)
    return Placement(0, location, b"", len(data), content)


def _is_same(folder: BookFolder, placement: Placement) -> bool:
    assert placement.content is not None
    if not folder.has_file(placement.location, placement.size):
        return False
    try:
        return sha1_of(folder.full_path(placement.location)) == placement.content.sha1
    except OSError:
        return False


def _write(writer: Writer, covers: Sequence[NewCover], pipeline: str, partition: str) -> dict[int, Ending]:
    connection, journal, folder = writer.connection, writer.journal, writer.folder
    with translating("looking up ebooks"):
        before = _read_rows(connection, [cover.ebook for cover in covers])
    # Who has a cover by now has its file, too, which is in nobody's way.
    missing = [cover for cover in covers if before.get(cover.ebook) == (cover.base_dir, False)]
    ended = {
        cover.ebook: _ending(cover, before.get(cover.ebook))
        for cover in covers
        if before.get(cover.ebook) != (cover.base_dir, False)
    }
    wanted, refused = check_names(folder, missing)
    ended |= refused
    if not wanted:
        return ended
    files = [folder.describe(placement) for placements in wanted.values() for placement in placements]
    announced = journal.plan_placement(pipeline, partition, CONTENT, files)
    try:
        with translating("writing covers"), connection.transaction():
            now = _lock_rows(connection, list(wanted))
            ours = [cover for cover in missing if now.get(cover.ebook) == (cover.base_dir, False)]
            folder.place([placement for cover in ours for placement in wanted[cover.ebook]])
            # As the application's engine does it: neither version_id nor modified change.
            connection.execute(
                f"UPDATE ebook SET cover = base_dir || '/{COVER_NAME}' WHERE id = ANY({as_array('bigint')})".encode(),
                (joined(cover.ebook for cover in ours),),
            )
            journal.forget_placement(announced)
    except BaseException:
        with suppress(BookpipeError):
            # Asked of the server: the end of the transaction may be what was lost.
            if journal.is_planned(announced):
                folder.remove_leftovers(CONTENT, files)
                journal.forget_placement(announced)
        raise
    for cover in covers:
        if cover.ebook in wanted:
            ended[cover.ebook] = _ending(cover, now.get(cover.ebook))
    return ended


def _lock_rows(connection: Connection, ebooks: Sequence[int]) -> dict[int, tuple[str, bool]]:
    """Ebook id -> its folder and whether it has a cover, of those that are there; nobody changes them until the
    transaction ends."""
    return lock_patiently(connection, lambda: _read_rows(connection, ebooks, "ORDER BY id FOR NO KEY UPDATE"))


def _read_rows(connection: Connection, ebooks: Sequence[int], ending: str = "") -> dict[int, tuple[str, bool]]:
    rows = connection.execute(
        f"SELECT id, base_dir, cover IS NOT NULL FROM ebook WHERE id = ANY({as_array('bigint')}) {ending}".encode(),
        (joined(ebooks),),
    )
    return {ebook: (base_dir, has_cover) for ebook, base_dir, has_cover in rows}


def _ending(cover: NewCover, now: tuple[str, bool] | None) -> Ending:
    if now is None:
        return GONE
    base_dir, has_cover = now
    if has_cover:
        return HAS_ONE
    return MADE if base_dir == cover.base_dir else Ending("rejected", Reason.NAME_TAKEN, f"the folder is {base_dir}")

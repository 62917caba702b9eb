"""Whether a Calibre library can be read, and what of it to mend first. Nothing is written."""

import os
from pathlib import Path
from typing import Any

from bookpipe.model.errors import BookpipeError
from bookpipe.model.findings import Finding, failure, skipped
from bookpipe.runtime.file_systems import mount_of
from bookpipe.runtime.files import Refused, open_inside
from bookpipe.sources import calibre_db
from bookpipe.sources.calibre import CalibreLibrary, find_file

SAMPLE = 20  # files, spread over the ids: enough to notice a share that is not mounted or a right that is missing


def examine_library(library: CalibreLibrary) -> list[Finding]:
    """Findings about the folder, its database, its books, a sample of its files and its file system, in this order.

    Waits for a locked database as long as the library's `timeout_s`. Raises nothing for what is wrong with a library.
    """
    folder = _folder(library)
    subjects = ("Calibre: metadata.db", "Calibre: books", "Calibre: files", "Calibre: file system")
    if not folder.ok:
        return [folder, *skipped(subjects, "the folder")]
    database = _database(library)
    read = [_books(library), _files(library)] if database.ok else skipped(subjects[1:3], "metadata.db")
    return [folder, database, *read, _file_system(library.path)]


def _folder(library: CalibreLibrary) -> Finding:
    subject = "Calibre: folder"
    if not os.path.isdir(library.path):
        what = "is no folder" if os.path.lexists(library.path) else "is not there, or this user may not see it"
        return Finding(
            subject, False, f"{library.path} {what}",
            "Set BOOKPIPE_CALIBRE_LIBRARY to the folder that holds metadata.db.",
        )  # fmt: skip
    try:
        with os.scandir(library.path) as entries:
            next(entries, None)
        readable = os.access(library.path, os.R_OK | os.X_OK)
        cause = "no right to read"
    except OSError as error:
        readable, cause = False, error.strerror or str(error)
    if not readable:
        return Finding(
            subject, False, f"{library.path} cannot be read: {cause}", "Give this user the right to read and enter it."
        )
    return Finding(subject, True, str(library.path))


def _database(library: CalibreLibrary) -> Finding:
    subject = "Calibre: metadata.db"
    try:
        with calibre_db.reading(library.path, library.timeout_s) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            db.execute("SELECT id FROM books LIMIT 1").fetchone()
    except BookpipeError as error:
        return failure(subject, error)
    detail = f"opens read-only, not locked, format {version}"
    if version > calibre_db.NEWEST_KNOWN_USER_VERSION:
        return Finding(
            subject, True, detail,
            f"Newer than bookpipe knows ({calibre_db.NEWEST_KNOWN_USER_VERSION}), though all the tables it reads are "
            "there: load one partition and look at it before loading the rest.",
        )  # fmt: skip
    return Finding(subject, True, detail)


def _books(library: CalibreLibrary) -> Finding:
    subject = "Calibre: books"
    try:
        books, bounds = library.count_books(), library.id_bounds()
    except BookpipeError as error:
        return failure(subject, error)
    if bounds is None:
        return Finding(subject, True, "none", "Is this the library you mean? Check BOOKPIPE_CALIBRE_LIBRARY.")
    return Finding(subject, True, f"{books:,}, ids {bounds[0]} to {bounds[1]}")


def _files(library: CalibreLibrary) -> Finding:
    subject = "Calibre: files"
    try:
        sample = _sample(library)
        inside = os.fsencode(os.path.realpath(library.path))
        problems = [p for p in (_problem(inside, **row) for row in sample) if p]
    except BookpipeError as error:
        return failure(subject, error)
    if not sample:
        return Finding(subject, True, "no book has a file")
    detail = f"{len(sample) - len(problems)} of {len(sample)} sampled files can be read"
    if not problems:
        return Finding(subject, True, detail)
    detail += f"; book {problems[0]}"
    if len(problems) == len(sample):
        return Finding(
            subject, False, detail, "Are all the library's folders there, is its disk or share mounted, and may this "
            "user read the files in it?",
        )  # fmt: skip
    return Finding(subject, True, detail, "Such books are rejected, counted and listed; the others load.")


def _sample(library: CalibreLibrary) -> list[dict[str, Any]]:
    """The first file of up to SAMPLE books that have files, evenly spread over the ids: item, path and reason."""
    bounds = library.id_bounds()
    if bounds is None:
        return []
    low, high = bounds
    with calibre_db.reading(library.path, library.timeout_s) as db:
        found = {
            db.execute(
                "SELECT min(b.id) FROM books b WHERE b.id >= ? AND EXISTS (SELECT 1 FROM data d WHERE d.book = b.id)",
                (low + (high - low) * n // (SAMPLE - 1),),
            ).fetchone()[0]
            for n in range(SAMPLE)
        }
    rows = (library.read(book, book).select(["item", "path", "reason"]).slice(0, 1) for book in sorted(found - {None}))
    return [row for table in rows for row in table.to_pylist()]


def _problem(inside: bytes, item: int, path: bytes | None, reason: str | None) -> str | None:
    """Why a book's file cannot be read, None when it can. Only its first byte is read."""
    if path is None:
        return f"{item}: {reason}"
    if not os.path.lexists(path):
        found = find_file(path)
        if not isinstance(found, bytes):
            return f"{item}: {found}"
        path = found
    try:
        with open_inside(path, inside) as opened:
            if isinstance(opened, Refused):
                return f"{item}: {opened.detail or opened.reason}"
            os.read(opened[0], 1)
    except OSError as error:
        return f"{item}: {error.strerror}"
    return None


def _file_system(library: Path) -> Finding:
    subject = "Calibre: file system"
    mount = mount_of(library)
    if mount is None:
        return Finding(subject, None, "unknown: only looked up on Linux")
    if mount.is_network:
        return Finding(
            subject, True, f"{mount.kind}: a network file system",
            "More BOOKPIPE_HASH_THREADS (16, say) hide its latency. Locks of another machine's Calibre may not be "
            "seen: close Calibre there during a load.",
        )  # fmt: skip
    return Finding(subject, True, mount.kind)

"""A Calibre library as batches of CALIBRE_BOOKS rows.

Everything comes from metadata.db; the file system is only asked about a file that is not where
the database says (another case, the only file of its kind in the folder). Calibre's own programs
are never called: even its list command writes to the library.
"""

import math
import os
import re
import sqlite3
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import CALIBRE_BOOKS
from bookpipe.runtime.files import Refused, refuse
from bookpipe.runtime.garbage import collector_paused
from bookpipe.sources import calibre_db

MAX_TITLE = 2_000  # characters; real titles are shorter, damaged ones reach megabytes
MAX_COMMENTS = 256 * 1024
MAX_CODE = 32  # of a language
MAX_COMPONENT = 255  # bytes, the limit of common file systems

_FORMAT = re.compile(rb"[a-z0-9_]{1,20}")


@dataclass(frozen=True, slots=True)
class BatchState:
    """What tells whether the rows of an id range changed: compare for equality."""

    first: int
    last: int
    books: int
    last_modified: str
    seconds: int  # the sum of all times of change: the latest one hides edits by a computer whose clock is slow

    @property
    def fingerprint(self) -> str:
        return f"{self.books}@{self.last_modified}+{self.seconds}"


_STATE = "count(*), max(last_modified), sum(CAST(strftime('%s', last_modified) AS INTEGER))"


def _batch_state(first: int, last: int, books: int, modified: Any, seconds: int | None) -> BatchState:
    return BatchState(first, last, books, clean_text(modified, 64) or "", seconds or 0)


class CalibreLibrary:
    """A library at `path`. Opens the database for each call, so that no lock outlives a batch."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self.path = Path(os.path.abspath(path))
        self.timeout_s = timeout_s

    def count_books(self) -> int:
        with calibre_db.reading(self.path, self.timeout_s) as db:
            return int(db.execute("SELECT count(*) FROM books").fetchone()[0])

    def id_bounds(self) -> tuple[int, int] | None:
        """Smallest and largest book id; None for an empty library."""
        with calibre_db.reading(self.path, self.timeout_s) as db:
            low, high = db.execute("SELECT (SELECT min(id) FROM books), (SELECT max(id) FROM books)").fetchone()
        return None if low is None else (int(low), int(high))

    def states(self, batch_size: int) -> list[BatchState]:
        """The non-empty id ranges of `batch_size` ids, in order. One scan of books."""
        with calibre_db.reading(self.path, self.timeout_s) as db:
            rows = db.execute(
                f"SELECT (id - 1) / ? AS n, {_STATE} FROM books WHERE id >= 1 GROUP BY n ORDER BY n", (batch_size,)
            ).fetchall()
        return [_batch_state(n * batch_size + 1, (n + 1) * batch_size, *rest) for n, *rest in rows]

    def state(self, first: int, last: int) -> BatchState:
        """The state of one range of ids, both ends included; zero books when it is empty."""
        with calibre_db.reading(self.path, self.timeout_s) as db:
            row = db.execute(f"SELECT {_STATE} FROM books WHERE id BETWEEN ? AND ?", (first, last)).fetchone()
        return _batch_state(first, last, *row)

    def read(self, first: int, last: int, *, without_files: bool = False) -> pa.Table:
        """CALIBRE_BOOKS rows of the ids `first`..`last` (both included), in id order.

        Books without formats end as rejected (`no_formats`) unless `without_files` is set.
        """
        with collector_paused():
            with calibre_db.reading(self.path, self.timeout_s) as db:
                origin = _origin(db)
                rows = _read_range(db, first, last)
            return _table(rows, origin, os.fsencode(self.path), without_files)

    def origin(self) -> str:
        """The name of the library's rows, in every target."""
        with calibre_db.reading(self.path, self.timeout_s) as db:
            return _origin(db)

    def cover_paths(self, first: int, last: int) -> dict[int, bytes]:
        """Where the covers of the books `first`..`last` (both included) are, if they have any.

        Whether there is a file is not asked, and neither is has_cover, which is wrong both ways. A book whose folder
        would not be inside the library has no entry.
        """
        with calibre_db.reading(self.path, self.timeout_s) as db:
            rows = db.execute("SELECT id, path FROM books WHERE id BETWEEN ? AND ?", (first, last)).fetchall()
        folders = ((book, folder_path(os.fsencode(self.path), _as_bytes(path))) for book, path in rows)
        return {book: folder + b"/cover.jpg" for book, folder in folders if isinstance(folder, bytes)}


def _origin(db: sqlite3.Connection) -> str:
    row = db.execute("SELECT uuid FROM library_id").fetchone()
    return f"calibre:{(row and clean_text(row[0])) or 'unknown'}"


_Row = tuple[Any, ...]


@dataclass(slots=True)
class _Range:
    """The rows of an id range as SQLite has them, text as bytes. All but `books` start with the book's id."""

    books: list[_Row]
    authors: list[_Row]
    tags: list[_Row]
    languages: list[_Row]
    series: dict[int, Any]
    publishers: dict[int, Any]
    ratings: dict[int, Any]
    identifiers: list[_Row]
    comments: dict[int, Any]
    files: list[_Row]


def _read_range(db: sqlite3.Connection, first: int, last: int) -> _Range:
    """Ten range queries on indexes, measured faster than one query with aggregates; order is the link's id."""

    def select(query: str) -> sqlite3.Cursor:
        return db.execute(query, (first, last))

    def named(link: str, column: str, table: str, names: str, order: str = "l.id") -> sqlite3.Cursor:
        return select(
            f"SELECT l.book, {names} FROM {link} l JOIN {table} n ON n.id = l.{column} "
            f"WHERE l.book BETWEEN ? AND ? ORDER BY l.book, {order}"
        )

    return _Range(
        books=select(
            "SELECT id, title, sort, timestamp, pubdate, last_modified, series_index, path, uuid, has_cover "
            "FROM books WHERE id BETWEEN ? AND ? ORDER BY id"
        ).fetchall(),
        authors=named("books_authors_link", "author", "authors", "n.name, n.sort").fetchall(),
        tags=named("books_tags_link", "tag", "tags", "n.name").fetchall(),
        languages=named(
            "books_languages_link", "lang_code", "languages", "n.lang_code", "l.item_order, l.id"
        ).fetchall(),
        series=dict(named("books_series_link", "series", "series", "n.name")),
        publishers=dict(named("books_publishers_link", "publisher", "publishers", "n.name")),
        ratings=dict(named("books_ratings_link", "rating", "ratings", "n.rating")),
        identifiers=select(
            "SELECT book, type, val FROM identifiers WHERE book BETWEEN ? AND ? ORDER BY book, id"
        ).fetchall(),
        comments=dict(select("SELECT book, text FROM comments WHERE book BETWEEN ? AND ?")),
        files=select(
            "SELECT book, format, name, uncompressed_size FROM data WHERE book BETWEEN ? AND ? ORDER BY book, id"
        ).fetchall(),
    )


def clean_text(value: Any, limit: int = MAX_TITLE) -> str | None:
    """A text column as SQLite really holds it (numbers, NULs and undecodable bytes occur), or None."""
    if value is None:
        return None
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.replace("\0", "")[:limit]


def clean_number(value: Any) -> float | None:
    """A REAL column as SQLite really holds it; NaN, infinities, text and blobs are None."""
    return float(value) if isinstance(value, float | int) and math.isfinite(value) else None


def parse_date(value: Any) -> datetime | None:
    """Calibre's text date in UTC. Years up to 101 are its 'undefined', which drifts through time zones."""
    if not isinstance(value, bytes):  # a bare year becomes a number in Calibre's columns
        return datetime(value, 1, 1, tzinfo=timezone.utc) if isinstance(value, int) and 101 < value < 10_000 else None
    if value[:4] <= b"0101":
        return None
    try:
        parsed = datetime.fromisoformat(value.decode("ascii"))
        if parsed.tzinfo is not timezone.utc:
            parsed = parsed.replace(tzinfo=timezone.utc) if parsed.tzinfo is None else parsed.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return parsed if parsed.year > 101 else None


def _text_array(values: Sequence[Any], limit: int = MAX_TITLE) -> pa.Array:
    """A text column. Nearly all are clean, which Arrow finds out far faster than a loop over the values."""
    try:
        array = pa.array(values, pa.string())
        clean = (
            not pc.any(pc.match_substring(array, "\0")).as_py()
            and (pc.max(pc.binary_length(array)).as_py() or 0) <= limit
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        clean = False
    return array if clean else pa.array([clean_text(value, limit) for value in values], pa.string())


def _group(ids: Sequence[int], links: list[_Row], columns: int) -> tuple[pa.Array, list[_Row]]:
    """Arrow's offsets of the links of each book, and the columns of the links behind the book's id."""
    known = set(ids)
    links = [link for link in links if link[0] in known]  # a link may be left of a book that is gone
    counts = Counter(map(itemgetter(0), links))
    offsets = pa.array([0, *accumulate(map(counts.__getitem__, ids))], pa.int32())
    return offsets, list(zip(*links, strict=True))[1:] or [()] * columns


def _book_columns(rows: _Range, origin: str, covers: list[bytes | None]) -> dict[str, pa.Array]:
    """The columns about books, one entry for each book."""
    ids, titles, sorts, added, pubdates, modified, indexes, _, uuids, _ = zip(*rows.books, strict=True)
    each_author, (authors, author_sorts) = _group(ids, rows.authors, 2)
    each_tag, (tags,) = _group(ids, rows.tags, 1)
    each_language, (languages,) = _group(ids, rows.languages, 1)
    each_identifier, (kinds, values) = _group(ids, rows.identifiers, 2)
    # Calibre stores a comma inside one author's name as a bar.
    names = pc.replace_substring(pc.fill_null(_text_array(authors), ""), "|", ",")
    series = [rows.series.get(book) for book in ids]
    numbers = [None if s is None else clean_number(index) for s, index in zip(series, indexes, strict=True)]
    ratings = [rows.ratings.get(book) for book in ids]
    date = pa.timestamp("us", tz="UTC")
    return {
        "origin": pa.repeat(pa.scalar(origin), len(ids)),
        "item": pa.array(ids, pa.int64()),
        "title": _text_array(titles),
        "authors": pa.ListArray.from_arrays(each_author, names),
        "series": _text_array(series),
        "series_index": pa.array(numbers, pa.float64()),
        "languages": pa.ListArray.from_arrays(each_language, _text_array(languages, MAX_CODE)),
        "tags": pa.ListArray.from_arrays(each_tag, _text_array(tags)),
        "rating": pa.array([r if isinstance(r, int) and 0 < r <= 10 else None for r in ratings], pa.int16()),
        "uuid": _text_array(uuids),
        "title_sort": _text_array(sorts),
        "author_sorts": pa.ListArray.from_arrays(each_author, _text_array(author_sorts)),
        "publisher": _text_array([rows.publishers.get(book) for book in ids]),
        "identifiers": pa.MapArray.from_arrays(
            each_identifier, pc.fill_null(_text_array(kinds), ""), _text_array(values)
        ),
        "comments": _text_array([rows.comments.get(book) for book in ids], MAX_COMMENTS),
        "pubdate": pa.array(map(parse_date, pubdates), date),
        "added": pa.array(map(parse_date, added), date),
        "last_modified": pa.array(map(parse_date, modified), date),
        "cover_path": pa.array(covers, pa.binary()),
    }


def _table(rows: _Range, origin: str, library: bytes, without_files: bool) -> pa.Table:
    """One row for each file; a book without files is one row, too."""
    if not rows.books:
        return CALIBRE_BOOKS.empty_table()
    files_of: defaultdict[int, list[_Row]] = defaultdict(list)
    for book, *file in rows.files:
        files_of[book].append(tuple(file))
    no_files = (None, None, None, None if without_files else Reason.NO_FORMATS.value, None, None)
    covers: list[bytes | None] = []
    books: list[int] = []  # the book of each row, counted from 0
    files: list[_Row] = []
    for n, (book, *_, path, _, has_cover) in enumerate(rows.books):
        folder = folder_path(library, _as_bytes(path))
        covers.append(folder + b"/cover.jpg" if has_cover and isinstance(folder, bytes) else None)
        own = [_file_row(folder, *file) for file in files_of.get(book, ())] or [no_files]
        books += [n] * len(own)
        files += own
    columns = _book_columns(rows, origin, covers)
    if len(books) > len(rows.books):
        repeats = pa.array(books, pa.int64())
        columns = {name: column.take(repeats) for name, column in columns.items()}
    paths, names, formats, reasons, details, sizes = zip(*files, strict=True)
    columns |= {
        "path": pa.array(paths, pa.binary()),
        "file_name": _text_array(names),
        "given_format": _text_array(formats),
        "reason": pa.array(reasons, pa.string()),
        "detail": pa.array(details, pa.string()),
        "size_hint": pa.array(sizes, pa.int64()),
    }
    return pa.table(columns, schema=CALIBRE_BOOKS)


def _file_row(folder: bytes | Refused, extension: Any, name: Any, size: Any) -> _Row:
    """path, file_name, given_format, reason, detail, size_hint."""
    base, given = _as_bytes(name), _as_bytes(extension)[:64].lower()
    path = folder if isinstance(folder, Refused) else file_path(folder, base, given)
    hint = size if isinstance(size, int) and size >= 0 else None
    if isinstance(path, Refused):
        return None, base + b"." + given, given, path.reason.value, path.detail, hint
    return path, base + b"." + given, given, None, None, hint


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


def _is_bad(component: bytes) -> bool:
    return component in (b"", b".", b"..") or len(component) > MAX_COMPONENT or b"\0" in component or b"\\" in component


def folder_path(library: bytes, book_path: bytes) -> bytes | Refused:
    """A book's folder: library/books.path, or why that is no path inside the library."""
    parts = book_path.split(b"/")
    if book_path.startswith(b"/") or b".." in parts:
        return Refused(Reason.OUTSIDE_LIBRARY, f"folder {clean_text(book_path, 300)!r}")
    for part in parts:
        if _is_bad(part):
            return Refused(Reason.BAD_PATH, f"folder {clean_text(book_path, 300)!r}")
    return library + b"/" + book_path


def file_path(folder: bytes, name: bytes, extension: bytes) -> bytes | Refused:
    """A format's file: folder/name.extension, or why that is no name of a file."""
    if not _FORMAT.fullmatch(extension):
        return Refused(Reason.BAD_PATH, f"format {clean_text(extension)!r}")
    base = name + b"." + extension
    if b"/" in base or _is_bad(base):
        return Refused(Reason.BAD_PATH, f"file name {clean_text(base, 300)!r}")
    return folder + b"/" + base


def _fold(name: bytes) -> str:
    """What two names share that differ only in case or in Unicode's normal form."""
    return unicodedata.normalize("NFC", os.fsdecode(name).casefold())


def find_file(path: bytes) -> bytes | Reason:
    """The file that stands for `path` (library/author/title/file) when nothing is there.

    That is the file with the same name but for case and Unicode form, else the only one of its folder with that
    extension; the two folders may differ in case and form, too (a library copied from a system that is blind to
    these). Lists folders, so it is for use after a failed stat only. Raises TransientError as `refuse` does.
    """
    library, *folders, base = path.rsplit(b"/", 3)
    places = [library]
    try:
        for name in folders:
            places = [found for place in places for found in _find_folders(place, name)]
        if not places:
            return Reason.MISSING_DIR
        for place in places:
            if found := _find_in_folder(place, base):
                return found
    except OSError as error:
        return refuse(error, path).reason
    return Reason.MISSING_FILE


def _find_folders(place: bytes, name: bytes) -> list[bytes]:
    exact = os.path.join(place, name)
    if os.path.isdir(exact):
        return [exact]
    names = _list_folder(place, os.stat(place).st_mtime_ns).get(_fold(name), ())
    return [found for found in (os.path.join(place, n) for n in names) if os.path.isdir(found)]


@lru_cache(maxsize=16)
def _list_folder(folder: bytes, _mtime_ns: int) -> dict[str, list[bytes]]:
    """Names of a folder by `_fold`. Kept, for a library's first level is long and asked for each missing book."""
    names: defaultdict[str, list[bytes]] = defaultdict(list)
    for name in sorted(os.listdir(folder)):
        names[_fold(name)].append(name)
    return dict(names)


def _find_in_folder(folder: bytes, base: bytes) -> bytes | None:
    files = [name for name in sorted(os.listdir(folder)) if os.path.isfile(os.path.join(folder, name))]
    wanted, extension = _fold(base), os.path.splitext(base)[1].lower()
    same = [name for name in files if _fold(name) == wanted]
    # A Mac leaves "._Title.epub" beside "Title.epub" on foreign disks, which is no book.
    alike = [n for n in files if os.path.splitext(n)[1].lower() == extension and not n.startswith(b".")]
    if not same and len(alike) != 1:
        return None
    return os.path.join(folder, (same or alike)[0])

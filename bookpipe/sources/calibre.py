"""A Calibre library as batches of CALIBRE_BOOKS rows.

Everything comes from metadata.db; the file system is only asked about a file that is not where
the database says (another case, the only file of its kind in the folder). Calibre's own programs
are never called: even its list command writes to the library.
"""

import gc
import math
import os
import sqlite3
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import CALIBRE_BOOKS
from bookpipe.sources import calibre_db

MAX_TITLE = 2_000  # characters; real titles are shorter, damaged ones reach megabytes
MAX_COMMENTS = 256 * 1024
MAX_COMPONENT = 255  # bytes, the limit of common file systems


@dataclass(frozen=True, slots=True)
class BatchState:
    """What tells whether the rows of an id range changed: compare for equality."""

    first: int
    last: int
    books: int
    last_modified: str

    @property
    def fingerprint(self) -> str:
        return f"{self.books}@{self.last_modified}"


class CalibreLibrary:
    """A library at `path`. Opens the database for each call, so that no lock outlives a batch."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self.path = Path(os.path.abspath(path))
        self.timeout_s = timeout_s

    def check(self) -> None:
        """Raise the error that explains why the library cannot be read, if it cannot."""
        self.uuid()

    def uuid(self) -> str:
        """The library's own key, stable when it moves."""
        with calibre_db.reading(self.path, self.timeout_s) as db:
            row = db.execute("SELECT uuid FROM library_id").fetchone()
        return str(row[0]) if row and row[0] else "unknown"

    def count_books(self) -> int:
        with calibre_db.reading(self.path, self.timeout_s) as db:
            return int(db.execute("SELECT count(*) FROM books").fetchone()[0])

    def id_bounds(self) -> tuple[int, int] | None:
        """Smallest and largest book id; None for an empty library."""
        with calibre_db.reading(self.path, self.timeout_s) as db:
            low, high = db.execute("SELECT (SELECT min(id) FROM books), (SELECT max(id) FROM books)").fetchone()
        return None if low is None else (int(low), int(high))

    def states(self, batch_size: int, start: int = 1) -> list[BatchState]:
        """The non-empty id ranges of `batch_size` ids, counted from `start`, in order. One scan of books."""
        with calibre_db.reading(self.path, self.timeout_s) as db:
            rows = db.execute(
                "SELECT (id - ?) / ? AS n, count(*), max(last_modified) FROM books WHERE id >= ? GROUP BY n ORDER BY n",
                (start, batch_size, start),
            ).fetchall()
        return [
            BatchState(start + n * batch_size, start + (n + 1) * batch_size - 1, count, str(modified))
            for n, count, modified in rows
        ]

    def state(self, first: int, last: int) -> BatchState:
        """The state of one range of ids, both ends included; zero books when it is empty."""
        with calibre_db.reading(self.path, self.timeout_s) as db:
            count, modified = db.execute(
                "SELECT count(*), max(last_modified) FROM books WHERE id BETWEEN ? AND ?", (first, last)
            ).fetchone()
        return BatchState(first, last, count, str(modified))

    def read(self, first: int, last: int, *, without_files: bool = False) -> pa.Table:
        """CALIBRE_BOOKS rows of the ids `first`..`last` (both included), in id order.

        Books without formats end as rejected (`no_formats`) unless `without_files` is set.
        """
        # A batch makes a few hundred thousand small objects and no cycles: collecting costs 40 %.
        collecting = gc.isenabled()
        gc.disable()
        try:
            with calibre_db.reading(self.path, self.timeout_s) as db:
                row = db.execute("SELECT uuid FROM library_id").fetchone()
                rows = _read_range(db, first, last)
            builder = _Rows(f"calibre:{row[0] if row else 'unknown'}", os.fsencode(self.path))
            builder.extend(rows, without_files)
            return builder.table()
        finally:
            if collecting:
                gc.enable()


def _multi(rows: Iterable[tuple[int, Any]]) -> dict[int, list[Any]]:
    grouped: defaultdict[int, list[Any]] = defaultdict(list)
    for book, value in rows:
        grouped[book].append(value)
    return grouped


@dataclass(slots=True)
class _Range:
    books: list[tuple[Any, ...]]
    authors: dict[int, list[tuple[Any, Any]]]
    tags: dict[int, list[Any]]
    languages: dict[int, list[Any]]
    series: dict[int, Any]
    publishers: dict[int, Any]
    ratings: dict[int, Any]
    identifiers: dict[int, list[tuple[Any, Any]]]
    comments: dict[int, Any]
    files: dict[int, list[tuple[Any, Any, Any]]]


def _read_range(db: sqlite3.Connection, first: int, last: int) -> _Range:
    """Ten range queries on indexes, measured faster than one query with aggregates; order is the link's id."""
    bounds = (first, last)

    def named(link: str, column: str, table: str, names: str) -> sqlite3.Cursor:
        return db.execute(
            f"SELECT l.book, {names} FROM {link} l JOIN {table} n ON n.id = l.{column} "
            "WHERE l.book BETWEEN ? AND ? ORDER BY l.book, l.id",
            bounds,
        )

    return _Range(
        books=db.execute(
            "SELECT id, title, sort, author_sort, timestamp, pubdate, last_modified, series_index, path, uuid, "
            "has_cover FROM books WHERE id BETWEEN ? AND ? ORDER BY id",
            bounds,
        ).fetchall(),
        authors=_multi((b, (n, s)) for b, n, s in named("books_authors_link", "author", "authors", "n.name, n.sort")),
        tags=_multi(named("books_tags_link", "tag", "tags", "n.name")),
        languages=_multi(
            db.execute(
                "SELECT l.book, n.lang_code FROM books_languages_link l JOIN languages n ON n.id = l.lang_code "
                "WHERE l.book BETWEEN ? AND ? ORDER BY l.book, l.item_order, l.id",
                bounds,
            )
        ),
        series=dict(named("books_series_link", "series", "series", "n.name")),
        publishers=dict(named("books_publishers_link", "publisher", "publishers", "n.name")),
        ratings=dict(named("books_ratings_link", "rating", "ratings", "n.rating")),
        identifiers=_multi(
            (b, (t, v))
            for b, t, v in db.execute(
                "SELECT book, type, val FROM identifiers WHERE book BETWEEN ? AND ? ORDER BY book, id", bounds
            )
        ),
        comments=dict(db.execute("SELECT book, text FROM comments WHERE book BETWEEN ? AND ?", bounds)),
        files=_multi(
            (b, (f, n, s))
            for b, f, n, s in db.execute(
                "SELECT book, format, name, uncompressed_size FROM data WHERE book BETWEEN ? AND ? ORDER BY book, id",
                bounds,
            )
        ),
    )


def clean_text(value: Any, limit: int = MAX_TITLE) -> str | None:
    """A text column as SQLite really holds it (bytes, numbers and undecodable bytes occur), or None."""
    if value is None:
        return None
    text: str = value if type(value) is str else _as_text(value)
    if not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text[:limit] if len(text) > limit else text


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def clean_number(value: Any) -> float | None:
    """A REAL column as SQLite really holds it; NaN, infinities, text and blobs are None."""
    if type(value) is float or type(value) is int:
        return float(value) if math.isfinite(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def parse_date(value: Any) -> datetime | None:
    """Calibre's text date in UTC. Years up to 101 are its 'undefined', which drifts through time zones."""
    if type(value) is not str:
        return datetime(value, 1, 1, tzinfo=timezone.utc) if isinstance(value, int) and 101 < value < 10_000 else None
    if value[:4] <= "0101":
        return None
    try:
        parsed = datetime.fromisoformat(value)
        parsed = parsed.replace(tzinfo=timezone.utc) if parsed.tzinfo is None else parsed.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return parsed if parsed.year > 101 else None


def _bad_component(part: bytes) -> bool:
    return part in (b"", b".", b"..") or len(part) > MAX_COMPONENT or b"\0" in part or b"\\" in part


def file_path(library: bytes, book_path: str, name: str, extension: str) -> bytes | tuple[Reason, str]:
    """Where a format's file should be: library/books.path/name.extension, or why that is no path inside it."""
    if not extension.isascii() or not extension.replace("_", "").isalnum() or len(extension) > 20:
        return Reason.BAD_PATH, f"format {extension!r}"
    try:
        folder, base = os.fsencode(book_path), os.fsencode(name)
    except UnicodeEncodeError:
        return Reason.BAD_PATH, "a name that no file system can hold"
    base += b"." + extension.encode()
    if b"/" in base or _bad_component(base):
        return Reason.BAD_PATH, f"file name {os.fsdecode(base)!r}"
    parts = folder.split(b"/")
    if folder.startswith(b"/") or b".." in parts:
        return Reason.OUTSIDE_LIBRARY, f"folder {book_path!r}"
    for part in parts:
        if _bad_component(part):
            return Reason.BAD_PATH, f"folder {book_path!r}"
    return b"%s/%s/%s" % (library, folder, base)


def find_file(path: bytes) -> bytes | Reason:
    """The file that stands for `path` when nothing is there: the same name in another case, else the only
    file of that folder with that extension. Lists one folder, only ever after a failed stat."""
    folder, base = os.path.split(path)
    try:
        entries = [e.name for e in os.scandir(folder) if e.is_file()]
    except FileNotFoundError:
        return _find_in_other_case(path)
    except NotADirectoryError:
        return Reason.MISSING_DIR
    except OSError:
        return Reason.UNREADABLE_FILE
    wanted = os.fsdecode(base).casefold()
    same = sorted(e for e in entries if os.fsdecode(e).casefold() == wanted)
    if same:
        return os.path.join(folder, same[0])
    extension = os.path.splitext(base)[1].lower()
    alike = [e for e in entries if os.path.splitext(e)[1].lower() == extension]
    return os.path.join(folder, alike[0]) if len(alike) == 1 else Reason.MISSING_FILE


def _find_in_other_case(path: bytes) -> bytes | Reason:
    """Author and title folders renamed in case only (a library copied from a case-blind file system)."""
    parts = path.rsplit(b"/", 3)
    if len(parts) < 4:
        return Reason.MISSING_DIR
    folder = parts[0]
    for part in parts[1:3]:
        try:
            wanted = os.fsdecode(part).casefold()
            names = [e.name for e in os.scandir(folder) if os.fsdecode(e.name).casefold() == wanted]
        except OSError:
            return Reason.MISSING_DIR
        if not names:
            return Reason.MISSING_DIR
        folder = os.path.join(folder, part if part in names else sorted(names)[0])
    moved = os.path.join(folder, parts[3])
    if folder == os.path.dirname(path):
        return Reason.MISSING_DIR
    try:
        if stat.S_ISREG(os.stat(moved).st_mode):
            return moved
    except OSError:
        pass
    return find_file(moved)


class _Rows:
    """Columns under construction: one entry per file, book fields repeated."""

    def __init__(self, origin: str, library: bytes) -> None:
        self.origin = origin
        self.library = library
        self.columns: dict[str, list[Any]] = {name: [] for name in CALIBRE_BOOKS.names}

    def extend(self, rows: _Range, without_files: bool) -> None:
        for book in rows.books:
            try:
                self._add(book, rows, without_files)
            except (TypeError, ValueError, OverflowError, AttributeError) as error:
                self._append(self._record(book[0]), reason=Reason.BAD_RECORD, detail=str(error)[:200])

    def _record(self, book_id: int) -> dict[str, Any]:
        return {"origin": self.origin, "item": book_id}

    def _append(self, record: dict[str, Any], **own: Any) -> None:
        for name, column in self.columns.items():
            column.append(own[name] if name in own else record.get(name))

    def _add(self, book: tuple[Any, ...], rows: _Range, without_files: bool) -> None:
        book_id, title, title_sort, _, added, pubdate, modified, series_index, path, uuid, has_cover = book
        authors = rows.authors.get(book_id, ())
        rating = rows.ratings.get(book_id)
        folder = path if type(path) is str else clean_text(path) or ""
        record = self._record(book_id)
        record.update(
            title=clean_text(title),
            # Calibre stores a comma inside one author's name as a bar.
            authors=[(clean_text(name) or "").replace("|", ",") for name, _ in authors],
            author_sorts=[clean_text(sort) for _, sort in authors],
            series=clean_text(rows.series.get(book_id)),
            series_index=clean_number(series_index) if book_id in rows.series else None,
            languages=[clean_text(code, 32) for code in rows.languages.get(book_id, ())],
            tags=[clean_text(tag) for tag in rows.tags.get(book_id, ())],
            rating=rating if isinstance(rating, int) and 0 < rating <= 10 else None,
            uuid=clean_text(uuid),
            title_sort=clean_text(title_sort),
            publisher=clean_text(rows.publishers.get(book_id)),
            identifiers=[(clean_text(k) or "", clean_text(v)) for k, v in rows.identifiers.get(book_id, ())],
            comments=clean_text(rows.comments.get(book_id), MAX_COMMENTS),
            pubdate=parse_date(pubdate),
            added=parse_date(added),
            last_modified=parse_date(modified),
        )
        if has_cover:
            cover = file_path(self.library, folder, "cover", "jpg")
            record["cover_path"] = cover if isinstance(cover, bytes) else None
        files = rows.files.get(book_id, ())
        if not files:
            reason = None if without_files else Reason.NO_FORMATS
            self._append(record, reason=reason)
        for extension, name, size in files:
            self._add_file(record, folder, extension, name, size)

    def _add_file(self, record: dict[str, Any], folder: str, extension: Any, name: Any, size: Any) -> None:
        given = (clean_text(extension, 64) or "").lower()
        base = name if type(name) is str else clean_text(name) or ""
        found = file_path(self.library, folder, base, given)
        own: dict[str, Any] = {
            "file_name": clean_text(f"{base}.{given}"),
            "given_format": given,
            "size_hint": size if isinstance(size, int) and 0 <= size < 2**63 else None,
        }
        if isinstance(found, bytes):
            self._append(record, path=found, **own)
        else:
            self._append(record, reason=found[0], detail=found[1], **own)

    def table(self) -> pa.Table:
        return pa.table(
            [_array(self.columns[field.name], field) for field in CALIBRE_BOOKS], schema=CALIBRE_BOOKS
        )  # fmt: skip


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    convert: Callable[..., pa.Array] = pa.array
    return convert(values, type=field.type)

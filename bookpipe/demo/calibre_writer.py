"""Writes Calibre libraries: a metadata.db and the folders beside it, laid out as Calibre 6.13 lays them out.

For demos and tests only. It makes libraries and plays the person who goes on using one (a new book, a
corrected title, a deleted book); bookpipe itself never writes into a library. Nothing depends on the
clock or on chance: uuids come from a seed, times from a clock that ticks once per change.
"""

import random
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from anyascii import anyascii

UNDEFINED_DATE = "0101-01-01 00:00:00+00:00"
CLOCK_START = datetime(2023, 1, 1, tzinfo=timezone.utc)

# Calibre's limits outside Windows: one path part, and what the longest extension (.original_epub) leaves of it.
_PART_LIMIT = 100
_LONGEST_EXTENSION = 14

_UNSAFE_IN_NAMES = re.compile(r'[\x00-\x1f"*+/:<>?\\|]')
_NAME_SUFFIXES = frozenset({"jr", "jr.", "sr", "sr.", "ii", "iii", "iv", "phd", "ph.d."})
_ARTICLE = re.compile(r"(a|an|the)\s+(.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class SampleBook:
    """One book to write: its record and the bytes of its files.

    `id` None takes the next free one. `path` and `file_name` None follow Calibre's own rule. A `rating` counts
    half stars, 0 is none. `pubdate` None is stored as Calibre's undefined date. `added` None is the writer's clock.
    `formats` are pairs of an upper-case format and the file's content, at most one of each format.
    """

    id: int | None
    title: str
    authors: tuple[str, ...] = ("Unknown",)
    author_sorts: tuple[str, ...] | None = None
    series: str | None = None
    series_index: float = 1.0
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    rating: int = 0
    publisher: str | None = None
    identifiers: Mapping[str, str] = field(default_factory=dict)
    comments: str | None = None
    pubdate: datetime | None = None
    added: datetime | None = None
    formats: tuple[tuple[str, bytes], ...] = ()
    cover: bytes | None = None
    path: str | None = None
    file_name: str | None = None


class _Shared(NamedTuple):
    """The statements around one table of names and its link to books."""

    find: str
    insert: str
    link: str
    linked: str
    prune: str


_AUTHORS = _Shared(
    "SELECT id FROM authors WHERE name = ?",
    "INSERT INTO authors (name, sort) VALUES (?, ?)",
    "INSERT OR IGNORE INTO books_authors_link (book, author) VALUES (?, ?)",
    "SELECT author FROM books_authors_link WHERE book = ?",
    "DELETE FROM authors WHERE id = ? AND NOT EXISTS (SELECT 1 FROM books_authors_link WHERE author = authors.id)",
)
_SERIES = _Shared(
    "SELECT id FROM series WHERE name = ?",
    "INSERT INTO series (name) VALUES (?)",
    "INSERT INTO books_series_link (book, series) VALUES (?, ?)",
    "SELECT series FROM books_series_link WHERE book = ?",
    "DELETE FROM series WHERE id = ? AND NOT EXISTS (SELECT 1 FROM books_series_link WHERE series = series.id)",
)
_TAGS = _Shared(
    "SELECT id FROM tags WHERE name = ?",
    "INSERT INTO tags (name) VALUES (?)",
    "INSERT OR IGNORE INTO books_tags_link (book, tag) VALUES (?, ?)",
    "SELECT tag FROM books_tags_link WHERE book = ?",
    "DELETE FROM tags WHERE id = ? AND NOT EXISTS (SELECT 1 FROM books_tags_link WHERE tag = tags.id)",
)
_PUBLISHERS = _Shared(
    "SELECT id FROM publishers WHERE name = ?",
    "INSERT INTO publishers (name) VALUES (?)",
    "INSERT INTO books_publishers_link (book, publisher) VALUES (?, ?)",
    "SELECT publisher FROM books_publishers_link WHERE book = ?",
    "DELETE FROM publishers WHERE id = ?"
    " AND NOT EXISTS (SELECT 1 FROM books_publishers_link WHERE publisher = publishers.id)",
)
_LANGUAGES = _Shared(
    "SELECT id FROM languages WHERE lang_code = ?",
    "INSERT INTO languages (lang_code) VALUES (?)",
    "INSERT OR IGNORE INTO books_languages_link (book, lang_code) VALUES (?, ?)",
    "SELECT lang_code FROM books_languages_link WHERE book = ?",
    "DELETE FROM languages WHERE id = ?"
    " AND NOT EXISTS (SELECT 1 FROM books_languages_link AS link WHERE link.lang_code = languages.id)",
)
_RATINGS = _Shared(
    "SELECT id FROM ratings WHERE rating = ?",
    "INSERT INTO ratings (rating) VALUES (?)",
    "INSERT INTO books_ratings_link (book, rating) VALUES (?, ?)",
    "SELECT rating FROM books_ratings_link WHERE book = ?",
    "DELETE FROM ratings WHERE id = ?"
    " AND NOT EXISTS (SELECT 1 FROM books_ratings_link AS link WHERE link.rating = ratings.id)",
)
_ALL_SHARED = (_AUTHORS, _SERIES, _TAGS, _PUBLISHERS, _LANGUAGES, _RATINGS)


def title_sort(title: str) -> str:
    """A title as it is sorted, a leading English article last: "The Tale" becomes "Tale, The"."""
    match = _ARTICLE.fullmatch(title.strip())
    return f"{match[2]}, {match[1]}" if match else title


def author_sort(name: str) -> str:
    """A name as it is sorted: "Jan Novák" becomes "Novák, Jan"; a name with a comma is taken as sorted already."""
    words = name.split()
    if "," in name or len(words) < 2:
        return name
    last = len(words) - 1
    while last > 1 and words[last].lower() in _NAME_SUFFIXES:
        last -= 1
    return " ".join([words[last] + ",", *words[:last], *words[last + 1 :]])


def stored_author(name: str) -> str:
    """A name as the authors table keeps it: Calibre splits lists of authors at commas, so a name may hold none."""
    return name.replace(",", "|")


def stored_time(moment: datetime) -> str:
    """A moment as Calibre's text: `YYYY-MM-DD HH:MM:SS[.ffffff]+00:00`, in UTC."""
    return moment.astimezone(timezone.utc).isoformat(" ")


def _ascii_part(text: str) -> str:
    clean = _UNSAFE_IN_NAMES.sub("_", anyascii(text)).strip().replace("..", "_")
    if clean.startswith("."):
        clean = "_" + clean[1:]
    if clean.endswith("."):
        clean = clean[:-1] + "_"
    return clean


def book_path(book_id: int, title: str, author: str) -> str:
    """Calibre's folder of a book, relative to the library: `Author/Title (id)`, all ASCII.

    Only half of the id's length is taken off the limit, so that the second part can have up to 105 characters.
    """
    suffix = f" ({book_id})"
    limit = _PART_LIMIT - len(suffix) // 2 - 2
    author_part = _ascii_part(author)[:limit].rstrip(" .") or "Unknown"
    title_part = _ascii_part(title.lstrip())[:limit].rstrip() or "Unknown"
    return f"{author_part}/{title_part}{suffix}"


def file_name(title: str, author: str) -> str:
    """Calibre's name of a book's files without extension: `Title - Author`, ASCII, 42 + 3 + 42 characters at most.

    An author cut off behind a word leaves a space at the end.
    """
    limit = (_PART_LIMIT - _LONGEST_EXTENSION - 2) // 2
    title_part = _ascii_part(title.lstrip())[:limit].rstrip() or "Unknown"
    return f"{title_part} - {_ascii_part(author)[:limit] or 'Unknown'}".rstrip(".")


def create_database(connection: sqlite3.Connection, library_uuid: str) -> None:
    """Put the schema, the library's uuid and a few preferences into an empty database in autocommit mode."""
    schema = resources.files("bookpipe.demo").joinpath("calibre_schema.sql").read_text("utf-8")
    connection.executescript(f"BEGIN;\n{schema}\nCOMMIT;")
    connection.execute("INSERT INTO library_id (uuid) VALUES (?)", (library_uuid,))
    preferences = [("bools_are_tristate", "true"), ("user_categories", "{}"), ("grouped_search_terms", "{}")]
    connection.executemany("INSERT INTO preferences (key, val) VALUES (?, ?)", preferences)


@contextmanager
def set_aside(connection: sqlite3.Connection, *kinds: str) -> Iterator[None]:
    """Drop every "trigger" and/or "index" of the database and create them again at the end.

    Use it inside a transaction: after an error they come back by its rollback, not by this function.
    """
    wanted = [
        (kind, name, sql)
        for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        if kind in kinds
    ]
    for kind, name, _ in wanted:
        connection.execute(f'DROP {kind} "{name}"')
    yield
    for _, _, sql in wanted:
        connection.execute(sql)


class CalibreWriter:
    """Creates or opens the library in a folder; use it as a context manager.

    Leaving it commits, leaving it by an exception rolls the rows back (files already written stay).
    `commit_every` also commits after that many changes; 0 keeps everything in one transaction.
    Methods that take a book id raise LookupError when the library has no such book.
    """

    def __init__(self, library: Path, *, seed: int = 1, commit_every: int = 0) -> None:
        self.library = library
        self.connection: sqlite3.Connection
        self._seed = seed
        self._commit_every = commit_every
        self._changes = 0
        self._random = random.Random(f"library {seed}")
        self._now = CLOCK_START

    def __enter__(self) -> "CalibreWriter":
        self.library.mkdir(parents=True, exist_ok=True)
        database = self.library / "metadata.db"
        is_new = not database.exists()
        self.connection = sqlite3.connect(database, timeout=10, isolation_level=None)
        self.connection.create_function("title_sort", 1, title_sort, deterministic=True)
        self.connection.create_function("uuid4", 0, self._uuid4)
        if is_new:
            create_database(self.connection, self._uuid4())
        self.connection.execute("BEGIN")
        sequence = self._value("SELECT seq FROM sqlite_sequence WHERE name = 'books'")
        # The sequence never goes back, so a library that is opened again with the same seed gets new uuids.
        self._random = random.Random(f"books {self._seed} {sequence}")
        latest = self._value("SELECT max(last_modified) FROM books")
        self._now = max(datetime.fromisoformat(str(latest)), CLOCK_START) if latest else CLOCK_START
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.connection.in_transaction:
            self.connection.execute("COMMIT" if kind is None else "ROLLBACK")
        self.connection.close()

    def add(self, book: SampleBook) -> int:
        """Write a book's files and rows, and return its id.

        Raises ValueError when `path` or `file_name` would put a file outside the library.
        """
        now = self._tick()
        rows = self.connection
        # The id is part of the path, so the row comes first and gets its path afterwards, as Calibre does it.
        book_id = rows.execute(
            "INSERT INTO books (id, title, timestamp, pubdate, series_index, author_sort, has_cover, last_modified)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                book.id,
                book.title,
                stored_time(book.added or now),
                stored_time(book.pubdate) if book.pubdate else UNDEFINED_DATE,
                book.series_index,
                " & ".join(self._author_sorts(book)),
                book.cover is not None,
                stored_time(now),
            ),
        ).lastrowid
        assert book_id is not None
        author = book.authors[0] if book.authors else "Unknown"
        path = book_path(book_id, book.title, author) if book.path is None else book.path
        name = file_name(book.title, author) if book.file_name is None else book.file_name
        rows.execute("UPDATE books SET path = ? WHERE id = ?", (path, book_id))
        self._add_links(book_id, book)
        rows.executemany(
            "INSERT INTO identifiers (book, type, val) VALUES (?, ?, ?)",
            [(book_id, kind, value) for kind, value in book.identifiers.items()],
        )
        if book.comments is not None:
            rows.execute("INSERT INTO comments (book, text) VALUES (?, ?)", (book_id, book.comments))
        for extension, content in book.formats:
            self._write(f"{path}/{name}.{extension.lower()}", content)
            rows.execute(
                "INSERT INTO data (book, format, uncompressed_size, name) VALUES (?, ?, ?, ?)",
                (book_id, extension, len(content), name),
            )
        if book.cover is not None:
            self._write(f"{path}/cover.jpg", book.cover)
        self._changed(book_id)
        return book_id

    def touch(self, book_id: int, *, title: str | None = None) -> None:
        """Edit a book: always a new `last_modified`; with a title also its folder and files get their new names."""
        self._path(book_id)
        now = stored_time(self._tick())
        self.connection.execute("UPDATE books SET last_modified = ? WHERE id = ?", (now, book_id))
        if title is not None:
            self.connection.execute("UPDATE books SET title = ? WHERE id = ?", (title, book_id))
            self._rename(book_id, title)
        self._changed(book_id)

    def remove(self, book_id: int) -> None:
        """Delete a book: rows, names that no other book uses, its folder, and its author's folder when that is empty.

        A stored path that leads out of the library is left alone.
        """
        path = self._path(book_id)
        unlinked = [
            (shared.prune, row)
            for shared in _ALL_SHARED
            for row in self.connection.execute(shared.linked, (book_id,)).fetchall()
        ]
        self.connection.execute("DELETE FROM books WHERE id = ?", (book_id,))
        for prune, row in unlinked:
            self.connection.execute(prune, row)
        folder = self.library / path
        if path and self._is_inside(folder) and folder.is_dir():
            shutil.rmtree(folder)
            if folder.parent.resolve() != self.library.resolve() and not any(folder.parent.iterdir()):
                folder.parent.rmdir()
        self.connection.execute("DELETE FROM metadata_dirtied WHERE book = ?", (book_id,))
        self._count_change()

    def files(self, book_id: int) -> dict[str, Path]:
        """Where the rows say a book's files are, by upper-case format; they need not be there."""
        folder = self.library / self._path(book_id)
        rows = self.connection.execute("SELECT format, name FROM data WHERE book = ? ORDER BY id", (book_id,))
        return {extension: folder / f"{name}.{extension.lower()}" for extension, name in rows}

    def _add_links(self, book_id: int, book: SampleBook) -> None:
        for name, sort in zip(book.authors, self._author_sorts(book), strict=True):
            self._link(_AUTHORS, book_id, stored_author(name), sort)
        if book.series is not None:
            self._link(_SERIES, book_id, book.series)
        for tag in book.tags:
            self._link(_TAGS, book_id, tag)
        for code in book.languages:
            self._link(_LANGUAGES, book_id, code)
        if book.publisher is not None:
            self._link(_PUBLISHERS, book_id, book.publisher)
        if book.rating:
            self._link(_RATINGS, book_id, book.rating)

    def _link(self, shared: _Shared, book_id: int, *values: str | int) -> None:
        name_id = self._value(shared.find, values[0])
        if name_id is None:
            name_id = self.connection.execute(shared.insert, values).lastrowid
        self.connection.execute(shared.link, (book_id, name_id))

    def _rename(self, book_id: int, title: str) -> None:
        author = self._value(
            "SELECT replace(authors.name, '|', ',') FROM books_authors_link AS link"
            " JOIN authors ON authors.id = link.author WHERE link.book = ? ORDER BY link.id LIMIT 1",
            book_id,
        )
        old_folder = self.library / self._path(book_id)
        path, name = book_path(book_id, title, str(author or "Unknown")), file_name(title, str(author or "Unknown"))
        for old_file in self.files(book_id).values():
            if old_file.exists():
                old_file.rename(old_file.with_name(name + old_file.suffix))
        new_folder = self.library / path
        if old_folder.is_dir() and old_folder != new_folder:
            new_folder.parent.mkdir(parents=True, exist_ok=True)
            old_folder.rename(new_folder)
        self.connection.execute("UPDATE books SET path = ? WHERE id = ?", (path, book_id))
        self.connection.execute("UPDATE data SET name = ? WHERE book = ?", (name, book_id))

    def _write(self, relative: str, content: bytes) -> None:
        file = self.library / relative
        if not self._is_inside(file):
            raise ValueError(f"{relative!r} leads out of the library; give a path inside it")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def _is_inside(self, path: Path) -> bool:
        return self.library.resolve() in path.resolve().parents

    def _path(self, book_id: int) -> str:
        path = self._value("SELECT path FROM books WHERE id = ?", book_id)
        if path is None:
            raise LookupError(f"the library has no book {book_id}")
        return str(path)

    def _value(self, query: str, *parameters: str | int) -> str | int | None:
        row = self.connection.execute(query, parameters).fetchone()
        return row[0] if row else None

    def _author_sorts(self, book: SampleBook) -> tuple[str, ...]:
        return tuple(map(author_sort, book.authors)) if book.author_sorts is None else book.author_sorts

    def _changed(self, book_id: int) -> None:
        self.connection.execute("INSERT OR IGNORE INTO metadata_dirtied (book) VALUES (?)", (book_id,))
        self._count_change()

    def _count_change(self) -> None:
        self._changes += 1
        if self._commit_every and self._changes % self._commit_every == 0:
            self.connection.execute("COMMIT")
            self.connection.execute("BEGIN")

    def _tick(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now

    def _uuid4(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

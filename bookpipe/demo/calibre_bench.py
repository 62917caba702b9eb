"""Large Calibre libraries for benchmarks: rows and file sizes as in life, contents as cheap as they can be."""

import random
import sqlite3
import struct
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bookpipe.demo.calibre_content import (
    FREE_TAGS,
    GENRES,
    LANGUAGE_WEIGHTS,
    LANGUAGES,
    PUBLISHERS,
    Credit,
    Language,
    draw_credits,
)
from bookpipe.demo.calibre_writer import (
    UNDEFINED_DATE,
    author_sort,
    book_path,
    create_database,
    file_name,
    set_aside,
    title_sort,
)

_CHUNK = 10_000
_SEED = "bench library"

_INSERTS = {
    "authors": "INSERT INTO authors (id, name, sort) VALUES (?, ?, ?)",
    "series": "INSERT INTO series (id, name, sort) VALUES (?, ?, ?)",
    "books": "INSERT INTO books (id, title, sort, timestamp, pubdate, series_index, author_sort, path, uuid,"
    " last_modified) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "authors_link": "INSERT INTO books_authors_link (book, author) VALUES (?, ?)",
    "series_link": "INSERT INTO books_series_link (book, series) VALUES (?, ?)",
    "tags_link": "INSERT OR IGNORE INTO books_tags_link (book, tag) VALUES (?, ?)",
    "languages_link": "INSERT INTO books_languages_link (book, lang_code) VALUES (?, ?)",
    "ratings_link": "INSERT INTO books_ratings_link (book, rating) VALUES (?, ?)",
    "publishers_link": "INSERT INTO books_publishers_link (book, publisher) VALUES (?, ?)",
    "identifiers": "INSERT INTO identifiers (book, type, val) VALUES (?, ?, ?)",
    "comments": "INSERT INTO comments (book, text) VALUES (?, ?)",
    "data": "INSERT INTO data (book, format, uncompressed_size, name) VALUES (?, 'EPUB', ?, ?)",
}


def make_bench_library(
    path: Path,
    books: int,
    file_size: int = 16384,
    files: bool = True,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Make a library of so many books, ids from 1, one EPUB of `file_size` bytes each, no two alike.

    The files start like an EPUB and go on as noise. Without `files` there are only rows. The content is the
    same every time. `progress` is called with the number of books written so far, every 10,000.
    Raises FileExistsError when the folder holds a library already, ValueError below 128 bytes a file.
    """
    if file_size < 128:
        raise ValueError(f"file_size is {file_size}; the start of an EPUB and its number need 128 bytes")
    if (path / "metadata.db").exists():
        raise FileExistsError(f"{path} holds a Calibre library already; choose an empty folder")
    path.mkdir(parents=True, exist_ok=True)
    maker = _RowMaker(file_size)
    epubs = _Epubs(path, file_size)
    connection = sqlite3.connect(path / "metadata.db", isolation_level=None)
    try:
        create_database(connection, str(uuid.uuid5(uuid.NAMESPACE_URL, _SEED)))
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        connection.execute("BEGIN")
        with set_aside(connection, "trigger", "index"):
            maker.write_names(connection)
            for first in range(1, books + 1, _CHUNK):
                last = min(first + _CHUNK - 1, books)
                for book_id in range(first, last + 1):
                    folder, name = maker.add(book_id)
                    if files:
                        epubs.write(book_id, folder, name)
                maker.flush(connection)
                if progress is not None:
                    progress(last)
        connection.execute("COMMIT")
    finally:
        connection.close()


class _Epubs:
    """Writes files that are recognised as EPUB: a zip whose first member is the stored mimetype, then noise."""

    def __init__(self, library: Path, size: int) -> None:
        mimetype, content = b"mimetype", b"application/epub+zip"
        fields = (20, 0, 0, 0, 0x21, zlib.crc32(content), len(content), len(content), len(mimetype), 0)
        self._head = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", *fields) + mimetype + content
        self._noise = random.Random(_SEED).randbytes(size + 4096)
        self._padding = size - len(self._head) - 8
        self._library = library
        self._author_folders: set[str] = set()

    def write(self, book_id: int, folder: str, name: str) -> None:
        author = folder.partition("/")[0]
        if author not in self._author_folders:
            (self._library / author).mkdir(exist_ok=True)
            self._author_folders.add(author)
        directory = self._library / folder
        directory.mkdir()
        start = book_id % 4096
        content = b"".join((self._head, book_id.to_bytes(8, "big"), self._noise[start : start + self._padding]))
        (directory / f"{name}.epub").write_bytes(content)


class _RowMaker:
    """Collects the rows of books until they are flushed."""

    def __init__(self, file_size: int) -> None:
        rng = self._rng = random.Random(_SEED)
        self._file_size = file_size
        self._rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in _INSERTS}
        self._credits = draw_credits(rng, in_series=0.30)
        self._people: list[tuple[str, str, Language]] = []  # name, sort, language
        self._people_by_language: Counter[str] = Counter()
        self._series = 0
        # Drawing every word of every book would take most of the time: titles and texts are cut from these.
        self._titles = {language.code: [language.title(rng) for _ in range(2000)] for language in LANGUAGES}
        self._prose = {language.code: language.prose(rng, 500) for language in LANGUAGES}
        self._tags = list(dict.fromkeys([*GENRES, *FREE_TAGS, *(f"shelf {number}" for number in range(1, 600))]))
        self._publishers = [*PUBLISHERS, *(f"Imprint {number}" for number in range(1, 2000))]
        self._language_ids = {language.code: number for number, language in enumerate(LANGUAGES, 1)}

    def write_names(self, connection: sqlite3.Connection) -> None:
        """The tables of names that do not grow with the library."""
        connection.executemany("INSERT INTO tags (name) VALUES (?)", [(name,) for name in self._tags])
        connection.executemany("INSERT INTO publishers (name) VALUES (?)", [(name,) for name in self._publishers])
        connection.executemany(
            "INSERT INTO ratings (id, rating) VALUES (?, ?)", [(value, value) for value in range(1, 11)]
        )
        codes = [(number, code) for code, number in self._language_ids.items()]
        connection.executemany("INSERT INTO languages (id, lang_code) VALUES (?, ?)", codes)

    def flush(self, connection: sqlite3.Connection) -> None:
        for table, rows in self._rows.items():
            connection.executemany(_INSERTS[table], rows)
            rows.clear()

    def add(self, book_id: int) -> tuple[str, str]:
        """Collect one book's rows; returns its folder and the name of its file without extension."""
        rng, rows = self._rng, self._rows
        credit = next(self._credits)
        people = [self._person(number) for number in credit.authors]
        first_author, _, language = people[0]
        titles = self._titles[language.code]
        title = titles[int(rng.random() * len(titles))]
        if rng.random() < 0.6:
            title = f"{title}: {titles[int(rng.random() * len(titles))]}"
        folder, name = book_path(book_id, title, first_author), file_name(title, first_author)
        added = f"20{rng.randrange(12, 23)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02} 12:00:00+00:00"
        published = f"{rng.randrange(1890, 2022)}-06-01 00:00:00+00:00" if rng.random() < 0.8 else UNDEFINED_DATE
        book_uuid = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        sorts = " & ".join([sort for _, sort, _ in people])
        row = (
            book_id,
            title,
            title_sort(title),
            added,
            published,
            credit.series_index,
            sorts,
            folder,
            book_uuid,
            added,
        )
        rows["books"].append(row)
        rows["data"].append((book_id, self._file_size, name))
        rows["authors_link"].extend([(book_id, number + 1) for number in credit.authors])
        rows["languages_link"].append((book_id, self._language_ids[language.code]))
        self._add_series(book_id, credit, language)
        for _ in range(rng.choice((1, 1, 2, 3))):
            rows["tags_link"].append((book_id, self._popular(len(self._tags))))
        if rng.random() < 0.8:
            rows["publishers_link"].append((book_id, self._popular(len(self._publishers))))
        if rng.random() < 0.4:
            rows["ratings_link"].append((book_id, rng.choice((4, 6, 6, 8, 8, 8, 9, 10))))
        if rng.random() < 0.5:
            rows["identifiers"].append((book_id, "isbn", f"978{rng.randrange(10**10):010}"))
        if rng.random() < 0.65:
            prose = self._prose[language.code]
            start, length = int(rng.random() * (len(prose) - 1500)), rng.randrange(500, 1500)
            rows["comments"].append((book_id, f"<div>\n<p>{prose[start : start + length]}</p>\n</div>"))
        return folder, name

    def _person(self, number: int) -> tuple[str, str, Language]:
        if number == len(self._people):
            language = self._rng.choices(LANGUAGES, LANGUAGE_WEIGHTS)[0]
            name = language.person(self._people_by_language[language.code])
            self._people_by_language[language.code] += 1
            self._people.append((name, author_sort(name), language))
            self._rows["authors"].append((number + 1, name, author_sort(name)))
        return self._people[number]

    def _add_series(self, book_id: int, credit: Credit, language: Language) -> None:
        if credit.series is None:
            return
        if credit.series == self._series:
            self._series += 1
            name = f"{language.series_name(self._rng)} {self._series}"
            self._rows["series"].append((self._series, name, title_sort(name)))
        self._rows["series_link"].append((book_id, credit.series + 1))

    def _popular(self, count: int) -> int:
        """A row id up to `count`: the first is drawn most, the last least, as Zipf's law has it."""
        return int((count + 1) ** self._rng.random())

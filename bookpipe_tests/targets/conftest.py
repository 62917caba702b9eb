"""Installations of the targets under test."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from bookpipe.demo.embedded_server import ServerInfo, delete_server, start_server
from bookpipe.demo.mybookshelf2_database import create_mybookshelf2
from bookpipe_tests.targets.book_rows import many_books
from bookpipe_tests.targets.shelf import Shelf
from bookpipe_tests.targets.undoing import GENRES, book, use

_numbers = count(1)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The folder of a collection's files."""
    folder = tmp_path / "library"
    folder.mkdir()
    return folder


@pytest.fixture
def shelf(postgres: ServerInfo, mybookshelf2_url: str, mybookshelf2_dir: Path) -> Shelf:
    """An empty MyBookshelf2."""
    database = mybookshelf2_url.rsplit("/", 1)[1]
    return Shelf(mybookshelf2_url, mybookshelf2_dir, postgres.socket_url(database))


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """A server for tests that stop it."""
    directory = tmp_path_factory.mktemp("server")
    try:
        yield start_server(directory, durable=False)
    finally:
        delete_server(directory)


@pytest.fixture
def lonely_shelf(own_server: ServerInfo, mybookshelf2_dir: Path) -> Shelf:
    """An empty MyBookshelf2 on a server that no other test uses."""
    database = f"lonely_{next(_numbers)}"
    url = create_mybookshelf2(own_server.superuser_url, database)
    return Shelf(url, mybookshelf2_dir, own_server.socket_url(database))


@pytest.fixture
def another_shelf(postgres: ServerInfo, mybookshelf2_template: str, tmp_path: Path) -> Iterator[Shelf]:
    """A second empty MyBookshelf2, to compare with."""
    database = f"another_{next(_numbers)}"
    names = {"database": sql.Identifier(database), "template": sql.Identifier(mybookshelf2_template)}
    (tmp_path / "another" / "books").mkdir(parents=True)
    for name in ("thumbs", "uploads", "converted"):
        (tmp_path / "another" / name).mkdir()
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {database} TEMPLATE {template} STRATEGY FILE_COPY").format(**names))
        server.execute(sql.SQL("GRANT ALL PRIVILEGES ON DATABASE {database} TO ebooks").format(**names))
        yield Shelf(postgres.url(database, "ebooks", "ebooks"), tmp_path / "another", postgres.socket_url(database))
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {database} WITH (FORCE)").format(**names))


@pytest.fixture
def used_shelf(shelf: Shelf, library: Path) -> Shelf:
    """A shelf somebody uses already: books of the application, and of an earlier partition."""
    shelf.load(many_books(library, 9_001, 20), "books-0", options=GENRES)
    use(shelf, "author", last_name="Last1", first_name="First1")
    use(shelf, "author", last_name="Of No", first_name="Book")
    use(shelf, "series", title="Of no book")
    use(shelf, "ebook", title="Theirs", language_id=2, base_dir="Last1 First1/Theirs(en)")
    use(shelf, "source", ebook_id=book(shelf, "Theirs"), location="Last1 First1/Theirs(en)/t.epub", format_id=8,
        size=1, hash="x")  # fmt: skip
    folder = shelf.books / "Last1 First1" / "Theirs(en)"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("t.epub", "cover.jpg"):
        (folder / name).write_bytes(b"t")
    (shelf.data_dir / "thumbs" / "1000000.jpg").touch()
    return shelf

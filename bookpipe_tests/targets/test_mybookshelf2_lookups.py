"""What MyBookshelf2 already has is found by the application's own rules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bookpipe.model.book_plans import SEPARATOR, Known, author_key, book_key, file_key, source_key
from bookpipe.pipelines.books import look_up
from bookpipe.targets.mybookshelf2 import lookups
from bookpipe.targets.postgres import Connection
from bookpipe_tests.factories import hashed_row, hashed_table
from bookpipe_tests.targets.book_rows import ORIGIN, book_rows, many_books
from bookpipe_tests.targets.shelf import Shelf

SHA1, OTHER = "0" * 39 + "a", "0" * 39 + "b"


@pytest.fixture
def connection(shelf: Shelf) -> Iterator[Connection]:
    with shelf.target.connect() as connection:
        yield connection


def insert(shelf: Shelf, table: str, **columns: Any) -> int:
    audit = {} if table in ("language", "genre", "format", "synonym") else {"created": "now", "modified": "now"}
    values = {"version_id": 1, **audit, **columns}
    marks = ", ".join(["%s"] * len(values))
    return int(
        shelf.one(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks}) RETURNING id", *values.values())
    )  # fmt: skip


def ebook(shelf: Shelf, title: str = "Theirs", base_dir: str = "Theirs(en)") -> int:
    return insert(shelf, "ebook", title=title, language_id=2, base_dir=base_dir)


def source(shelf: Shelf, ebook_id: int, sha1: str, size: int, location: str = "x") -> int:
    return insert(shelf, "source", ebook_id=ebook_id, location=location, format_id=8, size=size, hash=sha1)


def test_a_file_is_known_by_size_and_lower_case_hash_and_the_oldest_counts(
    shelf: Shelf, connection: Connection
) -> None:
    book = ebook(shelf)
    first = source(shelf, book, SHA1, 10)
    source(shelf, book, SHA1, 10)
    other_size = source(shelf, book, SHA1, 11)
    source(shelf, book, OTHER.upper(), 10)
    known = Known()
    lookups.look_up_sources(connection, known, [(SHA1, 10), (SHA1, 11), (SHA1, 12), (OTHER, 10)])
    assert known.sources == {source_key(SHA1, 10): first, source_key(SHA1, 11): other_size}


def test_authors_are_known_by_exact_names(shelf: Shelf, connection: Connection) -> None:
    rows = [("Doe", "John"), ("Doe", None), ("doe", "john"), ("Doe", ""), ("O'Brien, \\x", "%_'\""), ("Doe", "John")]
    ids = [insert(shelf, "author", last_name=last, first_name=first) for last, first in rows]
    known = Known()
    lookups.look_up_authors(connection, known, [*rows[:3], rows[4], ("DOE", "John"), ("Doe", "Jon"), ("John", None)])
    assert known.authors == {author_key(*rows[n]): ids[n] for n in (0, 1, 2, 4)}


@pytest.mark.parametrize("names", [[], [("Doe", None)], [("Doe", "John")]])
def test_no_authors_of_one_kind_find_none(shelf: Shelf, connection: Connection, names: list[lookups.Name]) -> None:
    insert(shelf, "author", last_name="Doe", first_name="")
    known = Known()
    lookups.look_up_authors(connection, known, names)
    assert known.authors == {}


def test_series_are_known_whatever_the_case(shelf: Shelf, connection: Connection) -> None:
    first = insert(shelf, "series", title="ŽEBRA Straße")
    insert(shelf, "series", title="žebra straße")
    known = Known()
    lookups.look_up_series(connection, known, ["Žebra Straße", "Zebra Strasse"])
    assert known.series == {"žebra straße": first}


def test_names_and_synonyms_are_known_in_lower_case(shelf: Shelf, connection: Connection) -> None:
    latin = insert(shelf, "language", code="la", name="Latin")
    for other, ours, category in (
        ("LAT", "la", "LNG"), ("Latein", "LATIN", "LGN"), ("Kochen", "adventure", "GNR"), ("gone", "zz", "LNG"),
        ("gone", "zz", "LGN"), ("gone", "zz", "GNR"), ("English", "cs", "LGN"),
    ):  # fmt: skip
        insert(shelf, "synonym", other_name=other, our_name=ours, category=category)
    known = Known()
    lookups.look_up_names(connection, known)
    assert known.languages == {"cs": 1, "en": 2, "sk": 3, "ru": 4, "la": latin}
    assert known.language_synonyms == {"eng": 2, "ces": 1, "slk": 3, "lat": latin}
    assert known.language_names["latein"] == known.language_names["latin"] == latin
    assert known.language_names["english"] == 2, "a name of its own goes before a synonym"
    assert known.genres["kochen"] == known.genres["adventure"] == 1
    assert known.genres["sci-fi"] == known.genres["science fiction"]
    assert known.formats["epub"] == 8
    assert not {"gone", "zz"} & {*known.languages, *known.language_synonyms, *known.language_names, *known.genres}


def test_what_earlier_loads_made_of_a_book_is_known(shelf: Shelf, library: Path) -> None:
    rows = book_rows(library, 5, files={"epub": b"e", "pdf": b"p"})
    result = shelf.load(hashed_table(rows))
    known = Known.from_arrow(look_up(shelf.target, hashed_table([hashed_row(origin=ORIGIN, item=5, title="Renamed")])))
    book = result.outcomes["ebook_id"][0].as_py()
    sources = result.outcomes["source_id"].to_pylist()
    assert known.books == {book_key(ORIGIN, 5): book}
    assert known.files == {file_key(ORIGIN, 5, kind): i for kind, i in zip(("epub", "pdf"), sources, strict=True)}
    assert known.by_id("base_dirs") == {book: "Author Ann/A Title(en)"}
    assert set(known.by_id("locations")) == set(sources)


def test_what_is_deleted_or_of_another_collection_is_not_known(shelf: Shelf, library: Path) -> None:
    shelf.load(hashed_table([*book_rows(library, 5), *book_rows(library, 6)]))
    shelf.sql("DELETE FROM ebook WHERE id = (SELECT min(id) FROM ebook)")
    for origin, items, found in ((ORIGIN, (5, 6), 1), (ORIGIN, (7, 8), 0), ("calibre:other", (5, 6), 0)):
        table = hashed_table([hashed_row(origin=origin, item=item) for item in items])
        known = Known.from_arrow(look_up(shelf.target, table))
        assert (len(known.books), len(known.files)) == (found, found)


def test_an_ebook_that_has_a_file_of_the_batch_can_be_joined(shelf: Shelf, library: Path) -> None:
    theirs = ebook(shelf, "Dune", "Herbert Frank/Dune(en)")
    author = insert(shelf, "author", last_name="Herbert", first_name="Frank")
    shelf.sql("INSERT INTO ebook_authors VALUES (%s, %s)", theirs, author)
    rows = book_rows(library, 1, "Dune", authors=["F. Herbert"], files={"epub": b"same", "pdf": b"more"})
    source(shelf, theirs, rows[0]["sha1"], rows[0]["size"], "Herbert Frank/Dune(en)/Dune.epub")
    known = Known.from_arrow(look_up(shelf.target, hashed_table(rows)))
    # Without a journal nothing is asked about joining: a first load makes one, and looks again.
    assert known.source_ebooks == {}
    result = shelf.load(hashed_table(rows))
    assert result.outcomes["ebook_id"].to_pylist() == [None, theirs]
    assert result.outcomes["location"][1].as_py() == "Herbert Frank/Dune(en)/Herbert F. - Dune.pdf"
    assert result.new_ebooks == 0


def test_another_book_of_the_same_collection_is_not_joined(shelf: Shelf, library: Path) -> None:
    first = book_rows(library, 1, "Dune", files={"epub": b"same"})
    second = book_rows(library, 2, "Dune", files={"epub": b"same", "pdf": b"more"})
    shelf.load(hashed_table(first))
    result = shelf.load(hashed_table(second))
    assert result.new_ebooks == 1
    assert result.counts.existing == 1


def test_folders_and_files_that_somebody_has_are_found(shelf: Shelf, connection: Connection) -> None:
    book = ebook(shelf, base_dir="A/B(en)")
    shelf.sql("UPDATE ebook SET cover = 'A/B(en)/cover.jpg'")
    source(shelf, book, SHA1, 1, "A/B(en)/b.epub")
    paths = ["A/B(en)", "A/B(cs)", "a/b(en)", "A/B(en)/b.epub", "A/B(en)/cover.jpg", "A/B(en)/b.pdf"]
    assert lookups.taken_base_dirs(connection, paths) == {"A/B(en)"}
    assert lookups.named_files(connection, paths) == {"A/B(en)/b.epub", "A/B(en)/cover.jpg"}
    assert lookups.named_files(connection, []) == set()
    assert lookups.taken_base_dirs(connection, []) == set()


def test_what_was_found_and_deleted_since_is_noticed(shelf: Shelf, connection: Connection, library: Path) -> None:
    table = many_books(library, 1, 10)
    shelf.load(table)
    known = Known.from_arrow(look_up(shelf.target, table))
    assert lookups.still_there(connection, known)
    assert lookups.still_there(connection, Known())
    shelf.sql("DELETE FROM source WHERE id = (SELECT max(id) FROM source)")
    assert not lookups.still_there(connection, known)
    known = Known(books={f"x{SEPARATOR}1": 1_000_000})
    assert not lookups.still_there(connection, known)


def test_looking_up_writes_nothing(shelf: Shelf, library: Path) -> None:
    """Not even a journal or indexes; a role that may only read can do it."""
    before = shelf.one("SELECT count(*) FROM pg_class")
    target = shelf.using(url=type(shelf.target.url)(f"{shelf.url}?options=-cdefault_transaction_read_only%3Don"))
    look_up(target, many_books(library, 1, 10))
    assert shelf.one("SELECT count(*) FROM pg_class") == before

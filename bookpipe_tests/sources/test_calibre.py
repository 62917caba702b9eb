"""A library's records come out as they are in Calibre: every field, every book, in any range of ids."""

import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from bookpipe.demo.calibre_library import CalibreWriter, Damage, DemoFacts, SampleBook, make_demo_library
from bookpipe.model.schemas import CALIBRE_BOOKS
from bookpipe.pipelines.calibre import hash_files
from bookpipe.runtime.state import State
from bookpipe.sources.calibre import CalibreLibrary, parse_date

EPUB = ("EPUB", b"PK\x03\x04 a book")


def make_library(path: Path, *books: SampleBook) -> CalibreLibrary:
    with CalibreWriter(path) as writer:
        for book in books:
            writer.add(book)
    return CalibreLibrary(path)


def execute(library: CalibreLibrary, statement: str, *parameters: object) -> None:
    with closing(connect(library.path / "metadata.db")) as connection, connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")  # they call functions that only Calibre has
        connection.execute(statement, parameters)


def rows(library: CalibreLibrary, first: int = 1, last: int = 10**9) -> list[dict[str, Any]]:
    table = library.read(first, last)
    table.validate(full=True)
    assert table.schema == CALIBRE_BOOKS
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def test_every_field_of_a_book_is_read(tmp_path: Path) -> None:
    library = make_library(
        tmp_path,
        SampleBook(
            id=7,
            title="Válka s mloky",
            authors=("Karel Čapek", "Second, Jr."),
            author_sorts=("Čapek, Karel", "Second, Jr."),
            series="Utopie",
            series_index=2.5,
            languages=("ces", "eng"),
            tags=("Sci-Fi", "klasika"),
            rating=7,
            publisher="Fr. Borový",
            identifiers={"isbn": "978-80-000-0000-0", "goodreads": "123"},
            comments="<p>Mloci &amp; lidé</p>",
            pubdate=datetime(1936, 9, 1, tzinfo=timezone.utc),
            added=datetime(2020, 2, 29, 12, 30, 1, 250000, tzinfo=timezone(timedelta(hours=2))),
            formats=(EPUB,),
            cover=b"\xff\xd8",
        ),
    )
    with closing(connect(tmp_path / "metadata.db")) as connection:
        ((key,),) = connection.execute("SELECT uuid FROM library_id").fetchall()
    [row] = rows(library)
    folder = f"{tmp_path}/Karel Capek/Valka s mloky (7)"
    assert row == {
        "origin": f"calibre:{key}",
        "item": 7,
        "title": "Válka s mloky",
        "authors": ["Karel Čapek", "Second, Jr."],
        "author_sorts": ["Čapek, Karel", "Second, Jr."],
        "series": "Utopie",
        "series_index": 2.5,
        "languages": ["ces", "eng"],
        "tags": ["Sci-Fi", "klasika"],
        "rating": 7,
        "path": f"{folder}/Valka s mloky - Karel Capek.epub".encode(),
        "file_name": "Valka s mloky - Karel Capek.epub",
        "given_format": "epub",
        "reason": None,
        "detail": None,
        "uuid": row["uuid"],
        "title_sort": "Válka s mloky",
        "publisher": "Fr. Borový",
        "identifiers": [("isbn", "978-80-000-0000-0"), ("goodreads", "123")],
        "comments": "<p>Mloci &amp; lidé</p>",
        "pubdate": datetime(1936, 9, 1, tzinfo=timezone.utc),
        "added": datetime(2020, 2, 29, 10, 30, 1, 250000, tzinfo=timezone.utc),
        "last_modified": row["last_modified"],
        "size_hint": len(EPUB[1]),
        "cover_path": f"{folder}/cover.jpg".encode(),
    }
    assert len(row["uuid"]) == 36
    assert row["last_modified"].year >= 2023
    assert os.path.isfile(row["path"]) and os.path.isfile(row["cover_path"])


def test_a_bare_book_has_nulls_and_empty_lists(tmp_path: Path) -> None:
    [row] = rows(make_library(tmp_path, SampleBook(id=None, title="Bare", formats=(EPUB,))))
    assert row["authors"] == ["Unknown"]
    assert [row[name] for name in ("languages", "tags", "identifiers")] == [[], [], []]
    nulls = ("series", "series_index", "rating", "publisher", "comments", "pubdate", "cover_path", "reason")
    assert [row[name] for name in nulls] == [None] * len(nulls)


def test_a_book_is_one_row_for_each_format(tmp_path: Path) -> None:
    formats = (EPUB, ("PDF", b"%PDF-"), ("ORIGINAL_EPUB", b"PK"))
    library = make_library(
        tmp_path,
        SampleBook(id=1, title="One", tags=("a",), formats=(EPUB,)),
        SampleBook(id=2, title="Three", tags=("b", "c"), identifiers={"isbn": "1"}, formats=formats),
        SampleBook(id=3, title="Last", tags=("d",), formats=(EPUB,)),
    )
    found = rows(library)
    assert [(r["item"], r["title"], r["tags"], r["given_format"]) for r in found] == [
        (1, "One", ["a"], "epub"),
        (2, "Three", ["b", "c"], "epub"),
        (2, "Three", ["b", "c"], "pdf"),
        (2, "Three", ["b", "c"], "original_epub"),
        (3, "Last", ["d"], "epub"),
    ]
    assert all(os.path.isfile(r["path"]) for r in found)


def test_a_book_without_formats_is_rejected_unless_it_is_wanted(tmp_path: Path) -> None:
    library = make_library(
        tmp_path, SampleBook(id=1, title="Record only"), SampleBook(id=2, title="B", formats=(EPUB,))
    )
    assert library.read(1, 9).column("reason").to_pylist() == ["no_formats", None]
    kept = library.read(1, 9, without_files=True).to_pylist()
    assert [(r["title"], r["reason"], r["path"] is None) for r in kept] == [
        ("Record only", None, True),
        ("B", None, False),
    ]


def test_authors_stand_in_the_order_of_their_links(tmp_path: Path) -> None:
    library = make_library(
        tmp_path,
        SampleBook(id=1, title="A", authors=("Zoe", "Adam"), formats=(EPUB,)),
        SampleBook(id=2, title="B", authors=("Adam", "Mia", "Zoe"), formats=(EPUB,)),
    )
    assert [r["authors"] for r in rows(library)] == [["Zoe", "Adam"], ["Adam", "Mia", "Zoe"]]


def test_languages_stand_in_their_own_order_first(tmp_path: Path) -> None:
    library = make_library(tmp_path, SampleBook(id=1, title="A", languages=("ces", "eng", "deu"), formats=(EPUB,)))
    execute(library, "UPDATE books_languages_link SET item_order = 3 - id")
    assert rows(library)[0]["languages"] == ["deu", "eng", "ces"]


def test_a_comma_in_a_name_is_stored_as_a_bar(tmp_path: Path) -> None:
    library = make_library(tmp_path, SampleBook(id=1, title="A", authors=("Sammy Davis, Jr.",), formats=(EPUB,)))
    with closing(connect(tmp_path / "metadata.db")) as connection:
        assert connection.execute("SELECT name FROM authors").fetchone() == ("Sammy Davis| Jr.",)
    assert rows(library)[0]["authors"] == ["Sammy Davis, Jr."]


def test_names_keep_the_case_they_are_stored_in(tmp_path: Path) -> None:
    # Calibre compares names without ASCII case, so the second spelling is the first one's row.
    library = make_library(
        tmp_path,
        SampleBook(id=1, title="a TITLE", authors=("bell hooks",), tags=("SF",), formats=(EPUB,)),
        SampleBook(id=2, title="A Title", authors=("Bell Hooks",), tags=("sf",), formats=(EPUB,)),
    )
    assert [(r["title"], r["authors"], r["tags"]) for r in rows(library)] == [
        ("a TITLE", ["bell hooks"], ["SF"]),
        ("A Title", ["bell hooks"], ["SF"]),
    ]


def test_a_series_index_means_nothing_without_a_series(tmp_path: Path) -> None:
    numbers = (0.0, 2.5, -1.25, 1000000.01)
    books = [SampleBook(id=None, title="A", series="S", series_index=n, formats=(EPUB,)) for n in numbers]
    library = make_library(tmp_path, *books, SampleBook(id=None, title="B", series_index=3.0, formats=(EPUB,)))
    assert [r["series_index"] for r in rows(library)] == [*numbers, None]


def test_a_rating_of_zero_is_none(tmp_path: Path) -> None:
    books = [SampleBook(id=None, title="A", rating=n, formats=(EPUB,)) for n in range(11)]
    library = make_library(tmp_path, *books)
    execute(library, "INSERT INTO ratings (id, rating) VALUES (99, 0)")
    execute(library, "INSERT INTO books_ratings_link (book, rating) VALUES (1, 99)")
    assert [r["rating"] for r in rows(library)] == [None, *range(1, 11)]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (b"2001-02-03 04:05:06+00:00", "2001-02-03 04:05:06"),
        (b"2001-02-03 04:05:06.123456+00:00", "2001-02-03 04:05:06.123456"),
        (b"2001-02-03T04:05:06+02:00", "2001-02-03 02:05:06"),
        (b"2001-02-03 23:30:00-05:30", "2001-02-04 05:00:00"),
        (b"2001-02-03 04:05:06", "2001-02-03 04:05:06"),  # what SQLite itself and other writers store
        (b"2001-02-03", "2001-02-03 00:00:00"),
        (b"0102-01-01 00:00:00+00:00", "0102-01-01 00:00:00"),
        (b"9999-12-31 23:59:59+00:00", "9999-12-31 23:59:59"),
        (2001, "2001-01-01 00:00:00"),  # a bare year turns into a number in Calibre's columns
        (b"0101-01-01 00:00:00+00:00", None),  # Calibre's "undefined", and its drift through time zones
        (b"0101-01-02 00:00:00+00:00", None),
        (b"0100-12-31 23:00:00+00:00", None),
        (b"0102-01-01 00:00:00+01:00", None),
        (b"0001-01-01 00:00:00+14:00", None),
        (b"9999-12-31 23:59:59-01:00", None),
        (101, None),
        (0, None),
        (-5, None),
        (20010203, None),
        (2001.5, None),
        (None, None),
        (b"", None),
        (b"yesterday", None),
        (b"2001-13-45 00:00:00+00:00", None),
        (b"\xff\xfe2001", None),
    ],
)
def test_a_date_is_utc_and_rubbish_is_null(stored: object, expected: str | None) -> None:
    parsed = parse_date(stored)
    assert (parsed and parsed.isoformat(" ")) == (expected and f"{expected}+00:00")


def test_dates_are_read_as_the_database_keeps_them(tmp_path: Path) -> None:
    library = make_library(tmp_path, SampleBook(id=1, title="A", formats=(EPUB,)))
    execute(library, "UPDATE books SET pubdate = '2001', timestamp = '0101-01-02 00:00:00+00:00', last_modified = 'x'")
    [row] = rows(library)
    assert row["pubdate"] == datetime(2001, 1, 1, tzinfo=timezone.utc)
    assert row["added"] is None
    assert row["last_modified"] is None


def test_ranges_of_ids_tolerate_gaps_and_any_size(tmp_path: Path) -> None:
    ids = (1, 2, 5, 100, 20_000_000, 2**40)
    library = make_library(tmp_path, *(SampleBook(id=i, title=f"Book {i}", formats=(EPUB,)) for i in ids))
    assert library.count_books() == len(ids)
    assert library.id_bounds() == (1, 2**40)
    for first, last in [(1, 2**41), (2, 99), (3, 4), (5, 5), (101, 19_999_999), (2**40, 2**62), (9, 3)]:
        assert [r["item"] for r in rows(library, first, last)] == [i for i in ids if first <= i <= last]


def test_an_empty_library_has_no_batches_and_no_rows(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    assert library.count_books() == 0
    assert library.id_bounds() is None
    assert library.states(10) == []
    assert library.state(1, 10).books == 0
    assert rows(library) == []


def test_states_are_the_batches_that_hold_books(tmp_path: Path) -> None:
    ids = (1, 10, 11, 35, 36, 1_000_001)
    library = make_library(tmp_path, *(SampleBook(id=i, title="A", formats=(EPUB,)) for i in ids))
    states = library.states(10)
    assert [(s.first, s.last, s.books) for s in states] == [
        (1, 10, 2),
        (11, 20, 1),
        (31, 40, 2),
        (1_000_001, 1_000_010, 1),
    ]
    assert states == [library.state(s.first, s.last) for s in states]


def _edit(writer: CalibreWriter) -> None:
    writer.touch(2)


def _add(writer: CalibreWriter) -> None:
    writer.add(SampleBook(id=9, title="New"))


def _delete(writer: CalibreWriter) -> None:
    writer.remove(2)


def _delete_the_latest(writer: CalibreWriter) -> None:
    writer.remove(3)


def _edit_with_a_slow_clock(writer: CalibreWriter) -> None:
    writer.connection.execute("UPDATE books SET last_modified = '2020-01-01 00:00:00+00:00' WHERE id = 2")


def _edit_in_the_same_second(writer: CalibreWriter) -> None:
    writer.connection.execute("UPDATE books SET last_modified = replace(last_modified, '+', '.5+') WHERE id = 3")


@pytest.mark.parametrize(
    "change", [_edit, _add, _delete, _delete_the_latest, _edit_with_a_slow_clock, _edit_in_the_same_second]
)
def test_a_fingerprint_changes_with_its_books_only(tmp_path: Path, change: Callable[[CalibreWriter], None]) -> None:
    library = make_library(tmp_path, *(SampleBook(id=i, title="A", formats=(EPUB,)) for i in (1, 2, 3, 15)))
    own, other = library.states(10)
    library.read(1, 20)
    assert library.states(10) == [own, other]
    with CalibreWriter(tmp_path) as writer:
        change(writer)
    changed, same = library.states(10)
    assert changed.fingerprint != own.fingerprint
    assert changed == library.state(1, 10)
    assert same.fingerprint == other.fingerprint


def test_a_fingerprint_is_text_whatever_the_database_holds(tmp_path: Path) -> None:
    library = make_library(tmp_path, *(SampleBook(id=i, title="A", formats=(EPUB,)) for i in (1, 2, 3)))
    execute(library, "UPDATE books SET last_modified = CAST(x'fffe00' AS TEXT) WHERE id = 1")
    execute(library, "UPDATE books SET last_modified = x'fffe00' WHERE id = 2")
    [before] = library.states(10)
    before.fingerprint.encode()
    assert "\0" not in before.fingerprint
    execute(library, "UPDATE books SET last_modified = '2030-01-01 00:00:00+00:00' WHERE id = 3")
    assert library.state(1, 10).fingerprint != before.fingerprint


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[CalibreLibrary, DemoFacts]:
    path = tmp_path_factory.mktemp("demo") / "Calibre Library"
    facts = make_demo_library(path, 150)
    return CalibreLibrary(path), facts


def test_every_book_of_a_damaged_library_ends_in_a_row(demo: tuple[CalibreLibrary, DemoFacts]) -> None:
    library, facts = demo
    found = rows(library)
    assert len({r["item"] for r in found}) == facts.books
    assert len(found) == facts.files + len(facts.damaged[Damage.NO_FORMATS])
    assert Counter(r["given_format"].upper() for r in found if r["given_format"]) == facts.formats
    assert [r["item"] for r in found] == sorted(r["item"] for r in found)


def test_what_is_readable_of_a_damaged_library_is_found_and_digested(
    demo: tuple[CalibreLibrary, DemoFacts], tmp_path: Path
) -> None:
    library, facts = demo
    books = library.read(1, 10**9)
    hashed = hash_files(library, books, State(tmp_path / "state.sqlite"), "all").to_pylist()
    good = [r for r in hashed if r["reason"] is None]
    assert len(good) == facts.readable_files
    assert len({(r["sha1"], r["size"]) for r in good}) == facts.contents
    reasons = {r["item"]: r["reason"] for r in hashed if r["reason"] is not None}
    expected = {
        Damage.NO_FORMATS: "no_formats",
        Damage.MISSING_FILE: "missing_file",
        Damage.MISSING_FOLDER: "missing_dir",
        Damage.DANGLING_SYMLINK: "missing_file",
        Damage.FOLDER_AS_FILE: "not_a_file",
        Damage.EMPTY_FILE: "empty_file",
        Damage.PATH_OUTSIDE: "outside_library",
        Damage.PATH_WITH_DOTS: "outside_library",
    }
    assert reasons == {item: reason for kind, reason in expected.items() for item in facts.damaged[kind]}
    by_content = {r["item"]: r["format"] for r in good}
    assert [by_content[i] for i in facts.damaged[Damage.PDF_NAMED_EPUB]] == ["pdf"]

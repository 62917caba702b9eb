"""Whatever a metadata.db holds, no batch fails and no book is lost."""

import os
import shutil
from contextlib import closing, suppress
from pathlib import Path
from sqlite3 import IntegrityError, connect
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookpipe.demo.calibre_writer import CalibreWriter, SampleBook
from bookpipe.model.schemas import CALIBRE_BOOKS
from bookpipe.sources.calibre import MAX_COMMENTS, MAX_TITLE, CalibreLibrary, clean_number, clean_text

INVALID_UTF8 = b"caf\xe9"
SURROGATE = b"x\xed\xa0\xbdy"  # half of an emoji, as broken programs write it
REPLACED = {INVALID_UTF8: "caf\ufffd", SURROGATE: "x\ufffd\ufffd\ufffdy"}

# Every column with text that reaches a row, as (table, column, field).
TEXT_COLUMNS = [
    ("books", "title", "title"),
    ("books", "sort", "title_sort"),
    ("books", "uuid", "uuid"),
    ("authors", "name", "authors"),
    ("authors", "sort", "author_sorts"),
    ("series", "name", "series"),
    ("tags", "name", "tags"),
    ("publishers", "name", "publisher"),
    ("languages", "lang_code", "languages"),
    ("comments", "text", "comments"),
    ("identifiers", "type", "identifiers"),
    ("identifiers", "val", "identifiers"),
]
OTHER_COLUMNS = [
    *("books.timestamp", "books.pubdate", "books.last_modified", "books.series_index", "books.path", "books.has_cover"),
    *("ratings.rating", "data.format", "data.name", "data.uncompressed_size", "books_languages_link.item_order"),
]
ALL_COLUMNS = [f"{table}.{column}" for table, column, _ in TEXT_COLUMNS] + OTHER_COLUMNS


def hostile_values() -> st.SearchStrategy[bytes | str | int | float | None]:
    """What SQLite can hold, types and contents alike; bytes are blobs."""
    return st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),  # SQLite stores NaN as NULL
        st.binary(max_size=20),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.sampled_from(["", "\0", "..", "../..", "/etc", "a/b", ".", "epub", "EPUB", "x" * 300, "0101-01-01", "\\"]),
    )


def full_book(book_id: int, title: str) -> SampleBook:
    """A book with something in every table; the names are its own."""
    return SampleBook(
        id=book_id,
        title=title,
        authors=(f"{title} Author", f"{title} Second"),
        series=f"{title} series",
        languages=(title[:3].lower(),),
        tags=(f"{title} tag", f"{title} other"),
        rating=8,
        publisher=f"{title} press",
        identifiers={"isbn": "1"},
        comments="<p>text</p>",
        formats=(("EPUB", b"PK"), ("PDF", b"%PDF")),
        cover=b"\xff\xd8",
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three books; the tests damage the rows of the second."""
    path = tmp_path_factory.mktemp("template") / "library"
    with CalibreWriter(path) as writer:
        for n, title in enumerate(("ann", "bad", "cid"), 1):
            writer.add(full_book(n, title))
        # They call functions that only Calibre has.
        for (trigger,) in writer.connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            writer.connection.execute(f"DROP TRIGGER {trigger}")
    return path


@pytest.fixture
def library(template: Path, tmp_path: Path) -> CalibreLibrary:
    return CalibreLibrary(shutil.copytree(template, tmp_path / "library"))


# The second book's rows.
SECOND = {
    **dict.fromkeys(("books", "series", "publishers", "languages"), "id = 2"),
    **dict.fromkeys(("authors", "tags", "data"), "id = 3"),
    **dict.fromkeys(("comments", "identifiers", "books_languages_link"), "book = 2"),
    "ratings": "id = 1",  # the rating of all
}


def execute(library: CalibreLibrary, statement: str, *parameters: object) -> int:
    with closing(connect(library.path / "metadata.db")) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        return connection.execute(statement, parameters).rowcount


def damage(library: CalibreLibrary, table: str, column: str, value: str, *parameters: object) -> None:
    """Set a column to an SQL expression in the rows of the second book."""
    assert execute(library, f"UPDATE {table} SET {column} = {value} WHERE {SECOND[table]}", *parameters) == 1


def read(library: CalibreLibrary) -> list[dict[str, Any]]:
    """All rows. Asserts that there is one for each format of each book and that the others' books are whole."""
    table = library.read(1, 100)
    table.validate(full=True)
    assert table.schema == CALIBRE_BOOKS
    rows: list[dict[str, Any]] = table.to_pylist()
    assert [r["item"] for r in rows] == [1, 1, 2, 2, 3, 3]
    for row, title in ((rows[0], "ann"), (rows[4], "cid")):
        assert row["title"] == title
        assert row["authors"] == [f"{title} Author", f"{title} Second"]
        assert row["author_sorts"] == [f"Author, {title}", f"Second, {title}"]
        assert row["tags"] == [f"{title} tag", f"{title} other"]
        assert row["languages"] == [title]
        assert row["series"] == f"{title} series"
        assert row["publisher"] == f"{title} press"
        assert row["identifiers"] == [("isbn", "1")]
        assert row["comments"] == "<p>text</p>"
        assert row["reason"] is None
        assert os.path.isfile(row["path"])
    return rows[2:4]


def first_text(value: Any) -> Any:
    """The first text of a field: of a list its first element, of a map its first key or value that is not '1'."""
    while isinstance(value, list | tuple):
        value = next(v for v in value if v not in ("isbn", "1"))
    return value


@pytest.mark.parametrize(("table", "column", "field"), TEXT_COLUMNS)
@pytest.mark.parametrize("bad", [INVALID_UTF8, SURROGATE])
@pytest.mark.parametrize("kind", ["TEXT", "BLOB"])
def test_undecodable_bytes_in_any_text_are_replaced(
    library: CalibreLibrary, table: str, column: str, field: str, bad: bytes, kind: str
) -> None:
    damage(library, table, column, f"CAST(? AS {kind})", bad)
    assert first_text(read(library)[0][field]) == REPLACED[bad]


@pytest.mark.parametrize(("table", "column", "field"), TEXT_COLUMNS)
def test_nul_is_taken_out_of_any_text(library: CalibreLibrary, table: str, column: str, field: str) -> None:
    damage(library, table, column, "?", "a\0b\0")
    assert first_text(read(library)[0][field]) == "ab"


@pytest.mark.parametrize(("table", "column", "field"), TEXT_COLUMNS)
def test_text_is_capped(library: CalibreLibrary, table: str, column: str, field: str) -> None:
    damage(library, table, column, "?", "ž" * (MAX_COMMENTS + 5))
    found = first_text(read(library)[0][field])
    assert set(found) == {"ž"}
    assert len(found) == {"comments": MAX_COMMENTS, "languages": 32}.get(field, MAX_TITLE)


@pytest.mark.parametrize("value", ["x'0001fe'", "'abc'", "9e999", "-9e999", "x'312e35'"])
def test_a_series_index_that_is_no_number_is_null(library: CalibreLibrary, value: str) -> None:
    damage(library, "books", "series_index", value)
    row = read(library)[0]
    assert row["series_index"] is None
    assert row["series"] == "bad series"


@pytest.mark.parametrize("value", ["x'01'", "'big'", "-1", "1.5", "9e999"])
def test_a_size_that_is_no_size_is_null(library: CalibreLibrary, value: str) -> None:
    damage(library, "data", "uncompressed_size", value)
    assert [r["size_hint"] for r in read(library)] == [None, 4]


def test_a_link_to_nothing_is_dropped(library: CalibreLibrary) -> None:
    for table in ("authors", "tags", "series", "publishers"):
        execute(library, f"DELETE FROM {table} WHERE name LIKE 'bad%'")
    row = read(library)[0]
    assert [row[f] for f in ("authors", "tags", "series", "series_index", "publisher")] == [[], [], None, None, None]


def test_links_and_files_of_a_book_that_is_gone_are_dropped(library: CalibreLibrary) -> None:
    execute(library, "INSERT INTO books_authors_link (book, author) VALUES (0, 1), (4, 1), (50, 2)")
    execute(library, "INSERT INTO books_tags_link (book, tag) VALUES (4, 1)")
    execute(library, "INSERT INTO data (book, format, name, uncompressed_size) VALUES (4, 'EPUB', 'x', 1)")
    execute(library, "UPDATE books SET id = 60 WHERE id = 3")
    execute(library, "INSERT INTO identifiers (book, type, val) VALUES (60, 'doi', '7')")
    rows = library.read(1, 100).to_pylist()
    assert [(r["item"], r["authors"][:1], r["tags"][:1]) for r in rows] == [
        (1, ["ann Author"], ["ann tag"]),
        (1, ["ann Author"], ["ann tag"]),
        (2, ["bad Author"], ["bad tag"]),
        (2, ["bad Author"], ["bad tag"]),
        (60, [], []),
    ]
    assert rows[-1]["identifiers"] == [("doi", "7")]


def test_a_lower_case_format_is_the_same_format(library: CalibreLibrary) -> None:
    damage(library, "data", "format", "'epub'")
    row = read(library)[0]
    assert row["given_format"] == "epub"
    assert os.path.isfile(row["path"])


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("books.path", "../outside/Title (2)", "outside_library"),
        ("books.path", "Author/../../x", "outside_library"),
        ("books.path", "..", "outside_library"),
        ("books.path", "/etc", "outside_library"),
        ("books.path", "", "bad_path"),
        ("books.path", ".", "bad_path"),
        ("books.path", "Author//Title", "bad_path"),
        ("books.path", "Author/./Title", "bad_path"),
        ("books.path", "Author/Title/", "bad_path"),
        ("books.path", "Author\\Title", "bad_path"),
        ("books.path", "Author/Ti\0tle", "bad_path"),
        ("books.path", "Author/" + "ž" * 128, "bad_path"),
        ("books.path", "x" * 1_000_000, "bad_path"),
        ("data.name", "../../../etc/passwd", "bad_path"),
        ("data.name", "a/b", "bad_path"),
        ("data.name", "a\\b", "bad_path"),
        ("data.name", "a\0b", "bad_path"),
        ("data.name", "x" * 251, "bad_path"),
        ("data.format", "", "bad_path"),
        ("data.format", "../PDF", "bad_path"),
        ("data.format", "E/PUB", "bad_path"),
        ("data.format", "EPUB\0", "bad_path"),
        ("data.format", "EPUB ", "bad_path"),
        ("data.format", "ÉPUB", "bad_path"),
        ("data.format", "X" * 21, "bad_path"),
    ],
)
def test_a_path_that_is_no_path_inside_the_library_is_rejected(
    library: CalibreLibrary, column: str, value: str, reason: str
) -> None:
    damage(library, *column.split("."), "?", value)
    row = read(library)[0]
    assert row["reason"] == reason
    assert row["path"] is None
    assert 0 < len(row["detail"]) < 1_500
    if column == "books.path":
        assert row["cover_path"] is None
        assert list(library.cover_paths(1, 100)) == [1, 3]


def test_undecodable_names_still_lead_to_their_file(library: CalibreLibrary) -> None:
    damage(library, "books", "path", "CAST(? AS TEXT)", b"caf\xe9/\xff (2)")
    damage(library, "data", "name", "CAST(? AS TEXT)", b"na\xefve")
    row = read(library)[0]
    assert row["path"] == os.fsencode(library.path) + b"/caf\xe9/\xff (2)/na\xefve.epub"
    assert row["file_name"] == "na\ufffdve.epub"
    assert row["cover_path"] == os.fsencode(library.path) + b"/caf\xe9/\xff (2)/cover.jpg"
    assert library.cover_paths(2, 2) == {2: row["cover_path"]}


@pytest.mark.parametrize("uuid", ["CAST(x'fffe' AS TEXT)", "x'fffe'", "'a' || char(0) || 'b'", "''"])
def test_a_library_key_is_text_whatever_it_holds(library: CalibreLibrary, uuid: str) -> None:
    execute(library, f"UPDATE library_id SET uuid = {uuid}")
    kind, _, key = read(library)[0]["origin"].partition(":")
    assert kind == "calibre"
    assert key.replace("\ufffd", "x").isalnum()


def test_a_library_without_a_key_is_read(library: CalibreLibrary) -> None:
    execute(library, "DELETE FROM library_id")
    assert read(library)[0]["origin"] == "calibre:unknown"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_value_in_any_column_stops_a_batch(template: Path, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        library = CalibreLibrary(shutil.copytree(template, Path(folder) / "library"))
        for column in data.draw(st.lists(st.sampled_from(ALL_COLUMNS), min_size=1, max_size=8, unique=True)):
            cast = data.draw(st.sampled_from(["?", "CAST(? AS TEXT)", "CAST(? AS BLOB)"]))
            with suppress(IntegrityError):  # the column refuses NULL
                damage(library, *column.split("."), cast, data.draw(hostile_values()))
        read(library)
        library.states(2)


@given(hostile_values())
def test_clean_text_is_text_that_any_database_takes(value: object) -> None:
    text = clean_text(value, 10)
    assert text is None if value is None else text is not None
    if text is not None:
        assert len(text) <= 10 and "\0" not in text
        text.encode()


@given(hostile_values())
def test_clean_number_is_finite_or_null(value: object) -> None:
    number = clean_number(value)
    assert number is None or abs(number) < float("inf")
    assert number is None or type(value) in (int, float)

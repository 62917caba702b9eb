"""What the writer makes is what Calibre would have made."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.demo.calibre_writer import (
    CalibreWriter,
    SampleBook,
    author_sort,
    book_path,
    file_name,
    title_sort,
)

TALE = SampleBook(
    id=7,
    title="The Šílený vlak",
    authors=("Řehoř Žák", "Hugh Vance, Jr."),
    series="The Pale River",
    series_index=0.5,
    languages=("ces", "eng"),
    tags=("Sci-Fi", "povídky"),
    rating=7,
    publisher="Lantern House",
    identifiers={"isbn": "9780306406157", "goodreads": "42"},
    comments="<p>Hm.</p>",
    pubdate=datetime(1999, 5, 6, tzinfo=timezone.utc),
    formats=(("EPUB", b"epub bytes"), ("PDF", b"pdf")),
    cover=b"jpeg",
)
TALE_FOLDER = "Rehor Zak/The Sileny vlak (7)"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    with CalibreWriter(tmp_path / "library") as writer:
        writer.add(TALE)
    return tmp_path / "library"


@pytest.fixture
def plain(library: Path) -> Iterator[sqlite3.Connection]:
    """The library as any program without Calibre's functions sees it."""
    with closing(sqlite3.connect(library / "metadata.db", isolation_level=None)) as connection:
        yield connection


def rows(library: Path, query: str, *parameters: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(library / "metadata.db")) as connection:
        return connection.execute(query, parameters).fetchall()


def files(library: Path) -> dict[str, bytes]:
    """The library's files but the database, by relative path."""
    return {
        file.relative_to(library).as_posix(): file.read_bytes()
        for file in sorted(library.rglob("*"))
        if file.is_file() and file.name != "metadata.db"
    }


def test_the_database_says_it_is_version_25_and_is_intact(plain: sqlite3.Connection) -> None:
    assert plain.execute("PRAGMA user_version").fetchone() == (25,)
    assert plain.execute("PRAGMA application_id").fetchone() == (0,)
    assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_book_is_one_row_with_calibres_texts(plain: sqlite3.Connection) -> None:
    row = plain.execute("SELECT id, title, sort, author_sort, series_index, path, has_cover, pubdate FROM books")
    assert row.fetchall() == [
        (
            7,
            "The Šílený vlak",
            "Šílený vlak, The",
            "Žák, Řehoř & Hugh Vance, Jr.",
            0.5,
            TALE_FOLDER,
            1,
            "1999-05-06 00:00:00+00:00",
        )
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "SELECT name, sort FROM authors JOIN books_authors_link AS link ON author = authors.id"
            " WHERE book = 7 ORDER BY link.id",
            [("Řehoř Žák", "Žák, Řehoř"), ("Hugh Vance| Jr.", "Hugh Vance, Jr.")],
        ),
        (
            "SELECT name, sort FROM series JOIN books_series_link ON series = series.id",
            [("The Pale River", "Pale River, The")],
        ),
        (
            "SELECT name FROM tags JOIN books_tags_link AS link ON tag = tags.id ORDER BY link.id",
            [("Sci-Fi",), ("povídky",)],
        ),
        (
            "SELECT languages.lang_code, item_order FROM languages"
            " JOIN books_languages_link AS link ON link.lang_code = languages.id ORDER BY link.id",
            [("ces", 0), ("eng", 0)],
        ),
        ("SELECT ratings.rating FROM ratings JOIN books_ratings_link AS link ON link.rating = ratings.id", [(7,)]),
        ("SELECT name FROM publishers JOIN books_publishers_link ON publisher = publishers.id", [("Lantern House",)]),
        ("SELECT type, val FROM identifiers ORDER BY id", [("isbn", "9780306406157"), ("goodreads", "42")]),
        ("SELECT book, text FROM comments", [(7, "<p>Hm.</p>")]),
        (
            "SELECT book, format, uncompressed_size, name FROM data ORDER BY id",
            [
                (7, "EPUB", 10, "The Sileny vlak - Rehor Zak"),
                (7, "PDF", 3, "The Sileny vlak - Rehor Zak"),
            ],
        ),
    ],
)
def test_a_books_names_are_in_their_own_tables(
    plain: sqlite3.Connection, query: str, expected: list[tuple[object, ...]]
) -> None:
    assert plain.execute(query).fetchall() == expected


def test_a_books_files_are_in_its_folder(library: Path) -> None:
    assert files(library) == {
        f"{TALE_FOLDER}/The Sileny vlak - Rehor Zak.epub": b"epub bytes",
        f"{TALE_FOLDER}/The Sileny vlak - Rehor Zak.pdf": b"pdf",
        f"{TALE_FOLDER}/cover.jpg": b"jpeg",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM meta",
        "INSERT INTO books (title) VALUES ('x')",
        "UPDATE books SET title = 'x'",
        "UPDATE books SET last_modified = '2030-01-01 00:00:00+00:00'",
        "INSERT INTO series (name) VALUES ('x')",
    ],
)
def test_what_calls_calibres_functions_fails_elsewhere(plain: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such function"):
        plain.execute(statement)


def test_deleting_a_book_works_anywhere_and_takes_its_rows_along(plain: sqlite3.Connection) -> None:
    plain.execute("DELETE FROM books")
    tables = [name for (name,) in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        columns = [row[1] for row in plain.execute(f"PRAGMA table_info({table})")]
        if "book" in columns and table != "metadata_dirtied":
            assert plain.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_reading_by_book_uses_an_index_of_every_link(plain: sqlite3.Connection) -> None:
    for table in ("authors", "series", "tags", "publishers", "languages", "ratings"):
        link = f"books_{table}_link"
        plan = plain.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {link} WHERE book > 1 AND book <= 9").fetchall()
        assert f"SEARCH {link} USING" in plan[0][3], plan


@pytest.mark.parametrize(
    ("title", "author", "folder", "name"),
    [
        ("Short", "Ann Bee", "Ann Bee/Short (3)", "Short - Ann Bee"),
        ("Příběh: konec?", "Jiří Müller", "Jiri Muller/Pribeh_ konec_ (3)", "Pribeh_ konec_ - Jiri Muller"),
        ("a/b\\c", "X/Y", "X_Y/a_b_c (3)", "a_b_c - X_Y"),
        ("Тихий дом", "Пётр Чайкин", "Petr Chaykin/Tikhiy dom (3)", "Tikhiy dom - Petr Chaykin"),
        ("静かな森", "佐藤太郎", "ZuoTengTaiLang/JingkanaSen (3)", "JingkanaSen - ZuoTengTaiLang"),
        ("..hidden", "Dr. No.", "Dr. No_/_hidden (3)", "_hidden - Dr. No_"),
        ("", "", "Unknown/Unknown (3)", "Unknown - Unknown"),
        ("x", f"{'A' * 41} B", f"{'A' * 41} B/x (3)", f"x - {'A' * 41} "),
        ("T" * 300, "A" * 300, f"{'A' * 96}/{'T' * 96} (3)", f"{'T' * 42} - {'A' * 42}"),
    ],
)
def test_folder_and_file_names_follow_calibres_rule(title: str, author: str, folder: str, name: str) -> None:
    assert book_path(3, title, author) == folder
    assert file_name(title, author) == name


@given(st.text(max_size=300), st.text(max_size=300), st.integers(1, 10**9))
def test_any_title_and_author_give_safe_names(title: str, author: str, book_id: int) -> None:
    author_part, title_part = book_path(book_id, title, author).split("/")
    assert author_part == author_part.rstrip(" .")
    assert title_part.endswith(f" ({book_id})")
    for part in (author_part, title_part, file_name(title, author)):
        assert part.isascii()
        assert min(part) >= " "
        assert 0 < len(part) <= 105
        assert part[0] not in " ."
        assert ".." not in part
        assert not set(part) & set('/\\:*?"<>|')


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Jan Novák", "Novák, Jan"),
        ("Ann B. Carver", "Carver, Ann B."),
        ("Hugh Vance Jr.", "Vance, Hugh Jr."),
        ("Novák, Jan", "Novák, Jan"),
        ("王明", "王明"),
    ],
)
def test_authors_are_sorted_by_family_name(name: str, expected: str) -> None:
    assert author_sort(name) == expected


@pytest.mark.parametrize(
    ("title", "expected"),
    [("The Tale", "Tale, The"), ("a tale", "tale, a"), ("Theory", "Theory"), ("The", "The"), ("Der Wald", "Der Wald")],
)
def test_titles_are_sorted_without_their_article(title: str, expected: str) -> None:
    assert title_sort(title) == expected


def test_names_are_shared_whatever_their_ascii_case(library: Path) -> None:
    with CalibreWriter(library) as writer:
        writer.add(
            SampleBook(
                id=None,
                title="Another",
                authors=("hugh vance, jr.", "Řehoř Žák"),
                series="the pale river",
                languages=("CES",),
                tags=("SCI-FI",),
                rating=7,
                publisher="LANTERN HOUSE",
            )
        )
    expected = {"authors": 2, "series": 1, "tags": 2, "publishers": 1, "languages": 2, "ratings": 1}
    for table, count in expected.items():
        assert rows(library, f"SELECT count(*) FROM {table}") == [(count,)], table
    assert rows(library, "SELECT author FROM books_authors_link WHERE book = 8 ORDER BY id") == [(2,), (1,)]


def test_a_book_without_authors_has_no_author_row_and_lies_under_unknown(library: Path) -> None:
    with CalibreWriter(library) as writer:
        book_id = writer.add(SampleBook(id=None, title="Orphan", authors=()))
    assert rows(library, "SELECT path, author_sort FROM books WHERE id = ?", book_id) == [("Unknown/Orphan (8)", "")]
    assert rows(library, "SELECT count(*) FROM books_authors_link WHERE book = ?", book_id) == [(0,)]


def test_an_unknown_date_is_stored_as_calibres_sentinel_and_no_rating_as_no_row(library: Path) -> None:
    with CalibreWriter(library) as writer:
        book_id = writer.add(SampleBook(id=None, title="Plain"))
    assert rows(library, "SELECT pubdate FROM books WHERE id = ?", book_id) == [("0101-01-01 00:00:00+00:00",)]
    assert rows(library, "SELECT count(*) FROM books_ratings_link WHERE book = ?", book_id) == [(0,)]


def test_appending_with_the_same_seed_goes_on_with_new_ids_uuids_and_times(library: Path) -> None:
    for number in range(3):
        with CalibreWriter(library) as writer:
            writer.add(SampleBook(id=None, title=f"More {number}"))
    assert rows(library, "SELECT id FROM books ORDER BY id") == [(7,), (8,), (9,), (10,)]
    assert rows(library, "SELECT count(DISTINCT uuid), count(DISTINCT last_modified) FROM books") == [(4, 4)]
    assert rows(library, "SELECT id FROM books ORDER BY last_modified") == [(7,), (8,), (9,), (10,)]


def test_the_id_of_a_deleted_book_is_never_used_again(library: Path) -> None:
    with CalibreWriter(library) as writer:
        writer.remove(7)
        assert writer.add(SampleBook(id=None, title="Next")) == 8


def test_touching_a_book_makes_it_the_last_one_modified(library: Path) -> None:
    with CalibreWriter(library) as writer:
        writer.add(SampleBook(id=None, title="Later"))
    before = rows(library, "SELECT id, title, sort, path, uuid, timestamp FROM books")
    with CalibreWriter(library) as writer:
        writer.touch(7)
    assert rows(library, "SELECT id FROM books ORDER BY last_modified") == [(8,), (7,)]
    assert rows(library, "SELECT id, title, sort, path, uuid, timestamp FROM books") == before


def test_a_new_title_moves_the_folder_and_the_files(library: Path) -> None:
    with CalibreWriter(library) as writer:
        writer.touch(7, title="A Quiet Train")
        paths = writer.files(7)
    assert files(library) == {
        "Rehor Zak/A Quiet Train (7)/A Quiet Train - Rehor Zak.epub": b"epub bytes",
        "Rehor Zak/A Quiet Train (7)/A Quiet Train - Rehor Zak.pdf": b"pdf",
        "Rehor Zak/A Quiet Train (7)/cover.jpg": b"jpeg",
    }
    assert {extension: path.read_bytes() for extension, path in paths.items()} == dict(TALE.formats)
    assert rows(library, "SELECT title, sort FROM books") == [("A Quiet Train", "Quiet Train, A")]


def test_removing_a_book_removes_what_only_it_used(library: Path) -> None:
    with CalibreWriter(library) as writer:
        kept = writer.add(
            SampleBook(
                id=None, title="Kept", authors=("Hugh Vance, Jr.",), tags=("Sci-Fi",), formats=(("TXT", b"text"),)
            )
        )
        writer.remove(7)
    assert files(library) == {f"Hugh Vance, Jr_/Kept ({kept})/Kept - Hugh Vance, Jr_.txt": b"text"}
    assert not (library / "Rehor Zak").exists()
    assert rows(library, "SELECT name FROM authors") == [("Hugh Vance| Jr.",)]
    assert rows(library, "SELECT name FROM tags") == [("Sci-Fi",)]
    for table in ("series", "publishers", "languages", "ratings", "identifiers", "comments"):
        assert rows(library, f"SELECT count(*) FROM {table}") == [(0,)], table


def test_removing_a_book_whose_path_leads_out_of_the_library_leaves_that_place_alone(library: Path) -> None:
    outside = library.parent / "outside"
    outside.mkdir()
    (outside / "diary.txt").write_text("mine")
    with CalibreWriter(library) as writer:
        writer.connection.execute("UPDATE books SET path = '../outside'")
        writer.remove(7)
    assert (outside / "diary.txt").read_text() == "mine"
    assert rows(library, "SELECT count(*) FROM books") == [(0,)]


@pytest.mark.parametrize("change", ["touch", "remove"])
def test_a_book_that_is_not_there_cannot_be_changed(library: Path, change: str) -> None:
    with CalibreWriter(library) as writer, pytest.raises(LookupError, match="no book 99"):
        getattr(writer, change)(99)


@pytest.mark.parametrize("book", [SampleBook(None, "x", path="../out"), SampleBook(None, "x", file_name="../../../x")])
def test_no_file_is_written_outside_the_library(library: Path, book: SampleBook) -> None:
    hostile = SampleBook(None, "x", path=book.path, file_name=book.file_name, formats=(("EPUB", b"x"),))
    with CalibreWriter(library) as writer, pytest.raises(ValueError, match="out of the library"):
        writer.add(hostile)
    assert [entry.name for entry in library.parent.iterdir()] == ["library"]


def test_an_error_takes_back_the_rows(library: Path) -> None:
    with pytest.raises(RuntimeError), CalibreWriter(library) as writer:
        writer.add(SampleBook(id=None, title="Lost"))
        raise RuntimeError
    assert rows(library, "SELECT title FROM books") == [("The Šílený vlak",)]


def test_changes_are_seen_by_others_every_so_many_books(library: Path) -> None:
    seen = []
    with CalibreWriter(library, commit_every=2) as writer:
        for number in range(5):
            writer.add(SampleBook(id=None, title=str(number)))
            seen.append(rows(library, "SELECT count(*) FROM books")[0][0])
    assert seen == [1, 3, 3, 5, 5]
    assert rows(library, "SELECT count(*) FROM books") == [(6,)]


def test_the_same_seed_makes_the_same_rows_and_another_seed_another_library(tmp_path: Path) -> None:
    dumps = []
    for number, seed in enumerate([1, 1, 2]):
        with CalibreWriter(tmp_path / str(number), seed=seed) as writer:
            writer.add(TALE)
        with closing(sqlite3.connect(tmp_path / str(number) / "metadata.db")) as connection:
            dumps.append(list(connection.iterdump()))
    assert dumps[0] == dumps[1]
    assert dumps[0] != dumps[2]

"""The demo and the benchmark library are what their makers say they are."""

import os
import random
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations, islice
from pathlib import Path

import pytest

from bookpipe.demo.calibre_content import LANGUAGES, Language, draw_credits
from bookpipe.demo.calibre_library import (
    CalibreWriter,
    Damage,
    DemoFacts,
    SampleBook,
    make_bench_library,
    make_demo_library,
)

BOOKS = 400
UNDEFINED = "0101-01-01 00:00:00+00:00"


@dataclass(frozen=True)
class Demo:
    """A demo library and what its maker said of it. Tests must not change it."""

    path: Path
    facts: DemoFacts

    def rows(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(f"{(self.path / 'metadata.db').as_uri()}?mode=ro", uri=True)) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            return connection.execute(query, parameters).fetchall()

    def count(self, table: str) -> int:
        return int(str(self.rows(f"SELECT count(*) FROM {table}")[0][0]))

    def damaged(self, kind: Damage) -> list[int]:
        assert self.facts.damaged[kind]
        return list(self.facts.damaged[kind])

    def expected_file(self, book_id: int) -> Path:
        """Where the rows put a damaged book's only file."""
        [(path, name, extension)] = self.rows(
            "SELECT path, name, lower(format) FROM books JOIN data ON data.book = books.id WHERE books.id = ?", book_id
        )
        return self.path / str(path) / f"{name}.{extension}"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    path = tmp_path_factory.mktemp("demo") / "Calibre Library"
    return Demo(path, make_demo_library(path, BOOKS))


def found_on_disk(library: Path, path: str, wanted: str) -> Path | None:
    """The regular, non-empty file at a lawful path, whatever the case of its name."""
    folder = library / path
    if ".." in path.split("/") or not folder.is_dir():
        return None
    names = [name for name in os.listdir(folder) if name.lower() == wanted.lower()]
    file = folder / names[0] if names else folder / wanted
    return file if file.is_file() and file.stat().st_size else None


def tree(library: Path) -> dict[str, str | bytes]:
    """Everything in a folder: digests of files, targets of links, and which folders there are."""
    entries: dict[str, str | bytes] = {}
    for entry in library.rglob("*"):
        if entry.name == "metadata.db":
            continue
        name = entry.relative_to(library).as_posix()
        if entry.is_symlink():
            entries[name] = str(entry.readlink())
        else:
            entries[name] = "folder" if entry.is_dir() else sha256(entry.read_bytes()).digest()
    return entries


def all_rows(library: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(library / "metadata.db")) as connection:
        connection.text_factory = bytes
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        return {
            name.decode(): connection.execute(f"SELECT * FROM {name.decode()} ORDER BY rowid").fetchall()
            for (name,) in tables
        }


# -- the numbers ------------------------------------------------------------------------------------------------------


def test_the_counted_rows_are_in_the_database(demo: Demo) -> None:
    facts = demo.facts
    assert facts.books == BOOKS == demo.count("books")
    assert facts.files == demo.count("data")
    assert facts.authors == demo.count("authors")
    assert facts.series == demo.count("series")
    assert facts.tags == demo.count("tags")
    assert facts.publishers == demo.count("publishers")
    assert facts.languages == demo.count("languages")
    assert list(facts.formats.items()) == demo.rows("SELECT format, count(*) FROM data GROUP BY format ORDER BY format")


def test_the_counted_files_are_on_disk(demo: Demo) -> None:
    rows = demo.rows("SELECT path, name || '.' || lower(format) FROM data JOIN books ON books.id = data.book")
    found = [file for path, name in rows if (file := found_on_disk(demo.path, str(path), str(name)))]
    assert len(found) == demo.facts.readable_files < demo.facts.files
    assert len({sha256(file.read_bytes()).digest() for file in found}) == demo.facts.contents
    assert len(list(demo.path.rglob("cover.jpg"))) == demo.facts.covers


def test_the_database_opens_with_plain_sqlite_as_version_25(demo: Demo) -> None:
    assert demo.rows("PRAGMA user_version") == [(25,)]
    assert demo.rows("PRAGMA integrity_check") == [("ok",)]
    assert demo.rows("SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name = 'books_insert_trg'") == [
        (1,)
    ]


def test_one_to_two_percent_are_damaged_each_book_in_one_way_only(tmp_path: Path) -> None:
    facts = make_demo_library(tmp_path / "library", 1200)
    ids = [book_id for kind in Damage for book_id in facts.damaged[kind]]
    assert all(facts.damaged[kind] for kind in Damage)
    assert len(ids) == len(set(ids))
    assert 0.01 <= len(ids) / 1200 <= 0.02


def test_a_tiny_library_gets_the_first_kinds_of_damage(tmp_path: Path) -> None:
    facts = make_demo_library(tmp_path / "library", 10)
    assert [kind for kind in Damage if facts.damaged[kind]] == list(Damage)[:5]
    assert make_demo_library(tmp_path / "none", 0).books == 0


# -- the content ------------------------------------------------------------------------------------------------------


def test_every_sound_path_follows_calibres_layout(demo: Demo) -> None:
    odd = {*demo.damaged(Damage.PATH_OUTSIDE), *demo.damaged(Damage.PATH_WITH_DOTS)}
    rows = demo.rows("SELECT books.id, path, name FROM books LEFT JOIN data ON data.book = books.id")
    for book_id, path, name in rows:
        if book_id in odd:
            continue
        match = re.fullmatch(r"([ -~]{1,100})/([ -~]+) \((\d+)\)", str(path))
        assert match and int(match[3]) == book_id and len(match[2]) <= 97, path
        if name is not None:
            title_part, _, author_part = str(name).rpartition(" - ")
            assert match[2].startswith(title_part) and match[1].startswith(author_part), (path, name)


def test_books_look_like_a_persons_library(demo: Demo) -> None:
    assert {code for (code,) in demo.rows("SELECT lang_code FROM languages")} >= {"eng", "ces", "rus", "deu", "zho"}
    assert 0.35 < demo.facts.authors / BOOKS < 0.6
    assert 0.28 < demo.count("books_series_link") / BOOKS < 0.45
    assert 0.6 < demo.facts.covers / BOOKS < 0.8
    assert 0.5 < demo.facts.formats["EPUB"] / BOOKS < 0.8
    per_book = Counter(book for (book,) in demo.rows("SELECT book FROM data"))
    assert set(per_book.values()) == {1, 2, 3}
    authors = Counter(book for (book,) in demo.rows("SELECT book FROM books_authors_link"))
    assert {1, 2, 3} < set(authors.values())
    assert max(authors.values()) > 3
    assert max(int(str(book_id)) for (book_id,) in demo.rows("SELECT id FROM books")) > BOOKS


def test_awkward_values_of_real_libraries_occur(demo: Demo) -> None:
    in_series = (
        "SELECT series_index FROM books JOIN books_series_link ON book = books.id WHERE typeof(series_index) = 'real'"
    )
    indexes = {float(str(index)) for (index,) in demo.rows(in_series)}
    assert 0.0 in indexes
    assert any(index % 1 for index in indexes)
    assert demo.rows("SELECT count(*) > 0 FROM authors WHERE name LIKE '%|%'") == [(1,)]
    assert demo.rows("SELECT count(*) > 0 FROM books WHERE pubdate = ?", UNDEFINED) == [(1,)]
    assert demo.rows("SELECT count(*) > 0 FROM tags WHERE name IN ('Sci-Fi', 'Humor and Satire')") == [(1,)]
    assert demo.rows("SELECT count(*) FROM books WHERE id NOT IN (SELECT book FROM comments)") != [(0,)]


def test_isbns_have_a_right_check_digit(demo: Demo) -> None:
    isbns = demo.rows("SELECT val FROM identifiers WHERE type = 'isbn'")
    assert len(isbns) > BOOKS / 4
    for (isbn,) in isbns:
        digits = [int(digit) for digit in str(isbn)]
        assert len(digits) == 13
        assert (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0


# -- the damage -------------------------------------------------------------------------------------------------------


def test_damaged_books_have_the_file_that_their_damage_leaves(demo: Demo) -> None:
    for book_id in demo.damaged(Damage.NO_FORMATS):
        assert demo.rows("SELECT * FROM data WHERE book = ?", book_id) == []
    for book_id in demo.damaged(Damage.MISSING_FILE):
        file = demo.expected_file(book_id)
        assert file.parent.is_dir() and not file.exists()
    for book_id in demo.damaged(Damage.MISSING_FOLDER):
        assert not demo.expected_file(book_id).parent.exists()
    for book_id in demo.damaged(Damage.DANGLING_SYMLINK):
        file = demo.expected_file(book_id)
        assert file.is_symlink() and not file.exists()
    for book_id in demo.damaged(Damage.FOLDER_AS_FILE):
        assert demo.expected_file(book_id).is_dir()
    for book_id in demo.damaged(Damage.EMPTY_FILE):
        assert demo.expected_file(book_id).read_bytes() == b""
        assert demo.rows("SELECT uncompressed_size FROM data WHERE book = ?", book_id) == [(0,)]
    for book_id in demo.damaged(Damage.OTHER_CASE_EXTENSION):
        file = demo.expected_file(book_id)
        assert [entry.suffix for entry in file.parent.iterdir() if entry.name != "cover.jpg"] == [".EPUB"]
    for book_id in demo.damaged(Damage.OTHER_CASE_NAME):
        file = demo.expected_file(book_id)
        assert file.stem.swapcase() + ".epub" in os.listdir(file.parent)
    for book_id in demo.damaged(Damage.WRONG_SIZE):
        [(size,)] = demo.rows("SELECT uncompressed_size FROM data WHERE book = ?", book_id)
        assert size != demo.expected_file(book_id).stat().st_size
    for book_id in demo.damaged(Damage.PDF_NAMED_EPUB):
        file = demo.expected_file(book_id)
        assert file.suffix == ".epub" and file.read_bytes().startswith(b"%PDF-")
    for book_id in demo.damaged(Damage.AZW3_NAMED_MOBI):
        file = demo.expected_file(book_id)
        content = file.read_bytes()
        record = int.from_bytes(content[78:82], "big")
        assert file.suffix == ".mobi" and content[60:68] == b"BOOKMOBI"
        assert int.from_bytes(content[record + 36 : record + 40], "big") >= 8
    for book_id in demo.damaged(Damage.MISSING_COVER):
        assert demo.rows("SELECT has_cover FROM books WHERE id = ?", book_id) == [(1,)]
        assert not (demo.expected_file(book_id).parent / "cover.jpg").exists()


def test_paths_with_dots_leave_the_library_or_come_back_to_it(demo: Demo) -> None:
    for book_id in demo.damaged(Damage.PATH_OUTSIDE):
        assert demo.path.resolve() not in demo.expected_file(book_id).resolve().parents
    for book_id in demo.damaged(Damage.PATH_WITH_DOTS):
        file = demo.expected_file(book_id)
        assert ".." in file.parts and file.is_file() and demo.path.resolve() in file.resolve().parents
    assert [entry.name for entry in demo.path.parent.iterdir()] == [demo.path.name]


def test_duplicates_are_the_same_record_and_bytes_under_another_id(demo: Demo) -> None:
    for book_id in demo.damaged(Damage.DUPLICATE):
        [(title,)] = demo.rows("SELECT title FROM books WHERE id = ?", book_id)
        twins = demo.rows(
            "SELECT path || '/' || name || '.' || lower(format) FROM books JOIN data ON data.book = books.id"
            " WHERE title = ? AND books.id < ?",
            title,
            book_id,
        )
        content = demo.expected_file(book_id).read_bytes()
        assert content in [(demo.path / str(path)).read_bytes() for (path,) in twins]


def test_damaged_values_are_what_no_reader_expects(demo: Demo) -> None:
    def value(column: str, book_id: int) -> object:
        return demo.rows(f"SELECT {column} FROM books WHERE id = ?", book_id)[0][0]

    for book_id in demo.damaged(Damage.CONTROL_CHARACTERS):
        assert "\0\x07\x1b" in str(value("title", book_id))
    for book_id in demo.damaged(Damage.LONG_TITLE):
        assert len(str(value("title", book_id))) == 10_000
    for book_id in demo.damaged(Damage.INVALID_UTF8):
        assert value("typeof(title)", book_id) == "text"
        title = value("CAST(title AS BLOB)", book_id)
        assert isinstance(title, bytes)
        with pytest.raises(UnicodeDecodeError):
            title.decode()
    for book_id in demo.damaged(Damage.BLOB_SERIES_INDEX):
        assert isinstance(value("series_index", book_id), bytes)
        assert demo.rows("SELECT count(*) FROM books_series_link WHERE book = ?", book_id) == [(1,)]
    for book_id in demo.damaged(Damage.UNKNOWN_LANGUAGE):
        assert demo.rows(
            "SELECT languages.lang_code FROM books_languages_link AS link"
            " JOIN languages ON languages.id = link.lang_code WHERE book = ?",
            book_id,
        ) == [("zzz",)]


# -- making it --------------------------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_rows_and_files(tmp_path: Path) -> None:
    facts = [make_demo_library(tmp_path / name, 60, seed) for name, seed in [("a", 5), ("b", 5), ("c", 6)]]
    assert facts[0] == facts[1] != facts[2]
    assert all_rows(tmp_path / "a") == all_rows(tmp_path / "b") != all_rows(tmp_path / "c")
    assert tree(tmp_path / "a") == tree(tmp_path / "b") != tree(tmp_path / "c")


def test_progress_counts_the_books(tmp_path: Path) -> None:
    seen: list[int] = []
    make_demo_library(tmp_path / "library", 5, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5]


def test_a_library_is_never_made_over_another(tmp_path: Path) -> None:
    make_demo_library(tmp_path, 3)
    with pytest.raises(FileExistsError, match="choose an empty folder"):
        make_demo_library(tmp_path, 3)
    with pytest.raises(FileExistsError, match="choose an empty folder"):
        make_bench_library(tmp_path, 3)


def test_a_demo_library_can_be_used_on(tmp_path: Path) -> None:
    facts = make_demo_library(tmp_path, 60)
    with CalibreWriter(tmp_path) as writer:
        ids = [book_id for (book_id,) in writer.connection.execute("SELECT id FROM books ORDER BY id")]
        added = writer.add(SampleBook(id=None, title="New", formats=(("EPUB", b"new"),)))
        assert added == ids[-1] + 1
        for kind in Damage:
            for book_id in facts.damaged[kind]:
                writer.touch(book_id)
                writer.remove(book_id)
    with closing(sqlite3.connect(tmp_path / "metadata.db")) as connection:
        assert connection.execute("SELECT count(*) FROM books").fetchone() == (61 - len(Damage),)
        assert connection.execute("SELECT count(*), count(DISTINCT uuid) FROM books").fetchone() == (41, 41)
        assert connection.execute("SELECT id FROM books ORDER BY last_modified DESC").fetchone() == (added,)


# -- names and credits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.code)
def test_every_number_is_another_person(language: Language) -> None:
    names = [language.person(number).lower() for number in range(20_000)]
    assert len(set(names)) == len(names)
    assert language.person(0) == language.person(0)


def test_no_two_languages_share_a_family_name() -> None:
    for one, other in combinations(LANGUAGES, 2):
        assert not set(one.family) & set(other.family), (one.code, other.code)


def test_credits_have_the_shape_of_a_collection() -> None:
    credits = list(islice(draw_credits(random.Random(1), in_series=0.35), 20_000))
    books_by_author = Counter(author for credit in credits for author in credit.authors)
    assert sorted(books_by_author) == list(range(len(books_by_author)))
    assert 0.43 < len(books_by_author) / len(credits) < 0.47
    assert 0.33 < sum(credit.series is not None for credit in credits) / len(credits) < 0.37
    by_rank = [count for _, count in books_by_author.most_common()]
    assert by_rank[0] > 10 * by_rank[100] > 10 * by_rank[-1] == 10
    places = [(credit.series, credit.series_index) for credit in credits if credit.series is not None]
    assert len(set(places)) == len(places)


# -- the benchmark library --------------------------------------------------------------------------------------------


def test_a_bench_library_has_one_distinct_epub_of_the_given_size_per_book(tmp_path: Path) -> None:
    make_bench_library(tmp_path, 300, file_size=1000)
    with closing(sqlite3.connect(tmp_path / "metadata.db")) as connection:
        rows = connection.execute(
            "SELECT path, name, format, uncompressed_size FROM books JOIN data ON book = books.id"
        )
        files = [(tmp_path / path / f"{name}.{extension.lower()}", size) for path, name, extension, size in rows]
    contents = [file.read_bytes() for file, _ in files]
    assert len(contents) == len(set(contents)) == 300
    assert {len(content) for content in contents} == {size for _, size in files} == {1000}
    assert {content[:4] + content[30:58] for content in contents} == {b"PK\x03\x04mimetypeapplication/epub+zip"}
    assert sorted(file for file, _ in files) == sorted(tmp_path.rglob("*.epub"))


def test_a_bench_library_is_a_library_like_any_other(tmp_path: Path) -> None:
    make_bench_library(tmp_path / "bench", 2000, files=False)
    make_demo_library(tmp_path / "demo", 3)
    schemas = []
    for name in ("bench", "demo"):
        with closing(sqlite3.connect(tmp_path / name / "metadata.db")) as connection:
            schemas.append(set(connection.execute("SELECT type, name, sql FROM sqlite_master")))
    assert schemas[0] == schemas[1]
    with closing(sqlite3.connect(tmp_path / "bench" / "metadata.db")) as connection:

        def count(query: str) -> int:
            return int(connection.execute(f"SELECT count(*) FROM {query}").fetchone()[0])

        assert connection.execute("PRAGMA user_version").fetchone() == (25,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT min(id), max(id), count(DISTINCT uuid) FROM books").fetchone() == (
            1,
            2000,
            2000,
        )
        assert count("books_authors_link WHERE author NOT IN (SELECT id FROM authors)") == 0
        assert count("authors WHERE id NOT IN (SELECT author FROM books_authors_link)") == 0
        assert count("books_series_link WHERE series NOT IN (SELECT id FROM series)") == 0
        assert count("books_tags_link WHERE tag NOT IN (SELECT id FROM tags)") == 0
        assert count("books WHERE id NOT IN (SELECT book FROM books_tags_link)") == 0
        assert 0.4 < count("authors") / 2000 < 0.5
        assert 0.25 < count("books_series_link") / 2000 < 0.35
        assert 0.6 < count("comments") / 2000 < 0.7
        assert 900 < connection.execute("SELECT avg(length(text)) FROM comments").fetchone()[0] < 1150
        assert count("books WHERE title <> '' AND sort <> '' AND author_sort <> '' AND path LIKE '%/% (%)'") == 2000
    with CalibreWriter(tmp_path / "bench") as writer:
        assert writer.add(SampleBook(id=None, title="One more")) == 2001


def test_a_bench_library_without_files_has_the_same_rows(tmp_path: Path) -> None:
    make_bench_library(tmp_path / "rows", 50, files=False)
    make_bench_library(tmp_path / "files", 50)
    assert all_rows(tmp_path / "rows") == all_rows(tmp_path / "files")
    assert [entry.name for entry in (tmp_path / "rows").iterdir()] == ["metadata.db"]


def test_a_file_too_small_to_be_an_epub_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need 128 bytes"):
        make_bench_library(tmp_path, 1, file_size=60)

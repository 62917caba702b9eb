"""The journal says which load made which rows, no more and no less than is there."""

from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from bookpipe.model.errors import TerminalError
from bookpipe.resolve.books import BookOptions
from bookpipe_tests.factories import hashed_table
from bookpipe_tests.targets.book_rows import ORIGIN, book_rows, many_books
from bookpipe_tests.targets.shelf import Shelf

KINDS = ("author", "series", "language", "genre", "format")


def made(shelf: Shelf, kind: str) -> set[int]:
    return {i for (ids,) in shelf.sql("SELECT ids FROM bookpipe.created WHERE kind = %s", kind) for i in ids}


def test_every_row_a_load_made_is_in_the_journal_once(shelf: Shelf, library: Path) -> None:
    before = {kind: {i for (i,) in shelf.sql(f"SELECT id FROM {kind}")} for kind in KINDS}
    for n in range(3):
        table = many_books(library, n * 100 + 1, 40)
        shelf.load(table, f"books-{n}", options=BookOptions(create_genres=True))
    shelf.load(hashed_table(book_rows(library, 999, files={"kepub": b"k"})), "books-9")
    for kind in KINDS:
        new = {i for (i,) in shelf.sql(f"SELECT id FROM {kind}")} - before[kind]
        assert made(shelf, kind) == new != set(), kind
        assert shelf.one("SELECT sum(cardinality(ids)) FROM bookpipe.created WHERE kind = %s", kind) == len(new)
    assert shelf.sql("SELECT ebook_id FROM bookpipe.book ORDER BY 1") == shelf.sql("SELECT id FROM ebook ORDER BY 1")
    assert shelf.sql("SELECT source_id FROM bookpipe.file ORDER BY 1") == shelf.sql("SELECT id FROM source ORDER BY 1")
    assert shelf.one("SELECT count(*) FROM bookpipe.origin") == 1


def test_a_load_is_named_by_partition_and_run_with_its_counts(shelf: Shelf, library: Path) -> None:
    result = shelf.load(many_books(library, 1, 40), "books-1")
    assert shelf.sql("SELECT pipeline, partition, run_id, inserted, existing, rejected FROM bookpipe.load") == [
        ("calibre", "books-1", "test", result.counts.inserted, result.counts.existing, 0)
    ]


def test_a_load_that_makes_nothing_leaves_no_entry(shelf: Shelf, library: Path) -> None:
    table = many_books(library, 1, 40)
    for _ in range(3):
        shelf.load(table)
    assert shelf.one("SELECT count(*) FROM bookpipe.load") == 1


def test_entries_of_books_that_are_gone_make_way(shelf: Shelf, library: Path) -> None:
    table = hashed_table(book_rows(library, 1, files={"epub": b"e", "pdf": b"p"}))
    shelf.load(table)
    shelf.sql("DELETE FROM ebook")
    assert shelf.load(table).counts.inserted == 2
    assert shelf.sql("SELECT item, ebook_id, load_id FROM bookpipe.book") == [
        (1, shelf.one("SELECT id FROM ebook"), 2)
    ]  # fmt: skip
    assert shelf.sql("SELECT format, source_id FROM bookpipe.file ORDER BY 1") == shelf.sql(
        "SELECT extension, s.id FROM source s JOIN format f ON f.id = format_id ORDER BY 1"
    )


@pytest.mark.parametrize("table", ["load", "book", "file", "created"])
def test_rows_and_their_entries_commit_together_or_not_at_all(shelf: Shelf, library: Path, table: str) -> None:
    shelf.load(many_books(library, 1, 5), "books-0")
    before, entries = shelf.exactly(), shelf.sql("SELECT * FROM bookpipe.book")
    shelf.sql(f"ALTER TABLE bookpipe.{table} ADD CONSTRAINT never CHECK (false) NOT VALID")
    with suppress(Exception):
        shelf.load(many_books(library, 101, 20), "books-1")
    assert shelf.exactly() == before
    assert shelf.sql("SELECT * FROM bookpipe.book") == entries
    assert shelf.one("SELECT count(*) FROM bookpipe.load") == 1


def test_announcements_are_kept_until_their_rows_commit(shelf: Shelf, library: Path) -> None:
    with shelf.target.writing() as writer:
        journal = writer.journal
        files = [("A/b.epub", "3:61"), ("Ä/'\"\\b.epub", "0:")]
        announced = journal.plan_placement("calibre", "books-1", "copy", files)
        assert journal.is_planned(announced)
        assert journal.planned_placements() == [(announced, "copy", files)]
        with suppress(ZeroDivisionError), writer.connection.transaction():
            journal.forget_placement(announced)
            raise ZeroDivisionError
        assert journal.is_planned(announced)
        journal.forget_placement(announced)
        assert not journal.is_planned(announced)
        assert journal.planned_placements() == []


def test_the_journal_of_another_program_version_that_is_incomplete_is_completed(shelf: Shelf, library: Path) -> None:
    with shelf.target.writing():
        pass
    shelf.sql("DROP TABLE bookpipe.placement")
    shelf.load(many_books(library, 1, 5))
    assert shelf.placements() == 0


def test_a_journal_that_is_dropped_loses_no_books(shelf: Shelf, library: Path) -> None:
    table = many_books(library, 1, 30)
    shelf.load(table)
    before, tree = shelf.exactly(), shelf.tree()
    shelf.sql("DROP SCHEMA bookpipe CASCADE")
    result = shelf.load(table)
    assert result.counts.inserted == 0
    assert shelf.exactly() == before
    assert shelf.tree() == tree


def test_a_batch_that_names_one_file_twice_ends_or_says_so(shelf: Shelf, library: Path) -> None:
    """No source makes such rows; should one ever, half of them must not get lost silently."""
    rows = book_rows(library, 1, files={"epub": b"one"}) + book_rows(library / "again", 1, files={"epub": b"two"})
    table: pa.Table = hashed_table(rows)
    with suppress(TerminalError):
        assert shelf.load(table).counts.inserted == shelf.one("SELECT count(*) FROM bookpipe.file") == 2
    assert shelf.one("SELECT count(*) FROM source") == shelf.one("SELECT count(*) FROM bookpipe.file")
    assert shelf.sql("SELECT name FROM bookpipe.origin") in ([(ORIGIN,)], [])

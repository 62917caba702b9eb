"""Undoing a partition takes away what its loads made, and nothing that was there before or somebody uses now."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bookpipe.model.errors import TransientError
from bookpipe.targets.mybookshelf2.shards import ChunkEntry, Identity, ShardJournal
from bookpipe.targets.mybookshelf2.storage import MODES
from bookpipe.targets.mybookshelf2.undo import Undone, undo_partition
from bookpipe_tests.factories import hashed_table, record_row
from bookpipe_tests.targets.book_rows import ORIGIN, book_rows, many_books
from bookpipe_tests.targets.shelf import Shelf, outcomes
from bookpipe_tests.targets.undoing import GENRES, book, everything, journal, put_instead, undo, use

# All of it, and nothing else


@pytest.mark.parametrize("mode", MODES)
def test_an_undone_partition_was_never_there(used_shelf: Shelf, library: Path, mode: str) -> None:
    before, entries = everything(used_shelf), journal(used_shelf)
    target, table = used_shelf.using(file_mode=mode), many_books(library, 1, 60)
    rows = [*table.to_pylist(), *book_rows(library, 777, "Own", languages=["lat"], tags=["Own tag"], series="Own",
                                           authors=["Own Author"], files={"kepub": b"own"}),
            record_row(origin=ORIGIN, item=778, title="A record")]  # fmt: skip
    result = used_shelf.load(hashed_table(rows), target=target, options=GENRES)
    done = undo(used_shelf, file_mode=mode)
    assert everything(used_shelf) == before
    assert journal(used_shelf) == entries
    assert done == Undone(
        ebooks=result.new_ebooks, sources=result.counts.inserted - 1, files=result.counts.inserted - 1,
        authors=result.new_authors, series=result.new_series, languages=1, genres=1, formats=1,
    )  # fmt: skip


def test_what_is_undone_can_be_loaded_again(shelf: Shelf, another_shelf: Shelf, library: Path) -> None:
    table = many_books(library, 1, 60)
    for _ in range(2):
        shelf.load(table)
        undo(shelf)
    shelf.load(table)
    another_shelf.load(table)
    assert shelf.meaning() == another_shelf.meaning()
    assert shelf.tree() == another_shelf.tree()


def test_a_partition_loaded_in_several_runs_is_undone_whole(used_shelf: Shelf, library: Path) -> None:
    before, table = everything(used_shelf), many_books(library, 1, 60)
    for last in (10, 40, table.num_rows):
        used_shelf.load(table.slice(0, last))
    assert used_shelf.one("SELECT count(*) FROM bookpipe.load WHERE partition = 'books-1'") == 3
    undo(used_shelf)
    assert everything(used_shelf) == before


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_undoing_all_of_some_overlapping_partitions_leaves_nothing(
    shelf: Shelf, library: Path, order: tuple[int, int]
) -> None:
    """What the one made and the other uses stays with the first undo and goes with the second."""
    shelf.load(hashed_table([]), "nothing")
    before, entries = everything(shelf), journal(shelf)
    kinds = {"epub": b"e", "kepub": b"k"}
    own = book_rows(library, 500, "Own", series="S", languages=["lat"], tags=["T"], files=kinds)
    shelf.load(hashed_table([*own, *many_books(library, 1, 60).to_pylist()]), "books-1", options=GENRES)
    # Files of 30 of the books by another path, 30 more books, and one with the same names and other bytes.
    kinds = {"epub": b"E", "kepub": b"K"}
    own = book_rows(library, 501, "Own", series="S", languages=["lat"], tags=["T"], files=kinds)
    more = many_books(library / "elsewhere", 31, 60).to_pylist()
    shelf.load(hashed_table([*own, *more]), "books-2", options=GENRES)
    undo(shelf, f"books-{order[0]}")
    for kind in ("author", "series", "language", "genre", "format"):
        named = "SELECT count(*) FROM bookpipe.created, unnest(ids) AS i JOIN {0} n ON n.id = i WHERE kind = '{0}'"
        assert shelf.one(named.format(kind)) > 0
    undo(shelf, f"books-{order[1]}")
    assert everything(shelf) == before
    assert journal(shelf) == entries


@pytest.mark.parametrize("undone", [1, 2])
def test_undoing_one_of_two_overlapping_partitions_leaves_the_other(
    shelf: Shelf, another_shelf: Shelf, library: Path, undone: int
) -> None:
    """Authors, series, languages and genres are shared; files and books are not."""
    tables = {1: many_books(library, 1, 60), 2: many_books(library, 1_001, 60)}
    tables[2] = hashed_table([row | {"title": f"{row['title']} II"} for row in tables[2].to_pylist()])
    for number, table in tables.items():
        shelf.load(table, f"books-{number}", options=GENRES)
    undo(shelf, f"books-{undone}")
    left = 3 - undone
    another_shelf.load(tables[left], f"books-{left}", options=GENRES)
    assert shelf.meaning() == another_shelf.meaning()
    assert shelf.tree() == another_shelf.tree()
    assert outcomes(shelf.load(tables[left], f"books-{left}")) == ["existing"] * tables[left].num_rows


def test_a_book_that_another_partition_added_a_file_to_loses_only_ours(shelf: Shelf, library: Path) -> None:
    ours = book_rows(library, 1, "Both", files={"epub": b"e"})
    both = book_rows(library, 1, "Both", files={"epub": b"e", "pdf": b"p"})
    shelf.load(hashed_table(ours), "books-1")
    shelf.load(hashed_table(both), "books-2")
    assert undo(shelf, "books-1") == Undone(sources=1, files=1, shared=1)
    assert shelf.sql("SELECT title, extension FROM ebook e JOIN source s ON s.ebook_id = e.id "
                     "JOIN format f ON f.id = format_id") == [("Both", "pdf")]  # fmt: skip
    # The book is the other partition's now, also for a later load of ours.
    assert undo(shelf, "books-1") == Undone()
    assert shelf.load(hashed_table(both), "books-1").new_ebooks == 0
    assert undo(shelf, "books-2") == Undone(sources=1, files=1, shared=1)
    assert undo(shelf, "books-1") == Undone(ebooks=1, sources=1, files=1, authors=1)
    assert shelf.one("SELECT count(*) FROM bookpipe.load") == shelf.one("SELECT count(*) FROM author") == 0


def test_undoing_twice_is_safe(used_shelf: Shelf, library: Path) -> None:
    used_shelf.load(many_books(library, 1, 30))
    undo(used_shelf)
    before, entries = everything(used_shelf), journal(used_shelf)
    assert undo(used_shelf) == Undone()
    assert (everything(used_shelf), journal(used_shelf)) == (before, entries)


def test_a_partition_that_was_never_loaded_has_nothing_to_undo(shelf: Shelf, library: Path) -> None:
    assert undo(shelf, dry_run=True) == Undone()
    assert shelf.one("SELECT to_regnamespace('bookpipe') IS NULL") is True
    assert undo(shelf) == Undone()
    shelf.load(many_books(library, 1, 10))
    before = everything(shelf)
    assert undo(shelf, "books-10") == undo_partition(shelf.target, "tars", "books-1") == Undone()
    assert everything(shelf) == before


@pytest.mark.parametrize("in_use", [False, True])
def test_a_shard_is_loaded_from_its_beginning_after_an_undo(shelf: Shelf, library: Path, in_use: bool) -> None:
    """While a book of it is left, members keep the numbers of their generation."""
    first, later = Identity("tar", 100, 1), Identity("tar", 200, 2)
    shelf.load(hashed_table([*book_rows(library, 1, "One"), *book_rows(library, 2, "Two")]))
    if in_use:
        use(shelf, "ebook_rating", ebook_id=book(shelf, "One"), rating=80)
    with shelf.target.writing() as writer:
        shard = ShardJournal(writer.journal, "calibre", "books-1")
        shard.begin(first, writer.folder, "x")
        assert shard.begin(later, writer.folder, "x").generation == 2
        entry = ChunkEntry("", "512", False, [1], [1], ["inserted"], [], [], 512, None)
        with writer.connection.transaction():
            assert shard.commit(later, 2, entry)
    undo(shelf)
    with shelf.target.writing() as writer:
        state = ShardJournal(writer.journal, "calibre", "books-1").begin(later, writer.folder, "x")
    assert (state.generation, state.chunks, state.resume) == (2 if in_use else 1, 0, "")


# A dry run


def test_a_dry_run_says_what_an_undo_then_does_and_writes_nothing(used_shelf: Shelf, library: Path) -> None:
    used_shelf.load(many_books(library, 1, 60), options=GENRES)
    use(
        used_shelf,
        "ebook_rating",
        ebook_id=used_shelf.one("SELECT max(ebook_id) FROM bookpipe.book WHERE item = 7"),
        rating=80,
    )
    put_instead(used_shelf, used_shelf.one("SELECT min(location) FROM source WHERE load_source = 'book 8.epub'"))
    before, entries = everything(used_shelf), journal(used_shelf)
    relations = used_shelf.one("SELECT count(*) FROM pg_class")
    with used_shelf.holding("ebook", "SHARE ROW EXCLUSIVE"):  # it waits for nobody
        said = undo(used_shelf, dry_run=True)
    assert (everything(used_shelf), journal(used_shelf)) == (before, entries)
    assert used_shelf.one("SELECT count(*) FROM pg_class") == relations
    assert undo(used_shelf) == said
    assert said.in_use == said.changed_files == 1


# What somebody uses


def _rated(shelf: Shelf, ebook: int) -> None:
    use(shelf, "ebook_rating", ebook_id=ebook, rating=80)


def _shelved(shelf: Shelf, ebook: int) -> None:
    use(shelf, "bookshelf", name="Holidays")
    use(shelf, "bookshelf_item", type="EBOOK", bookshelf_id=shelf.one("SELECT max(id) FROM bookshelf"), ebook_id=ebook)


def _converted(shelf: Shelf, ebook: int) -> None:
    source = shelf.one("SELECT max(id) FROM source WHERE ebook_id = %s", ebook)
    use(shelf, "conversion", source_id=source, location="1/x.mobi", format_id=6)


def _judged(shelf: Shelf, ebook: int) -> None:
    source = shelf.one("SELECT max(id) FROM source WHERE ebook_id = %s", ebook)
    use(shelf, "source_quality", source_id=source, quality=50)


@pytest.mark.parametrize("touch", [_rated, _shelved, _converted, _judged])
def test_a_book_in_use_stays_whole_until_it_is_in_use_no_more(shelf: Shelf, library: Path, touch: Any) -> None:
    rows = [*book_rows(library, 1, "Used", series="S", authors=["A One"], languages=["lat"], tags=["Own tag"],
                       files={"kepub": b"k", "epub": b"e"}),
            *book_rows(library, 2, "Unused", authors=["A One", "A Two"])]  # fmt: skip
    shelf.load(hashed_table(rows), options=GENRES)
    touch(shelf, book(shelf, "Used"))
    assert undo(shelf) == Undone(ebooks=1, sources=1, files=1, authors=1, in_use=1)
    assert [row[0] for row in shelf.sql("SELECT title FROM ebook")] == ["Used"]
    for (location,) in shelf.sql("SELECT location FROM source"):
        assert (shelf.books / location).exists()
    assert shelf.one("SELECT count(*) FROM source") == 2
    assert undo(shelf) == Undone(in_use=1)
    # Loading again completes the partition without a second copy of what stayed.
    assert outcomes(shelf.load(hashed_table(rows), options=GENRES)) == ["existing", "existing", "inserted"]
    for table in ("ebook_rating", "bookshelf_item", "conversion", "source_quality"):
        shelf.sql(f"DELETE FROM {table}")
    assert undo(shelf) == Undone(
        ebooks=2, sources=3, files=3, authors=2, series=1, languages=1, genres=1, formats=1
    )  # fmt: skip
    assert shelf.one("SELECT count(*) FROM bookpipe.load") == 0


def test_a_book_somebody_added_a_file_to_stays_with_that_file(shelf: Shelf, library: Path) -> None:
    shelf.load(hashed_table(book_rows(library, 1, "Both", series="S")))
    ebook, base_dir = shelf.sql("SELECT id, base_dir FROM ebook")[0]
    use(shelf, "source", ebook_id=ebook, location=f"{base_dir}/theirs.pdf", format_id=1, size=1, hash="x")
    for name in ("theirs.pdf", "cover.jpg"):
        (shelf.books / base_dir / name).write_bytes(b"t")
    (shelf.data_dir / "thumbs" / f"{ebook}.jpg").touch()
    shelf.sql("UPDATE ebook SET cover = base_dir || '/cover.jpg'")
    text = shelf.one("SELECT full_text FROM ebook")
    assert undo(shelf) == Undone(sources=1, files=1, shared=1)
    assert sorted(os.listdir(shelf.books / base_dir)) == ["cover.jpg", "theirs.pdf"]
    assert (shelf.data_dir / "thumbs" / f"{ebook}.jpg").exists()
    assert shelf.sql("SELECT title, full_text FROM ebook JOIN ebook_authors ON ebook_id = id") == [("Both", text)]
    assert undo(shelf) == Undone(shared=1)
    shelf.sql("DELETE FROM source")
    assert undo(shelf) == Undone(ebooks=1, files=2, authors=1, series=1)


def test_our_file_of_somebody_elses_book_goes_unless_it_was_converted(shelf: Shelf, library: Path) -> None:
    rows = book_rows(library, 1, "Dune", files={"epub": b"same", "pdf": b"p", "mobi": b"m"})
    use(shelf, "author", last_name="Author", first_name="Ann")
    use(shelf, "ebook", title="Dune", language_id=2, base_dir="Theirs")
    shelf.sql("INSERT INTO ebook_authors SELECT e.id, a.id FROM ebook e, author a")
    use(shelf, "source", ebook_id=book(shelf, "Dune"), location="Theirs/d.epub", format_id=8, size=4,
        hash=rows[0]["sha1"])  # fmt: skip
    before = shelf.exactly()
    result = shelf.load(hashed_table(rows))
    assert (outcomes(result), result.new_ebooks) == (["existing", "inserted", "inserted"], 0)
    use(shelf, "conversion", source_id=result.outcomes["source_id"][2].as_py(), location="1/x", format_id=8)
    assert undo(shelf) == Undone(sources=1, files=1)
    shelf.sql("DELETE FROM conversion")
    assert undo(shelf) == Undone(sources=1, files=1)
    assert shelf.exactly() == before


_USES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a rated series": ("series", "series_rating", {"series_id": "series", "rating": 50}),
    "a format somebody converts to": ("formats", "conversion_batch", {"name": "x", "format_id": "format"}),
    "a format somebody uploads": (
        "formats", "upload", {"file": "x", "size": 1, "hash": "x", "format_id": "format"}
    ),
    "a language with a synonym": (
        "languages", "synonym", {"other_name": "lateinisch", "our_name": "la", "category": "LNG"}
    ),
    "a genre with a synonym": ("genres", "synonym", {"other_name": "x", "our_name": "Own tag", "category": "GNR"}),
    "an author of somebody's book": ("authors", "ebook_authors", {"ebook_id": "theirs", "author_id": "author"}),
    "a genre of somebody's book": ("genres", "ebook_genres", {"ebook_id": "theirs", "genre_id": "genre"}),
}  # fmt: skip


@pytest.mark.parametrize("what", _USES)
def test_a_name_that_something_else_uses_stays(shelf: Shelf, library: Path, what: str) -> None:
    count, table, columns = _USES[what]
    use(shelf, "ebook", title="Theirs", language_id=2, base_dir="Theirs")
    ids = {"theirs": book(shelf, "Theirs")}
    shelf.load(
        hashed_table(book_rows(library, 1, series="S", languages=["lat"], tags=["Own tag"], files={"kepub": b"k"})),
        options=GENRES,
    )
    for kind in ("author", "series", "language", "genre", "format"):
        ids[kind] = shelf.one("SELECT ids[1] FROM bookpipe.created WHERE kind = %s", kind)
    values = {name: ids.get(value, value) for name, value in columns.items()}
    plain = table in ("synonym", "ebook_authors", "ebook_genres")
    values |= {} if plain else {"created": "now", "modified": "now"}
    values |= {} if table.startswith("ebook_") else {"version_id": 1}
    shelf.sql(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})", *values.values())
    all_of_it = Undone(ebooks=1, sources=1, files=1, authors=1, series=1, languages=1, genres=1, formats=1)
    assert undo(shelf) == replace(all_of_it, **{count: 0})
    shelf.sql(f"DELETE FROM {table}")
    assert undo(shelf) == Undone(**{count: 1})


def test_what_somebody_adds_while_the_undo_waits_is_not_swept_away(shelf: Shelf, library: Path) -> None:
    """Deleting an ebook would delete its sources, deleting an author their links: the undo looks again first."""
    shelf.load(hashed_table([*book_rows(library, 1, "One"), *book_rows(library, 2, "Two", authors=["B Two"])]))
    with (
        shelf.transaction(
            "INSERT INTO source (version_id, ebook_id, location, format_id, size, hash, created, modified) "
            "SELECT 1, id, 'theirs', 8, 1, 'x', now(), now() FROM ebook WHERE title = 'One'",
            "WITH e AS (INSERT INTO ebook (version_id, title, language_id, base_dir, created, modified) "
            "VALUES (1, 'Theirs', 2, 'Theirs', now(), now()) RETURNING id) "
            "INSERT INTO ebook_authors SELECT e.id, a.id FROM e, author a WHERE a.last_name = 'Two'",
        ) as app,
        app.before(undo, shelf, create_indexes=False) as undoing,
    ):
        pass
    assert undoing.result() == Undone(ebooks=1, sources=2, files=2, shared=1)
    assert shelf.one("SELECT count(*) FROM source WHERE location = 'theirs'") == 1
    assert shelf.one("SELECT count(*) FROM ebook_authors") == 2


def test_a_vote_cast_in_the_last_moment_stops_the_undo(shelf: Shelf, library: Path) -> None:
    table = many_books(library, 1, 10)
    shelf.load(table)
    before = shelf.tree()
    with (
        shelf.transaction(
            "INSERT INTO ebook_rating (version_id, ebook_id, rating, created, modified) "
            "SELECT 1, min(id), 50, now(), now() FROM ebook"
        ) as app,
        app.before(undo, shelf, create_indexes=False) as undoing,
    ):
        pass
    assert isinstance(undoing.exception(), TransientError)
    assert shelf.tree() == before
    assert undo(shelf).in_use == 1
